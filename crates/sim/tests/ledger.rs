//! Break a ledger of four in every way at once, and see it agree.

use commonware_glue::simulate::{
    action::{Action, Crash, Schedule},
    exit::ProcessedHeightAtLeast,
    plan::PlanBuilder,
};
use commonware_p2p::simulated::Link;
use commonware_utils::probability;
use hodei_ledger::{
    application::Door,
    beacon::{Plain, Threshold},
    block::Block,
    execute::Signed,
    genesis::Genesis,
    pace::Work,
    run::Effects,
};
use alloy_primitives::{B256, Bytes};
use hodei_sim::{chain::{Chain, Life, Vote}, law::OneHistory, seeds};
use std::{sync::Arc, time::Duration};

/// A chain on which nobody sends anything.
#[derive(Clone)]
struct Idle;

impl Work for Idle {
    async fn arrived(&self) {
        std::future::pending().await
    }
}

impl Door for Idle {
    fn choose(&self, _: u64) -> Vec<Arc<Signed>> {
        Vec::new()
    }
    fn recover(&self, raw: &[Bytes]) -> Option<Vec<Arc<Signed>>> {
        raw.is_empty().then(Vec::new)
    }
    fn carried(&self, _: u64, _: &[B256]) {}
    async fn finalized(&self, _: &Block, _: &Effects) {}
}

impl Life for Idle {
    type Door = Self;
    fn door(&self, _: &commonware_runtime::deterministic::Context, _: &Genesis, _: usize) -> Self {
        self.clone()
    }
}

const fn lan() -> Link {
    Link { latency: Duration::from_millis(10), jitter: Duration::from_millis(5), success_rate: probability!(1.0) }
}

fn quiet<B: Vote>(seed: u64, heights: u64) -> String {
    PlanBuilder::new(Chain::<B, _>::new(4, Vec::new(), Idle))
        .seed(seed)
        .link(lan())
        .exit_condition(ProcessedHeightAtLeast::new(heights))
        .timeout(Duration::from_secs(600))
        .property(OneHistory)
        .run()
        .expect("four healthy validators agree")
        .remove(0)
        .state
}

#[test]
fn four_agree_and_a_seed_repeats_itself() {
    for seed in seeds(2) {
        assert_eq!(quiet::<Plain>(seed, 30), quiet::<Plain>(seed, 30), "seed {seed}");
    }
    assert_ne!(quiet::<Plain>(1, 5), quiet::<Plain>(2, 5));
}

#[test]
fn threshold_certificates_agree_too() {
    quiet::<Threshold>(0, 10);
}
