//! Tell an app how its device stands.

use hodei_node::pool::Standing;

/// How a device stands; amounts are decimal texts of wei, 10¹⁸ of which are a coin.
#[derive(Clone, Debug, Default, PartialEq, Eq, uniffi::Record)]
pub struct DeviceState {
    /// Of the device on the network: 64 hex digits.
    pub key: String,
    pub running: bool,
    /// It runs, and the pool answered within the last minute.
    pub online: bool,
    /// Bytes offered.
    pub pledged_bytes: u64,
    /// Bytes of shards that deals count.
    pub held_bytes: u64,
    /// Bytes its folder takes on the disk, and bytes the disk has left.
    pub folder_bytes: u64,
    pub disk_free_bytes: u64,
    /// Bytes of shards in and out today, UTC.
    pub carried_today_bytes: u64,
    /// What the ledger paid for its deals, what was given of it, and what is left; as the pool last said.
    pub earned_wei: String,
    pub redeemed_wei: String,
    pub credit_wei: String,
    pub claimed_wei: String,
    pub windows_proven: u64,
    pub windows_missed: u64,
    /// Whether the credit is paid in coins, or settled by the publisher.
    pub pays_coins: bool,
    /// Why nothing is served or earned at this moment.
    pub why_not_earning: Option<String>,
}

/// What leaving came to so far.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Leaving {
    /// Deals whose owners have not moved yet: keep the device running, and ask again later.
    pub open_deals: u64,
    /// The publisher has its collateral back: the folder may be deleted.
    pub is_done: bool,
}

/// What became of a wish for credit.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Redeemed {
    pub amount_wei: String,
    /// Where coins were sent: 64 hex digits. None: the publisher settles it.
    pub transaction: Option<String>,
}

impl DeviceState {
    /// With what the pool last said.
    pub(crate) fn with(mut self, standing: &Standing) -> Self {
        self.earned_wei = standing.earned.to_string();
        self.redeemed_wei = standing.redeemed.to_string();
        self.credit_wei = standing.earned.saturating_sub(standing.redeemed).to_string();
        self.claimed_wei = standing.claimed.to_string();
        self.windows_proven = standing.windows_proven;
        self.windows_missed = standing.windows_missed;
        self.pays_coins = standing.pays_coins;
        self
    }
}
