//! Look through an index for parts that have to be stored again, a stretch at a time.

use crate::retain::is_bound;
use hodei_storage::index::{Part, Run};
use hodei_types::code::Shape;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

/// Parts named by one swap at most, and their bytes: what a kill costs.
const BATCH_PARTS: usize = 256;
const BATCH_BYTES: u64 = 64 << 20;

/// A part to be stored again, and the keys that name it.
#[derive(Clone, Debug)]
pub(super) struct Old {
    pub(super) part: Part,
    pub(super) keys: Vec<String>,
}

/// Parts of one stretch of the index that may have to be stored again: up to a batch, and the key it ends with.
pub(super) struct Stretch {
    pub(super) olds: Vec<Old>,
    pub(super) kept: u64,
    pub(super) last: Option<String>,
}

/// Looks on behind `after`. What is told of by links, or locked so that nobody can remove it, counts as kept where it
/// is of another shape.
pub(super) fn stretch(
    run: &Run,
    after: Option<&str>,
    (linked, now_ms): (&BTreeSet<String>, u64),
    shape: &Shape,
    is_due: impl Fn(&Part) -> bool,
) -> Stretch {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut olds: BTreeMap<[u8; 16], Old> = BTreeMap::new();
    let (mut kept, mut bytes, mut last) = (0, 0, None);
    for (key, versions) in run.range(from) {
        if olds.len() >= BATCH_PARTS || bytes >= BATCH_BYTES {
            return Stretch { olds: olds.into_values().collect(), kept, last };
        }
        let stays = linked.contains(key) || is_bound(run, key, now_ms);
        for entry in versions {
            for part in entry.parts.iter().filter(|part| is_due(part.stored())) {
                let stored = part.stored();
                if stays || (entry.customer.is_some() && !stored.is_pack()) {
                    kept += u64::from(stored.shape != *shape);
                    continue;
                }
                let old = olds.entry(stored.object).or_insert_with(|| {
                    bytes += stored.size_bytes;
                    Old { part: stored.clone(), keys: Vec::new() }
                });
                if old.keys.last().is_none_or(|last| last != key) {
                    old.keys.push(key.to_owned());
                }
            }
        }
        last = Some(key.to_owned());
    }
    Stretch { olds: olds.into_values().collect(), kept, last: None }
}

/// Cuts where a swap is due: an object of many parts has several.
pub(super) fn batches(olds: Vec<Old>) -> Vec<Vec<Old>> {
    let mut batches: Vec<Vec<Old>> = Vec::new();
    let mut bytes = BATCH_BYTES;
    for old in olds {
        if bytes >= BATCH_BYTES {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += old.part.size_bytes;
        batches.last_mut().expect("the first begins one").push(old);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use hodei_storage::{
        index::{Customer, Entry, Home},
        manifest::PageRef,
        seal::{Algorithm, WRAPPED_BYTES},
    };
    use hodei_types::slice::ShardId;

    fn entry(object: u8, shape: Shape) -> Entry {
        let part = Part {
            number: 1,
            object: [object; 16],
            wrapped: [0; WRAPPED_BYTES],
            algorithm: Algorithm::Aes256Gcm,
            commitment: [0; 32],
            size_bytes: 1 << 20,
            content: [0; 32],
            shape,
            home: Home::Own(PageRef { id: ShardId([0; 32]), bytes: 4096, stripes: 1, holders: Vec::new() }),
        };
        Entry { parts: vec![part], ..Entry::default() }
    }

    #[test]
    fn a_bucket_is_looked_through_once_in_batches() {
        let (old, new) = (Shape::new(3, 6, 1).unwrap(), Shape::new(4, 8, 1).unwrap());
        let mut run = Run::default();
        for at in 0..200u8 {
            let shape = if at % 2 == 0 { old } else { new };
            run.set(&format!("{at:03}"), vec![entry(at, shape)]);
        }
        // A copy far away, one under a customer's key, one that a link tells of.
        run.set("900", vec![entry(0, old)]);
        run.set("901", vec![Entry { customer: Some(Customer { md5: [0; 16], salt: [0; 16] }), ..entry(201, old) }]);
        run.set("902", vec![entry(202, old)]);
        let linked = BTreeSet::from(["902".to_owned()]);
        let (mut after, mut seen, mut kept, mut stretches) = (None::<String>, BTreeSet::new(), 0, 0);
        loop {
            let found = stretch(&run, after.as_deref(), (&linked, 0), &new, |part| part.shape != new);
            seen.extend(found.olds.iter().map(|old| old.part.object[0]));
            kept += found.kept;
            stretches += 1;
            after = found.last;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, (0..200).filter(|at| at % 2 == 0).collect());
        assert_eq!((kept, stretches), (2, 2), "64 MiB at a time");
        let long = (0..100).map(|at| Old { part: entry(at, old).parts.remove(0), keys: vec!["one".into()] });
        let sizes: Vec<_> = batches(long.collect()).iter().map(Vec::len).collect();
        assert_eq!((sizes, batches(Vec::new()).len()), (vec![64, 36], 0));
    }
}
