//! Declare the module of service levels: what hosts of compute promise, and the bonds that answer for it.

use alloy_sol_types::sol;

sol! {
    /// Service levels: a host promises availability, a start in time and a replacement in time, with a bond. Leases of
    /// orders that ask for availability bind a part of it, and a breach pays that part to the lease's owner. Breaches are
    /// computed from what the ledger was told anyway: no report of a tenant counts. Limits: `market::Level`.
    #[derive(Debug, PartialEq, Eq)]
    interface ILevels {
        #[derive(Default, Copy)]
        struct Level {
            /// Part of each window that a replica is to be there, in hundredths of a percent: 9,000 to 9,999.
            uint16 availabilityBp;
            /// Within so many seconds its host takes a lease up.
            uint16 startSecs;
            /// Within so many seconds after its host was last reached a lost replica runs elsewhere.
            uint16 restoreSecs;
            /// Part of a window's pay that a breach pays, in hundredths of a percent: 1 to 10,000.
            uint16 payBp;
        }
        /// What stands for new leases.
        struct Promise {
            bytes32 node;
            /// Zero: there is no such host.
            address operator;
            /// All zero: it promises nothing.
            Level level;
            uint256 bond;
            /// What of it leases bind.
            uint256 bound;
        }
        /// The level of one lease, as it stood when the lease began.
        struct Held {
            uint64 lease;
            bytes32 node;
            /// All zero: it has none.
            Level level;
            /// Wei that a breach of it pays yet.
            uint256 bound;
            /// By the ledger's time, until when its host is to take it up, and when it said so; 0 if it did not.
            uint64 startUntilMs;
            uint64 startedMs;
            /// Milliseconds it was down in the last window in which it was.
            uint64 downMs;
        }

        event Promised(bytes32 indexed node, address indexed operator, Level level, uint256 bond);
        event Bonded(bytes32 indexed node, address indexed operator, uint256 amount, uint256 bond);
        event Unbonded(bytes32 indexed node, address indexed operator, uint256 amount, uint256 bond);
        /// Its host took a lease up, so many seconds after it began.
        event Started(uint64 indexed lease, bytes32 indexed node, uint64 secs);
        /// Kind 1 availability, 2 start, 3 restore. `secs` of it were counted; `amount` went to the owner: nothing, if
        /// an earlier breach of the lease took it, or if owner and operator are one.
        event Breached(uint64 indexed lease, bytes32 indexed node, address indexed owner, uint8 kind, uint64 secs, uint256 amount);

        error NotOperator(address operator);
        error BadLevel(string field);
        /// A bond is withdrawn as far as no lease binds it.
        error BondBound(uint256 free);
        error NoLevel(uint64 lease);

        /// Promises a level for leases that begin from now on, by the operator of a host: nothing, if it is all zero. Value
        /// sent is added to the bond.
        function promise(bytes32 node, Level calldata level) external payable;
        /// Adds the value sent to the bond of a host. Anybody may.
        function bond(bytes32 node) external payable;
        /// Pays so much of the caller's bond for a node back, all that is free for the maximum of uint256.
        function withdraw(bytes32 node, uint256 amount) external returns (uint256 paid);
        /// Says that leases of the caller's hosts were taken up; at most 64. Who said it of one, or whose lease is over, is
        /// passed by.
        function started(uint64[] calldata leases) external;

        function level(bytes32 node) external view returns (Promise memory);
        /// The same of each, at most 64.
        function levels(bytes32[] calldata nodes) external view returns (Promise[] memory);
        /// What leases have, at most 64.
        function of(uint64[] calldata leases) external view returns (Held[] memory);
    }
}
