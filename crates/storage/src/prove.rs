//! Keep a deal's tree, and prove drawn leaves of it.
//!
//! The tree is that of `types::holding`: append-only in ack order, a release zeroes a count in place. The
//! ledger knows a root that both sides signed some changes ago, so a tree remembers its changes and proves
//! against any of its past roots, as long as what was released since is kept: see [`Tree::settled`].

use hodei_types::{
    holding::{self, Node, bag},
    slice::{CHUNK_BYTES, ShardId},
};

/// One change of a deal's tree; the change's number is its place among them, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Append { id: ShardId, leaves: u16 },
    Release { position: u32 },
}

/// Why there is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    #[error("the deal never had this root with {leaves} leaves")]
    UnknownRoot { leaves: u64 },
    #[error("leaf {leaf} of {leaves}")]
    NoSuchLeaf { leaf: u64, leaves: u64 },
}

/// Where a drawn leaf is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    pub id: ShardId,
    pub position: u32,
    /// Chunk inside the shard.
    pub chunk: usize,
    /// Entries of the tree proven against.
    pub shards: u64,
    pub path: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: ShardId,
    leaves: u16,
    /// Number of the change that released it; 0 while held.
    released: u64,
}

const RELEASE: u32 = 1 << 31;

/// A deal's tree with its past. About 120 bytes a shard: 450 MB for a TB of 256 KiB shards, so a large
/// provider will want its lower levels on disk.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: Vec<Entry>,
    /// Level h holds the full subtrees of 2^h entries.
    levels: Vec<Vec<Node>>,
    /// Position of each change, with [`RELEASE`].
    changes: Vec<u32>,
}

