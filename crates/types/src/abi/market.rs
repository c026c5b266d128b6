//! Declare the modules of the compute market: offers and orders, and the leases they make.

use alloy_sol_types::sol;

sol! {
    /// The one open book: offers of compute with collateral, orders, and the match inside the order's call. What the
    /// numbers mean and which are refused: `market`.
    #[derive(Debug, PartialEq, Eq)]
    interface IMarket {
        /// What a host has, or one replica takes.
        #[derive(Default, Copy)]
        struct Capacity {
            uint64 cpuMilli;
            uint64 memoryBytes;
            uint64 diskBytes;
            /// Bits a second.
            uint64 bandwidthBits;
            /// Bytes moved in each hour, in or out.
            uint64 transferBytes;
        }
        /// Wei an hour for a thousandth of a CPU, a MiB of memory, a MiB of disk, a kbit/s, and for a MiB moved.
        #[derive(Default, Copy)]
        struct Prices {
            uint64 cpuMilli;
            uint64 memoryMib;
            uint64 diskMib;
            uint64 bandwidthKbit;
            uint64 transferMib;
        }
        /// From that utilisation on (hundredths of a percent), prices are higher by so much (likewise).
        #[derive(Copy)]
        struct Tier {
            uint16 fromBp;
            uint16 markupBp;
        }
        /// What an operator states and may change.
        struct Offer {
            Capacity capacity;
            Prices prices;
            /// The utilisation curve, at most 4.
            Tier[] curve;
            /// Hundredths of a percent of the price that preemptible orders pay: 1 to 10,000.
            uint16 preemptibleBp;
            /// Place in `market::REGIONS`.
            uint8 region;
            /// ISO 3166-1 alpha-2, capitals.
            bytes2 country;
            /// 0 wasm, 1 oci.
            uint8 runtime;
            /// 0 home, 1 office, 2 data centre.
            uint8 tier;
            /// 0 none, 1 TPM, 2 SEV-SNP, 3 TDX: declared, nothing here checks it.
            uint8 attestation;
            /// Renewable part of the power, in percent: declared.
            uint8 renewable;
            /// Network as declared (an AS number or a prefix), 1-31 bytes.
            string network;
            /// Failure domain, 1-31 bytes of [a-z0-9-].
            string zone;
            /// What it runs on, as declared, up to 31 bytes.
            string hardware;
            /// As of `IProviders.Offer`.
            bytes addresses;
        }
        struct Host {
            bytes32 node;
            address operator;
            Offer offer;
            uint256 collateral;
            /// What it needs to be in the book: of `collateralMin` for its capacity.
            uint256 collateralMin;
            /// What is not leased.
            Capacity free;
            /// What its prices are higher by at present, in hundredths of a percent.
            uint16 markupBp;
            uint64 leases;
            /// No new leases.
            bool retired;
            /// If retired: from then on, in milliseconds by the ledger's time, ending leases costs it nothing.
            uint64 quitsFreeMs;
            /// Counts changes of the offer, from 1.
            uint64 version;
        }
        /// Replicas of one thing: all are placed, or none.
        struct Order {
            /// What each replica takes.
            Capacity each;
            /// 1 to 64.
            uint8 replicas;
            /// Bit i allows region i.
            uint64 regions;
            /// Zero allows each.
            bytes2 country;
            uint8 runtime;
            uint8 tierMin;
            uint8 attestationMin;
            uint8 renewableMin;
            /// Most wei a replica and hour.
            uint128 priceMax;
            /// At most so many replicas on one host, operator, network; 0 sets no limit.
            uint8 perHost;
            uint8 perOperator;
            uint8 perNetwork;
            /// 0 instant, 1 deferrable, 2 preemptible, 3 on call.
            uint8 class;
            /// Seconds the deposit must reach at least.
            uint64 secs;
            /// Deferrable: it waits for so long, in milliseconds of the active clock; else 0.
            uint64 patienceMs;
            /// Digest of what is to run. 0 reserves: its leases hold room, and run nothing.
            bytes32 workload;
            /// Wei of collateral its hosts must have when they are chosen, beside what each offer needs.
            uint128 collateralMin;
            /// Availability its hosts must promise with a bond, in hundredths of a percent: 9,000 to 9,999, for 32 replicas
            /// at most; 0 asks for none.
            uint16 availabilityMinBp;
            /// The order whose held capacity it is placed in; 0 is the open book.
            uint64 within;
            /// Hosts it keeps away from, at most 8, rising.
            bytes32[] exclude;
        }
        /// Where one replica went, or would go.
        #[derive(Copy)]
        struct Placement {
            bytes32 node;
            /// Wei a second; on call a thousandth of it is streamed, and calls are priced by it.
            uint128 rate;
            /// The held lease it stands in; 0 if in the host's own room.
            uint64 via;
        }
        /// A running lease that holds room, with what of it is free.
        struct Held {
            uint64 lease;
            uint64 order;
            address holder;
            bytes32 node;
            Capacity capacity;
            /// What no lease stands in.
            Capacity free;
            /// Leases that stand in it.
            uint64 leases;
            /// When its escrow ends, by the ledger's time if blocks go on being made.
            uint64 untilMs;
            /// What is free is in the book, at these prices.
            bool lent;
            Prices prices;
            uint16 preemptibleBp;
        }
        /// 0 never was, 1 waiting, 2 filled, 3 cancelled, 4 filled and all its leases ended.
        struct Placed {
            uint64 id;
            address owner;
            uint8 state;
            Order order;
            /// Wei kept while it waits.
            uint128 deposit;
            /// When it stops waiting, by the ledger's time if blocks go on being made.
            uint64 untilMs;
            /// Its first leases are this and the next, one a replica.
            uint64 firstLease;
            /// The last lease of each replica, be it over, and behind these the last that stood in for any while it was
            /// suspect; none while it waits.
            uint64[] leases;
            /// Hosts it lost, in that order: it does not go there again.
            bytes32[] lost;
        }
        /// Open offers of one region and runtime at about one price.
        #[derive(Copy)]
        struct Step {
            /// Wei an hour for `market::REFERENCE`, at least, without markups.
            uint128 priceFrom;
            uint64 offers;
            Capacity free;
        }
        /// Of leases that paid an hour or more, the last of each account that funded some.
        #[derive(Copy)]
        struct Index {
            /// Wei an hour for a unit of `market::size_milli`; 0 without any.
            uint128 price;
            uint64 accounts;
            /// Wei paid that count, each account's part capped.
            uint256 weight;
            /// To move the price by 5 %, the way that is cheaper: wei that would have to be paid in leases of an hour
            /// or more, by how many accounts, and what of it is burned.
            uint256 moveWeight;
            uint64 moveAccounts;
            uint256 moveBurned;
        }

        event Offered(bytes32 indexed node, address indexed operator, Offer offer, uint256 collateral);
        event Updated(bytes32 indexed node, address indexed operator, Offer offer, uint64 version);
        event Deposited(bytes32 indexed node, uint256 amount, uint256 collateral);
        event Retired(bytes32 indexed node, uint64 quitsFreeMs);
        event Withdrawn(bytes32 indexed node, uint256 amount);
        /// Collateral taken: for a lease ended early, half to its owner and the rest burned; for the third refuted
        /// accusation of a window, all burned.
        event Slashed(bytes32 indexed node, uint64 indexed lease, uint256 amount, uint256 burned);
        /// State 1: it waits.
        event Ordered(uint64 indexed order, address indexed owner, uint8 state, Order terms, uint256 deposit);
        event Filled(uint64 indexed order, address indexed owner, uint64 firstLease, uint256 escrow, uint256 change);
        event Cancelled(uint64 indexed order, address indexed owner, uint256 refund);
        /// What is free of a held lease is in the book at these prices, until it ends or is recalled.
        event Lent(uint64 indexed lease, address indexed holder, Prices prices, uint16 preemptibleBp);
        event Recalled(uint64 indexed lease, address indexed holder);
        /// A sample of the price index.
        event Sampled(uint8 indexed region, uint8 indexed runtime, address indexed owner, uint128 price, uint256 weight);

        error NotOperator(address operator);
        error UnknownHost(bytes32 node);
        error AlreadyOffered(bytes32 node);
        error BadPossession();
        error BadOffer(string field);
        error BadOrder(string field);
        error CollateralTooSmall(uint256 given, uint256 least);
        /// It stands, or has leases: then region, country, runtime, tier, network and zone stay.
        error LeasesOpen(uint64 leases);
        error NotRetired();
        error IsRetired();
        /// So many replicas find a place within the order's terms.
        error NoFit(uint64 placed, uint64 wanted);
        error DepositTooSmall(uint256 given, uint256 needed);
        error UnknownOrder(uint64 order);
        error NotWaiting(uint64 order);
        /// It waited as long as it was to.
        error TooLate(uint64 untilMs);
        error NotOwner(address owner);
        /// It runs something: nothing is placed within it.
        error NotReserved(uint64 order);
        /// It holds no room, or ended.
        error NotHeld(uint64 lease);
        error NotLent(uint64 lease);
        /// What is held ends in so many seconds.
        error HeldTooShort(uint64 secs);

        /// Registers a host for the caller, its operator. `possession` is the node key's Ed25519 signature over
        /// `operator_consent(chain id, operator, node)`. Value sent becomes collateral.
        function register(bytes32 node, Offer calldata offer, bytes calldata possession) external payable;
        /// Replaces the offer. Running leases keep their price.
        function update(bytes32 node, Offer calldata offer) external;
        /// Adds the value sent to the collateral. Anybody may.
        function deposit(bytes32 node) external payable;
        /// No new leases and no renewals from now on; seven windows later, leases may be ended without loss.
        function retire(bytes32 node) external;
        /// Pays the collateral back once retired and without leases, and forgets the host.
        function withdraw(bytes32 node) external;

        /// Matches at once, for the caller or the owner whose budget it is; value sent is the deposit, what it is more
        /// than whole seconds for all replicas comes back. A deferrable order that finds no match waits.
        function order(Order calldata terms) external payable returns (uint64 id);
        /// Tries a waiting order again. Anybody may.
        function fill(uint64 id) external;
        /// Ends a waiting order and pays its deposit back; after its time anybody may.
        function cancel(uint64 id) external;
        /// Puts what is free of a held lease of the caller, or of the owner whose budget it is, into the book, at these
        /// prices without markups; what it earns is the holder's. Again, it changes them.
        function lend(uint64 lease, Prices calldata prices, uint16 preemptibleBp) external;
        /// Takes it out: no new leases of others, and no renewals of theirs; those that run go on.
        function recall(uint64 lease) external;

        /// Where an order would go now; reverts as it would. The deposit is not looked at.
        function quote(Order calldata terms) external view returns (Placement[] memory);
        /// Registered hosts, retired ones included. Order changes when one is forgotten.
        function count() external view returns (uint64);
        function at(uint64 i) external view returns (bytes32 node);
        function get(bytes32 node) external view returns (Host memory);
        /// The least collateral with which so much is offered; a host that has less is not in the book.
        function collateralMin(Capacity calldata capacity) external view returns (uint256);
        /// At most 64 from `first`.
        function page(uint64 first, uint64 most) external view returns (Host[] memory);
        function placed(uint64 id) external view returns (Placed memory);
        /// Waiting and filled orders of an account, at most 64 from `first`.
        function ofOwner(address owner, uint64 first, uint64 most) external view returns (uint64[] memory orders);
        /// Running leases that an order holds room with, and wei others paid for standing in any of them so far.
        function reserved(uint64 order) external view returns (Held[] memory held, uint256 earned);
        /// Held leases that are lent, at most 64 from `first`.
        function lent(uint64 first, uint64 most) external view returns (Held[] memory);
        /// The book of a region and runtime, cheapest first, of at most 256 offers and 32 held leases.
        function depth(uint8 region, uint8 runtime) external view returns (Step[] memory);
        function index(uint8 region, uint8 runtime) external view returns (Index memory);
        /// What coins stand for here, of `settlement`: 0 money of their own, 1 a currency (ISO 4217) that is invoiced, 2
        /// barter. But for 0 nobody who offers needs collateral.
        function settlement() external view returns (uint8 kind, bytes3 currency);
    }

    /// Leases: escrow that streams to a host by the active clock, and stops at the last full second it pays for.
    ///
    /// Of what is paid a hundredth is burned. The first minute is owed once a lease began, unless its host ends it.
    #[derive(Debug, PartialEq, Eq)]
    interface ILeases {
        struct Lease {
            uint64 id;
            uint64 order;
            address owner;
            bytes32 node;
            /// 1 running, 2 ended. Running without escrow left, it ends when it is touched.
            uint8 state;
            bool preemptible;
            IMarket.Capacity capacity;
            /// Wei a second.
            uint128 rate;
            /// Wei in escrow as settled, and what of it is owed already.
            uint128 left;
            uint128 owed;
            /// Seconds paid as settled.
            uint64 paidSecs;
            /// By the ledger's time, if blocks go on being made: when it began, and when the escrow ends.
            uint64 begunMs;
            uint64 untilMs;
            bytes32 workload;
            /// Which replica of its order, from 0.
            uint8 replica;
            /// How often it was said to be unreachable; what is signed about it names this.
            uint64 generation;
            /// By the ledger's time, when it ends as lost if its host does not show itself; 0 if nobody says so.
            uint64 lostMs;
            /// On call: wei a second that calls are priced by (`market::call_price`), and `rate` is for keeping it alone;
            /// else 0.
            uint128 callRate;
            /// Wei that were paid for calls.
            uint128 claimed;
            /// The held lease it stands in; 0 if in the host's own room.
            uint64 via;
            /// The suspect lease it stands in for, until that one's host shows itself or is lost; else 0.
            uint64 deputyOf;
        }

        event Begun(uint64 indexed lease, bytes32 indexed node, address indexed owner, uint64 order, uint128 rate, uint128 escrow, bytes32 workload);
        /// `amount` of it to the operator, or to the holder of the lease it stands in; `burned` to nobody.
        event Settled(uint64 indexed lease, bytes32 indexed node, address indexed owner, address operator, uint64 secs, uint256 amount, uint256 burned);
        /// Paid for calls, by a voucher; `claimed` with all before.
        event Claimed(uint64 indexed lease, bytes32 indexed node, address indexed owner, address operator, uint128 claimed, uint256 amount, uint256 burned);
        event Renewed(uint64 indexed lease, address indexed owner, uint256 amount, uint128 left);
        /// Two of its watchers said that its host is not reached: nothing is paid from here on, unless it shows itself
        /// until `lostMs`, by the ledger's time.
        event Suspected(uint64 indexed lease, bytes32 indexed node, address indexed owner, uint64 generation, uint64 lostMs, bytes32[] watchers);
        /// Its host showed itself in time; this counts against these watchers.
        event Refuted(uint64 indexed lease, bytes32 indexed node, address indexed owner, uint64 generation, bytes32[] watchers);
        /// A watcher's part of the escrow of a lease that was lost.
        event Watched(uint64 indexed lease, bytes32 indexed watcher, address indexed operator, uint256 amount);
        /// What was lost goes on as lease `next`, with `escrow` of its own.
        event Replaced(uint64 indexed lease, uint64 indexed next, address indexed owner, uint256 escrow);
        /// Another host runs the same as lease `deputy`, with `escrow` out of the suspect one's.
        event Deputed(uint64 indexed lease, uint64 indexed deputy, address indexed owner, uint256 escrow);
        /// A suspect host showed itself: its deputy ends, and what is left of its escrow goes back into the other's.
        event Dismissed(uint64 indexed lease, uint64 indexed deputy, address indexed owner, uint256 rest);
        /// By 1 its owner, 2 its host, 3 the end of its escrow, 4 the loss of its host, 5 the return of the host it stood in
        /// for.
        event Ended(uint64 indexed lease, bytes32 indexed node, address indexed owner, uint8 by, uint256 refund, uint256 penalty);

        error UnknownLease(uint64 lease);
        error NotRunning(uint64 lease);
        error NotOwner(address owner);
        error NotOperator(address operator);
        /// A renewal pays for whole seconds, and not beyond 400 days or the end of the lease it stands in; 0 if that one was
        /// recalled, or lost.
        error BadRenewal(uint256 rate, uint64 secsMax);
        /// So many leases stand in it: they end first.
        error HoldsLeases(uint64 lease, uint64 leases);
        /// Its host takes no renewals.
        error HostRetired(bytes32 node);
        /// Its host has less collateral than its offer needs: it takes no renewals until it has.
        error HostShort(bytes32 node, uint256 collateral, uint256 least);
        /// Watchers speak of this round and the one before.
        error BadRound(uint64 given, uint64 now);
        /// One of each watcher, in their order, empty or over `unreachable_statement`: so many were right.
        error BadSignatures(uint64 right, uint64 needed);
        /// A host speaks by its operator's account, or by its node key over `alive_statement`.
        error BadAlive();
        /// Its host did not show itself until then: it is lost.
        error TooLate(uint64 lostMs);
        error AlreadySuspect(uint64 lease);
        error NotSuspect(uint64 lease);
        error BadGeneration(uint64 given, uint64 found);
        /// Only what is on call is paid by vouchers.
        error NotOnCall(uint64 lease);
        /// Neither the lease's owner nor a budget of his signed it.
        error BadVoucher(address owner);
        /// A voucher over less than was paid already.
        error StaleVoucher(uint128 total, uint128 claimed);

        /// Pays what is owed of each lease, whoever sends it; ends those whose escrow is over, and those whose host did not
        /// show itself in time: what is left then goes on with another host within the order's terms, or back to the
        /// owner. All or none, at most 64.
        function touch(uint64[] calldata leases) external returns (uint256 paid);
        /// Ends leases of the caller, or of the owner whose budget it is; what is not owed comes back.
        function end(uint64[] calldata leases) external;
        /// Ends leases of a host of the caller. The rest goes back to the owner; unless the lease is preemptible or the
        /// host retired seven windows ago, the collateral loses what the next hour would have paid, half of it to the owner.
        /// A preemptible lease that stands in a held one is its holder's to end for nothing, and not the host's, unless what
        /// it stands in was lost.
        function quit(uint64[] calldata leases) external;
        /// Adds the value sent to the escrow. Anybody may.
        function renew(uint64 lease) external payable;
        /// Says that a lease's host is not reached, in this round or the one before. Anybody may send it. `signatures` are
        /// those of `watchers(lease, round)`, in that order, empty for who did not sign; two at least, over
        /// `unreachable_statement(chain id, lease, generation, round)`. From there on another host runs the same, if one
        /// within the order's terms has room.
        function unreachable(uint64 lease, uint64 round, bytes[] calldata signatures) external;
        /// Takes that back, before it is lost: from the host's operator with an empty signature, or from anybody with the
        /// node key's over `alive_statement(chain id, lease, generation)`.
        function alive(uint64 lease, uint64 generation, bytes calldata signature) external;

        /// Pays for calls of a lease on call, out of its escrow and after what it owes for keeping: what `total` is beyond
        /// what was claimed, as far as the escrow goes. `signature` is the owner's, or a budget's of his, 65 bytes over the
        /// keccak of `voucher_statement(chain id, lease, total)`. Anybody may send it; sent again it pays nothing.
        function claim(uint64 lease, uint128 total, bytes calldata signature) external returns (uint256 paid);

        function get(uint64 lease) external view returns (Lease memory);
        function many(uint64[] calldata leases) external view returns (Lease[] memory);
        /// Running leases on a host, at most 64 from `first`.
        function ofHost(bytes32 node, uint64 first, uint64 most) external view returns (uint64[] memory leases);
        function count() external view returns (uint64);
        /// The round of 60 s of the active clock, and when it ends by the ledger's time if blocks go on being made.
        function round() external view returns (uint64 index, uint64 endsMs);
        /// Who watches a lease in this round or the one before: at most 3 hosts, of different operators that neither run
        /// nor own it. None before the round's second block, or of a lease that began in it.
        function watchers(uint64 lease, uint64 round) external view returns (bytes32[] memory nodes);
        /// The same of each, at most 64.
        function watchersOf(uint64[] calldata leases, uint64 round) external view returns (bytes32[][] memory nodes);
        /// Refuted accusations of a watcher in the open window. With the third it loses a hundredth of its collateral.
        function refuted(bytes32 node) external view returns (uint64);
    }
}
