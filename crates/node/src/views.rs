//! Tell what a node is and does, for people and for whoever measures.

use crate::{
    config::Config, door, home::Ready, journal::Journal, node::Network, provider::Provider, reached::Reached, relay,
    tasks::Tasks,
};
use commonware_runtime::{
    Metrics as _, Supervisor as _,
    telemetry::metrics::{Gauge, MetricsExt as _},
    tokio::Context,
};
use hodei_audit::Log;
use hodei_link::relay::Hall;
use std::sync::Arc;

/// The same with what is run for others.
#[cfg(feature = "host")]
pub(crate) fn with_host(views: door::Views, host: Option<crate::host::Host<Context>>) -> door::Views {
    let Some(host) = host else { return views };
    let base = views.status.clone();
    let status = Arc::new(move || {
        let mut status = base();
        status["compute"] = host.status();
        status
    });
    door::Views { status, ..views }
}

/// What the status door tells of a node.
pub(crate) fn views(
    context: &Context,
    config: &Config,
    ready: &Ready,
    network: &Network,
    journal: &Journal<Context>,
    tasks: &Tasks,
    provider: Option<Provider<Context>>,
    relay: Option<Arc<Hall>>,
    reached: Option<Arc<Reached>>,
) -> door::Views {
    let metrics = context.child("door");
    let name = network.genesis.as_ref().map(|genesis| genesis.name.clone());
    let base = serde_json::json!({
        "schema": "hodei.node.status.v1",
        "name": config.name,
        "version": env!("CARGO_PKG_VERSION"),
        "network": name,
        "network_key": network.key.to_string(),
        "genesis": network.key.genesis.to_string(),
        "node": ready.node,
        "account": ready.account,
        "link": ready.link,
        "validator": config.validator.is_some(),
    });
    let gauges = Gauges::new(&context.child("node"));
    let relaying = relay.as_ref().map(|hall| relay::Gauges::new(&context.child("relay"), hall.clone()));
    let (measured, counted, log) = (provider.clone(), tasks.clone(), journal.log().clone());
    door::Views {
        metrics: Arc::new(move || {
            if let Some(provider) = &measured {
                provider.measure();
            }
            if let Some(relaying) = &relaying {
                relaying.set();
            }
            gauges.set(&log, &counted);
            metrics.encode()
        }),
        status: Arc::new(move || {
            let mut status = base.clone();
            if let Some(provider) = &provider {
                status["provider"] = provider.status();
            }
            status["relays"] = reached.as_ref().map_or_else(Vec::new, |reached| reached.relays()).into();
            if let Some(reached) = &reached {
                status["reached"] = reached.status();
            }
            if let Some(hall) = &relay {
                status["relay"] = relay::status(hall);
            }
            status
        }),
        tasks: tasks.clone(),
    }
}

/// What every node measures, whatever it offers.
struct Gauges {
    /// Kept, for what is dropped is not scraped.
    _up: Gauge,
    log_events: Gauge,
    log_unanchored_events: Gauge,
    tasks: Gauge,
    tasks_unwell: Gauge,
    task_failures: Gauge,
}

impl Gauges {
    fn new(context: &Context) -> Self {
        let up = context.gauge("up", format!("Always 1; version {}", env!("CARGO_PKG_VERSION")));
        up.set(1);
        Self {
            _up: up,
            log_events: context.gauge("log_events", "Events in this node's log"),
            log_unanchored_events: context.gauge("log_unanchored_events", "Of them, not yet known to be anchored"),
            tasks: context.gauge("tasks", "Background loops"),
            tasks_unwell: context.gauge("tasks_unwell", "Of them, ended or with a failed last pass"),
            task_failures: context.gauge("task_failures", "Failed passes of all loops since the start"),
        }
    }

    fn set(&self, log: &Log<Context>, tasks: &Tasks) {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let (events, list) = (log.len(), tasks.list());
        self.log_events.set(signed(events));
        self.log_unanchored_events.set(signed(events.saturating_sub(log.anchored_events())));
        self.tasks.set(signed(list.len() as u64));
        self.tasks_unwell.set(signed(tasks.unwell().len() as u64));
        self.task_failures.set(signed(list.values().map(|status| status.failures).sum()));
    }
}