impl Tree {
    /// Entries, released ones included.
    pub fn shards(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Changes so far: the newest statement's sequence.
    pub fn sequence(&self) -> u64 {
        self.changes.len() as u64
    }

    pub fn leaves(&self) -> u64 {
        self.peaks(self.shards()).iter().map(|peak| peak.leaves).sum()
    }

    pub fn root(&self) -> [u8; 32] {
        holding::root(bag(&self.peaks(self.shards())).as_ref(), self.shards())
    }

    /// The position the newest change touched.
    pub fn last_position(&self) -> Option<u64> {
        self.changes.last().map(|change| u64::from(change & !RELEASE))
    }

    /// Id, leaves now, and number of the change that released it if one did.
    pub fn entry(&self, position: u32) -> Option<(ShardId, u16, Option<u64>)> {
        let entry = self.entries.get(position as usize)?;
        let released = (entry.released > 0).then_some(entry.released);
        Some((entry.id, if released.is_some() { 0 } else { entry.leaves }, released))
    }

    /// Applies the next change. Returns the position touched; `None` if it releases what is not held.
    pub fn apply(&mut self, change: Change) -> Option<u32> {
        let number = self.sequence() + 1;
        match change {
            Change::Append { id, leaves } => {
                let position = u32::try_from(self.entries.len()).ok().filter(|at| *at < RELEASE)?;
                self.entries.push(Entry { id, leaves, released: 0 });
                self.push(holding::leaf(&id, leaves.into()));
                self.changes.push(position);
                Some(position)
            }
            Change::Release { position } => {
                let entry = self.entries.get_mut(position as usize).filter(|entry| entry.released == 0)?;
                entry.released = number;
                let node = holding::leaf(&entry.id, 0);
                self.replace(position as usize, node);
                self.changes.push(position | RELEASE);
                Some(position)
            }
        }
    }

    /// The path of an entry in the newest tree.
    pub fn path(&self, position: u32) -> Vec<Node> {
        self.path_in(self.entries.len(), position)
    }

    /// The path among the first `size` entries.
    fn path_in(&self, size: usize, position: u32) -> Vec<Node> {
        let mut nodes = Vec::new();
        let (mut at, mut height) = (position as usize, 0);
        while size.div_ceil(1 << height) > 1 {
            let beside = at ^ 1;
            if beside << height < size {
                nodes.push(self.subtree(size, height, beside));
            }
            at >>= 1;
            height += 1;
        }
        nodes
    }

    /// Finds leaf `leaf` in the newest version whose root is `root` over `leaves` leaves.
    pub fn find(&self, root: &[u8; 32], leaves: u64, leaf: u64) -> Result<Drawn, ProveError> {
        if leaf >= leaves {
            return Err(ProveError::NoSuchLeaf { leaf, leaves });
        }
        // Back in time: appends leave, releases are undone. Roots are only computed where the sum fits.
        let (mut shards, mut sum, mut undone) = (self.shards(), self.leaves(), false);
        for number in (0..=self.sequence()).rev() {
            if sum == leaves {
                let past = undone.then(|| self.at(number));
                let tree = past.as_ref().unwrap_or(self);
                let found = holding::root(bag(&tree.peaks(shards)).as_ref(), shards);
                if found == *root {
                    return Ok(tree.draw(shards as usize, leaf));
                }
            }
            let Some(change) = number.checked_sub(1).map(|last| self.changes[last as usize]) else { break };
            let entry = &self.entries[(change & !RELEASE) as usize];
            if change & RELEASE != 0 {
                sum += u64::from(entry.leaves);
                undone = true;
            } else {
                shards -= 1;
                sum -= u64::from(entry.leaves);
            }
        }
        Err(ProveError::UnknownRoot { leaves })
    }

    /// Whether the bytes at `position` may go, once a root of change `settled` or later is on the ledger:
    /// no challenge can name them any more.
    pub fn settled(&self, position: u32, settled: u64) -> bool {
        self.entries.get(position as usize).is_some_and(|entry| entry.released > 0 && entry.released <= settled)
    }

    /// What changes `after + 1` to `until` released.
    pub fn released_between(&self, after: u64, until: u64) -> Vec<(u32, ShardId)> {
        let until = until.min(self.sequence());
        let changes = self.changes.get(after.min(until) as usize..until as usize).unwrap_or_default();
        let released = changes.iter().filter(|change| **change & RELEASE != 0).map(|change| change & !RELEASE);
        released.map(|position| (position, self.entries[position as usize].id)).collect()
    }

    /// The tree after change `number`, built anew.
    fn at(&self, number: u64) -> Self {
        let mut past = Self::default();
        for change in &self.changes[..number as usize] {
            let position = change & !RELEASE;
            let entry = &self.entries[position as usize];
            past.apply(match change & RELEASE {
                0 => Change::Append { id: entry.id, leaves: entry.leaves },
                _ => Change::Release { position },
            });
        }
        past
    }

    /// Leaf `leaf` of the first `size` entries, of which none was released since.
    fn draw(&self, size: usize, leaf: u64) -> Drawn {
        // Down the full subtrees, largest first, then inside one.
        let (mut rest, mut from) = (leaf, 0usize);
        let mut position = None;
        for height in (0..self.levels.len()).rev().filter(|height| size >> height & 1 == 1) {
            let peak = self.levels[height][from >> height];
            if rest >= peak.leaves {
                rest -= peak.leaves;
                from += 1 << height;
                continue;
            }
            for below in (0..height).rev() {
                let left = self.levels[below][from >> below];
                if rest >= left.leaves {
                    rest -= left.leaves;
                    from += 1 << below;
                }
            }
            position = Some(from);
            break;
        }
        let position = position.expect("the leaf is under the root") as u32;
        let entry = &self.entries[position as usize];
        Drawn { id: entry.id, position, chunk: rest as usize, shards: size as u64, path: self.path_in(size, position) }
    }

    fn push(&mut self, node: Node) {
        let mut node = node;
        for height in 0.. {
            if self.levels.len() == height {
                self.levels.push(Vec::new());
            }
            let level = &mut self.levels[height];
            level.push(node);
            let [.., left, right] = level.as_slice() else { break };
            if level.len() % 2 == 1 {
                break;
            }
            node = holding::join(left, right).expect("leaves of a deal fit 64 bits");
        }
    }

    fn replace(&mut self, position: usize, node: Node) {
        self.levels[0][position] = node;
        let mut at = position;
        for height in 1..self.levels.len() {
            at >>= 1;
            let [left, right] = [2 * at, 2 * at + 1].map(|below| self.levels[height - 1].get(below).copied());
            let (Some(left), Some(right), Some(_)) = (left, right, self.levels[height].get(at)) else { break };
            self.levels[height][at] = holding::join(&left, &right).expect("leaves of a deal fit 64 bits");
        }
    }

    /// Tops of the full subtrees of the first `shards` entries.
    fn peaks(&self, shards: u64) -> Vec<Node> {
        let mut from = 0;
        let heights = (0..64).rev().filter(|height| shards >> height & 1 == 1);
        heights
            .map(|height| {
                let peak = self.levels[height][from >> height];
                from += 1 << height;
                peak
            })
            .collect()
    }

    /// Node `at` of `height` among the first `size` entries; it may hang over the right edge.
    fn subtree(&self, size: usize, height: usize, at: usize) -> Node {
        if (at + 1) << height <= size {
            return self.levels[height][at];
        }
        let left = self.subtree(size, height - 1, 2 * at);
        if (2 * at + 1) << (height - 1) < size {
            let right = self.subtree(size, height - 1, 2 * at + 1);
            holding::join(&left, &right).expect("leaves of a deal fit 64 bits")
        } else {
            left
        }
    }
}

/// The proof of a drawn leaf from the bytes of its shard; `None` if these are not the shard's.
pub fn prove(drawn: &Drawn, shard: &[u8]) -> Option<Vec<u8>> {
    let whole = ShardId::of(shard) == drawn.id && drawn.chunk < shard.len() / CHUNK_BYTES;
    whole.then(|| holding::assemble(drawn.shards, drawn.position.into(), &drawn.path, shard, drawn.chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_types::holding::{Frontier, verify, verify_entry};

    fn shard(i: usize) -> Vec<u8> {
        vec![i as u8 + 1; 4096 * (1 + i % 3)]
    }

    fn append(i: usize) -> Change {
        let shard = shard(i);
        Change::Append { id: ShardId::of(&shard), leaves: (shard.len() / CHUNK_BYTES) as u16 }
    }

    #[test]
    fn a_tree_agrees_with_the_frontier_and_its_paths_verify() {
        let (mut tree, mut frontier) = (Tree::default(), Frontier::default());
        assert_eq!(tree.root(), frontier.root());
        for i in 0..70 {
            let Change::Append { id, leaves } = append(i) else { unreachable!() };
            assert_eq!(tree.apply(append(i)), Some(i as u32));
            frontier.append(holding::leaf(&id, leaves.into()));
            assert_eq!((tree.root(), tree.leaves()), (frontier.root(), frontier.leaves()));
            for position in 0..=i as u32 {
                let (id, leaves, _) = tree.entry(position).unwrap();
                let path: Vec<u8> = tree.path(position).iter().flat_map(Node::to_bytes).collect();
                let (root, sum, shards) = (tree.root(), tree.leaves(), tree.shards());
                let held = verify_entry(&root, sum, shards, position.into(), &id, leaves.into(), &path);
                assert_eq!(held, Ok(()));
            }
        }
    }

    #[test]
    fn every_leaf_of_every_past_root_is_proven() {
        let mut tree = Tree::default();
        let mut past = vec![];
        let mut seed = 3u64;
        for i in 0..40 {
            tree.apply(append(i)).unwrap();
            past.push((tree.root(), tree.leaves()));
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if i % 4 == 3 {
                let position = (seed >> 33) as u32 % (i as u32 + 1);
                let held = tree.entry(position).unwrap().2.is_none();
                assert_eq!(tree.apply(Change::Release { position }).is_some(), held);
                past.push((tree.root(), tree.leaves()));
            }
        }
        for (root, leaves) in &past {
            for leaf in (0..*leaves).step_by(3).chain([leaves - 1]) {
                let drawn = tree.find(root, *leaves, leaf).unwrap();
                let proof = prove(&drawn, &shard(drawn.position as usize)).unwrap();
                assert_eq!(verify(root, *leaves, leaf, &proof), Ok(()));
            }
            assert!(matches!(tree.find(root, *leaves, *leaves), Err(ProveError::NoSuchLeaf { .. })));
        }
        assert!(matches!(tree.find(&[0; 32], past[3].1, 0), Err(ProveError::UnknownRoot { .. })));
        let drawn = tree.find(&past[5].0, past[5].1, 0).unwrap();
        assert_eq!(prove(&drawn, &[0; 4096]), None, "other bytes prove nothing");
    }
}
