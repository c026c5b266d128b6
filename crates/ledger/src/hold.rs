//! Keep a share unused until what it may have signed before is past.
//!
//! A validator that lost its journal no longer knows its votes: a second vote in an old view could finalize
//! two blocks. So it follows as a member without a vote. Upon votes of 2f+1 others since its start, the
//! highest of their views is fixed; upon a finalization two views above it, it votes again. A certificate for
//! the view before any of its own votes had f honest voters beside it, and of those one is among the 2f+1.
//! A chain that needs this very vote to go on never frees it: then its operator must.

use commonware_consensus::{
    Viewable as _,
    simplex::{
        scheme,
        types::{Activity, Attributable as _},
    },
    types::{Participant, View},
};
use commonware_cryptography::{
    Digest as Digests,
    certificate::{self, AssemblyError, Attestation, Membership, Scheme, Verification, Verifier},
};
use commonware_parallel::Strategy;
use commonware_utils::{Faults as _, N3f1, channel::oneshot, iter::NonEmpty, non_empty, ordered::Set};
use rand::CryptoRng;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::block::Digest;

/// Views between the highest reported one and the finalization that frees.
const VIEWS_BETWEEN: u64 = 2;

/// Whether a share may be used; clones are one.
#[derive(Clone, Debug)]
pub struct Hold {
    free: Arc<AtomicBool>,
    watch: Arc<Mutex<Watch>>,
}

#[derive(Debug, Default)]
struct Watch {
    /// Others that must have been heard from.
    quorum: usize,
    me: Option<Participant>,
    heard: BTreeMap<Participant, View>,
    /// The highest view of theirs, once enough were heard from.
    reported: Option<View>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Hold {
    /// Nothing is held.
    pub fn none() -> Self {
        Self { free: Arc::new(AtomicBool::new(true)), watch: Arc::default() }
    }

    /// Held by `me`, one of `participants`.
    pub fn of(participants: usize, me: Option<Participant>) -> Self {
        let watch = Watch { quorum: N3f1::quorum(participants) as usize, me, ..Watch::default() };
        Self { free: Arc::new(AtomicBool::new(false)), watch: Arc::new(Mutex::new(watch)) }
    }

    pub fn is_free(&self) -> bool {
        self.free.load(Ordering::Acquire)
    }

    /// Resolves once it is free.
    pub async fn freed(&self) {
        let receiver = {
            let (sender, receiver) = oneshot::channel();
            let mut watch = self.watch.lock().expect("no holder of this lock panics");
            if self.is_free() {
                return;
            }
            watch.waiting.push(sender);
            receiver
        };
        let _ = receiver.await;
    }

    /// Learns from what consensus reports.
    pub fn observe<S: scheme::Scheme<Digest>>(&self, activity: &Activity<S, Digest>) {
        if self.is_free() {
            return;
        }
        match activity {
            Activity::Notarize(vote) => self.heard(vote.signer(), vote.view()),
            Activity::Nullify(vote) => self.heard(vote.signer(), vote.view()),
            Activity::Finalize(vote) => self.heard(vote.signer(), vote.view()),
            Activity::Finalization(finalization) => self.finalized(finalization.view()),
            _ => {}
        }
    }

    fn heard(&self, from: Participant, view: View) {
        let mut watch = self.watch.lock().expect("no holder of this lock panics");
        if watch.reported.is_some() || watch.me == Some(from) {
            return;
        }
        let highest = watch.heard.entry(from).or_insert(view);
        *highest = view.max(*highest);
        if watch.heard.len() >= watch.quorum {
            watch.reported = watch.heard.values().copied().max();
        }
    }

    fn finalized(&self, view: View) {
        let mut watch = self.watch.lock().expect("no holder of this lock panics");
        let Some(reported) = watch.reported else { return };
        if view.get() >= reported.get().saturating_add(VIEWS_BETWEEN) {
            tracing::info!(%view, "what this share may have signed before is past: voting again");
            self.free.store(true, Ordering::Release);
            for waiting in watch.waiting.drain(..) {
                let _ = waiting.send(());
            }
        }
    }
}

/// A scheme that signs nothing while it is held, and else is the one within.
#[derive(Clone, Debug)]
pub struct Held<S> {
    inner: S,
    hold: Hold,
}

impl<S> Held<S> {
    pub fn new(inner: S, hold: Hold) -> Self {
        Self { inner, hold }
    }

    pub fn inner(&self) -> &S {
        &self.inner
    }

    pub fn hold(&self) -> &Hold {
        &self.hold
    }
}

impl<S: Scheme> Held<S> {
    fn into(attestation: Attestation<Self>) -> Attestation<S> {
        Attestation { signer: attestation.signer, signature: attestation.signature }
    }

    fn from(attestation: Attestation<S>) -> Attestation<Self> {
        Attestation { signer: attestation.signer, signature: attestation.signature }
    }
}

impl<S: Scheme> Verifier for Held<S> {
    type Subject<'a, D: Digests> = S::Subject<'a, D>;
    type Faults = S::Faults;
    type PublicKey = S::PublicKey;
    type Certificate = S::Certificate;

