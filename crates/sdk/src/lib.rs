//! Use the cloud from any program.

pub mod app;
pub mod book;
pub mod bucket;
mod catalog;
pub mod change;
pub mod cloud;
pub mod complete;
pub mod compose;
pub mod condition;
pub mod content;
pub mod cost;
pub mod crowd;
pub mod custody;
pub mod customer;
mod cut;
mod deal;
pub mod energy;
pub mod escrow;
pub mod fault;
mod handover;
pub mod held;
pub mod history;
pub mod image;
mod intent;
mod keep;
pub mod list;
pub mod locate;
pub mod market;
pub mod moves;
pub mod mtime;
mod nearest;
pub mod object;
pub mod odds;
mod pack;
pub mod payments;
pub mod plan;
mod present;
mod read;
pub mod receipt;
pub mod recode;
pub mod redundancy;
pub mod repair;
pub mod retain;
mod rounds;
pub mod share;
mod spend;
pub mod stack;
pub mod statement;
mod sweep;
pub mod tab;
pub mod upload;
pub mod usage;
pub mod verify;
pub mod wallet;

pub use cloud::{Cloud, Local, UNPOSTED};
pub use fault::Fault;
pub use hodei_storage::index::Entry;
pub use intent::PARTITION as JOURNALS;
pub use repair::ABSENCES;

/// What a bucket's index says of an object.
pub mod index {
    pub use hodei_storage::index::{
        Checksum, Customer, Digest, Entry, Lock, Mode, Part, Retention, Settings, TAGS_MAX, Version,
    };
}

/// What an account and a light client of the ledger are.
pub mod chain {
    pub use hodei_ledger::{
        account::{Account, Order},
        client::Client,
        genesis::chain_id,
        light::Verifier,
    };
}

/// The wire.
pub mod link {
    pub use hodei_link::{Config, Link, LinkError, Listener};
}

/// What a put may wait for and tells on its way; bytes that are best read at once.
pub mod storage {
    pub use hodei_storage::engine::{Progress, PutError, Verdict, Wait, plain_bytes, reserve_bytes};
}

/// An identity's own log.
pub mod log {
    pub use hodei_audit::{Log, LogError, log::Config};

    /// What salts of an identity's events are drawn from, of its node key's seed.
    pub fn salt_key(seed: &[u8; 32]) -> [u8; 32] {
        blake3::derive_key("hodei client log salts v1", seed)
    }
}
