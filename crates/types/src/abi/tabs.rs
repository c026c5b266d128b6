//! Declare the module of tabs for reading.

use alloy_sol_types::sol;

sol! {
    /// Tabs: coin for what is read, and one hash chain for each provider it may go to. See `tab`.
    ///
    /// A tab's end runs on the active clock, as windows do: while no blocks are made it does not come nearer.
    #[derive(Debug, PartialEq, Eq)]
    interface ITabs {
        struct Tab {
            bytes32 id;
            /// Who gets back what is left.
            address payer;
            /// 1 open, 2 ended.
            uint8 state;
            /// What it is for, as its payer says.
            bytes32 bucket;
            /// Root of the sum tree of its leaves, and their sum: the deposit, in gwei.
            bytes32 root;
            uint64 gwei;
            /// Wei that are left, and that were claimed.
            uint128 left;
            uint128 claimed;
            /// When claims end, in milliseconds since 1970 by the ledger's time, if blocks go on being made; a halt
            /// moves it further away. Providers take ticks until a window before.
            uint64 untilMs;
        }
        struct Claim {
            bytes32 tab;
            bytes32 provider;
            /// Which leaf, from 0, and what it commits to.
            uint32 leaf;
            bytes32 anchor;
            uint32 ticks;
            uint128 price;
            /// Nodes from the leaf to the root, 40 bytes each, at most 10.
            bytes path;
            /// Ticks in all, 1 to `ticks`, and the chain's value there.
            uint32 index;
            bytes32 value;
        }

        event Opened(bytes32 indexed tab, address indexed payer, bytes32 indexed bucket, uint128 deposit, uint64 untilMs);
        /// `ticks` more of that leaf are paid, `index` in all.
        event Claimed(address indexed payer, bytes32 indexed provider, bytes32 indexed tab, address operator, uint32 leaf, uint32 index, uint32 ticks, uint256 amount);
        event Ended(bytes32 indexed tab, address indexed payer, uint256 refund);

        error UnknownTab(bytes32 tab);
        /// The payer used this salt before.
        error TabExists(bytes32 tab);
        /// It ended, and was paid back.
        error NotOpen(bytes32 tab);
        error UnknownProvider(bytes32 provider);
        /// Value and sum of the leaves differ, or are nothing.
        error WrongDeposit(uint256 value, uint256 needed);
        /// A tab is open for two windows or two days at least, whichever is less, and 400 days at most.
        error BadTerm(uint64 leastMs, uint64 mostMs);
        error BadPath(bytes32 tab, uint32 leaf);
        error BadValue(bytes32 tab, uint32 leaf, uint32 index);
        /// So many ticks of the leaf are paid already.
        error NothingNew(bytes32 tab, uint32 leaf, uint32 index);
        /// Claims ended then.
        error Over(bytes32 tab, uint64 untilMs);
        /// Claims are taken until then.
        error TooEarly(bytes32 tab, uint64 untilMs);

        /// Opens a tab of the caller, or of the owner whose budget it is, for `termMs` from now. Value = gwei · 10^9.
        /// Its id is `tab_id(chain id, payer, salt)`.
        function open(bytes32 salt, bytes32 bucket, bytes32 root, uint64 gwei, uint64 termMs) external payable returns (bytes32 tab);
        /// Pays ticks to their providers' operators, whoever sends it. All or none.
        function claim(Claim[] calldata claims) external returns (uint256 amount);
        /// Pays back what is left of tabs whose claims ended, to their payers, whoever sends it. All or none.
        function close(bytes32[] calldata tabs) external;

        function get(bytes32 tab) external view returns (Tab memory);
        /// What was claimed of a leaf last; zero if nothing was.
        function claimed(bytes32 tab, uint32 leaf) external view returns (uint32 index, bytes32 value);
        /// Open tabs of a payer, at most 64 from `first`.
        function ofPayer(address payer, uint64 first, uint64 most) external view returns (bytes32[] memory tabs);
    }
}
