//! Change a bucket's index in one step, which nobody sees half done.
//!
//! A change is judged on the run that is swapped in, so two writers agree whichever comes first: what the bucket's
//! versioning is set to, which conditions hold, and which locks.
//!
//! Upon a put: without versioning the one version, which has no id, is replaced; with it a version is added;
//! while it is suspended the version without an id is replaced. Upon a removal that names no version, the same
//! with a delete marker, where the bucket ever had versions. A removal that names one takes it out.

mod renew;

pub(crate) use renew::Renewal;

use crate::{
    condition::Condition,
    fault::Fault,
    retain::{Rule, bound_ms},
    share::{self, Share},
};
use hodei_storage::index::{
    Entry, Home, Lock, Part, Retention, Run, SETTINGS_MAX, Settings, Touched, Version, check_setting, is_reserved,
};
use renew::renew;
use std::{collections::BTreeMap, sync::Arc};

/// The settings that this room itself acts on.
pub const VERSIONING: &str = "versioning";
pub const OBJECT_LOCK: &str = "object-lock";
/// When the bucket was made, in milliseconds since 1970.
pub const CREATED: &str = "created";

/// What a bucket does with what is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versioning {
    /// Never enabled: a key has one version, without an id.
    #[default]
    Off,
    Enabled,
    Suspended,
}

impl Versioning {
    pub fn of(settings: &Settings) -> Self {
        match settings.get(VERSIONING).map(String::as_str) {
            Some("Enabled") => Self::Enabled,
            Some(_) => Self::Suspended,
            None => Self::Off,
        }
    }
}

/// What a removal asks for.
#[derive(Clone, Debug, Default)]
pub struct Removal {
    pub version: Option<Version>,
    pub condition: Condition,
    /// Whoever asks may end governance early.
    pub bypass: bool,
    /// Of the delete marker, if one is made.
    pub owner: Option<String>,
}

/// What can be changed of a version without storing it again.
#[derive(Clone, Debug)]
pub enum Edit {
    Tags(BTreeMap<String, String>),
    Acl(Option<String>),
    Retention { retention: Option<Retention>, bypass: bool },
    Hold(bool),
}

/// Gives a setting's new document of its old one.
pub type Amendment = Arc<dyn Fn(Option<&str>) -> Result<Option<String>, Fault> + Send + Sync>;

/// One change of a bucket's index.
#[derive(Clone)]
pub(crate) enum Change {
    /// `source` is the version whose parts it shares: they are kept only while something names them.
    Put {
        key: String,
        entry: Box<Entry>,
        condition: Condition,
        source: Option<(String, Version)>,
    },
    Remove {
        key: String,
        removal: Removal,
    },
    Edit {
        key: String,
        version: Option<Version>,
        edit: Edit,
    },
    Set {
        documents: Vec<(String, Option<String>)>,
    },
    Amend {
        name: String,
        edit: Amendment,
    },
    /// Lists a link to versions of keys, and keeps what it tells of until it ends.
    Share {
        told: Arc<Vec<(String, Entry)>>,
        share: Share,
    },
    /// Members of packs lie elsewhere from now on.
    Move(Moved),
    /// Names parts that were stored again, in all versions of the keys that still name the old ones.
    Recode {
        renewals: Vec<Renewal>,
    },
    /// Changes nothing: all of the index is written anew.
    Rewrite,
    /// Ends the bucket, if it is empty.
    End,
}

/// Members that were laid into other packs as they are.
#[derive(Clone)]
pub(crate) struct Moved {
    /// What may name them.
    pub(crate) keys: Vec<String>,
    /// By their ids: the pack each was in, and where it is.
    pub(crate) members: Arc<BTreeMap<[u8; 16], ([u8; 16], Home)>>,
}

impl Change {
    /// Notes what it may change of an index.
    pub(crate) fn touch(&self, touched: &mut Touched) {
        match self {
            Self::Put { key, .. } | Self::Remove { key, .. } | Self::Edit { key, .. } => {
                touched.keys.insert(key.clone());
            }
            Self::Move(moved) => touched.keys.extend(moved.keys.iter().cloned()),
            Self::Set { .. } | Self::Amend { .. } => touched.settings = true,
            Self::Share { told, share } => {
                touched.settings = true;
                touched.keys.extend(share.pin_keys(told.len()));
            }
            Self::Recode { renewals } => {
                touched.keys.extend(renewals.iter().flat_map(|renewal| renewal.keys.iter().cloned()));
            }
            Self::Rewrite | Self::End => {}
        }
    }
}

