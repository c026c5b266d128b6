//! Declare the module of relays: the pool their bandwidth is bought in, and chains of ticks that pay for bytes.

use alloy_sol_types::sol;

sol! {
    /// Relays offer bandwidth in one pool. Each epoch, which is a window of proofs, has one price, computed from the
    /// offers that stand when it opens and from what was redeemed in the epoch before; who asks that or less is paid that.
    /// Bytes are paid by chains of ticks, a MiB each: see `market::chain_id`. Limits: `market::RelayOffer`.
    #[derive(Debug, PartialEq, Eq)]
    interface IRelays {
        /// What an operator states of a relay and may change.
        struct RelayOffer {
            /// Wei a MiB, at least one.
            uint64 price;
            uint64 bandwidthBits;
            /// Bytes it carries in an epoch, at most what its bandwidth carries in one.
            uint64 transferBytes;
            /// Of the list of regions.
            uint8 region;
            /// As declared, 1-31 bytes: what fails together, and what a path does not take twice.
            string network;
            string zone;
            /// Addresses and relays, as of hosts.
            bytes addresses;
        }
        struct Relay {
            bytes32 node;
            address operator;
            RelayOffer offer;
            uint256 collateral;
            /// Without it no chain is opened.
            uint256 collateralMin;
            bool retired;
            /// If retired: when its collateral may be withdrawn, by the ledger's time.
            uint64 withdrawsMs;
            /// Whether chains are opened to it now: it did not retire, has its collateral, and asks the epoch's price or less.
            bool inPool;
        }
        #[derive(Default, Copy)]
        struct Epoch {
            /// The window that opened it; zero: none did yet.
            uint64 number;
            /// Wei a MiB; zero where nobody offered.
            uint64 price;
            /// Offers it was computed from, and how many of them asked that or less.
            uint64 offers;
            uint64 below;
            /// MiB that these carry together, and that were expected to be asked for.
            uint64 supplyMib;
            uint64 demandMib;
            /// MiB of the pool that were redeemed in it so far.
            uint64 redeemedMib;
        }
        /// A ticket of the pool: a chain to one relay, at the epoch's price.
        #[derive(Copy)]
        struct Ticket {
            bytes32 relay;
            /// The payer's number for it: never below one that was used.
            uint64 number;
            bytes32 anchor;
            /// MiB: 1, 8 or 64.
            uint32 ticks;
        }
        /// A chain to any account, at a price both know.
        #[derive(Copy)]
        struct Direct {
            address payee;
            uint64 number;
            bytes32 anchor;
            /// MiB: 1 to 64.
            uint32 ticks;
            /// Wei a MiB.
            uint64 price;
        }
        struct Chain {
            bytes32 id;
            /// Who gets back what is left.
            address payer;
            address payee;
            /// Zero where it is no ticket of the pool.
            bytes32 relay;
            uint64 number;
            uint32 ticks;
            uint64 price;
            /// Ticks that were claimed, and the word that proves them: the anchor at zero.
            uint32 claimed;
            bytes32 word;
            /// Wei.
            uint256 left;
            /// When claims end by the ledger's time, if blocks go on being made.
            uint64 untilMs;
        }
        struct Claim {
            bytes32 chain;
            /// Ticks in all, and the chain's word there.
            uint32 index;
            bytes32 word;
        }

        event Offered(bytes32 indexed node, address indexed operator, RelayOffer offer, uint256 collateral);
        event Updated(bytes32 indexed node, address indexed operator, RelayOffer offer);
        event Deposited(bytes32 indexed node, uint256 amount, uint256 collateral);
        event Retired(bytes32 indexed node, uint64 withdrawsMs);
        event Withdrawn(bytes32 indexed node, uint256 amount);
        event Cleared(uint64 indexed epoch, uint64 price, uint64 offers, uint64 below, uint64 supplyMib, uint64 demandMib);
        event Opened(bytes32 indexed chain, address indexed payer, address indexed payee, bytes32 relay, uint64 number, uint32 ticks, uint64 price, uint64 untilMs);
        /// `ticks` more are paid, `index` in all: `amount` came to the payee, `burned` to nobody.
        event Claimed(bytes32 indexed chain, address indexed payer, address indexed payee, bytes32 relay, uint32 index, uint32 ticks, uint256 amount, uint256 burned);
        event Closed(bytes32 indexed chain, address indexed payer, uint256 refund);

        error AlreadyOffered(bytes32 node);
        error UnknownRelay(bytes32 node);
        error NotOperator(address operator);
        error BadOffer(string field);
        error BadPossession();
        error CollateralTooSmall(uint256 given, uint256 least);
        /// So many relays stand in the list already.
        error ListFull(uint64 most);
        error IsRetired();
        error NotRetired();
        /// Its notice runs until then.
        error NoticeRuns(uint64 untilMs);
        /// It retired, lacks collateral, or asks more than the epoch's price.
        error NotInPool(bytes32 node, uint64 price);
        /// The epoch's price is above what the buyer pays.
        error PriceAbove(uint64 price, uint64 most);
        error BadTicks(uint32 ticks);
        error BadPayee();
        error BadPrice();
        /// The payer's next number is that or above.
        error NumberUsed(uint64 number, uint64 next);
        error WrongDeposit(uint256 value, uint256 needed);
        error UnknownChain(bytes32 chain);
        /// The word is not of this chain there, or beyond its ticks.
        error BadWord(bytes32 chain, uint32 index);
        error NothingNew(bytes32 chain, uint32 index);
        error Over(bytes32 chain, uint64 untilMs);
        error TooEarly(bytes32 chain, uint64 untilMs);

        /// Offers a relay with the value as collateral; `possession` is the node key's signature over
        /// `operator_consent(chain id, caller, node)`. It is in the pool from the next epoch's price on.
        function offer(bytes32 node, RelayOffer calldata terms, bytes calldata possession) external payable;
        /// The price of the epoch that runs does not move by it.
        function update(bytes32 node, RelayOffer calldata terms) external;
        function deposit(bytes32 node) external payable;
        /// No chains are opened to it any more; claims go on.
        function retire(bytes32 node) external;
        /// Takes it off the list and gives the collateral back, once its notice is over.
        function withdraw(bytes32 node) external;

        /// Opens chains to relays of the pool at the epoch's price, if that is at most `priceMax`; the caller's, or the
        /// owner's whose budget it is. Value: ticks · price of all. All or none.
        function buy(Ticket[] calldata tickets, uint64 priceMax) external payable returns (bytes32[] memory chains);
        /// Opens chains to any accounts, at the prices stated.
        function open(Direct[] calldata wants) external payable returns (bytes32[] memory chains);
        /// Pays ticks to payees, whoever sends it. All or none.
        function claim(Claim[] calldata claims) external returns (uint256 amount);
        /// Gives back what is left of chains whose claims ended, to their payers, whoever sends it. All or none.
        function close(bytes32[] calldata chains) external;

        function get(bytes32 node) external view returns (Relay memory);
        function count() external view returns (uint64);
        function page(uint64 first, uint64 most) external view returns (Relay[] memory);
        /// The epoch that runs.
        function epoch() external view returns (Epoch memory);
        /// One of the last 64 epochs; all zero if it is not among them.
        function epochOf(uint64 number) external view returns (Epoch memory);
        /// Wei a MiB in one of the last 64 epochs; zero if nobody offered, or it is not among them.
        function priceOf(uint64 number) external view returns (uint64);
        /// Relays of that page of the list that are in the pool now.
        function offersAtOrBelow(uint64 first, uint64 most) external view returns (Relay[] memory);
        function collateralMin(uint64 bandwidthBits) external view returns (uint256);
        function chain(bytes32 id) external view returns (Chain memory);
        /// The least number that a payer's next chain may have.
        function nextNumber(address payer) external view returns (uint64);
        /// Open chains of a payer, at most 64 from `first`.
        function ofPayer(address payer, uint64 first, uint64 most) external view returns (bytes32[] memory chains);
    }
}
