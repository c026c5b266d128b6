//! Count what a provider does, for `/metrics`.

use commonware_runtime::{
    Metrics,
    telemetry::metrics::{Counter, Gauge, MetricsExt as _},
};

/// Names as scraped carry the context's label before them: `provider_shards_put_total`, ….
#[derive(Clone)]
pub struct Meters {
    pub shards_put: Counter,
    pub bytes_put: Counter,
    pub reads: Counter,
    pub bytes_read: Counter,
    pub released: Counter,
    pub busy: Counter,
    pub full: Counter,
    pub refused: Counter,
    pub streams: Gauge,
    pub queued_bytes: Gauge,
    pub free_bytes: Gauge,
    pub deals: Gauge,
    pub proofs: Counter,
    pub misses: Counter,
    /// Thousandths of a coin: the ledger's events are exact, this is for graphs.
    pub earned_milli: Counter,
}

impl Meters {
    pub fn new(context: &impl Metrics) -> Self {
        Self {
            shards_put: context.counter("shards_put", "Shards acknowledged"),
            bytes_put: context.counter("bytes_put", "Bytes of shards acknowledged"),
            reads: context.counter("reads", "Slices of shards sent"),
            bytes_read: context.counter("bytes_read", "Bytes of shards sent"),
            released: context.counter("released", "Shards released by their owners"),
            busy: context.counter("busy", "Requests told to come again"),
            full: context.counter("full", "Puts refused because the pledge or the disk is used up"),
            refused: context.counter("refused", "Requests refused for good"),
            streams: context.gauge("streams", "Requests being served"),
            queued_bytes: context.gauge("queued_bytes", "Bytes received and not yet on disk"),
            free_bytes: context.gauge("free_bytes", "Bytes of the pledge not yet used"),
            deals: context.gauge("deals", "Open and closing deals"),
            proofs: context.counter("proofs", "Proofs of holding accepted by the ledger"),
            misses: context.counter("misses", "Windows without an accepted proof"),
            earned_milli: context.counter("earned_milli", "Thousandths of a coin earned since the start"),
        }
    }
}
