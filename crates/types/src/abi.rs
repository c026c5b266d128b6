//! Call the ledger's modules.
//!
//! Each module is a precompile at a fixed address whose Solidity interface stands here, so that wallets,
//! contracts and our own planes speak to it alike. Amounts are wei (18 decimals), sizes bytes, times
//! milliseconds. A module refuses delegatecall, value it did not ask for and writes under staticcall; what a
//! caller does wrong is a revert with one of the typed errors. Node keys are Ed25519 public keys.
//!
//! What is signed outside of a transaction is a fixed byte string under a tag of its own, built by
//! [`operator_consent`], [`spender_consent`], [`root_statement`], [`decline_statement`], [`unreachable_statement`],
//! [`alive_statement`] and [`voucher_statement`].

use alloy_primitives::{Address, B256, address, keccak256};
use alloy_sol_types::sol;

mod addresses;
mod buckets;
mod deals;
mod levels;
mod market;
mod relays;
mod statement;
mod tabs;

pub use addresses::{REACH_BYTES_MAX, pack_addresses, pack_reach, unpack_reach};
pub use buckets::IBuckets;
pub use deals::IDeals;
pub use levels::ILevels;
pub use market::{ILeases, IMarket};
pub use relays::IRelays;
pub use statement::{
    alive_statement, decline_statement, operator_consent, root_statement, spender_consent, unreachable_statement,
    voucher_statement,
};
pub use tabs::ITabs;

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
/// Tabs for what is read.
pub const TABS: Address = address!("0000000000000000000000000000000000000de7");
/// Offers and orders of compute.
pub const MARKET: Address = address!("0000000000000000000000000000000000000de8");
/// Leases of compute, and their pay.
pub const LEASES: Address = address!("0000000000000000000000000000000000000de9");
/// Service levels of hosts, and the bonds that answer for them.
pub const LEVELS: Address = address!("0000000000000000000000000000000000000dea");
/// The pool of relay bandwidth, and what is paid by ticks.
pub const RELAYS: Address = address!("0000000000000000000000000000000000000deb");
/// Every module, in address order.
pub const MODULES: [Address; 11] =
    [BUDGETS, PROVIDERS, BUCKETS, DEALS, ANCHORS, QUEUE, TABS, MARKET, LEASES, LEVELS, RELAYS];
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
            /// Up to 8 socket addresses, 18 bytes each: IPv6 (or mapped IPv4) and port, big-endian. Where relays are
            /// named among them, the last ones, one byte before all that counts those that are no relays.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_and_modules_do_not_collide() {
        assert_eq!(SYSTEM[0], 0xff);
        for pair in MODULES.windows(2) {
            assert!(pair[0] < pair[1]);
        }
    }
}
