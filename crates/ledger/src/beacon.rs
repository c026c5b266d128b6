//! Draw randomness that nobody could foresee from the certificates of finished rounds.
//!
//! With the threshold scheme a round's certificate carries a signature over the round alone: its seed. It
//! exists only once two thirds signed, is unique, and anybody can check it against the network's key. Blocks
//! carry the seed of their parent's round. Under Ed25519, in simulations, a round's seed is a hash: equally
//! unique and checkable, but foreseeable.

use alloy_primitives::keccak256;
use commonware_codec::{Copying, Decode as _, Encode as _};
use commonware_consensus::{
    Reporter,
    simplex::{
        elector::{self, Dynamic, Elector, Random, RandomElector, RandomVersion, RoundRobin, Terms},
        scheme::{self, bls12381_threshold::vrf, ed25519 as plain},
        types::Activity,
    },
    types::{Participant, Round},
};
use commonware_cryptography::{
    Sha256,
    bls12381::primitives::{
        group::Share,
        variant::{MinSig, Variant},
    },
    ed25519,
};
use commonware_utils::{channel::oneshot, ordered::Set};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::{
    block::{Digest, PublicKey, SEED_BYTES, Seed},
    genesis::Genesis,
    hold::{Held, Hold},
};

type Vrf = vrf::Scheme<PublicKey, MinSig>;

/// Rounds whose seed is remembered: a proposal's parent is at most a few skipped views back.
const ROUNDS_KEPT: usize = 1024;

/// The scheme votes are signed with, who leads next, and what a round's seed is.
pub trait Beacon: Clone + Send + Sync + 'static {
    type Scheme: scheme::Scheme<Digest> + commonware_cryptography::certificate::Scheme<PublicKey = PublicKey>;
    type Elector: elector::Config<Self::Scheme>;

    fn scheme(&self) -> Self::Scheme;
    fn elector(&self) -> Self::Elector;
    /// Whether its share may be used yet.
    fn hold(&self) -> &Hold;
    /// Learns from what consensus reports.
    fn observe(&self, activity: &Activity<Self::Scheme, Digest>);
    /// Seed of `round`, whose block is `parent`; `None` while no certificate of it was seen.
    fn seed(&self, round: Round, parent: Digest) -> Option<Seed>;
    /// Whether `seed` is that round's; the same answer everywhere.
    fn verify(&self, round: Round, parent: Digest, seed: &Seed) -> bool;
    /// Resolves when a seed arrives that was not known; at once if it is known.
    fn known(&self, round: Round, parent: Digest) -> oneshot::Receiver<()>;
}

/// Production: BLS12-381 threshold votes with a seed in every certificate, leaders drawn from it.
#[derive(Clone)]
pub struct Threshold {
    scheme: Held<Vrf>,
    seeds: Arc<Mutex<Seeds>>,
}

#[derive(Default)]
struct Seeds {
    known: BTreeMap<Round, Seed>,
    waiting: Vec<(Round, oneshot::Sender<()>)>,
}

impl Threshold {
    /// A validator with its share, or without one a verifier, which is also what an observer is.
    ///
    /// `None` if the share is not one of those dealt to this genesis.
    pub fn new(genesis: &Genesis, me: &PublicKey, share: Option<Share>) -> Option<Self> {
        let namespace = genesis.consensus_namespace();
        let participants = genesis.participants();
        let sharing = genesis.output.public().clone();
        let scheme = match share {
            Some(share) => {
                if participants.position(me) != Some(share.index.get() as usize) {
                    return None;
                }
                vrf::Scheme::signer(&namespace, participants, sharing, share)?
            }
            None if participants.position(me).is_some() => vrf::Scheme::member(&namespace, participants, sharing, me)?,
            None => vrf::Scheme::verifier(&namespace, participants, sharing),
        };
        Some(Self { scheme: Held::new(scheme, Hold::none()), seeds: Arc::default() })
    }

    /// Uses the share only once what it may have signed before is past.
    pub fn held(mut self) -> Self {
        self.scheme = held(self.scheme);
        self
    }

    fn learn(&self, round: Round, certificate: &vrf::Certificate<MinSig>) {
        // Only verified certificates are reported, and those decode.
        let Some(certificate) = certificate.get() else { return };
        let seed = vrf::Seed::<MinSig>::new(round, certificate.seed_signature);
        let bytes = seed.signature.encode();
        let bytes: [u8; SEED_BYTES] = bytes.as_ref().try_into().expect("a compressed G1 point has 48 bytes");
        let mut seeds = self.seeds.lock().expect("no holder of this lock panics");
        seeds.known.insert(seed.round, Seed(bytes));
        while seeds.known.len() > ROUNDS_KEPT {
            seeds.known.pop_first();
        }
        let waiting = std::mem::take(&mut seeds.waiting);
        for (round, sender) in waiting {
            if round == seed.round {
                let _ = sender.send(());
            } else if !sender.is_closed() {
                seeds.waiting.push((round, sender));
            }
        }
    }
}

impl Beacon for Threshold {
    type Scheme = Held<Vrf>;
    type Elector = Lots;

    fn scheme(&self) -> Self::Scheme {
        self.scheme.clone()
    }

    fn elector(&self) -> Self::Elector {
        Lots
    }

