//! Propose at once when there is work, once a second when there is none.
//!
//! An idle chain that proposed as fast as it finalizes would write millions of empty blocks a day. The wait
//! sits in front of the automaton: consensus gets its receiver at once, the build starts when work or the
//! heartbeat comes, and nothing is held while waiting. Upon consensus giving up on the view, it stops.

use commonware_actor::Feedback;
use commonware_consensus::{
    CertifiableAutomaton, Handoff, Relay, Reporter,
    simplex::types::Context as SimplexContext,
    types::{Epoch, Round, View},
};
use commonware_macros::select;
use commonware_runtime::{Clock, Metrics, Spawner};
use commonware_utils::channel::oneshot;
use std::{future::Future, sync::Arc, time::Duration};

use crate::{
    beacon::Beacon,
    block::{Context, Digest, PublicKey},
};

/// An idle chain's block interval, where nothing else is asked for.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// Where a proposer's work comes from.
pub trait Work: Clone + Send + Sync + 'static {
    /// Resolves once something waits that no finalized block holds; at once if it does already.
    fn arrived(&self) -> impl Future<Output = ()> + Send;
}

/// An automaton that proposes at the right time and is otherwise `inner`.
pub struct Pace<E, A, B, W> {
    context: Arc<E>,
    inner: A,
    beacon: B,
    work: W,
    heartbeat: Duration,
}

impl<E, A: Clone, B: Clone, W: Clone> Clone for Pace<E, A, B, W> {
    fn clone(&self) -> Self {
        Self {
            context: self.context.clone(),
            inner: self.inner.clone(),
            beacon: self.beacon.clone(),
            work: self.work.clone(),
            heartbeat: self.heartbeat,
        }
    }
}

impl<E, A, B, W> Pace<E, A, B, W> {
    pub fn new(context: E, inner: A, beacon: B, work: W, heartbeat: Duration) -> Self {
        Self { context: Arc::new(context), inner, beacon, work, heartbeat }
    }
}

impl<E, A, B, W> commonware_consensus::Automaton for Pace<E, A, B, W>
where
    E: Spawner + Metrics + Clock,
    A: CertifiableAutomaton<Context = SimplexContext<Digest, PublicKey>, Digest = Digest>,
    B: Beacon,
    W: Work,
{
    type Context = Context;
    type Digest = Digest;

    async fn propose(&mut self, context: Context) -> oneshot::Receiver<Digest> {
        let (mut sender, receiver) = oneshot::channel();
        let (mut inner, beacon, work) = (self.inner.clone(), self.beacon.clone(), self.work.clone());
        let heartbeat = self.heartbeat;
        self.context.child("propose").spawn(move |clock| async move {
            let parent_round = Round::new(Epoch::zero(), context.parent.0);
            // Block 1 creates the allocations everybody waits for.
            let first = context.parent.0 == View::zero();
            if !first {
                let seed = beacon.known(parent_round, context.parent.1);
                select! {
                    _ = sender.closed() => { return; },
                    known = seed => { if known.is_err() { return; } },
                }
                select! {
                    _ = sender.closed() => { return; },
                    _ = work.arrived() => {},
                    _ = clock.sleep(heartbeat) => {},
                }
            }
            let built = inner.propose(context).await;
            select! {
                _ = sender.closed() => {},
                digest = built => {
                    // Upon a declined build the sender drops, which declines here too.
                    if let Ok(digest) = digest {
                        let _ = sender.send(digest);
                    }
                },
            }
        });
        receiver
    }

    async fn verify(&mut self, context: Context, payload: Digest) -> oneshot::Receiver<bool> {
        self.inner.verify(context, payload).await
    }
}

impl<E, A, B, W> CertifiableAutomaton for Pace<E, A, B, W>
where
    E: Spawner + Metrics + Clock,
    A: CertifiableAutomaton<Context = SimplexContext<Digest, PublicKey>, Digest = Digest>,
    B: Beacon,
    W: Work,
{
    async fn prepare(&mut self, context: Context) -> oneshot::Receiver<Handoff<Digest>> {
        self.inner.prepare(context).await
    }

    async fn certify(&mut self, round: Round, payload: Digest) -> oneshot::Receiver<bool> {
        self.inner.certify(round, payload).await
    }
}

impl<E, A, B, W> Relay for Pace<E, A, B, W>
where
    E: Spawner + Metrics + Clock,
    A: Relay<Digest = Digest>,
    B: Beacon,
    W: Work,
{
    type Digest = Digest;
    type PublicKey = A::PublicKey;
    type Plan = A::Plan;

    fn broadcast(&mut self, payload: Digest, plan: A::Plan) -> Feedback {
        self.inner.broadcast(payload, plan)
    }
}

impl<E, A, B, W> Reporter for Pace<E, A, B, W>
where
    E: Spawner + Metrics + Clock,
    A: Reporter,
    B: Beacon,
    W: Work,
{
    type Activity = A::Activity;

    fn report(&mut self, activity: A::Activity) -> Feedback {
        self.inner.report(activity)
    }
}
