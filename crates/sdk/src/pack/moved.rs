//! Move members of packs to others, as they are sealed.

use super::{Filled, Lodging, fill};
use crate::{
    bucket::Record,
    change::{Change, Moved},
    cloud::{Cloud, Runtime},
    fault::Fault,
    intent::End,
    retain::bound_ms,
};
use hodei_storage::{
    engine::Fill,
    index::{Entry, Home, Part, Run},
};
use hodei_types::transport::Transport;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

/// A member as it lies in a pack.
pub(super) struct Member {
    pub(super) object: [u8; 16],
    pub(super) pack: Arc<Part>,
    pub(super) offset: u64,
    pub(super) sealed_bytes: u64,
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// The entries of these keys once their parts share packs with each other alone.
    pub(crate) async fn unpack(
        &self,
        record: &Record,
        named: Vec<(String, Entry)>,
    ) -> Result<Vec<(String, Entry)>, Fault> {
        let (keys, members) = shared(&named, self.now_ms());
        if members.is_empty() {
            return Ok(named);
        }
        self.relocate(record, keys, members).await?;
        let mut now = Vec::with_capacity(named.len());
        for (key, entry) in named {
            let missing = || Fault::NoObject { bucket: record.name.clone(), key: key.clone() };
            let entry = self.look(&record.name, &key, Some(entry.version)).await?.ok_or_else(missing)?;
            now.push((key, entry));
        }
        Ok(now)
    }

    /// Writes anew what is live of packs.
    pub(crate) async fn repack(&self, record: &Record, run: &Run, packs: &BTreeSet<[u8; 16]>) -> Result<(), Fault> {
        let packs = &unbound(run, packs, self.now_ms());
        if packs.is_empty() {
            return Ok(());
        }
        let (keys, members) = live(run, packs);
        tracing::info!(bucket = record.name, packs = packs.len(), members = members.len(), "packs are written anew");
        self.relocate(record, keys, members).await
    }

    /// Lays members into new packs and says so in the index.
    async fn relocate(&self, record: &Record, keys: Vec<String>, members: Vec<Member>) -> Result<(), Fault> {
        let holders = self.holders(record).await?;
        let (network, secret) = (self.0.network.0, self.secret(record.id));
        let packs: BTreeMap<[u8; 16], &Arc<Part>> =
            members.iter().map(|member| (member.pack.object, &member.pack)).collect();
        let mut olds = BTreeMap::new();
        for (object, pack) in packs {
            let key = pack.key(&network, &record.id.0, &secret).map_err(|error| Fault::Index(error.to_string()))?;
            olds.insert(object, self.read_pack(&holders, pack, key).await?);
        }
        let (mut moved, mut sent) = (BTreeMap::new(), Vec::new());
        for Filled { packer, places } in lay(&members, &olds)? {
            // It makes room.
            let (pack, _, lodging) = self.send_pack(record, packer, Fill::Index).await?;
            lodging.journal.end(End::Unknown { since_ms: self.now_ms() }).await;
            moved.extend(homes(&pack, places));
            sent.push((pack, lodging));
        }
        let change = Change::Move(Moved { keys, members: Arc::new(moved) });
        match self.change(&record.name, Some(change)).await {
            Ok(_) => self.settle_moved(record, sent).await,
            Err(error) => {
                if error.is_final() {
                    for (_, lodging) in &sent {
                        lodging.journal.end(End::Lost).await;
                    }
                }
                match error {
                    // By now nothing names any of them: whoever removed them lets go of their packs.
                    Fault::NoObject { .. } => Ok(()),
                    error => Err(error),
                }
            }
        }
    }

    /// Forgets the journals of new packs that are named. Of one whose members were all removed meanwhile the journal
    /// stays, until it is sure.
    async fn settle_moved(&self, record: &Record, sent: Vec<(Arc<Part>, Lodging<E>)>) -> Result<(), Fault> {
        let now = self.run(&self.live(&record.name).await?).await?;
        for (pack, lodging) in sent {
            if now.uses(&pack.object).is_some() {
                lodging.journal.finish(&self.0.context).await;
                self.let_go(lodging);
            }
        }
        Ok(())
    }
}