    fn hold(&self) -> &Hold {
        self.scheme.hold()
    }

    fn observe(&self, activity: &Activity<Self::Scheme, Digest>) {
        // Only certificates that consensus itself assembled or verified are reported under these names.
        match activity {
            Activity::Notarization(n) | Activity::Certification(n) => {
                self.learn(n.proposal.round, &n.certificate);
            }
            Activity::Finalization(f) => self.learn(f.proposal.round, &f.certificate),
            _ => {}
        }
    }

    fn seed(&self, round: Round, _: Digest) -> Option<Seed> {
        self.seeds.lock().expect("no holder of this lock panics").known.get(&round).copied()
    }

    fn verify(&self, round: Round, parent: Digest, seed: &Seed) -> bool {
        if let Some(known) = self.seed(round, parent) {
            return known == *seed;
        }
        <MinSig as Variant>::Signature::decode_cfg(Copying(&seed.0), &())
            .is_ok_and(|signature| vrf::Seed::<MinSig>::new(round, signature).verify(self.scheme.inner()))
    }

    fn known(&self, round: Round, _: Digest) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut seeds = self.seeds.lock().expect("no holder of this lock panics");
        if seeds.known.contains_key(&round) {
            let _ = sender.send(());
        } else {
            seeds.waiting.push((round, sender));
        }
        receiver
    }
}

/// Draws each leader from the seed of the view before.
#[derive(Clone, Copy, Debug)]
pub struct Lots;

impl elector::Config<Held<Vrf>> for Lots {
    type Elector = Drawn;

    fn build(self, participants: &Set<PublicKey>) -> Drawn {
        Drawn(elector::Config::<Vrf>::build(Random::new(RandomVersion::V1), participants))
    }
}

/// [`Lots`] among known participants.
#[derive(Clone, Debug)]
pub struct Drawn(RandomElector<Vrf, Sha256>);

impl Elector<Held<Vrf>> for Drawn {
    type Mode = Dynamic;

    fn terms(&self) -> Terms {
        self.0.terms()
    }

    fn elect(&self, round: Round, certificate: Option<&vrf::Certificate<MinSig>>) -> Participant {
        self.0.elect(round, certificate)
    }
}

fn held<S>(scheme: Held<S>) -> Held<S>
where
    S: scheme::Scheme<Digest> + commonware_cryptography::certificate::Scheme<PublicKey = PublicKey>,
{
    let inner = scheme.inner().clone();
    let hold = Hold::of(inner.participants().len(), inner.me().map(|me| me.index()));
    Held::new(inner, hold)
}

/// Simulation: Ed25519 votes, leaders in turn, seeds by hash. A hundred times cheaper, nothing unforeseeable.
#[derive(Clone)]
pub struct Plain {
    scheme: Held<plain::Scheme>,
}

impl Plain {
    /// A validator with its key, or without one a verifier. `None` if the key is not a participant's.
    pub fn new(genesis: &Genesis, key: Option<ed25519::PrivateKey>) -> Option<Self> {
        let namespace = genesis.consensus_namespace();
        let scheme = match key {
            Some(key) => plain::Scheme::signer(&namespace, genesis.participants(), key)?,
            None => plain::Scheme::verifier(&namespace, genesis.participants()),
        };
        Some(Self { scheme: Held::new(scheme, Hold::none()) })
    }

    /// Uses the key only once what it may have signed before is past.
    pub fn held(mut self) -> Self {
        self.scheme = held(self.scheme);
        self
    }
}

impl Beacon for Plain {
    type Scheme = Held<plain::Scheme>;
    type Elector = RoundRobin<Sha256>;

    fn scheme(&self) -> Self::Scheme {
        self.scheme.clone()
    }

    fn elector(&self) -> Self::Elector {
        RoundRobin::default()
    }

    fn hold(&self) -> &Hold {
        self.scheme.hold()
    }

    fn observe(&self, _: &Activity<Self::Scheme, Digest>) {}

    fn seed(&self, round: Round, parent: Digest) -> Option<Seed> {
        let hash = keccak256([b"hodei-plain-seed-v1:".as_slice(), &round.encode(), &parent.0].concat());
        let mut bytes = [0; SEED_BYTES];
        bytes[..32].copy_from_slice(hash.as_slice());
        Some(Seed(bytes))
    }

    fn verify(&self, round: Round, parent: Digest, seed: &Seed) -> bool {
        self.seed(round, parent) == Some(*seed)
    }

    fn known(&self, _: Round, _: Digest) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let _ = sender.send(());
        receiver
    }
}

/// Feeds a beacon from beside the engine, passing each report on.
#[derive(Clone)]
pub struct Observer<B, R> {
    beacon: B,
    inner: R,
}

impl<B, R> Observer<B, R> {
    pub fn new(beacon: B, inner: R) -> Self {
        Self { beacon, inner }
    }
}

impl<B: Beacon, R: Reporter<Activity = Activity<B::Scheme, Digest>>> Reporter for Observer<B, R> {
    type Activity = Activity<B::Scheme, Digest>;

    fn report(&mut self, activity: Self::Activity) -> commonware_actor::Feedback {
        self.beacon.hold().observe(&activity);
        self.beacon.observe(&activity);
        self.inner.report(activity)
    }
}
