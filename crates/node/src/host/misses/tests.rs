//! Miss hosts, hear them again, and be cut off.

use super::{super::replica::tests::lease as running, *};

const ME: NodeKey = NodeKey([1; 32]);
const FELLOW: NodeKey = NodeKey([2; 32]);
const THIRD: NodeKey = NodeKey([3; 32]);
const HOST: NodeKey = NodeKey([8; 32]);
const OTHER: NodeKey = NodeKey([9; 32]);
/// By the ledger.
const NOW: u64 = 1_000_000;

fn lease(id: u64, host: NodeKey) -> ILeases::Lease {
    ILeases::Lease { node: host.0.into(), untilMs: NOW + 1_000_000, ..running(id) }
}

/// Watches lease 1 of HOST as the first of three, and lease 2 of OTHER as the second.
fn misses() -> Misses {
    let mut misses = Misses::new(ME);
    let first = Duty::new(&lease(1, HOST), vec![ME, FELLOW, THIRD]);
    let second = Duty::new(&lease(2, OTHER), vec![FELLOW, ME]);
    misses.begin(0, 7, vec![first, second]);
    misses
}

/// Asks once at each of these times: HOST is silent, and OTHER as it is said.
fn miss(misses: &mut Misses, times: impl IntoIterator<Item = u64>, other: bool) {
    for now_ms in times {
        misses.heard(now_ms, &[(HOST, false), (OTHER, other)], true);
    }
}

fn due(misses: &Misses, now_ms: u64) -> Vec<u64> {
    misses.due(now_ms, NOW).into_iter().map(|duty| duty.lease).collect()
}

#[test]
fn three_misses_in_a_row_make_a_host_missed_and_an_answer_ends_them() {
    let mut misses = misses();
    assert_eq!(misses.hosts(), BTreeMap::from([(HOST, 1), (OTHER, 2)]));
    miss(&mut misses, [5_000, 10_000], true);
    assert_eq!(due(&misses, 10_000), [0; 0]);
    misses.heard(12_000, &[(HOST, true), (OTHER, true)], true);
    miss(&mut misses, [15_000, 20_000], true);
    assert_eq!(due(&misses, 20_000), [0; 0], "the row began anew");
    miss(&mut misses, [25_000], true);
    assert_eq!(due(&misses, 25_000), [1]);
    assert_eq!(misses.counts(25_000).missed, 1);
    assert_eq!(due(&misses, 25_000 + STALE_MS + 1), [0; 0], "what was missed long ago says nothing of now");
}

#[test]
fn watchers_take_turns_and_none_speaks_of_what_runs_no_more() {
    let mut misses = misses();
    miss(&mut misses, [5_000, 10_000, 15_000], false);
    assert_eq!(due(&misses, 15_000), [1], "of the other lease it is the second");
    assert_eq!(due(&misses, 15_000 + TURN_MS), [1, 2]);
    misses.sent(15_000, 1);
    assert_eq!(due(&misses, 25_000), [2], "it was said");
    assert!(misses.due(25_000, NOW + 1_000_000).is_empty(), "their escrow is over");
    misses.learn(25_000, &ILeases::Lease { state: 2, ..lease(2, OTHER) });
    assert_eq!(due(&misses, 25_000), [0; 0]);
    assert_eq!(misses.hosts(), BTreeMap::from([(HOST, 1)]));
}

#[test]
fn who_hears_nobody_and_no_ledger_accuses_nobody() {
    let mut misses = misses();
    let silence = [(HOST, false), (OTHER, false)];
    misses.heard(5_000, &silence, true);
    misses.heard(10_000, &silence, true);
    misses.heard(15_000, &silence, false);
    misses.heard(20_000, &silence, true);
    assert_eq!(due(&misses, 20_000), [0; 0], "what was counted before it was cut off is forgotten");
    misses.heard(25_000, &[(HOST, false), (OTHER, true)], false);
    misses.heard(30_000, &silence, true);
    assert_eq!(due(&misses, 30_000), [1], "one that answers is enough to be there");
}

