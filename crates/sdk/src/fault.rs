//! Say why something was not done, in a way a program can act on.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolError as _, SolInterface};
use hodei_ledger::account::AccountError;
use hodei_storage::index::Version;
use hodei_types::{
    abi::{IBuckets, IBudgets, IDeals, ILeases, IMarket, IModule, IProviders, ITabs},
    chain::ChainError,
    code::{Domain, ShapeError},
    transport::NodeKey,
};

/// Why a request failed; nothing half done is left behind unless it says so.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Key(&'static str),
    #[error("this needs the owner's main key, which this wallet does not hold")]
    NeedsOwner,
    #[error("the account has {} coins, this needs {}", crate::wallet::format_coins(*.has), crate::wallet::format_coins(*.needs))]
    Funds {
        has: U256,
        needs: U256,
        /// What pays is a spending account with a cap, not the main one.
        is_budget: bool,
    },
    #[error("transaction {tx} was handed in, and whether it is executed is not known yet: {error}")]
    Pending { tx: B256, error: ChainError },
    #[error("no bucket is called {0:?}")]
    NoBucket(String),
    #[error("bucket {0:?} exists already")]
    BucketExists(String),
    #[error("bucket {0:?} is being removed: its last deals end with the proofs their providers owe")]
    Removing(String),
    #[error("bucket {0:?} is not empty")]
    NotEmpty(String),
    #[error("bucket {bucket:?} has no object {key:?}")]
    NoObject { bucket: String, key: String },
    #[error("bucket {bucket:?} has an object {key:?} already")]
    ObjectExists { bucket: String, key: String },
    #[error("bucket {bucket:?} has no version {version} of object {key:?}")]
    NoVersion { bucket: String, key: String, version: Version },
    #[error("version {version} of object {key:?} in bucket {bucket:?} is a delete marker")]
    Marker { bucket: String, key: String, version: Version },
    #[error("object {key:?} in bucket {bucket:?} is not as the request says it must be")]
    Condition { bucket: String, key: String },
    #[error("version {version} of object {key:?} in bucket {bucket:?} is locked")]
    Locked { bucket: String, key: String, version: Version },
    #[error("the bucket keeps locked versions until {} s since 1970: until then its deals stay, and only the owner's own account lets them grow", .until_ms / 1000)]
    Kept { until_ms: u64 },
    #[error(
        "the bucket lists {0} locked writes, which is all it can: put into another bucket, or wait until the first of them end"
    )]
    KeptFull(u64),
    #[error("{0}")]
    Setting(&'static str),
    #[error("that pays some provider of the bucket for less than one MiB of reads")]
    PayTooLow {
        /// Wei for each reader.
        least: U256,
        found: U256,
    },
    #[error("a provider of the bucket asks more for what is read of it")]
    ReadPriceTooLow {
        /// Wei per GiB.
        least: U256,
        found: U256,
    },
    #[error("object {0:?} opens only with the key its customer put it with")]
    Customer(String),
    #[error("{0} is not a name: {1}")]
    Name(String, &'static str),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error("a spread over {asked} {domain}s was asked for, and {found} are on offer")]
    TooFew { domain: Domain, asked: u8, found: usize },
    #[error("no provider offers room in {}; zones with offers: {}", asked.join(", "), there.join(", "))]
    NoRegion { asked: Vec<String>, there: Vec<String> },
    #[error("no provider offers enough room: {needs} bytes each, {found} offers with that much")]
    NoRoom { needs: u64, found: usize },
    /// Providers that are suspended until their next proof, or do not answer now, offer what lacks.
    #[error("{0}; with those who missed their last proof, or do not answer now, there is room, once they are back")]
    RoomAway(Box<Fault>),
    #[error("an offer changed since the plan was made: {0}")]
    Market(String),
    #[error("the bucket is written by {holder} until block {expires}")]
    Held { holder: Address, expires: u64 },
    #[error("{account} is no custodian of bucket {bucket}")]
    NotCustodian { bucket: B256, account: Address },
    #[error("the bucket changed too often under us: try again")]
    Contended,
    #[error("the ledger refused: {0}")]
    Reverted(String),
    #[error(transparent)]
    Chain(ChainError),
    #[error("the bytes to store could not be read: {0}")]
    Source(String),
    #[error(transparent)]
    Put(#[from] hodei_storage::engine::PutError),
    #[error(transparent)]
    Get(#[from] hodei_storage::engine::GetError),
    #[error("the bucket's index is damaged: {0}")]
    Index(String),
    #[error("local state could not be kept: {0}")]
    Local(String),
    #[error("providers that owe a proof take new roots after it")]
    ProofFirst,
    #[error("the link opens nothing: {0}")]
    Link(&'static str),
    #[error("the pass is for reader {}, and this is reader {}", crate::share::brief(.reader), crate::share::brief(.client))]
    Pass { reader: NodeKey, client: NodeKey },
    #[error("the pass is used up: {paid_mib} of the {bound_mib} MiB it pays for were paid, {} coins, and what is left at the bucket's providers does not suffice for this{held}", crate::wallet::format_coins(*.wei))]
    Spent {
        /// Whole MiB that came and were paid for, at all providers, as far as this reader knows.
        paid_mib: u64,
        bound_mib: u64,
        /// What those were worth.
        wei: U256,
        held: crate::share::Held,
    },
    #[error(transparent)]
    Share(#[from] hodei_storage::share::ShareError),
    #[error(transparent)]
    Unread(#[from] crate::app::Unread),
    #[error(transparent)]
    Spec(#[from] crate::app::Broken),
    #[error("{0}")]
    NoOffer(Box<crate::app::NoOffer>),
    #[error(transparent)]
    Manifest(#[from] hodei_types::app::ManifestError),
    #[error("{0} is no component that can be deployed: {1}")]
    Component(String, String),
    #[error(transparent)]
    Image(std::sync::Arc<crate::image::ImageError>),
    #[error("no app of this wallet is called {0:?}")]
    NoApp(String),
    #[error("this wallet has an app {0:?} already")]
    AppExists(String),
    /// What it said last.
    #[error("{app:?} does not run: {words}")]
    AppFailed { app: String, words: String },
    #[error("{ready} of {wanted} replicas of {app:?} are ready after {} s: {words}", .secs)]
    AppLate { app: String, ready: usize, wanted: usize, secs: u64, words: String },
    /// The release before runs on, untouched.
    #[error("release {release} of {app:?} did not take over, and release {kept} runs on: {why}")]
    NotUpdated { app: String, release: u32, kept: u32, why: String, left: Option<String> },
    #[error("release {release} of {app:?} is on its way, or was cut short on it")]
    UpdateOpen { app: String, release: u32 },
    #[error("it was broken off")]
    Stopped,
    #[error("no release of {0:?} is on its way")]
    NoUpdate(String),
    #[error("{app:?} has no {what}; {kept}")]
    NoRelease { app: String, what: String, kept: String },
    #[error("{missing} of the blobs of {image} are no longer here")]
    ReleaseGone { app: String, image: String, missing: usize },
    #[error("{0} was not answered: {1}")]
    AppAway(String, String),
    #[error("{0:?} is not entered: {1}")]
    NotEntered(String, String),
    /// By which lease, if one was named.
    #[error("no replica of {app:?} runs{}", .lease.map(|lease| format!(" by lease {lease}")).unwrap_or_default())]
    NoReplica { app: String, lease: Option<u64> },
    #[error("{app:?} has no volume {volume:?}")]
    NoVolume { app: String, volume: String },
    #[error("nothing is stored of volume {volume:?} of {app:?} yet")]
    NotStored { app: String, volume: String },
    /// What the lease has is not stored any more.
    #[error("lease {lease} does not write volume {volume:?} of {app:?}: another one does, or it was not filled yet")]
    VolumeTaken { app: String, volume: String, lease: u64 },
    #[error("{app:?} has volumes, and {what}")]
    HasVolumes { app: String, what: &'static str },
    #[error("the archive is not taken: {0}")]
    Archive(String),
    /// It signs other than it answered.
    #[error("node {node} signs another {what} than it answered with")]
    AppLied { node: NodeKey, what: &'static str, expected: String, found: String },
    #[error("this wallet has no reservation {0}")]
    NoReservation(u64),
    #[error("{placed} of {wanted} replicas find room in what reservation {order} holds")]
    PoolFull { order: u64, placed: u64, wanted: u64 },
    #[error("what reservation {order} holds ends in {}", crate::app::span(*.secs))]
    PoolEnds { order: u64, secs: u64 },
    #[error("{leases} leases stand in reservation {order}")]
    PoolUsed { order: u64, leases: u64 },
    #[error("range {from}..{to} is outside of an object of {size} bytes")]
    Range { from: u64, to: u64, size: u64 },
}

impl Fault {
    /// Whether what was to be named surely is not; with the ledger out of reach nobody knows.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::Chain(_) | Self::Pending { .. } | Self::Contended | Self::Local(_) | Self::ProofFirst)
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Chain(ChainError::Unavailable(_)) | Self::Held { .. } | Self::Contended | Self::Removing(_) => true,
            Self::Market(_) | Self::RoomAway(_) => true,
            Self::Spent { held, .. } => held.may_return,
            Self::Image(error) => error.is_temporary(),
            Self::Put(error) => error.is_temporary(),
            Self::Get(error) => error.is_temporary(),
            _ => false,
        }
    }
}

impl From<crate::image::ImageError> for Fault {
    fn from(error: crate::image::ImageError) -> Self {
        Self::Image(std::sync::Arc::new(error))
    }
}

impl From<ChainError> for Fault {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::Reverted(output) => reverted(&output),
            other => Self::Chain(other),
        }
    }
}

impl From<AccountError> for Fault {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Chain(error) => error.into(),
            AccountError::Pending { tx, error } => Self::Pending { tx, error },
            AccountError::Reverted(receipt) => reverted(&receipt.output),
            AccountError::Secret => Self::Key("the account's secret is not a secp256k1 key"),
            displaced @ AccountError::Displaced(_) => Self::Chain(ChainError::Refused(displaced.to_string())),
        }
    }
}

/// What a module refused: a term somebody holds ends by itself, a new plan finds other offers, the rest stays refused.
fn reverted(output: &[u8]) -> Fault {
    if let Ok(by) = IBuckets::Held::abi_decode(output) {
        return Fault::Held { holder: by.holder, expires: by.expires };
    }
    // The same error of both modules.
    if let Ok(kept) = IDeals::Locked::abi_decode(output) {
        return Fault::Kept { until_ms: kept.untilMs };
    }
    if let Ok(full) = IBuckets::KeptFull::abi_decode(output) {
        return Fault::KeptFull(full.most);
    }
    // Of a plan that was made: others took what it found.
    if let Ok(IMarket::IMarketErrors::NoFit(_) | IMarket::IMarketErrors::DepositTooSmall(_)) =
        IMarket::IMarketErrors::abi_decode(output)
    {
        return Fault::Market(explain(output));
    }
    match IDeals::IDealsErrors::abi_decode(output) {
        Ok(IDeals::IDealsErrors::ProviderUnavailable(_) | IDeals::IDealsErrors::PriceAboveMax(_)) => {
            Fault::Market(explain(output))
        }
        _ => Fault::Reverted(explain(output)),
    }
}

/// A module's typed error as text; the bytes where no module knows it.
pub(crate) fn explain(output: &[u8]) -> String {
    fn told<E: SolInterface + std::fmt::Debug>(output: &[u8]) -> Option<String> {
        E::abi_decode(output).ok().map(|error| format!("{error:?}"))
    }
    told::<IDeals::IDealsErrors>(output)
        .or_else(|| told::<IBuckets::IBucketsErrors>(output))
        .or_else(|| told::<IProviders::IProvidersErrors>(output))
        .or_else(|| told::<IBudgets::IBudgetsErrors>(output))
        .or_else(|| told::<ITabs::ITabsErrors>(output))
        .or_else(|| told::<IMarket::IMarketErrors>(output))
        .or_else(|| told::<ILeases::ILeasesErrors>(output))
        .or_else(|| told::<IModule::IModuleErrors>(output))
        .unwrap_or_else(|| format!("0x{}", alloy_primitives::hex::encode(output)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_errors_are_told_by_name() {
        let output = IDeals::PriceAboveMax { price: 7 }.abi_encode();
        assert!(explain(&output).contains("PriceAboveMax"), "{}", explain(&output));
        assert_eq!(explain(&[1, 2]), "0x0102");
        assert!(matches!(reverted(&output), Fault::Market(_)) && reverted(&output).is_temporary());
        assert!(matches!(reverted(&IDeals::NotOpen { deal: 1 }.abi_encode()), Fault::Reverted(_)));
        let held = IBuckets::Held { holder: Address::repeat_byte(3), term: 2, expires: 68 }.abi_encode();
        let fault = Fault::from(ChainError::Reverted(held.into()));
        assert!(matches!(fault, Fault::Held { expires: 68, .. }) && fault.is_temporary(), "{fault}");
    }
}
