//! Bind versions by leaves, lie about them in an index, and look at what a reader is shown.

use super::*;
use hodei_storage::{
    index::{Home, Mode, Retention},
    manifest::PageRef,
    seal::{Algorithm, WRAPPED_BYTES},
};
use hodei_types::code::Shape;

const NOW: u64 = 1000;

fn part(object: u8) -> Part {
    Part {
        number: 1,
        object: [object; 16],
        wrapped: [object; WRAPPED_BYTES],
        algorithm: Algorithm::Aes256Gcm,
        commitment: [0; 32],
        size_bytes: 3,
        content: [object; 32],
        shape: Shape::new(3, 6, 1).unwrap(),
        home: Home::Own(PageRef { id: ShardId([object; 32]), bytes: 4096, stripes: 1, holders: Vec::new() }),
    }
}

fn locked(version: u8, object: u8, mode: Mode, until_ms: u64) -> Entry {
    let lock = Some(Lock { retention: Some(Retention { mode, until_ms }), hold: None });
    Entry {
        version: Version::Id([version; 16]),
        etag: format!("{object}"),
        parts: vec![part(object)],
        lock,
        ..Entry::default()
    }
}

fn bound(version: u8, object: u8, until_ms: u64) -> Entry {
    locked(version, object, Mode::Compliance, until_ms)
}

fn leaf(entries: Vec<Entry>) -> Leaf {
    Leaf { part: part(200), entries: entries.into_iter().map(|entry| ("k".to_owned(), entry)).collect() }
}

fn kept(leaves: &[Leaf]) -> Kept {
    Kept::of(leaves.iter().zip(1u8..).map(|(leaf, id)| (B256::repeat_byte(id), leaf)))
}

fn run(versions: Vec<Entry>) -> Run {
    let mut run = Run::new("b");
    run.set("k", versions);
    run
}

/// What a reader sees of a key, and whether the index said otherwise.
fn seen(kept: &Kept, versions: Vec<Entry>, now_ms: u64) -> (Vec<Entry>, bool) {
    let mut run = run(versions);
    let restored = kept.restore(&mut run, now_ms);
    (run.versions("k").to_vec(), restored.contains("k"))
}

#[test]
fn what_is_bound_is_seen_whatever_the_index_says() {
    let kept = kept(&[leaf(vec![bound(3, 3, 2 * NOW), bound(5, 5, 2 * NOW)])]);
    let all = vec![bound(5, 5, 2 * NOW), bound(3, 3, 2 * NOW)];
    assert_eq!(seen(&kept, all.clone(), NOW), (all.clone(), false), "an honest index is left alone");
    assert_eq!(seen(&kept, vec![], NOW), (all.clone(), true));
    let newer = Entry { version: Version::Id([9; 16]), marker: true, ..Entry::default() };
    let between = locked(4, 4, Mode::Governance, 2 * NOW);
    let (versions, _) = seen(&kept, vec![newer.clone(), between.clone()], NOW);
    assert_eq!(versions, [newer, all[0].clone(), between, all[1].clone()], "in the order in which they were put");
    assert_eq!(seen(&kept, vec![], 2 * NOW), (vec![], false), "its time is over");
}

#[test]
fn nothing_that_is_bound_is_told_otherwise() {
    let kept = kept(&[leaf(vec![bound(3, 3, 2 * NOW)])]);
    let right = bound(3, 3, 2 * NOW);
    // Other bytes, another name for them, a shorter time, no lock at all.
    let other = Entry { parts: vec![part(9)], ..right.clone() };
    let renamed = Entry { etag: "x".into(), content_type: "x".into(), ..right.clone() };
    let none = Entry { lock: None, ..right.clone() };
    for lie in [other, renamed, bound(3, 3, NOW + 1), locked(3, 3, Mode::Governance, 2 * NOW), none] {
        assert_eq!(seen(&kept, vec![lie], NOW), (vec![right.clone()], true));
    }
    // Tags, access lists and holds may change, and a time may be longer.
    let mut edited = Entry { acl: Some("a".into()), ..bound(3, 3, 3 * NOW) };
    edited.lock.as_mut().unwrap().hold = Some(true);
    assert_eq!(seen(&kept, vec![edited.clone()], NOW), (vec![edited], false));
}

#[test]
fn of_two_leaves_the_one_listed_first_is_right_and_the_longer_time_holds() {
    let (honest, liar) = (leaf(vec![bound(3, 3, 2 * NOW)]), leaf(vec![bound(3, 9, 9 * NOW)]));
    let longer = leaf(vec![bound(3, 3, 3 * NOW)]);
    let all = kept(&[honest, liar, longer]);
    assert_eq!(seen(&all, vec![], NOW).0, [bound(3, 3, 3 * NOW)]);
    assert_eq!(seen(&all, vec![bound(3, 9, 9 * NOW)], 2 * NOW + 1).0, [bound(3, 3, 3 * NOW)]);
    // To bind it for longer both leaves that agree are listed for longer, and the liar's is not.
    let keys = ["k".to_owned()];
    let dues = all.due(&run(vec![bound(3, 3, 4 * NOW)]), &keys, NOW);
    let raised: Vec<_> = dues.raises.into_iter().collect();
    assert_eq!(raised, [(B256::repeat_byte(1), 4 * NOW), (B256::repeat_byte(3), 4 * NOW)]);
    assert_eq!(dues.versions.iter().map(|due| due.until_ms).collect::<Vec<_>>(), [4 * NOW]);
}

#[test]
fn only_what_is_newly_bound_is_due() {
    let kept = kept(&[leaf(vec![bound(3, 3, 2 * NOW)])]);
    let keys = ["k".to_owned(), "none".to_owned()];
    let open = locked(7, 7, Mode::Governance, 2 * NOW);
    let run = run(vec![open, bound(6, 6, NOW), bound(5, 5, 2 * NOW), bound(3, 3, 2 * NOW)]);
    let dues = kept.due(&run, &keys, NOW);
    let due: Vec<_> = dues.versions.iter().map(|due| due.entry.version).collect();
    assert_eq!(due, [Version::Id([5; 16])], "governance binds no thief, nor does a time that is over");
    assert!(dues.raises.is_empty());
    assert!(kept.due(&run, &[], NOW).is_empty());
}

#[test]
fn leaves_are_cut_to_what_readers_take() {
    let due = |at: u32| {
        let key = format!("key {at}");
        let entry = Entry { acl: Some("a".repeat(20 << 10)), ..bound(3, 3, u64::from(at)) };
        Due { key, entry, until_ms: u64::from(at) }
    };
    let layers = secure::layers("b", (1..=1000).map(due).collect());
    assert!(layers.len() > 1);
    assert_eq!(layers.iter().map(|(run, _)| run.keys()).sum::<usize>(), 1000);
    assert_eq!(layers.last().unwrap().1, 1000, "each as long as the longest in it");
    for (run, _) in layers {
        let bytes = run.encode();
        assert!(bytes.len() as u64 <= LEAF_BYTES_MAX);
        assert_eq!(Run::decode(&bytes), Ok(run));
    }
}
