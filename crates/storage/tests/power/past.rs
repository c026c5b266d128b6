//! Hold a deal to what was asked of it and acknowledged: what must be so after a cut, and what may be.

use crate::{
    cut::{Op, SINCE_MS, shard},
    tape::{Beside, Tape},
};
use hodei_storage::{
    prove::{Change as TreeChange, Tree},
    shard::{Store, StoreError},
};
use hodei_types::{decline::Ground, holding};
use std::collections::BTreeMap;

/// A deal by what was asked for: what must be so, and what may be.
#[derive(Default)]
pub(crate) struct Past {
    tree: Tree,
    /// Roots in the order of changes, and how many of these were acknowledged.
    roots: Vec<([u8; 32], u64)>,
    acknowledged: u64,
    /// Of each shard: its length, and whether it is held after each change that concerns it, from the last acknowledged on.
    shards: BTreeMap<u32, (usize, Vec<bool>)>,
    keeps: BTreeMap<u32, (u64, bool)>,
    /// Whether that was acknowledged.
    declines: BTreeMap<u32, bool>,
    /// `Some(true)` if that was acknowledged.
    ended: Option<bool>,
}

impl Past {
    pub(crate) fn take(&mut self, op: Op, is_acknowledged: bool) {
        match op {
            Op::Put(deal, number, len) => {
                let id = shard(deal, number, len).0;
                self.tree.apply(TreeChange::Append { id, leaves: (len / 1024) as u16 }).unwrap();
                self.hold(number, len, true, is_acknowledged);
            }
            Op::Release(deal, number) | Op::Decline(deal, number) => {
                if let Op::Decline(..) = op {
                    self.declines.insert(number, is_acknowledged);
                }
                let len = self.shards[&number].0;
                let id = shard(deal, number, len).0;
                let mut positions = (0..self.tree.shards() as u32).rev();
                let position =
                    positions.find(|at| self.tree.entry(*at).is_some_and(|(of, _, gone)| of == id && gone.is_none()));
                self.tree.apply(TreeChange::Release { position: position.unwrap() }).unwrap();
                self.hold(number, len, false, is_acknowledged);
            }
            Op::Keep(_, number, until) => _ = self.keeps.insert(number, (until, is_acknowledged)),
            Op::Forget(_) => self.ended = Some(is_acknowledged),
        }
    }

    fn hold(&mut self, number: u32, len: usize, is_held: bool, is_acknowledged: bool) {
        let (_, states) = self.shards.entry(number).or_insert((len, vec![false]));
        if is_acknowledged {
            states.clear();
            self.acknowledged = self.tree.sequence();
        }
        states.push(is_held);
        self.roots.push((self.tree.root(), self.tree.leaves()));
    }

    pub(crate) async fn judge(&self, deal: u64, store: &Store<Tape, Beside>, at: usize) {
        let is_there = store.deals().contains(&deal);
        if self.ended == Some(true) {
            assert!(!is_there, "deal {deal} ended, cut in step {at}");
        }
        if self.ended.is_some() && !is_there {
            for (number, (len, _)) in &self.shards {
                let id = shard(deal, *number, *len).0;
                assert_eq!(store.get(deal, id, 0, 0).await.unwrap(), None, "of a deal that ended");
            }
            return;
        }
        let found = store.state(deal).await.unwrap().0.map(|ack| ack.statement);
        let sequence = found.map_or(0, |statement| statement.sequence);
        assert!(
            sequence >= self.acknowledged,
            "deal {deal} went back to {sequence} of {}, cut in step {at}",
            self.acknowledged
        );
        if let Some(statement) = found {
            let (root, leaves) = self.roots[sequence as usize - 1];
            assert_eq!((statement.root, statement.leaves), (root, leaves), "a root it never had, cut in step {at}");
            // Of what fills, a leaf of each shard.
            let stride = if deal == crate::WATCHED { 1 } else { 1009 };
            for leaf in (0..leaves).step_by(stride) {
                let proof = store.prove(deal, root, leaves, leaf).await.expect("a leaf that it states");
                assert_eq!(holding::verify(&root, leaves, leaf, &proof), Ok(()));
            }
        }
        for (number, (len, states)) in &self.shards {
            let (id, bytes) = shard(deal, *number, *len);
            let is_held = store.has(deal, &[id]).await.unwrap()[0];
            assert!(
                states.contains(&is_held),
                "shard {number} of {deal} is {is_held}, may {states:?}, cut in step {at}"
            );
            if *len > 8192 && deal != crate::WATCHED && *number % 4 != 0 {
                continue;
            }
            let got = store.get(deal, id, 0, 0).await.unwrap();
            assert_eq!(
                got.map(|slice| slice.bytes),
                is_held.then_some(bytes),
                "shard {number} of {deal}, cut in step {at}"
            );
        }
        for (number, is_acknowledged) in &self.declines {
            let (id, bytes) = shard(deal, *number, self.shards[number].0);
            let declined = store.declined(&id);
            let is_so = declined == Some((SINCE_MS, Ground::Court));
            assert!(is_so || (declined.is_none() && !is_acknowledged), "{declined:?}, cut in step {at}");
            if is_so {
                // Whatever was cut, it is neither given nor taken, and what is left to do of it is done.
                assert!(matches!(store.put(deal, id, [6; 16], bytes).await, Err(StoreError::Declined(_))));
                store.release_declined().await.expect("it is let go of");
                let state = store.state(deal).await.unwrap().0.expect("it had a root").statement;
                assert!(self.roots.contains(&(state.root, state.leaves)), "a root it never had, cut in step {at}");
            }
        }
        for (number, (until, is_acknowledged)) in &self.keeps {
            let id = shard(deal, *number, self.shards[number].0).0;
            let kept = store.kept(deal, &[id]).await.unwrap()[0];
            assert!(
                kept == *until || (kept == 0 && !is_acknowledged),
                "shard {number} is kept until {kept}, cut in step {at}"
            );
        }
    }
}
