//! Follow one question to a provider or reader, from its turn to the last byte.

use super::peers::{Peers, Probe};
use commonware_runtime::Clock;
use hodei_types::transport::NodeKey;
use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

/// When something was last heard of one question; clones share it, so that whoever waits for it can look.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    peers: Peers,
    node: NodeKey,
    last: Arc<Mutex<Option<SystemTime>>>,
}

impl Pulse {
    pub(crate) fn new(peers: &Peers, node: NodeKey) -> Self {
        Self { peers: peers.clone(), node, last: Arc::default() }
    }

    pub(crate) fn node(&self) -> &NodeKey {
        &self.node
    }

    /// When it was asked, or something of the answer came since; `None` while its turn is waited for.
    pub(crate) fn last(&self) -> Option<SystemTime> {
        *self.last.lock().expect("no panic under this lock")
    }

    fn set(&self, now: SystemTime) {
        *self.last.lock().expect("no panic under this lock") = Some(now);
    }

    /// Something of the answer came.
    pub(crate) fn beat(&self, now: SystemTime) {
        self.set(now);
        self.peers.heard(&self.node, now);
    }
}

/// A question under way. Dropped without an answer, it tells that others were faster.
pub(crate) struct Asked<'a, C: Clock> {
    context: &'a C,
    pulse: Pulse,
    probe: Option<Probe>,
    start: SystemTime,
    is_answered: bool,
}

impl<'a, C: Clock> Asked<'a, C> {
    pub(crate) fn new(peers: &Peers, context: &'a C, node: NodeKey) -> Self {
        Self::of(&Pulse::new(peers, node), context)
    }

    /// The question whose pulse this is, now that it is its turn.
    pub(crate) fn of(pulse: &Pulse, context: &'a C) -> Self {
        let start = context.current();
        pulse.set(start);
        let probe = pulse.peers.began(&pulse.node, start);
        Self { context, pulse: pulse.clone(), probe, start, is_answered: false }
    }

    /// There is an answer, whatever it says; how long it took.
    pub(crate) fn answered(mut self) -> Duration {
        self.is_answered = true;
        self.context.current().duration_since(self.start).unwrap_or_default()
    }
}

impl<C: Clock> Drop for Asked<'_, C> {
    fn drop(&mut self) {
        let (now, Pulse { peers, node, .. }) = (self.context.current(), &self.pulse);
        peers.ended(node, self.probe, self.is_answered, now);
        if !self.is_answered {
            let since = |start: SystemTime| now.duration_since(start).unwrap_or_default();
            let heard = self.pulse.last().unwrap_or(self.start);
            peers.overtaken(node, since(self.start), since(heard), now);
        }
    }
}
