//! Declare the module of storage deals.

use alloy_sol_types::sol;

sol! {
    /// Storage deals: escrow, signed roots, proofs, pay per proven window, the slashing ladder.
    ///
    /// A window opens on the active clock; its seed is known one block later. From then until its proof is
    /// accepted or it ends, roots of that provider cannot change (`ChallengeOpen`: try again shortly).
    #[derive(Debug, PartialEq, Eq)]
    interface IDeals {
        struct Terms {
            bytes32 provider;
            uint64 capacityBytes;
            /// Most the caller accepts, wei per GiB and window.
            uint128 priceMax;
            uint128 escrow;
        }
        struct Resize {
            uint64 deal;
            uint64 capacityBytes;
            /// Most the caller accepts, wei per GiB and window.
            uint128 priceMax;
        }
        /// The root of all a deal stores, after one more change. `position` is what changed.
        struct RootPost {
            uint64 deal;
            /// Above the last posted one.
            uint64 sequence;
            uint64 position;
            bytes32 root;
            uint64 leaves;
            /// Ed25519 of the node key over `root_statement`; may be empty if its operator posts.
            bytes providerSignature;
            /// 65 bytes of the bucket's owner, or a budget of the owner, over keccak of `root_statement`; may be
            /// empty if such an account posts, or a custodian of the bucket.
            bytes ownerSignature;
        }
        /// 0 never was, 1 open, 2 closing (ends when the provider's challenge is over), 3 ended.
        struct Deal {
            uint64 id;
            bytes32 bucket;
            bytes32 provider;
            address owner;
            uint8 state;
            uint64 capacityBytes;
            /// What the provider keeps free for it: more than the capacity where a deal that shrank holds more.
            uint64 pledgedBytes;
            /// Wei per GiB and window.
            uint128 price;
            uint128 escrow;
            uint64 sequence;
            bytes32 root;
            uint64 leaves;
            /// Windows in which something was held and proven, as far as settled.
            uint64 paidWindows;
            uint256 paid;
            /// What settling now would pay.
            uint256 owed;
            /// Windows in which something was held and no proof came: not paid, and steps of the ladder.
            uint64 missedWindows;
        }
        struct Window {
            uint64 index;
            /// Active clock, its value when the window opened, and when it will end.
            uint64 clockMs;
            uint64 openedMs;
            uint64 endsMs;
            /// Block the window opened in.
            uint64 height;
            /// Zero until the next block.
            bytes32 seed;
        }
        /// Leaf `leaf` of all leaves of `deal`, in the tree with this root.
        struct Sample {
            uint64 deal;
            uint64 leaf;
            uint64 leaves;
            bytes32 root;
        }
        struct Challenge {
            uint64 window;
            /// Of this provider and window; zero if nothing is asked.
            bytes32 seed;
            uint64 totalLeaves;
            /// A proof is wanted now.
            bool open;
            bool proven;
            /// 20, in the order the proof answers them; empty unless open.
            Sample[] samples;
        }
        struct Standing {
            bool suspended;
            bool closed;
            /// Windows missed in a row, and ever.
            uint64 missesInRow;
            uint64 misses;
            uint64 proven;
            /// Last window with an accepted proof.
            uint64 lastProven;
            uint256 slashed;
            /// Wei per leaf × 2^64 credited to repair reserves so far.
            uint256 slashIndex;
            uint64 totalLeaves;
            uint64 deals;
        }
        /// What custodians of a bucket are paid out of its repair reserve; zero where it pays none.
        struct Wage {
            /// Wei for each GiB that a custodian's post adds to a deal, in leaves of 1,024 bytes.
            uint128 perGib;
            /// Most wei a day, for all custodians together. A day is 24 hours of the blocks' time, from midnight UTC.
            uint128 perDay;
            /// Wei paid in the day of the last block.
            uint128 paidToday;
        }

        event Opened(uint64 indexed deal, bytes32 indexed bucket, bytes32 indexed provider, address owner, uint64 capacityBytes, uint128 price, uint128 escrow);
        event Posted(uint64 indexed deal, bytes32 indexed provider, uint64 sequence, bytes32 root, uint64 leaves);
        event Proven(bytes32 indexed provider, uint64 indexed window, uint64 totalLeaves);
        event Paid(uint64 indexed deal, bytes32 indexed provider, address operator, uint64 windows, uint256 amount, uint128 escrowLeft);
        event ToppedUp(uint64 indexed deal, uint256 amount, uint128 escrow);
        /// Its provider takes so many bytes from now on, at this price.
        event Resized(uint64 indexed deal, bytes32 indexed provider, uint64 capacityBytes, uint128 price);
        event Closing(uint64 indexed deal, bytes32 indexed provider, uint64 window);
        /// The provider may forget what it held.
        event Ended(uint64 indexed deal, bytes32 indexed bucket, bytes32 indexed provider, uint256 refund);
        event Missed(bytes32 indexed provider, uint64 indexed window, uint64 inRow);
        event Slashed(bytes32 indexed provider, uint64 indexed window, uint256 amount, uint256 burned, uint256 reserved);
        event Closed(bytes32 indexed provider, uint64 indexed window);
        event Funded(bytes32 indexed bucket, uint256 amount, uint256 reserve);
        event Withdrawn(bytes32 indexed bucket, uint256 amount);
        event WageSet(bytes32 indexed bucket, uint128 perGib, uint128 perDay);
        /// Whether custodians of the bucket may end its deals with providers that retired.
        event ReleaseSet(bytes32 indexed bucket, bool allowed);
        /// A custodian's post added so many leaves to the deal.
        event WagePaid(bytes32 indexed bucket, address indexed custodian, uint64 indexed deal, uint64 leaves, uint256 amount);

        error UnknownDeal(uint64 deal);
        error UnknownProvider(bytes32 provider);
        error UnknownBucket(bytes32 bucket);
        /// The caller is neither of the deal's sides; or it is a custodian, and the deal would hold less.
        error NotParty(uint64 deal);
        error NotOwner(address owner);
        error NotOpen(uint64 deal);
        /// Versions in its bucket are kept until then, in milliseconds since 1970: the deal does not end or shrink
        /// before, and grows by the owner's own account only.
        error Locked(uint64 untilMs);
        error AlreadyOpen(uint64 deal);
        error ProviderUnavailable(bytes32 provider);
        error CapacityExceeded(uint64 freeBytes);
        error PriceAboveMax(uint128 price);
        error WrongEscrow(uint256 value, uint256 needed);
        error StaleSequence(uint64 deal, uint64 sequence);
        error BadProviderSignature(uint64 deal);
        error BadOwnerSignature(uint64 deal);
        /// The provider owes a proof for this window: roots are fixed until it comes or the window ends.
        error ChallengeOpen(bytes32 provider, uint64 window);
        error NoChallenge(bytes32 provider, uint64 window);
        error WrongWindow(uint64 current);
        error AlreadyProven(uint64 window);
        /// Sample `index` does not verify. Counts as nothing: send a better one.
        error BadProof(uint64 index, string reason);

        /// Opens one deal per entry between the bucket's owner and a provider, at the provider's price.
        /// Value = the sum of the escrows. One open deal per bucket and provider. By the owner, a budget of the
        /// owner, or a custodian of the bucket. A custodian may send less: the bucket's repair reserve gives the
        /// rest. Whoever opens one, it is the owner's, who gets back what is left of its escrow.
        function open(bytes32 bucket, Terms[] calldata terms) external payable returns (uint64[] memory deals);
        /// Posts newest roots, each signed by both sides. All or none. A custodian of the bucket may be the caller
        /// in its owner's place, with the provider's signature, where the deal holds no less than before; for what it
        /// holds more that custodian is paid the bucket's wage, as far as the day's most and the repair reserve go.
        function post(RootPost[] calldata posts) external;
        /// Answers the challenge of `window`. Anybody may send it.
        function prove(bytes32 provider, uint64 window, bytes calldata proof) external;
        /// Pays what proven windows earned, and takes in slashing.
        function touch(uint64[] calldata deals) external;
        function topUp(uint64 deal) external payable;
        /// Gives open deals of the caller another capacity. One that grows goes on at the provider's price of
        /// now, which must not be above `priceMax`, and needs a provider that takes new deals; one that shrinks
        /// keeps its price, and takes nothing new until it holds less than that: 0 takes nothing at all.
        function resize(Resize[] calldata deals) external;
        /// Ends deals: by the owner unless versions in the bucket are kept, by the provider's operator when the escrow
        /// is used up. By a custodian of the bucket where `setRelease` allows it, the provider is retired, no versions
        /// in the bucket are kept, and the caller is not the provider's operator: what is left of the escrow is then
        /// added to the bucket's repair reserve (`Funded`), and `Ended` tells of no refund.
        function close(uint64[] calldata deals) external;
        /// Adds the value sent to a bucket's repair reserve. Anybody may.
        function fund(bytes32 bucket) external payable;
        /// Moves up to `amount` of a bucket's repair reserve to its owner's account, and returns how much: by the
        /// owner or a budget of the owner. More than there is, such as the maximum of uint256, means all.
        function withdraw(bytes32 bucket, uint256 amount) external returns (uint256);
        /// Says what custodians of a bucket are paid from now on, 0 for nothing: by the owner or a budget of the
        /// owner. What was paid today counts against the new `perDay` too.
        function setWage(bytes32 bucket, uint128 perGib, uint128 perDay) external;
        /// Says whether custodians of a bucket may `close` its deals with providers that retired; they may not unless
        /// it was allowed. By the owner or a budget of the owner.
        function setRelease(bytes32 bucket, bool allowed) external;

        function get(uint64 deal) external view returns (Deal memory);
        function many(uint64[] calldata deals) external view returns (Deal[] memory);
        /// The open or closing deal of a bucket with a provider, 0 if none.
        function find(bytes32 bucket, bytes32 provider) external view returns (uint64 deal);
        /// Open and closing deals.
        function ofBucket(bytes32 bucket) external view returns (uint64[] memory deals);
        /// At most 64 open and closing deals from `first`.
        function ofProvider(bytes32 provider, uint64 first, uint64 most) external view returns (uint64[] memory deals);
        /// Coin for the repair of a bucket: from slashing, as far as settled, from deals that custodians ended, and what
        /// it was funded with.
        function reserve(bytes32 bucket) external view returns (uint256);
        function wage(bytes32 bucket) external view returns (Wage memory);
        /// Whether custodians of a bucket may end its deals with providers that retired.
        function release(bytes32 bucket) external view returns (bool);
        /// Wei that an account was paid as a custodian of a bucket, ever.
        function earned(bytes32 bucket, address custodian) external view returns (uint256);
        function window() external view returns (Window memory);
        function challenge(bytes32 provider) external view returns (Challenge memory);
        function standing(bytes32 provider) external view returns (Standing memory);
    }
}