/// When a change was asked for, and what makes its version's id its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now_ms: u64,
    pub(crate) random: [u8; 8],
}

/// What a change did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The version that was made, removed or changed.
    pub version: Version,
    /// It is a delete marker.
    pub marker: bool,
    /// Of the bucket, at that moment.
    pub versioning: Versioning,
}

/// Applies a change; what it takes out of the run goes to `replaced`.
pub(crate) fn apply(run: &mut Run, change: &Change, moment: Moment, replaced: &mut Vec<Entry>) -> Result<Done, Fault> {
    let done = apply_to(run, change, moment, replaced)?;
    Ok(Done { versioning: Versioning::of(&run.settings), ..done })
}

fn apply_to(run: &mut Run, change: &Change, moment: Moment, replaced: &mut Vec<Entry>) -> Result<Done, Fault> {
    let bucket = run.bucket.clone();
    match change {
        Change::Put { key, entry, condition, source } => {
            condition.judge(run.newest(key), &bucket, key)?;
            let mut entry = (**entry).clone();
            if let Some((from, version)) = source {
                name_again(run, from, *version, &mut entry)?;
            }
            match run.settings.get(OBJECT_LOCK) {
                None if entry.lock.is_some() => {
                    return Err(Fault::Setting("versions can be locked only in a bucket with object lock"));
                }
                None => {}
                Some(rule) => retain(&mut entry, rule.parse()?, moment.now_ms),
            }
            add(run, key, entry, moment, replaced)
        }
        Change::Remove { key, .. } if is_reserved(key) => Err(missing(run, key, None)),
        Change::Remove { key, removal } => match removal.version {
            Some(version) => remove(run, key, version, removal, moment, replaced),
            None => hide(run, key, removal, moment, replaced),
        },
        Change::Edit { key, version, edit } => change_entry(run, key, *version, edit, moment.now_ms),
        Change::Set { documents } => set_all(run, documents),
        Change::Amend { name, edit } => {
            let document = edit(run.settings.get(name).map(String::as_str))?;
            set_all(run, &[(name.clone(), document)])
        }
        Change::Share { told, share } => list(run, told, share),
        Change::Move(moved) => relocate(run, moved, moment.now_ms, replaced),
        Change::Recode { renewals } => renew(run, renewals, moment.now_ms, replaced),
        Change::Rewrite => Ok(Done::default()),
        Change::End if run.is_empty() => Ok(Done::default()),
        Change::End => Err(Fault::NotEmpty(bucket)),
    }
}

pub(crate) fn missing(run: &Run, key: &str, version: Option<Version>) -> Fault {
    let (bucket, key) = (run.bucket.clone(), key.to_owned());
    match version {
        Some(version) => Fault::NoVersion { bucket, key, version },
        None => Fault::NoObject { bucket, key },
    }
}

fn locked(run: &Run, key: &str, version: Version) -> Fault {
    Fault::Locked { bucket: run.bucket.clone(), key: key.into(), version }
}

/// Refuses to share parts that nothing names any more: they may be gone. They are shared where they are now, and as
/// they are now where they were stored again meanwhile, unless they are under a customer's key.
fn name_again(run: &Run, from: &str, version: Version, entry: &mut Entry) -> Result<(), Fault> {
    let source = run.version(from, version).ok_or_else(|| missing(run, from, Some(version)))?;
    let is_plain = source.customer.is_none() && entry.customer.is_none();
    let is_again =
        |a: &Part, b: &Part| is_plain && (a.number, a.size_bytes, a.content) == (b.number, b.size_bytes, b.content);
    let is_same = source.parts.len() == entry.parts.len()
        && source.parts.iter().zip(&entry.parts).all(|(a, b)| a.object == b.object || is_again(a, b));
    if !is_same {
        return Err(missing(run, from, Some(version)));
    }
    for (part, now) in entry.parts.iter_mut().zip(&source.parts) {
        if part.object == now.object {
            (part.shape, part.home) = (now.shape, now.home.clone());
        } else {
            *part = now.clone();
        }
    }
    Ok(())
}

/// A link is made only to what is named where it says, by then.
fn list(run: &mut Run, told: &[(String, Entry)], share: &Share) -> Result<Done, Fault> {
    for (key, told) in told {
        let source = run.version(key, told.version).ok_or_else(|| missing(run, key, Some(told.version)))?;
        if source.parts != told.parts {
            return Err(Fault::Contended);
        }
    }
    share::list(run, share)?;
    for (pin, (_, told)) in share.pin_keys(told.len()).zip(told) {
        let kept = Entry { modified_ms: told.modified_ms, parts: told.parts.clone(), ..Entry::default() };
        run.pin(&pin, Some(kept));
    }
    let version = told.first().map(|(_, told)| told.version).unwrap_or_default();
    Ok(Done { version, ..Done::default() })
}

