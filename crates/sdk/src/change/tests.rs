//! Show what changes of an index do, one after the other and whichever writer comes first.

use super::*;
use crate::condition::Tag;
use hodei_storage::index::{Home, Lock, Mode, Part};
use hodei_storage::{
    manifest::PageRef,
    seal::{Algorithm, WRAPPED_BYTES},
};
use hodei_types::{code::Shape, slice::ShardId};

fn part(object: u8) -> Part {
    Part {
        number: 1,
        object: [object; 16],
        wrapped: [0; WRAPPED_BYTES],
        algorithm: Algorithm::Aes256Gcm,
        commitment: [0; 32],
        size_bytes: 3,
        content: [object; 32],
        shape: Shape::new(3, 6, 1).unwrap(),
        home: Home::Own(PageRef { id: ShardId([0; 32]), bytes: 1, stripes: 1, holders: Vec::new() }),
    }
}

/// A bucket, a clock that ticks at each change, and what changes took out.
struct Bucket {
    run: Run,
    now_ms: u64,
    replaced: Vec<Entry>,
}

impl Bucket {
    fn new(settings: &[(&str, &str)]) -> Self {
        let settings: Settings = settings.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        let mut run = Run::new("b");
        run.settings = settings.into();
        Self { run, now_ms: 1_000_000, replaced: Vec::new() }
    }

    fn change(&mut self, change: &Change) -> Result<Done, Fault> {
        self.now_ms += 1;
        let moment = Moment { now_ms: self.now_ms, random: [7; 8] };
        apply(&mut self.run, change, moment, &mut self.replaced)
    }

    fn put_if(&mut self, etag: &str, condition: Condition) -> Result<Version, Fault> {
        let entry = Entry { etag: etag.into(), parts: vec![part(etag.as_bytes()[0])], ..Entry::default() };
        let change = Change::Put { key: "k".into(), entry: Box::new(entry), condition, source: None };
        Ok(self.change(&change)?.version)
    }

    fn put(&mut self, etag: &str) -> Version {
        self.put_if(etag, Condition::default()).unwrap()
    }

    fn remove(&mut self, removal: Removal) -> Result<Done, Fault> {
        self.change(&Change::Remove { key: "k".into(), removal })
    }

    fn set(&mut self, name: &str, text: Option<&str>) -> Result<Done, Fault> {
        self.change(&Change::Set { documents: vec![(name.into(), text.map(Into::into))] })
    }

    /// Etags of all versions, the newest first; a delete marker is a dash.
    fn etags(&self) -> String {
        let versions = self.run.versions("k");
        versions.iter().map(|entry| if entry.marker { "-" } else { entry.etag.as_str() }).collect()
    }
}

fn only(version: Version) -> Removal {
    Removal { version: Some(version), ..Removal::default() }
}

fn matches(etag: &str) -> Condition {
    Condition { matches: Some(Tag::Is(etag.into())), ..Condition::default() }
}

#[test]
fn without_versioning_the_one_version_is_replaced() {
    let mut bucket = Bucket::new(&[]);
    assert_eq!(bucket.put("a"), Version::Null);
    assert_eq!(bucket.put("b"), Version::Null);
    assert_eq!((bucket.etags(), bucket.replaced.len()), ("b".into(), 1));
    assert_eq!(bucket.remove(Removal::default()).unwrap(), Done::default());
    assert!(bucket.run.is_empty());
    assert!(matches!(bucket.remove(Removal::default()), Err(Fault::NoObject { .. })));
}

#[test]
fn versions_pile_up_and_a_marker_hides_them() {
    let mut bucket = Bucket::new(&[]);
    bucket.put("n");
    bucket.set(VERSIONING, Some("Enabled")).unwrap();
    let a = bucket.put("a");
    let b = bucket.put("b");
    assert!(a != b && b != Version::Null);
    assert_eq!((bucket.etags(), bucket.replaced.len()), ("ban".into(), 0));
    let marker = bucket.remove(Removal::default()).unwrap();
    assert!(marker.marker);
    assert!(bucket.run.newest("k").is_none());
    assert_eq!(bucket.etags(), "-ban");
    // Out with the marker, and the newest object is back.
    assert_eq!(bucket.remove(only(marker.version)).unwrap(), marker);
    assert_eq!(bucket.run.newest("k").unwrap().etag, "b");
    bucket.remove(only(b)).unwrap();
    bucket.remove(only(Version::Null)).unwrap();
    assert_eq!(bucket.etags(), "a");
    bucket.remove(only(a)).unwrap();
    assert!(bucket.run.is_empty());
    assert!(matches!(bucket.remove(only(a)), Err(Fault::NoVersion { .. })));
}

