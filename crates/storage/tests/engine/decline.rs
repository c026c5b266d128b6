//! Show that what a provider declines is had from the others, and that a refusal nobody signed is a lie.

use super::{get, plain, put, run};
use crate::fleet::{CHAIN_ID, Mode};
use commonware_runtime::Clock as _;
use hodei_storage::engine::{Patience, RemoteError, Wait};
use hodei_types::code::Class;
use std::{collections::BTreeSet, time::Duration};

#[test]
fn what_is_declined_is_read_from_the_others_at_once_and_nobody_is_blamed() {
    run(21, |context, fleet, engine| async move {
        let data = plain(2_000_000);
        let mut stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        std::mem::take(&mut stored.rest).settle().await;
        (0..3).for_each(|at| fleet.set(at, Mode::Decline));
        let begun = context.current();
        let got = get(&fleet, &engine, &stored, 0..data.len() as u64).await;
        assert!(got.bytes.unwrap() == data && got.verdicts.is_empty(), "{:?}", got.verdicts);
        let took = context.current().duration_since(begun).unwrap();
        assert!(took < Duration::from_secs(1), "no answer was waited for: {took:?}");
        // Each says which it declines, and is heard.
        let roster = fleet.roster();
        let inventory = engine.inventory(&roster, stored.kept.clone()).await;
        let of = |deals: [u64; 3]| stored.kept.iter().filter(move |(deal, _)| deals.contains(deal)).copied();
        assert_eq!(inventory.declined, of([1, 2, 3]).collect::<BTreeSet<_>>());
        assert_eq!(inventory.there, of([4, 5, 6]).collect::<BTreeSet<_>>());
        assert!(inventory.silent.is_empty());
        // Who says so and does not sign it only lacks them: nothing is stored anew for a word that is nobody's.
        fleet.set(1, Mode::Excuse);
        let inventory = engine.inventory(&roster, stored.kept.clone()).await;
        let declining: BTreeSet<u64> = inventory.declined.iter().map(|(deal, _)| *deal).collect();
        assert_eq!(declining, BTreeSet::from([1, 3]));
        assert_eq!(inventory.there, of([4, 5, 6]).collect::<BTreeSet<_>>());
        assert!(inventory.silent.is_empty());
        fleet.set(1, Mode::Decline);
        // One more is one too many.
        fleet.set(3, Mode::Decline);
        assert!(get(&fleet, &engine, &stored, 0..data.len() as u64).await.bytes.is_err());
    });
}

#[test]
fn what_is_declined_is_put_with_others_and_the_word_is_checked() {
    run(22, |_, fleet, engine| async move {
        let data = plain(300_000);
        fleet.set(2, Mode::Decline);
        let stored = put(&fleet, &engine, &data, Wait::Full).await.unwrap();
        assert!(stored.kept.iter().all(|(deal, _)| *deal != 3), "{:?}", stored.kept);
        let got = get(&fleet, &engine, &stored, 0..data.len() as u64).await;
        assert!(got.bytes.unwrap() == data && got.verdicts.is_empty());
        // It is told by its own signed word, which anybody may check.
        let (shape, bytes) = (Class::Small.shape(6), plain(4096));
        let copied = engine.copy_to(shape, (fleet.roster(), 2), [1; 16], bytes.clone(), Patience::Moment).await;
        let Err(RemoteError::Declined(declined)) = copied else { panic!("{copied:?}") };
        assert_eq!(declined.verify(CHAIN_ID, &fleet.node(2)), Ok(()));
        assert!(declined.verify(CHAIN_ID, &fleet.node(1)).is_err());
        fleet.set(2, Mode::Excuse);
        let copied = engine.copy_to(shape, (fleet.roster(), 2), [1; 16], bytes, Patience::Moment).await;
        assert!(matches!(copied, Err(RemoteError::Lie(_))), "{copied:?}");
    });
}

#[test]
fn who_declined_a_shard_is_not_taken_to_fail_because_another_is_slow() {
    run(18, |context, fleet, engine| async move {
        fleet.set(2, Mode::Decline);
        fleet.set(4, Mode::Mute);
        put(&fleet, &engine, &plain(1_000), Wait::Quorum).await.unwrap();
        let rests = |host| engine.peers().rests(&fleet.node(host), context.current());
        assert_eq!([rests(2), rests(4)], [false, true]);
    });
}