/// Changes where members are; refused if by now nothing names any of them there.
fn relocate(run: &mut Run, moved: &Moved, now_ms: u64, replaced: &mut Vec<Entry>) -> Result<Done, Fault> {
    let mut is_any = false;
    for key in &moved.keys {
        let mut versions = run.versions(key).to_vec();
        let mut is_changed = false;
        // What is bound is found where its providers keep it.
        for entry in versions.iter_mut().filter(|entry| bound_ms(entry, now_ms).is_none()) {
            let before = entry.clone();
            let mut changes = false;
            for part in &mut entry.parts {
                let Some((from, home)) = moved.members.get(&part.object) else { continue };
                if part.stored().object == *from && *home != part.home {
                    part.home = home.clone();
                    part.shape = part.stored().shape;
                    changes = true;
                }
            }
            if changes {
                replaced.push(before);
                is_changed = true;
            }
        }
        if is_changed {
            run.set(key, versions);
            is_any = true;
        }
    }
    if is_any { Ok(Done::default()) } else { Err(missing(run, moved.keys.first().map_or("", String::as_str), None)) }
}

/// The bucket's retention, where the putter asked for none.
fn retain(entry: &mut Entry, rule: Rule, now_ms: u64) {
    if entry.lock.is_none_or(|lock| lock.retention.is_none())
        && let Some(retention) = rule.retention(now_ms)
    {
        entry.lock = Some(Lock { retention: Some(retention), ..entry.lock.unwrap_or_default() });
    }
}

/// Makes an entry the newest version of its key.
fn add(run: &mut Run, key: &str, mut entry: Entry, moment: Moment, replaced: &mut Vec<Entry>) -> Result<Done, Fault> {
    let is_enabled = Versioning::of(&run.settings) == Versioning::Enabled;
    let versions = run.versions(key);
    if is_enabled {
        let ids = versions.iter().map(|entry| entry.version);
        let newest = ids.into_iter().find(|version| *version != Version::Null).unwrap_or_default();
        entry.version = Version::after(newest, moment.now_ms, moment.random);
    } else {
        let null = versions.iter().find(|entry| entry.version == Version::Null);
        if null.and_then(|entry| entry.lock).is_some_and(|lock| !lock.is_open(moment.now_ms, false)) {
            return Err(locked(run, key, Version::Null));
        }
        entry.version = Version::Null;
    }
    let done = Done { version: entry.version, marker: entry.marker, ..Done::default() };
    let mut versions = versions.to_vec();
    if !is_enabled {
        replaced.extend(versions.extract_if(.., |entry| entry.version == Version::Null));
    }
    versions.insert(0, entry);
    run.set(key, versions);
    Ok(done)
}

/// Removes a key as a whole: for good where there never were versions, behind a marker elsewhere.
fn hide(run: &mut Run, key: &str, removal: &Removal, moment: Moment, replaced: &mut Vec<Entry>) -> Result<Done, Fault> {
    let first = run.versions(key).first();
    if first.is_none() && !removal.condition.is_empty() {
        return Err(missing(run, key, None));
    }
    removal.condition.judge(first, &run.bucket, key)?;
    if Versioning::of(&run.settings) == Versioning::Off {
        first.ok_or_else(|| missing(run, key, None))?;
        // Of a bucket that had versions, and whose settings were lost.
        let is_shut = |entry: &&Entry| entry.lock.is_some_and(|lock| !lock.is_open(moment.now_ms, removal.bypass));
        if let Some(version) = run.versions(key).iter().find(is_shut).map(|entry| entry.version) {
            return Err(locked(run, key, version));
        }
        replaced.extend_from_slice(run.versions(key));
        run.set(key, Vec::new());
        return Ok(Done::default());
    }
    let owner = removal.owner.clone();
    let marker = Entry { modified_ms: moment.now_ms, marker: true, owner, ..Entry::default() };
    add(run, key, marker, moment, replaced)
}

