//! Count what a provider does, for `/metrics`.

use commonware_runtime::{
    Metrics,
    telemetry::metrics::{Counter, Gauge, MetricsExt as _},
};

/// Names as scraped carry the contexts' labels before them, counters `_total` behind:
/// `hodei_provider_put_bytes_total`, `hodei_provider_free_bytes`, ….
#[derive(Clone)]
pub struct Meters {
    pub put_shards: Counter,
    pub put_bytes: Counter,
    pub read_slices: Counter,
    pub read_bytes: Counter,
    pub released_shards: Counter,
    pub removed_bytes: Counter,
    pub busy: Counter,
    pub full: Counter,
    pub refused: Counter,
    pub ticks: Counter,
    pub unpaid_refusals: Counter,
    /// As the other figures of coins, in thousandths.
    pub claim_owed_millicoins: Gauge,
    pub streams: Gauge,
    pub peers: Gauge,
    pub queued_bytes: Gauge,
    pub pledged_bytes: Gauge,
    pub used_bytes: Gauge,
    pub held_bytes: Gauge,
    pub free_bytes: Gauge,
    pub disk_free_bytes: Gauge,
    pub declined_shards: Gauge,
    pub lost_shards: Gauge,
    pub lost_bytes: Gauge,
    pub scrubbed_shards: Counter,
    pub scrubbed_bytes: Counter,
    pub scrub_passes: Counter,
    pub rotten_shards: Counter,
    pub deals: Gauge,
    pub draining: Gauge,
    pub ledger_height: Gauge,
    pub proven_windows: Counter,
    pub missed_windows: Counter,
    /// Thousandths of a coin: the ledger's events are exact, this is for graphs.
    pub earned_millicoins: Counter,
    pub slashed_millicoins: Counter,
}

impl Meters {
    pub fn new(context: &impl Metrics) -> Self {
        Self {
            put_shards: context.counter("put_shards", "Shards acknowledged"),
            put_bytes: context.counter("put_bytes", "Bytes of shards acknowledged"),
            read_slices: context.counter("read_slices", "Slices of shards sent"),
            read_bytes: context.counter("read_bytes", "Bytes of shards sent"),
            released_shards: context.counter("released_shards", "Shards released by their owners"),
            removed_bytes: context.counter("removed_bytes", "Bytes of segments won back from what is owed to nobody"),
            busy: context.counter("busy", "Requests told to come again"),
            full: context.counter("full", "Puts refused because the pledge or the disk is used up"),
            refused: context.counter("refused", "Requests refused for good"),
            ticks: context.counter("ticks", "Ticks taken for reads, each for a MiB"),
            unpaid_refusals: context.counter("unpaid_refusals", "Reads refused because ticks were missing"),
            claim_owed_millicoins: context
                .gauge("claim_owed_millicoins", "Thousandths of a coin that ticks are worth and were not claimed"),
            streams: context.gauge("streams", "Requests being served"),
            peers: context.gauge("peers", "Peers with requests being served or waiting"),
            queued_bytes: context.gauge("queued_bytes", "Bytes received and not yet on disk"),
            pledged_bytes: context.gauge("pledged_bytes", "Bytes offered"),
            used_bytes: context.gauge("used_bytes", "Bytes the shard store takes on the disk"),
            held_bytes: context.gauge("held_bytes", "Bytes of shards that deals count"),
            free_bytes: context.gauge("free_bytes", "Bytes that may still be put: of the pledge, and of the disk"),
            disk_free_bytes: context.gauge("disk_free_bytes", "Bytes the file system has left"),
            declined_shards: context.gauge("declined_shards", "Shards that its operator has it refuse"),
            lost_shards: context.gauge("lost_shards", "Shards that deals count and whose bytes are gone"),
            lost_bytes: context.gauge("lost_bytes", "Their bytes"),
            scrubbed_shards: context.counter("scrubbed_shards", "Shards read again and hashed"),
            scrubbed_bytes: context.counter("scrubbed_bytes", "Bytes of shards read again and hashed"),
            scrub_passes: context.counter("scrub_passes", "Times the scrub went through everything"),
            rotten_shards: context.counter("rotten_shards", "Shards found to be lost since the start"),
            deals: context.gauge("deals", "Open and closing deals"),
            draining: context.gauge("draining", "1 while it takes nothing new"),
            ledger_height: context.gauge("ledger_height", "Block up to which the ledger's events are known"),
            proven_windows: context.counter("proven_windows", "Proofs of holding accepted by the ledger"),
            missed_windows: context.counter("missed_windows", "Windows without an accepted proof"),
            earned_millicoins: context.counter("earned_millicoins", "Thousandths of a coin earned since the start"),
            slashed_millicoins: context.counter("slashed_millicoins", "Thousandths of a coin of collateral taken"),
        }
    }
}
