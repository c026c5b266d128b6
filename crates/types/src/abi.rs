//! Call the ledger's modules.
//!
//! Each module is a precompile at a fixed address whose Solidity interface stands here, so that wallets,
//! contracts and our own planes speak to it alike. Amounts are wei (18 decimals), sizes bytes, times
//! milliseconds. A module refuses delegatecall, value it did not ask for and writes under staticcall; what a
//! caller does wrong is a revert with one of the typed errors. Node keys are Ed25519 public keys.
//!
//! What is signed outside of a transaction is a fixed byte string under a tag of its own, built by
//! [`operator_consent`], [`spender_consent`] and [`root_statement`].

use alloy_primitives::{Address, B256, Bytes, address, keccak256};
use alloy_sol_types::sol;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

mod statement;

pub use statement::{operator_consent, root_statement, spender_consent};

/// Spending accounts.
pub const BUDGETS: Address = address!("0000000000000000000000000000000000000de1");
/// Who offers what.
pub const PROVIDERS: Address = address!("0000000000000000000000000000000000000de2");
/// Buckets and their roots.
pub const BUCKETS: Address = address!("0000000000000000000000000000000000000de3");
/// Storage deals, proofs, pay, slashing.
pub const DEALS: Address = address!("0000000000000000000000000000000000000de4");
/// Audit checkpoints.
pub const ANCHORS: Address = address!("0000000000000000000000000000000000000de5");
/// The clock and what falls due.
pub const QUEUE: Address = address!("0000000000000000000000000000000000000de6");
/// Every module, in address order.
pub const MODULES: [Address; 6] = [BUDGETS, PROVIDERS, BUCKETS, DEALS, ANCHORS, QUEUE];
/// Sender of the system transaction at body index 0, and address of [`ICoin`]'s logs; nobody holds its key.
pub const SYSTEM: Address = address!("fffffffffffffffffffffffffffffffffffffffe");

/// Challenged leaves a window and provider: 20 find 1 % missing with 75 % in a week of daily windows.
pub const SAMPLES: usize = 20;
/// A leaf is one BLAKE3 chunk.
pub const LEAF_BYTES: u64 = 1024;
/// Leaves in a GiB, the unit of storage prices.
pub const LEAVES_PER_GIB: u64 = (1 << 30) / LEAF_BYTES;
/// A provider lists at most this many socket addresses.
pub const ADDRESSES_MAX: usize = 8;
/// Entries of one batched call (open, post, touch, close).
pub const BATCH_MAX: usize = 64;
/// Entries of one page of a listing.
pub const PAGE_MAX: u64 = 64;
/// Bytes of one anchored leaf.
pub const ANCHOR_BYTES_MAX: usize = 1024;
/// Leaves of kept versions that a bucket may list: whoever opens it reads each once.
pub const KEPT_MAX: u64 = 4096;
/// What is kept is kept for at most so long, in milliseconds: the hundred years of S3, and one.
pub const KEEP_MS_MAX: u64 = 101 * 366 * 24 * 3600 * 1000;
/// Blocks a bucket may be held without renewal.
pub const TERM_BLOCKS_MAX: u64 = 100_000;

sol! {
    /// What every module answers to a call that is wrong before it is looked at.
    #[derive(Debug, PartialEq, Eq)]
    interface IModule {
        error UnknownSelector(bytes4 selector);
        error MalformedInput();
        /// The call carries coin, the function takes none.
        error StrayValue();
        /// A write under staticcall.
        error StaticCall();
        /// delegatecall or callcode.
        error IndirectCall();
        /// A list is longer than the module takes at once.
        error TooMany(uint256 given, uint256 most);
    }
}

sol! {
    /// What the ledger logs at [`SYSTEM`] of each move of coin but fees (EIP-7708): by a transaction, a call, a
    /// creation, a SELFDESTRUCT or a module.
    #[derive(Debug, PartialEq, Eq)]
    interface ICoin {
        event Transfer(address indexed from, address indexed to, uint256 amount);
    }
}