/// Takes out one version; what was put before it is then the newest.
fn remove(
    run: &mut Run,
    key: &str,
    version: Version,
    removal: &Removal,
    moment: Moment,
    replaced: &mut Vec<Entry>,
) -> Result<Done, Fault> {
    let versions = run.versions(key);
    let at = versions.iter().position(|entry| entry.version == version);
    let at = at.ok_or_else(|| missing(run, key, Some(version)))?;
    removal.condition.judge(Some(&versions[at]), &run.bucket, key)?;
    if versions[at].lock.is_some_and(|lock| !lock.is_open(moment.now_ms, removal.bypass)) {
        return Err(locked(run, key, version));
    }
    let mut versions = versions.to_vec();
    let entry = versions.remove(at);
    run.set(key, versions);
    let done = Done { version, marker: entry.marker, ..Done::default() };
    replaced.push(entry);
    Ok(done)
}

fn change_entry(run: &mut Run, key: &str, version: Option<Version>, edit: &Edit, now_ms: u64) -> Result<Done, Fault> {
    let is_lockable = run.settings.contains_key(OBJECT_LOCK);
    let versions = run.versions(key);
    let at = match version {
        Some(version) => versions.iter().position(|entry| entry.version == version),
        None => versions.first().filter(|entry| !entry.marker).map(|_| 0),
    };
    let at = at.ok_or_else(|| missing(run, key, version))?;
    let mut next = versions[at].clone();
    if next.marker {
        return Err(Fault::Marker { bucket: run.bucket.clone(), key: key.into(), version: next.version });
    }
    if matches!(edit, Edit::Retention { .. } | Edit::Hold(_)) && !is_lockable {
        return Err(Fault::Setting("versions can be locked only in a bucket with object lock"));
    }
    match edit {
        Edit::Tags(tags) => next.tags = tags.clone(),
        Edit::Acl(acl) => next.acl = acl.clone(),
        Edit::Hold(is_on) => next.lock = Some(Lock { hold: Some(*is_on), ..next.lock.unwrap_or_default() }),
        Edit::Retention { retention, bypass } => {
            let lock = next.lock.unwrap_or_default();
            if !lock.allows(*retention, now_ms, *bypass) {
                return Err(locked(run, key, next.version));
            }
            let lock = Lock { retention: *retention, ..lock };
            next.lock = Some(lock).filter(|lock| *lock != Lock::default());
        }
    }
    next.check().map_err(|error| Fault::Index(error.to_string()))?;
    let done = Done { version: next.version, ..Done::default() };
    let mut versions = versions.to_vec();
    versions[at] = next;
    run.set(key, versions);
    Ok(done)
}

/// All of them or none.
pub(crate) fn set_all(run: &mut Run, documents: &[(String, Option<String>)]) -> Result<Done, Fault> {
    let before = run.settings.clone();
    for (name, document) in documents {
        if let Err(error) = set(run, name, document.as_deref()) {
            run.settings = before;
            return Err(error);
        }
    }
    Ok(Done::default())
}

/// Sets or removes a document. What versions and locks promise is not taken back.
fn set(run: &mut Run, name: &str, document: Option<&str>) -> Result<(), Fault> {
    check_setting(name, document.unwrap_or("")).map_err(|error| Fault::Index(error.to_string()))?;
    let has_lock = run.settings.contains_key(OBJECT_LOCK);
    match (name, document) {
        (VERSIONING, None) if run.settings.contains_key(VERSIONING) => {
            return Err(Fault::Setting("versioning, once enabled, can be suspended and not undone"));
        }
        (VERSIONING, Some("Suspended")) if has_lock => {
            return Err(Fault::Setting("versioning cannot be suspended in a bucket with object lock"));
        }
        (VERSIONING, Some("Enabled" | "Suspended") | None) => {}
        (VERSIONING, Some(_)) => return Err(Fault::Setting("versioning is Enabled or Suspended")),
        (OBJECT_LOCK, None) if has_lock => {
            return Err(Fault::Setting("object lock, once enabled, cannot be undone"));
        }
        (OBJECT_LOCK, Some(rule)) => {
            rule.parse::<Rule>()?;
            if Versioning::of(&run.settings) != Versioning::Enabled {
                return Err(Fault::Setting("object lock needs versioning to be enabled"));
            }
        }
        _ => {}
    }
    let settings = Arc::make_mut(&mut run.settings);
    match document {
        Some(_) if settings.len() >= SETTINGS_MAX && !settings.contains_key(name) => {
            return Err(Fault::Setting("a bucket has at most 32 settings"));
        }
        Some(document) => {
            settings.insert(name.into(), document.into());
        }
        None => {
            settings.remove(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