#[test]
fn a_word_is_given_to_fellow_watchers_about_what_is_missed_here_too() {
    let mut misses = misses();
    assert!(misses.concur(1, &FELLOW, (1, 0, 7)).is_err(), "nothing is missed yet");
    miss(&mut misses, [5_000, 10_000, 15_000], true);
    let now_ms = 15_000;
    for (from, said) in [(OTHER, (1, 0, 7)), (ME, (1, 0, 7)), (THIRD, (2, 0, 7)), (FELLOW, (2, 0, 7))] {
        assert!(misses.concur(now_ms, &from, said).is_err(), "{from} {said:?}");
    }
    for said in [(1, 0, 6), (1, 0, 8), (1, 1, 7), (3, 0, 7)] {
        assert!(misses.concur(now_ms, &FELLOW, said).is_err(), "{said:?}");
    }
    assert_eq!(misses.counts(now_ms).accused, 0);
    assert_eq!(misses.concur(now_ms, &FELLOW, (1, 0, 7)), Ok(()));
    assert_eq!(misses.concur(now_ms, &THIRD, (1, 0, 7)), Ok(()));
    assert_eq!(misses.counts(now_ms).accused, 1, "the same word twice is one");
    let suspect = ILeases::Lease { generation: 1, lostMs: NOW + 120_000, ..lease(1, HOST) };
    assert_eq!(misses.learn(now_ms, &suspect), None);
    assert!(misses.concur(now_ms, &FELLOW, (1, 1, 7)).is_err(), "it is suspect already");
}

#[test]
fn who_shows_itself_is_spared() {
    let mut misses = misses();
    miss(&mut misses, [5_000, 10_000, 15_000], true);
    misses.accuse(15_000, 1);
    let suspect = ILeases::Lease { generation: 1, lostMs: NOW + 120_000, ..lease(1, HOST) };
    assert_eq!(misses.learn(16_000, &suspect), None);
    // The round is over, and it is watched by others: its end is looked at all the same.
    misses.begin(17_000, 8, vec![Duty::new(&lease(2, OTHER), vec![ME, FELLOW])]);
    assert_eq!(misses.open(17_000), [1]);
    let shown = ILeases::Lease { generation: 1, ..lease(1, HOST) };
    assert_eq!(misses.learn(18_000, &shown), Some(HOST));
    assert_eq!((misses.counts(18_000).refuted, misses.open(18_000)), (1, vec![]));
    misses.begin(20_000, 9, vec![Duty::new(&shown, vec![ME, FELLOW])]);
    miss(&mut misses, [20_000, 25_000, 30_000], true);
    assert_eq!(due(&misses, 30_000), [0; 0]);
    assert!(misses.concur(30_000, &FELLOW, (1, 1, 9)).is_err());
    let later = 18_000 + SPARED_MS;
    miss(&mut misses, [later], true);
    assert_eq!(due(&misses, later), [1], "an hour later it is judged anew");
}

#[test]
fn what_is_lost_is_touched_by_who_accused_and_else_by_who_watches() {
    let mut misses = misses();
    miss(&mut misses, [5_000, 10_000, 15_000], true);
    misses.accuse(15_000, 1);
    let lost_ms = NOW + 120_000;
    misses.learn(16_000, &ILeases::Lease { generation: 1, lostMs: lost_ms, ..lease(1, HOST) });
    misses.learn(16_000, &ILeases::Lease { generation: 1, lostMs: lost_ms, ..lease(2, OTHER) });
    assert_eq!(misses.lost(140_000, lost_ms), [0; 0], "it has its whole time");
    assert_eq!(misses.lost(140_000, lost_ms + 1), [1]);
    misses.sent(140_000, 1);
    assert_eq!(misses.lost(141_000, lost_ms + 2), [0; 0]);
    assert_eq!(misses.lost(141_000, lost_ms + 5 * TURN_MS), [2], "of which others gave their word");
    assert_eq!(misses.lost(140_000 + AGAIN_MS, lost_ms + 1), [1], "nobody took it");
}

#[test]
fn a_word_that_was_not_used_is_forgotten() {
    let mut misses = misses();
    miss(&mut misses, [5_000, 10_000, 15_000], true);
    misses.accuse(15_000, 1);
    misses.begin(70_000, 8, Vec::new());
    assert_eq!(misses.open(70_000), [1]);
    misses.learn(15_000 + FORGOTTEN_MS, &lease(1, HOST));
    assert_eq!(misses.open(70_000), [1]);
    misses.learn(15_001 + FORGOTTEN_MS, &lease(1, HOST));
    assert_eq!(misses.open(70_000), [0; 0]);
}

#[test]
fn a_program_that_is_started_anew_within_four_seconds_is_not_missed() {
    let mut misses = misses();
    for now_ms in [1_000, 3_000, 5_000] {
        misses.heard(now_ms, &[(HOST, false), (OTHER, true)], true);
        assert_eq!(due(&misses, now_ms), [0; 0], "asked every two seconds, it misses three at most");
    }
    misses.heard(7_000, &[(HOST, true), (OTHER, true)], true);
    for now_ms in [9_000, 11_000, 13_000] {
        misses.heard(now_ms, &[(HOST, false), (OTHER, true)], true);
        assert_eq!(due(&misses, now_ms), [0; 0]);
    }
    misses.heard(15_000, &[(HOST, false), (OTHER, true)], true);
    assert_eq!(due(&misses, 15_000), [1], "one that stays away is");
}
