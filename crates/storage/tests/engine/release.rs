//! Let go of all that a put may have left, and of what cannot be let go of now later.

use super::{Arc, Duration, Infallible, Mode, Mutex, PutRequest, Wait, care, coder, plain, put, run, small, stream};
use commonware_runtime::Clock as _;
use futures::{FutureExt as _, future::BoxFuture};
use hodei_storage::engine::{Inventory, Offers, Released};
use hodei_types::slice::ShardId;
use std::collections::BTreeSet;

/// A provider that is away is asked once, however many batches are to be let go of there.
#[test]
fn a_release_does_not_wait_for_an_absent_provider_batch_by_batch() {
    run(16, |context, fleet, engine| async move {
        fleet.set(1, Mode::Mute);
        let shards: Vec<_> = (0..20_000u32).map(|i| (2, ShardId(*blake3::hash(&i.to_be_bytes()).as_bytes()))).collect();
        let start = context.current();
        let left = engine.release(&fleet.roster(), shards).await.left;
        let took = context.current().duration_since(start).unwrap();
        assert_eq!(left.len(), 20_000, "all of it is to be tried again");
        assert!(took <= Duration::from_secs(40), "{took:?}");
    });
}

/// Remembers what left.
#[derive(Default)]
struct Told(Mutex<BTreeSet<(u64, ShardId)>>);

impl Offers for Told {
    fn offer<'a>(&'a self, shards: &'a [(u64, ShardId)]) -> BoxFuture<'a, ()> {
        self.0.lock().unwrap().extend(shards);
        futures::future::ready(()).boxed()
    }
}

/// Whatever fails on the way: what a put told of before it left is all there is to release.
#[test]
fn what_was_offered_can_be_released_to_the_last_shard() {
    for mode in [Mode::Up, Mode::Full, Mode::Mute, Mode::Slow(3000)] {
        run(10, |_, fleet, engine| async move {
            let (shape, told) = (small(), Arc::new(Told::default()));
            fleet.set(2, mode);
            let offers = told.clone();
            let request = PutRequest {
                shape,
                coder: coder(&shape),
                roster: fleet.roster(),
                upload: [9; 16],
                wait: Wait::Quorum,
                offers,
                care: care(),
            };
            let pieces = stream::iter([Ok::<_, Infallible>(plain(3_000_000))]);
            let mut stored = engine.put(request, pieces, |_| {}).await.unwrap();
            std::mem::take(&mut stored.rest).settle().await;
            fleet.set(2, Mode::Up);
            let told = std::mem::take(&mut *told.0.lock().unwrap());
            let kept: BTreeSet<_> = stored.kept.iter().copied().collect();
            assert!(kept.is_subset(&told), "{mode:?}: something left without a word");
            let listed = engine.shards(&fleet.roster(), &stored.page, |_| {}).await.unwrap();
            assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), kept, "the pages tell the same");
            assert!(engine.holds(&shape, &fleet.roster(), &stored.page, |_| {}).await.unwrap());

            let Released { acks, left, .. } = engine.release(&fleet.roster(), told).await;
            assert_eq!((fleet.shards(), left.len()), (0, 0), "{mode:?}");
            assert!(!acks.is_empty());
            assert!(engine.holds(&shape, &fleet.roster(), &stored.page, |_| {}).await.is_err(), "its pages are gone");
        });
    }
}

#[test]
fn what_cannot_be_released_now_is_given_back() {
    run(11, |_, fleet, engine| async move {
        let stored = put(&fleet, &engine, &plain(1_000_000), Wait::Full).await.unwrap();
        assert!(engine.holds(&small(), &fleet.roster(), &stored.page, |_| {}).await.unwrap());
        fleet.set(1, Mode::Down);
        assert!(engine.holds(&small(), &fleet.roster(), &stored.page, |_| {}).await.unwrap(), "five of six are enough");
        fleet.set(3, Mode::Down);
        assert!(!engine.holds(&small(), &fleet.roster(), &stored.page, |_| {}).await.unwrap(), "four are not");
        fleet.set(3, Mode::Forge);
        let Released { acks, left, .. } = engine.release(&fleet.roster(), stored.kept.clone()).await;
        assert!(!acks.contains_key(&2) && !acks.contains_key(&4), "neither the absent one nor the liar");
        assert!(!left.is_empty() && left.iter().all(|(deal, _)| [2, 4].contains(deal)));
    });
}

#[test]
fn who_has_nothing_is_told_from_who_says_nothing() {
    run(12, |_, fleet, engine| async move {
        fleet.set(5, Mode::Forget);
        let stored = put(&fleet, &engine, &plain(3_000_000), Wait::Full).await.unwrap();
        fleet.set(1, Mode::Down);
        fleet.set(3, Mode::Mute);
        let roster = fleet.roster();
        let nobodys = (99, stored.kept[0].1);
        let asked = stored.kept.iter().copied().chain([nobodys]).collect();
        let Inventory { there, silent, .. } = engine.inventory(&roster, asked).await;
        assert_eq!(silent.into_keys().collect::<Vec<_>>(), [2, 4]);
        let expected = stored.kept.iter().filter(|(deal, _)| [1, 3, 5].contains(deal)).copied();
        assert_eq!(there, expected.collect(), "neither of who forgot it, nor of a deal that is none");
        let mut answers = Vec::new();
        for provider in roster.iter() {
            answers.push(engine.answers(provider).await);
        }
        assert_eq!(answers, [true, false, true, false, true, true], "who refuses is there");
    });
}