#[test]
fn while_suspended_only_the_version_without_an_id_is_replaced() {
    let mut bucket = Bucket::new(&[(VERSIONING, "Enabled")]);
    bucket.put("a");
    bucket.set(VERSIONING, Some("Suspended")).unwrap();
    bucket.put("b");
    bucket.put("c");
    assert_eq!(bucket.etags(), "ca");
    let marker = bucket.remove(Removal::default()).unwrap();
    assert_eq!(marker, Done { version: Version::Null, marker: true, versioning: Versioning::Suspended });
    assert_eq!(bucket.etags(), "-a");
    bucket.put("d");
    assert_eq!(bucket.etags(), "da");
    bucket.set(VERSIONING, Some("Enabled")).unwrap();
    bucket.put("e");
    assert_eq!(bucket.etags(), "eda");
}

#[test]
fn a_put_is_conditional_on_what_is_there_when_it_lands() {
    let mut bucket = Bucket::new(&[(VERSIONING, "Enabled")]);
    assert!(matches!(bucket.put_if("a", matches("x")), Err(Fault::NoObject { .. })));
    bucket.put_if("a", Condition::absent()).unwrap();
    // The second of two that both saw the key free.
    assert!(matches!(bucket.put_if("b", Condition::absent()), Err(Fault::ObjectExists { .. })));
    assert!(matches!(bucket.put_if("b", matches("x")), Err(Fault::Condition { .. })));
    bucket.put_if("b", matches("a")).unwrap();
    let differs = |etag: &str| Condition { differs: Some(Tag::Is(etag.into())), ..Condition::default() };
    assert!(matches!(bucket.put_if("c", differs("b")), Err(Fault::Condition { .. })));
    bucket.put_if("c", differs("a")).unwrap();
    bucket.remove(Removal::default()).unwrap();
    assert!(matches!(bucket.put_if("d", matches("c")), Err(Fault::NoObject { .. })), "behind a marker is none");
    bucket.put_if("d", Condition::absent()).unwrap();
    assert_eq!(bucket.etags(), "d-cba");
}

#[test]
fn a_removal_is_conditional_too() {
    let mut bucket = Bucket::new(&[(VERSIONING, "Enabled")]);
    let when = |condition| Removal { condition, ..Removal::default() };
    assert!(matches!(bucket.remove(when(matches("a"))), Err(Fault::NoObject { .. })));
    assert_eq!(bucket.etags(), "", "no marker where nothing was");
    let a = bucket.put("a");
    let size = |size| Condition { size_bytes: Some(size), ..Condition::default() };
    assert!(matches!(bucket.remove(when(size(4))), Err(Fault::Condition { .. })));
    let removal = Removal { version: Some(a), condition: matches("b"), ..Removal::default() };
    assert!(matches!(bucket.remove(removal), Err(Fault::Condition { .. })));
    bucket.remove(when(size(3))).unwrap();
    assert_eq!(bucket.etags(), "-a");
}

#[test]
fn what_is_locked_stays() {
    let mut bucket = Bucket::new(&[(VERSIONING, "Enabled"), (OBJECT_LOCK, "on governance 1 days")]);
    let a = bucket.put("a");
    let kept = bucket.run.newest("k").unwrap().lock.unwrap().retention.unwrap();
    assert_eq!(kept, Retention { mode: Mode::Governance, until_ms: bucket.now_ms + 24 * 3600 * 1000 });
    assert!(matches!(bucket.remove(only(a)), Err(Fault::Locked { .. })));
    assert!(bucket.remove(Removal::default()).unwrap().marker, "a marker takes nothing away");
    let edit = |edit| Change::Edit { key: "k".into(), version: Some(a), edit };
    let stricter = Some(Retention { mode: Mode::Compliance, until_ms: kept.until_ms });
    let change = edit(Edit::Retention { retention: stricter, bypass: false });
    assert!(matches!(bucket.change(&change), Err(Fault::Locked { .. })));
    bucket.change(&edit(Edit::Retention { retention: stricter, bypass: true })).unwrap();
    let removal = Removal { bypass: true, ..only(a) };
    assert!(matches!(bucket.remove(removal.clone()), Err(Fault::Locked { .. })));
    bucket.now_ms = kept.until_ms;
    bucket.change(&edit(Edit::Hold(true))).unwrap();
    assert!(matches!(bucket.remove(removal.clone()), Err(Fault::Locked { .. })));
    bucket.change(&edit(Edit::Hold(false))).unwrap();
    bucket.remove(removal).unwrap();
    assert_eq!(bucket.etags(), "-");
}

