//! Cut the power at every byte that the shard store writes, and see what it says when it comes back.
//!
//! What a sync confirmed is there. Of what was written since: the first bytes, or the last, or any sectors, or nothing.
//! The index has everything it was told, or what it was told to keep, or it is gone. In each case whatever was acknowledged
//! is there with its bytes, nothing else than was put is said to be held, each deal has a root that it once had and
//! acknowledged or later, every leaf of it is proven, and the store goes on.

mod cut;
mod past;
mod tape;

use cut::{Done, Life, Op, every};
use hodei_storage::shard::Store;
use hodei_types::index::Ordered;
use tape::{Beside, Tape};

const MIB: usize = 1 << 20;
/// Bytes of a segment of these stores.
const SEGMENT: usize = 8 * MIB;
/// What is watched, what is in the way, and what fills the next segment.
const WATCHED: u64 = 7;
const DOOMED: u64 = 9;
const FILLER: u64 = 10;
const ENDED: u64 = 8;

/// Fills a deal with shards of a mebibyte and less until its segment has less than `rest` bytes left of what is `used`.
async fn fill(life: &Life, deal: u64, used: &mut usize, rest: usize) {
    let mut number = 1000 * deal as u32;
    for len in [MIB, 128 << 10, 16 << 10, 4 << 10] {
        while *used + len + 512 + rest <= SEGMENT {
            life.put(deal, number, len).await;
            *used += len + 512;
            number += 1;
        }
    }
}

#[test]
fn a_cut_at_every_byte_of_puts_releases_keeps_and_endings() {
    // Nearly full, so that a recovery has little to look at behind the end.
    let tape = Tape::default();
    let index = Beside::new(Ordered::default(), &tape);
    let (start, ops) = cut::play(&tape, index, async |store: Store<Tape, Beside>| {
        let life = Life::new(store, &tape);
        life.put(WATCHED, 1, 4096).await;
        life.put(WATCHED, 2, 4096).await;
        life.put(ENDED, 1, 4096).await;
        fill(&life, FILLER, &mut (512 + 3 * 4608), 48 << 10).await;
        life.mark();
        // Three in one batch; then a release, a keep and a put in one; then the end of a deal; then one alone.
        life.all(&[Op::Put(WATCHED, 3, 4096), Op::Put(WATCHED, 4, 8192), Op::Put(WATCHED, 5, 4096)]).await;
        life.all(&[Op::Release(WATCHED, 2), Op::Keep(WATCHED, 3, 5000), Op::Put(WATCHED, 6, 4096)]).await;
        life.all(&[Op::Forget(ENDED), Op::Release(WATCHED, 4)]).await;
        // Kept, and declined all the same.
        life.all(&[Op::Decline(WATCHED, 3)]).await;
        life.posted(WATCHED).await;
        life.all(&[Op::Put(WATCHED, 2, 4096)]).await;
        life.end()
    });
    let cuts = every(&tape, start, &ops);
    assert!(cuts.bytes > 3 * 4608 + 4608 + 4 * 512, "{cuts:?}");
    println!("{cuts:?}");
}

#[test]
fn a_cut_at_every_byte_of_a_compaction() {
    let tape = Tape::default();
    let index = Beside::new(Ordered::default(), &tape);
    let (start, ops) = cut::play(&tape, index, async |store: Store<Tape, Beside>| {
        let life = Life::new(store, &tape);
        for number in 1..5 {
            life.put(WATCHED, number, 4096).await;
        }
        life.all(&[Op::Keep(WATCHED, 1, 5000)]).await;
        life.all(&[Op::Release(WATCHED, 2)]).await;
        life.all(&[Op::Decline(WATCHED, 4)]).await;
        life.put(ENDED, 1, 4096).await;
        let mut used = 512 + 5 * 4608 + 4 * 512;
        fill(&life, DOOMED, &mut used, 0).await;
        fill(&life, FILLER, &mut 512, 96 << 10).await;
        life.all(&[Op::Forget(DOOMED), Op::Forget(ENDED)]).await;
        life.posted(WATCHED).await;
        life.mark();
        let won = life.store().compact().await.unwrap();
        assert!(won.is_some_and(|won| won > 7 * MIB as u64), "{won:?}");
        life.all(&[Op::Put(WATCHED, 9, 4096)]).await;
        life.end()
    });
    let cuts = every(&tape, start, &ops);
    assert!(cuts.bytes > 3 * 4608 && cuts.removals == 1, "{cuts:?}");
    println!("{cuts:?}");
}

#[test]
fn a_cut_at_every_step_of_a_new_segment() {
    let tape = Tape::default();
    let index = Beside::new(Ordered::default(), &tape);
    let (start, ops) = cut::play(&tape, index, async |store: Store<Tape, Beside>| {
        let life = Life::new(store, &tape);
        life.put(WATCHED, 1, 4096).await;
        fill(&life, FILLER, &mut (512 + 4608), 0).await;
        life.mark();
        life.all(&[Op::Put(WATCHED, 2, 8192), Op::Release(WATCHED, 1)]).await;
        life.end()
    });
    assert!(ops.iter().any(|done: &Done| done.at > start + 4), "a segment was made");
    let cuts = cut::some(&tape, start, &ops, 7);
    assert!(cuts.opened == 1 && cuts.bytes > 1000, "{cuts:?}");
    println!("{cuts:?}");
}