sol! {
    /// Spending accounts: an account whose balance is the cap of what may be spent without its owner.
    #[derive(Debug, PartialEq, Eq)]
    interface IBudgets {
        event Registered(address indexed owner, address indexed spender);
        event Funded(address indexed owner, address indexed spender, uint256 amount);
        event Reclaimed(address indexed owner, address indexed spender, uint256 amount);
        event Released(address indexed owner, address indexed spender);

        error NotOwner(address owner);
        error NotRegistered(address spender);
        error AlreadyRegistered(address owner);
        /// An account cannot be its own budget, nor the budget of a budget.
        error Nested();
        error BadConsent();
        error InsufficientBalance(uint256 balance);

        /// Makes the caller owner of `spender`'s coin; `consent` is the spender's 65-byte signature over the
        /// keccak of `spender_consent(chain id, owner, spender)`. Value sent becomes the spender's balance.
        function register(address spender, bytes calldata consent) external payable;
        /// Adds the value sent to the spender's balance. Anybody may.
        function fund(address spender) external payable;
        /// Moves up to `amount` of the spender's balance back to the owner; more than there is reverts, the
        /// maximum of uint256 means all.
        function reclaim(address spender, uint256 amount) external returns (uint256);
        /// Ends it: the rest of the balance goes to the owner, the account is the spender's own again.
        function release(address spender) external;

        /// Zero if the account is nobody's budget.
        function ownerOf(address spender) external view returns (address);
        function count(address owner) external view returns (uint64);
        function at(address owner, uint64 i) external view returns (address spender);
    }
}

sol! {
    /// Who offers what, where, at what key and address.
    #[derive(Debug, PartialEq, Eq)]
    interface IProviders {
        /// What an operator states and may change.
        struct Offer {
            /// Failure domain, 1-31 bytes of [a-z0-9-].
            string zone;
            /// Network as declared (an AS number or a prefix), up to 31 bytes.
            string network;
            /// Up to 8 socket addresses, 18 bytes each: IPv6 (or mapped IPv4) and port, big-endian.
            bytes addresses;
            uint64 capacityBytes;
            /// Wei per GiB and window.
            uint128 priceStore;
            /// Wei per GiB read.
            uint128 priceRead;
            /// 0 home, 1 data centre, 2 phone.
            uint8 class;
        }
        struct Provider {
            bytes32 node;
            address operator;
            Offer offer;
            uint256 collateral;
            /// Capacity promised in open deals.
            uint64 usedBytes;
            uint64 deals;
            /// No new deals: retired by its operator, or closed by slashing.
            bool retired;
            /// Missed its last challenge.
            bool suspended;
            bool closed;
            /// Counts changes of this record, from 1.
            uint64 version;
        }

        event Registered(bytes32 indexed node, address indexed operator, Offer offer, uint256 collateral);
        event Updated(bytes32 indexed node, address indexed operator, Offer offer, uint64 version);
        event Deposited(bytes32 indexed node, uint256 amount, uint256 collateral);
        event Retired(bytes32 indexed node);
        event Withdrawn(bytes32 indexed node, uint256 amount);

        error NotOperator(address operator);
        error UnknownProvider(bytes32 node);
        error AlreadyRegistered(bytes32 node);
        error BadPossession();
        error BadOffer(string field);
        error CollateralTooSmall(uint256 given, uint256 least);
        /// Withdrawal before the last deal ended.
        error DealsOpen(uint64 deals);
        error NotRetired();

        /// Registers a node for the caller, its operator. `possession` is the node key's Ed25519 signature
        /// over `operator_consent(chain id, operator, node)`. Value sent becomes collateral.
        function register(bytes32 node, Offer calldata offer, bytes calldata possession) external payable;
        /// Replaces the offer. Open deals keep their price.
        function update(bytes32 node, Offer calldata offer) external;
        /// Adds the value sent to the collateral. Anybody may.
        function deposit(bytes32 node) external payable;
        /// No new deals from now on.
        function retire(bytes32 node) external;
        /// Pays the collateral back to the operator once retired and without deals, and forgets the node.
        function withdraw(bytes32 node) external;

        /// Registered nodes, retired ones included. Order changes when one is forgotten.
        function count() external view returns (uint64);
        function at(uint64 i) external view returns (bytes32 node);
        function get(bytes32 node) external view returns (Provider memory);
        /// At most 64 from `first`.
        function page(uint64 first, uint64 most) external view returns (Provider[] memory);
    }
}