#[test]
fn what_settings_promise_is_not_taken_back() {
    let mut bucket = Bucket::new(&[]);
    assert!(bucket.set(OBJECT_LOCK, Some("on")).is_err(), "without versions");
    assert!(bucket.set(VERSIONING, Some("Perhaps")).is_err());
    let both = vec![(VERSIONING.into(), Some("Enabled".into())), (OBJECT_LOCK.into(), Some("on".into()))];
    bucket.change(&Change::Set { documents: both }).unwrap();
    assert!(bucket.set(VERSIONING, Some("Suspended")).is_err());
    assert!(bucket.set(VERSIONING, None).is_err());
    assert!(bucket.set(OBJECT_LOCK, None).is_err());
    bucket.set("policy", Some("{}")).unwrap();
    let bad = vec![("policy".into(), None), (OBJECT_LOCK.into(), None)];
    assert!(bucket.change(&Change::Set { documents: bad }).is_err());
    assert_eq!(bucket.run.settings["policy"], "{}", "all or nothing");
    assert!(bucket.set("acl", Some(&"x".repeat(20 * 1024 + 1))).is_err());
    for at in 0..SETTINGS_MAX - 3 {
        bucket.set(&at.to_string(), Some("")).unwrap();
    }
    assert!(bucket.set("one more", Some("")).is_err());
    let edit: Amendment = Arc::new(|old| Ok(old.map(|old| format!("{old}!"))));
    bucket.change(&Change::Amend { name: "policy".into(), edit }).unwrap();
    assert_eq!(bucket.run.settings["policy"], "{}!");
    let mut plain = Bucket::new(&[]);
    let entry = Entry { lock: Some(Lock { retention: None, hold: Some(true) }), ..Entry::default() };
    let change = Change::Put { key: "k".into(), entry: Box::new(entry), condition: Condition::default(), source: None };
    assert!(plain.change(&change).is_err(), "a lock that nobody would enforce");
}

#[test]
fn a_copy_shares_only_what_is_still_named() {
    let mut bucket = Bucket::new(&[]);
    bucket.put("a");
    let entry = bucket.run.newest("k").unwrap().clone();
    let copy = |key: &str| Change::Put {
        key: key.into(),
        entry: Box::new(entry.clone()),
        condition: Condition::default(),
        source: Some(("k".into(), Version::Null)),
    };
    bucket.change(&copy("copy")).unwrap();
    bucket.change(&copy("k")).unwrap();
    bucket.put("b");
    // Its parts may be gone: another object has that name now.
    assert!(matches!(bucket.change(&copy("late")), Err(Fault::NoVersion { .. })));
    bucket.remove(Removal::default()).unwrap();
    assert!(matches!(bucket.change(&copy("late")), Err(Fault::NoVersion { .. })));
    assert_eq!(bucket.run.newest("copy").unwrap().parts, entry.parts);
}

#[test]
fn tags_and_access_change_in_place() {
    let mut bucket = Bucket::new(&[(VERSIONING, "Enabled")]);
    let a = bucket.put("a");
    let modified_ms = bucket.run.newest("k").unwrap().modified_ms;
    bucket.put("b");
    let edit = |version, edit| Change::Edit { key: "k".into(), version, edit };
    let tags: BTreeMap<_, _> = [("t".to_string(), "v".to_string())].into();
    bucket.change(&edit(Some(a), Edit::Tags(tags.clone()))).unwrap();
    bucket.change(&edit(None, Edit::Acl(Some("acl".into())))).unwrap();
    let versions = bucket.run.versions("k");
    assert_eq!((versions[0].acl.as_deref(), &versions[1].tags), (Some("acl"), &tags));
    assert_eq!(versions[1].modified_ms, modified_ms);
    let marker = bucket.remove(Removal::default()).unwrap().version;
    assert!(matches!(bucket.change(&edit(None, Edit::Acl(None))), Err(Fault::NoObject { .. })));
    assert!(matches!(bucket.change(&edit(Some(marker), Edit::Acl(None))), Err(Fault::Marker { .. })));
}