    fn verify_certificate<R, D>(
        &self,
        rng: &mut R,
        subject: Self::Subject<'_, D>,
        certificate: &Self::Certificate,
        strategy: &impl Strategy,
    ) -> bool
    where
        R: CryptoRng,
        D: Digests,
    {
        self.inner.verify_certificate(rng, subject, certificate, strategy)
    }

    fn verify_certificates<'a, R, D, I>(&self, rng: &mut R, certificates: NonEmpty<I>, strategy: &impl Strategy) -> bool
    where
        R: CryptoRng,
        D: Digests,
        I: Iterator<Item = (Self::Subject<'a, D>, &'a Self::Certificate)>,
    {
        self.inner.verify_certificates(rng, certificates, strategy)
    }

    fn is_batchable() -> bool {
        S::is_batchable()
    }

    fn max_certificate_size(participants: u32) -> usize {
        S::max_certificate_size(participants)
    }

    fn certificate_codec_config(&self) -> <Self::Certificate as commonware_codec::Read>::Cfg {
        self.inner.certificate_codec_config()
    }

    fn certificate_codec_config_unbounded() -> <Self::Certificate as commonware_codec::Read>::Cfg {
        S::certificate_codec_config_unbounded()
    }
}

impl<S: Scheme> Scheme for Held<S> {
    type Signature = S::Signature;

    fn me(&self) -> Option<Membership> {
        let me = self.inner.me()?;
        Some(if self.hold.is_free() { me } else { Membership::Member(me.index()) })
    }

    fn participants(&self) -> &Set<S::PublicKey> {
        self.inner.participants()
    }

    fn sign<D: Digests>(&self, subject: Self::Subject<'_, D>) -> Option<Attestation<Self>> {
        if !self.hold.is_free() {
            return None;
        }
        self.inner.sign(subject).map(Self::from)
    }

    fn verify_attestation<R, D>(
        &self,
        rng: &mut R,
        subject: Self::Subject<'_, D>,
        attestation: &Attestation<Self>,
        strategy: &impl Strategy,
    ) -> bool
    where
        R: CryptoRng,
        D: Digests,
    {
        self.inner.verify_attestation(rng, subject, &Self::into(attestation.clone()), strategy)
    }

    fn verify_attestations<R, D, I>(
        &self,
        rng: &mut R,
        subject: Self::Subject<'_, D>,
        attestations: I,
        strategy: &impl Strategy,
    ) -> Verification<Self>
    where
        R: CryptoRng,
        D: Digests,
        I: IntoIterator<Item = Attestation<Self>>,
        I::IntoIter: Send,
    {
        let attestations: Vec<_> = attestations.into_iter().map(Self::into).collect();
        let found = self.inner.verify_attestations(rng, subject, attestations, strategy);
        Verification::new(found.verified.into_iter().map(Self::from).collect(), found.invalid)
    }

    fn optimistic_assemble<'a, R, D, I, J>(
        &self,
        rng: &mut R,
        subject: Self::Subject<'_, D>,
        pending: I,
        verified: J,
        strategy: &impl Strategy,
    ) -> Result<Self::Certificate, Verification<Self>>
    where
        R: CryptoRng,
        D: Digests,
        I: IntoIterator<Item = Attestation<Self>>,
        I::IntoIter: ExactSizeIterator + Send,
        J: IntoIterator<Item = &'a Attestation<Self>>,
        J::IntoIter: Send,
    {
        certificate::optimistic_assemble::<Self, _, D, _, _>(self, rng, subject, pending, verified, strategy)
    }

    fn assemble<I>(
        &self,
        attestations: NonEmpty<I>,
        strategy: &impl Strategy,
    ) -> Result<Self::Certificate, AssemblyError>
    where
        I: Iterator<Item = Attestation<Self>> + Send,
    {
        self.inner.assemble(non_empty![@attestations.into_iter().map(Self::into)], strategy)
    }

    fn is_attributable() -> bool {
        S::is_attributable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold() -> Hold {
        Hold::of(4, Some(Participant::new(0)))
    }

    #[test]
    fn frees_two_views_above_what_three_others_reported() {
        let hold = hold();
        hold.finalized(View::new(9));
        hold.heard(Participant::new(1), View::new(7));
        hold.heard(Participant::new(2), View::new(9));
        hold.finalized(View::new(50));
        assert!(!hold.is_free(), "two of three were heard");
        hold.heard(Participant::new(3), View::new(8));
        hold.finalized(View::new(10));
        assert!(!hold.is_free(), "one view above");
        hold.heard(Participant::new(3), View::new(99));
        hold.finalized(View::new(11));
        assert!(hold.is_free(), "what is heard later moves nothing");
    }

    #[test]
    fn does_not_count_itself() {
        let hold = hold();
        for from in [0, 1, 2] {
            hold.heard(Participant::new(from), View::new(1));
        }
        hold.finalized(View::new(100));
        assert!(!hold.is_free());
    }
}
