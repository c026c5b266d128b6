//! Try keys: whose they are, what they may, and when they end.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("hodei-keys-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("s3-keys.json")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn anna() -> Principal {
    Principal {
        id: "anna".into(),
        name: "Anna".into(),
        email: "anna@example.org".into(),
        tenant: String::new(),
        quota: None,
    }
}

fn key(id: &str) -> Key {
    Key {
        access_key_id: id.into(),
        secret_access_key: "s".repeat(40),
        user: "anna".into(),
        created_ms: 1,
        disabled: false,
        until_ms: None,
        scope: Scope::default(),
    }
}

fn add(ring: &Keyring, key: Key) -> Result<(), KeysError> {
    ring.change(|keys| {
        keys.user(anna())?;
        keys.keys.push(key);
        Ok(())
    })
}

#[test]
fn keys_come_and_go_without_a_restart() {
    let scratch = Scratch::new("live");
    let serving = Keyring::open(scratch.file()).unwrap();
    assert!(serving.held("K1", 0).is_none());
    let editing = Keyring::open(scratch.file()).unwrap();
    add(&editing, key("K1")).unwrap();
    assert_eq!(serving.held("K1", 0).unwrap().principal.name, "Anna");
    assert_eq!(serving.main().unwrap().id, "anna");
    assert_eq!(serving.by_email("ANNA@example.org").unwrap().id, "anna");
    assert!(serving.by_email("").is_none());
    editing
        .change(|keys| {
            keys.keys[0].until_ms = Some(100);
            Ok(())
        })
        .unwrap();
    assert!(serving.held("K1", 99).is_some() && serving.held("K1", 100).is_none());
    editing
        .change(|keys| {
            keys.keys[0].disabled = true;
            Ok(())
        })
        .unwrap();
    assert!(serving.held("K1", 0).is_none());
    assert_eq!(std::fs::metadata(scratch.file()).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_file_others_may_read_is_refused() {
    let scratch = Scratch::new("mode");
    let ring = Keyring::open(scratch.file()).unwrap();
    add(&ring, key("K1")).unwrap();
    std::fs::set_permissions(scratch.file(), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Keyring::open(scratch.file()).err(), Some(KeysError::Open { found: 0o640, .. })));
}

#[test]
fn what_is_wrong_is_not_written() {
    let scratch = Scratch::new("wrong");
    let ring = Keyring::open(scratch.file()).unwrap();
    add(&ring, key("K1")).unwrap();
    let before = std::fs::read(scratch.file()).unwrap();
    for wrong in [
        key("K1"),
        key("k-1"),
        key(""),
        Key { secret_access_key: "short".into(), ..key("K2") },
        Key { user: "nobody".into(), ..key("K2") },
    ] {
        assert!(matches!(add(&ring, wrong), Err(KeysError::Refused(_))));
    }
    assert_eq!(std::fs::read(scratch.file()).unwrap(), before);
}

#[test]
fn a_broken_file_keeps_who_was_in() {
    let scratch = Scratch::new("broken");
    let ring = Keyring::open(scratch.file()).unwrap();
    add(&ring, key("K1")).unwrap();
    assert!(ring.held("K1", 0).is_some());
    std::fs::write(scratch.file(), b"{").unwrap();
    assert!(ring.held("K1", 0).is_some(), "the last good state holds");
    assert!(matches!(Keyring::open(scratch.file()).err(), Some(KeysError::Shape { .. })));
}