/// Members of these that lie in packs beside others', each once, and the keys that name them. What is bound keeps its
/// pack.
pub(super) fn shared(named: &[(String, Entry)], now_ms: u64) -> (Vec<String>, Vec<Member>) {
    let free: Vec<&(String, Entry)> = named.iter().filter(|(_, entry)| bound_ms(entry, now_ms).is_none()).collect();
    let (mut ours, mut seen) = (BTreeMap::<[u8; 16], u64>::new(), BTreeSet::new());
    for member in members(free.iter().map(|(_, entry)| entry)).filter(|member| seen.insert(member.object)) {
        *ours.entry(member.pack.object).or_default() += member.sealed_bytes;
    }
    let is_shared = |member: &Member| ours.get(&member.pack.object).is_some_and(|own| *own < member.pack.size_bytes);
    let (mut keys, mut found) = (Vec::new(), BTreeMap::new());
    for (key, entry) in free {
        let mut is_any = false;
        for member in members(std::iter::once(entry)).filter(&is_shared) {
            is_any = true;
            found.entry(member.object).or_insert(member);
        }
        if is_any {
            keys.push(key.clone());
        }
    }
    (keys, found.into_values().collect())
}

/// Those of which nothing is bound: the others stay, however sparse.
fn unbound(run: &Run, packs: &BTreeSet<[u8; 16]>, now_ms: u64) -> BTreeSet<[u8; 16]> {
    let bound = run.all().filter(|entry| bound_ms(entry, now_ms).is_some());
    let bound: BTreeSet<[u8; 16]> = members(bound).map(|member| member.pack.object).collect();
    packs.difference(&bound).copied().collect()
}

/// What is named of packs: under which keys, and each member once.
pub(super) fn live(run: &Run, packs: &BTreeSet<[u8; 16]>) -> (Vec<String>, Vec<Member>) {
    let (mut keys, mut live) = (Vec::new(), BTreeMap::new());
    for (key, versions) in run.range(Bound::Unbounded) {
        let mut is_in = false;
        for member in members(versions.iter()).filter(|member| packs.contains(&member.pack.object)) {
            live.entry(member.object).or_insert(member);
            is_in = true;
        }
        if is_in {
            keys.push(key.to_owned());
        }
    }
    (keys, live.into_values().collect())
}

/// Cuts members out of their packs' bytes and fills new ones.
pub(super) fn lay<'a>(
    members: &'a [Member],
    olds: &BTreeMap<[u8; 16], Vec<u8>>,
) -> Result<Vec<Filled<&'a Member>>, Fault> {
    let cut = members.iter().map(|member| {
        let from = member.offset as usize;
        let sealed = olds.get(&member.pack.object).and_then(|old| old.get(from..from + member.sealed_bytes as usize));
        Ok((member, sealed.ok_or_else(|| Fault::Index("a pack is shorter than its members".into()))?))
    });
    Ok(fill(cut.collect::<Result<Vec<_>, Fault>>()?))
}

/// What the index is told of a new pack: by member, the pack it was in, and where it is.
pub(super) fn homes<'a>(
    pack: &'a Arc<Part>,
    places: Vec<(&'a Member, u64)>,
) -> impl Iterator<Item = ([u8; 16], ([u8; 16], Home))> + 'a {
    places
        .into_iter()
        .map(|(member, offset)| (member.object, (member.pack.object, Home::Pack { pack: pack.clone(), offset })))
}

/// Members among the parts of entries.
pub(super) fn members<'a>(entries: impl Iterator<Item = &'a Entry>) -> impl Iterator<Item = Member> {
    entries.flat_map(|entry| &entry.parts).filter_map(|part| match &part.home {
        Home::Own(_) => None,
        Home::Pack { pack, offset } => {
            Some(Member { object: part.object, pack: pack.clone(), offset: *offset, sealed_bytes: part.stored_bytes() })
        }
    })
}
