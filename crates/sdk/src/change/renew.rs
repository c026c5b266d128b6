//! Name parts that were stored again where the old ones were named.
//!
//! A version is changed only as it is at the swap: what was put, copied or removed meanwhile stays as its writer
//! wanted it. Locks, tags and times are left alone, since no byte of the object is another. A pack is stored again
//! with its members where they were in it.

use super::{Done, missing};
use crate::{fault::Fault, retain::is_bound, share};
use hodei_storage::index::{Entry, Home, Part, Run};
use std::sync::Arc;

/// A stored part, or a pack, that was stored again.
#[derive(Clone, Debug)]
pub(crate) struct Renewal {
    /// Keys whose versions named the old one.
    pub(crate) keys: Vec<String>,
    /// The old one's.
    pub(crate) object: [u8; 16],
    pub(crate) part: Arc<Part>,
}

impl Renewal {
    /// Changes a part that lies in the old one; `None` if it does not, or is under a customer's key.
    fn apply(&self, part: &Part, is_customers: bool) -> Option<Part> {
        if part.stored().object != self.object {
            return None;
        }
        match &part.home {
            // Its own key is wrapped by what we do not have.
            Home::Own(_) if is_customers || part.number != self.part.number => None,
            Home::Own(_) => Some((*self.part).clone()),
            Home::Pack { offset, .. } => {
                let home = Home::Pack { pack: self.part.clone(), offset: *offset };
                Some(Part { shape: self.part.shape, home, ..part.clone() })
            }
        }
    }
}

/// Refuses only if nothing names any of the old parts any more.
pub(super) fn renew(
    run: &mut Run,
    renewals: &[Renewal],
    now_ms: u64,
    replaced: &mut Vec<Entry>,
) -> Result<Done, Fault> {
    let linked = share::linked(run, now_ms);
    let mut is_any = false;
    for renewal in renewals {
        for key in renewal.keys.iter().filter(|key| !linked.contains(*key)) {
            if is_bound(run, key, now_ms) {
                continue;
            }
            let mut versions = run.versions(key).to_vec();
            let mut old = None;
            for entry in &mut versions {
                let is_customers = entry.customer.is_some();
                for part in &mut entry.parts {
                    if let Some(now) = renewal.apply(part, is_customers) {
                        old = Some(std::mem::replace(part, now));
                    }
                }
            }
            if let Some(old) = old {
                is_any = true;
                run.set(key, versions);
                replaced.push(Entry { parts: vec![old], ..Entry::default() });
            }
        }
    }
    match renewals.first().and_then(|renewal| renewal.keys.first()) {
        Some(key) if !is_any => Err(missing(run, key, None)),
        _ => Ok(Done::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Moment, apply};
    use super::*;
    use hodei_storage::{
        index::{Customer, Version},
        manifest::PageRef,
        pack,
        seal::{Algorithm, WRAPPED_BYTES},
    };
    use hodei_types::{code::Shape, slice::ShardId};

    fn part(number: u32, object: u8, shape: (u8, u8)) -> Part {
        Part {
            number,
            object: [object; 16],
            wrapped: [object; WRAPPED_BYTES],
            algorithm: Algorithm::Aes256Gcm,
            commitment: [0; 32],
            size_bytes: 3,
            content: [0; 32],
            shape: Shape::new(shape.0, shape.1, 1).unwrap(),
            home: Home::Own(PageRef { id: ShardId([object; 32]), bytes: 4096, stripes: 1, holders: Vec::new() }),
        }
    }

    fn entry(version: u8, part: Part) -> Entry {
        Entry { version: Version::Id([version; 16]), parts: vec![part], ..Entry::default() }
    }

    fn recode(run: &mut Run, renewals: Vec<Renewal>) -> (Result<Done, Fault>, Vec<[u8; 16]>) {
        let mut replaced = Vec::new();
        let change = Change::Recode { renewals };
        let done = apply(run, &change, Moment { now_ms: 1000, random: [0; 8] }, &mut replaced);
        (done, replaced.iter().flat_map(|entry| &entry.parts).map(|part| part.stored().object).collect())
    }

    fn renewal(keys: &[&str], old: u8, part: Part) -> Renewal {
        Renewal { keys: keys.iter().map(|key| key.to_string()).collect(), object: [old; 16], part: Arc::new(part) }
    }

    #[test]
    fn all_versions_that_name_a_part_name_the_new_one_and_nothing_else_changes() {
        let mut run = Run::default();
        let customers =
            Entry { customer: Some(Customer { md5: [0; 16], salt: [0; 16] }), ..entry(3, part(1, 1, (3, 6))) };
        run.set("a", vec![entry(2, part(1, 2, (3, 6))), entry(1, part(1, 1, (3, 6)))]);
        run.set("b", vec![customers.clone(), entry(4, part(1, 1, (3, 6)))]);
        run.set("linked", vec![entry(5, part(1, 1, (3, 6)))]);
        let line = format!("{} 0 2000 linked\n", ShardId([9; 32]));
        run.settings =
            std::iter::once(("shares".to_owned(), line)).collect::<std::collections::BTreeMap<_, _>>().into();
        let now = part(1, 7, (4, 8));
        let (done, replaced) = recode(&mut run, vec![renewal(&["a", "b", "gone", "linked"], 1, now.clone())]);
        assert!(done.is_ok());
        assert_eq!(replaced, [[1; 16]; 2]);
        assert_eq!(run.versions("a"), [entry(2, part(1, 2, (3, 6))), entry(1, now.clone())]);
        assert_eq!(run.versions("b"), [customers, entry(4, now.clone())]);
        assert_eq!(run.versions("linked"), [entry(5, part(1, 1, (3, 6)))]);
        // Once more nothing names it there.
        let (done, replaced) = recode(&mut run, vec![renewal(&["a"], 1, now)]);
        assert!(matches!(done, Err(Fault::NoObject { .. })) && replaced.is_empty());
    }

    #[test]
    fn members_stay_where_they_are_in_a_pack_that_is_stored_again() {
        let pack = |object, shape| Arc::new(Part { size_bytes: 1 << 16, ..part(pack::PART, object, shape) });
        let member = |object, pack: &Arc<Part>, offset| Part {
            shape: pack.shape,
            home: Home::Pack { pack: pack.clone(), offset },
            ..part(1, object, (3, 6))
        };
        let (old, now) = (pack(1, (3, 6)), pack(2, (1, 3)));
        let mut run = Run::default();
        // Of a pack also what is under a customer's key moves: nothing of it is opened.
        let customers =
            |pack| Entry { customer: Some(Customer { md5: [0; 16], salt: [0; 16] }), ..entry(1, member(4, pack, 100)) };
        run.set("a", vec![entry(1, member(3, &old, 0))]);
        run.set("b", vec![customers(&old)]);
        let (done, replaced) = recode(&mut run, vec![renewal(&["a", "b"], 1, (*now).clone())]);
        assert!(done.is_ok());
        assert_eq!(replaced, [[1; 16]; 2]);
        assert_eq!(run.versions("a"), [entry(1, member(3, &now, 0))]);
        assert_eq!(run.versions("b"), [customers(&now)]);
        assert_eq!((run.uses(&[1; 16]), run.uses(&[2; 16]).map(|uses| uses.parts)), (None, Some(2)));
    }
}