sol! {
    /// Buckets: who may write, and the root by compare-and-swap.
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
        /// Forgets a bucket without open deals that lists no leaves.
        function remove(bytes32 id) external;

        function get(bytes32 id) external view returns (Bucket memory);
        function count(address owner) external view returns (uint64);
        /// Order changes when one is removed.
        function at(address owner, uint64 i) external view returns (bytes32 id);
        /// At most 64 listed leaves from `first`, in no order.
        function kept(bytes32 id, uint64 first, uint64 most) external view returns (Kept[] memory);
    }
}

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
            /// 65 bytes of the bucket's holder or owner over keccak of `root_statement`; may be empty if
            /// such an account posts.
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

        error UnknownDeal(uint64 deal);
        error UnknownProvider(bytes32 provider);
        error UnknownBucket(bytes32 bucket);
        /// The caller is neither of the deal's sides.
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
        /// Value = the sum of the escrows. One open deal per bucket and provider.
        function open(bytes32 bucket, Terms[] calldata terms) external payable returns (uint64[] memory deals);
        /// Posts newest roots, each signed by both sides. All or none.
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
        /// is used up.
        function close(uint64[] calldata deals) external;

        function get(uint64 deal) external view returns (Deal memory);
        function many(uint64[] calldata deals) external view returns (Deal[] memory);
        /// The open or closing deal of a bucket with a provider, 0 if none.
        function find(bytes32 bucket, bytes32 provider) external view returns (uint64 deal);
        /// Open and closing deals.
        function ofBucket(bytes32 bucket) external view returns (uint64[] memory deals);
        /// At most 64 open and closing deals from `first`.
        function ofProvider(bytes32 provider, uint64 first, uint64 most) external view returns (uint64[] memory deals);
        /// Coin from slashing kept for the repair of a bucket.
        function reserve(bytes32 bucket) external view returns (uint256);
        function window() external view returns (Window memory);
        function challenge(bytes32 provider) external view returns (Challenge memory);
        function standing(bytes32 provider) external view returns (Standing memory);
    }
}

sol! {
    /// Audit checkpoints: what is anchored is a leaf of the block's anchor root.
    #[derive(Debug, PartialEq, Eq)]
    interface IAnchors {
        event Anchored(bytes leaf);
        error BadLeaf(uint256 bytesMax);
        /// 1 to 1,024 bytes.
        function anchor(bytes calldata leaf) external;
    }
}

sol! {
    /// The active clock, and what falls due: run by the ledger itself at body index 0.
    #[derive(Debug, PartialEq, Eq)]
    interface IQueue {
        event Ran(uint64 items, uint64 left);
        error NotSystem();
        /// Runs at most 512 items that are due. Only from the system's account.
        function run() external;
        /// Advanced by each block by the time since its parent, at most 3 s; stands still through a halt.
        function clockMs() external view returns (uint64);
        function waiting() external view returns (uint64);
        /// Coin destroyed by modules so far; base fees are not counted here.
        function burned() external view returns (uint256);
    }
}

/// The id of the bucket an owner creates with `salt`: keccak(owner ‖ salt).
pub fn bucket_id(owner: Address, salt: B256) -> B256 {
    keccak256([owner.as_slice(), salt.as_slice()].concat())
}

/// The text of `Offer.addresses`: 18 bytes each, in order; more than [`ADDRESSES_MAX`] are cut.
pub fn pack_addresses(addresses: &[SocketAddr]) -> Bytes {
    let mut out = Vec::with_capacity(18 * addresses.len());
    for address in addresses.iter().take(ADDRESSES_MAX) {
        let ip = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        out.extend_from_slice(&ip.octets());
        out.extend_from_slice(&address.port().to_be_bytes());
    }
    out.into()
}

/// Reads `Offer.addresses`; `None` if the length is not a multiple of 18 or too long.
pub fn unpack_addresses(packed: &[u8]) -> Option<Vec<SocketAddr>> {
    if !packed.len().is_multiple_of(18) || packed.len() > 18 * ADDRESSES_MAX {
        return None;
    }
    Some(
        packed
            .chunks_exact(18)
            .map(|chunk| {
                let ip: [u8; 16] = chunk[..16].try_into().expect("16 of 18 bytes");
                let ip = Ipv6Addr::from(ip).to_canonical();
                SocketAddr::new(ip, u16::from_be_bytes([chunk[16], chunk[17]]))
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_packing() {
        let given: Vec<SocketAddr> = vec!["127.0.0.1:4000".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()];
        assert_eq!(unpack_addresses(&pack_addresses(&given)), Some(given));
        assert_eq!(unpack_addresses(&[0; 17]), None);
        assert_eq!(unpack_addresses(&[0; 18 * 9]), None);
    }

    #[test]
    fn system_and_modules_do_not_collide() {
        assert_eq!(SYSTEM[0], 0xff);
        for pair in MODULES.windows(2) {
            assert!(pair[0] < pair[1]);
        }
    }
}
