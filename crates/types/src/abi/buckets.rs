//! Declare the module of buckets.

use alloy_sol_types::sol;

sol! {
    /// Buckets: who may write, the root by compare-and-swap, and who restores what was lost.
    #[derive(Debug, PartialEq, Eq)]
    interface IBuckets {
        /// n shards a stripe, any k restore it, t whole operators may be lost; they lie evenly on at least so
        /// many operators, networks and zones, where these are not 0.
        struct Shape {
            uint8 k;
            uint8 n;
            uint8 t;
            uint8 operators;
            uint8 networks;
            uint8 zones;
            uint32 shardBytes;
            uint16 codeId;
        }
        struct Bucket {
            bytes32 id;
            address owner;
            Shape shape;
            /// Counts holders, from 1; a writer of an older term is refused.
            uint64 term;
            address holder;
            /// The holder's last block.
            uint64 expires;
            /// Zero while empty.
            bytes32 root;
            /// What the root's author says it weighs; not checked.
            uint64 sizeBytes;
            /// Counts roots.
            uint64 version;
            uint64 deals;
            /// The latest time of all that was ever kept, in milliseconds since 1970: until then its deals stay.
            uint64 keptUntilMs;
            /// Counts changes of the list of kept leaves.
            uint64 keeps;
            /// Id of a shard that says where custodians put what they restored; zero if nowhere.
            bytes32 overlay;
            /// Accounts that restore lost shards of it while its owner is away.
            uint64 custodians;
        }
        /// What finds versions under retention, whatever the root says: the id of a shard, until when it stays
        /// listed, in milliseconds since 1970, and its place in the order in which the bucket's were listed.
        struct Kept {
            bytes32 leaf;
            uint64 untilMs;
            uint64 number;
        }

        event Created(bytes32 indexed id, address indexed owner, Shape shape);
        event Claimed(bytes32 indexed id, address indexed holder, uint64 term, uint64 expires);
        event Committed(bytes32 indexed id, uint64 indexed term, bytes32 root, uint64 sizeBytes, uint64 version);
        /// What is put from now on has this shape; what was put before keeps its own until it is put again.
        event Reshaped(bytes32 indexed id, uint64 indexed term, Shape shape);
        event Removed(bytes32 indexed id);
        event LeafKept(bytes32 indexed id, bytes32 indexed leaf, uint64 untilMs);
        event Lapsed(bytes32 indexed id, bytes32 indexed leaf);
        event Appointed(bytes32 indexed id, address indexed custodian);
        event Dismissed(bytes32 indexed id, address indexed custodian);
        event Laid(bytes32 indexed id, address indexed by, bytes32 overlay);

        error UnknownBucket(bytes32 id);
        error AlreadyExists(bytes32 id);
        error BadShape();
        /// The caller is neither the owner nor a budget of the owner.
        error NotOwner(address owner);
        /// Somebody else holds the term.
        error Held(address holder, uint64 term, uint64 expires);
        /// The caller's term is over.
        error Fenced(uint64 term, address holder, uint64 expires);
        /// The root is not what the caller expected: read, merge, try again.
        error Conflict(bytes32 root);
        error BadTerm();
        error DealsOpen(uint64 deals);
        /// Versions are kept until then, in milliseconds since 1970; nobody can end that.
        error Locked(uint64 untilMs);
        /// More leaves than a bucket may list.
        error KeptFull(uint64 most);
        /// A time that is over, or more than 101 years ahead.
        error BadTime(uint64 untilMs);
        error NotKept(bytes32 leaf);
        /// Nobody, the owner itself, or what no person holds the key of.
        error BadCustodian(address custodian);
        error AlreadyCustodian(address custodian);
        error TooManyCustodians(uint64 most);
        /// Neither a custodian of the bucket nor of its owner's side; or who is to be dismissed is none.
        error NotCustodian(address caller);
        /// The overlay is not what the caller expected: read, merge, try again.
        error OverlayConflict(bytes32 overlay);

        /// Creates `bucketId(owner, salt)`, owned by the caller, or by the owner of the budget that calls.
        /// The caller holds term 1 for `blocks`.
        function create(bytes32 salt, Shape calldata shape, uint64 blocks) external returns (bytes32 id);
        /// Takes or renews the term for `blocks` (1 to 100,000). A renewal keeps the term's number. A holder
        /// within its time is only displaced by the owner's own account.
        function claim(bytes32 id, uint64 blocks) external returns (uint64 term);
        /// Sets the root if the caller holds `term` and the root is `expected`.
        function commit(bytes32 id, uint64 term, bytes32 expected, bytes32 root, uint64 sizeBytes) external;
        /// The same, and lists leaves, or has those that are listed already listed for longer; never for less.
        /// A bucket lists at most 4,096.
        function commitKept(bytes32 id, uint64 term, bytes32 expected, bytes32 root, uint64 sizeBytes, Kept[] calldata kept) external;
        /// Takes leaves off the list whose time is over. Anybody may.
        function lapse(bytes32 id, bytes32[] calldata leaves) external;
        /// Gives the bucket another shape if the caller holds `term`.
        function reshape(bytes32 id, uint64 term, Shape calldata shape) external;
        /// Forgets a bucket without open deals that lists no leaves, with its overlay and its custodians. What its
        /// repair reserve has goes to the owner.
        function remove(bytes32 id) external;
        /// Names an account that may restore what is lost, and nothing else: by the owner or a budget of the owner.
        /// It opens deals and posts what grows (see `IDeals`), and lays overlays. At most 8 a bucket.
        function appoint(bytes32 id, address custodian) external;
        /// Ends that: by the same, or by the custodian itself.
        function dismiss(bytes32 id, address custodian) external;
        /// Sets the overlay if it is `expected`: by a custodian, the owner or a budget of the owner, whoever holds
        /// the term.
        function lay(bytes32 id, bytes32 expected, bytes32 overlay) external;

        function get(bytes32 id) external view returns (Bucket memory);
        function count(address owner) external view returns (uint64);
        /// Order changes when one is removed.
        function at(address owner, uint64 i) external view returns (bytes32 id);
        /// At most 64 listed leaves from `first`, in no order.
        function kept(bytes32 id, uint64 first, uint64 most) external view returns (Kept[] memory);
        /// In no order.
        function custodians(bytes32 id) external view returns (address[] memory);
        /// False also where there is no such bucket.
        function isCustodian(bytes32 id, address account) external view returns (bool);
    }
}
