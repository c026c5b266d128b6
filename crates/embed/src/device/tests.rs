//! Show that nothing is made without consent, and that a join that broke off goes on.

use super::*;

fn caps() -> Caps {
    Caps {
        space_bytes: 64 << 20,
        transfer_bytes_per_day: 0,
        only_unmetered: false,
        only_charging: false,
        min_battery_percent: 0,
    }
}

/// A pool at a port where nobody answers.
fn word() -> String {
    word_of([4; 20], [5; 16])
}

fn word_of(operator: [u8; 20], secret: [u8; 16]) -> String {
    use hodei_node::pool::Word;
    use hodei_types::{
        network::{GROUP_KEY_BYTES, NetworkKey},
        transport::{NodeKey, Peer},
    };
    let key = Signer::new(&[3; 32]).node();
    let near = Peer::at(NodeKey(key.0), vec!["127.0.0.1:9".parse().unwrap()]);
    let network = NetworkKey { genesis: [1; 32].into(), group: [2; GROUP_KEY_BYTES] };
    let (name, operator) = ("n".into(), operator.into());
    Word { network, name, operator, secret, door: near.clone(), members: vec![near] }.text().unwrap()
}

fn folder(name: &str) -> String {
    let folder = std::env::temp_dir().join(format!("hodei-embed-{name}-{}", std::process::id()));
    _ = std::fs::remove_dir_all(&folder);
    folder.display().to_string()
}

#[test]
fn without_consent_nothing_is_made() {
    let folder = folder("consent");
    for consent in [Consent { given: false, words: "May it?".into() }, Consent { given: true, words: " ".into() }] {
        let refused = Device::join(folder.clone(), word(), consent, caps(), None);
        assert!(matches!(refused, Err(DeviceFault::NoConsent)));
        assert!(!Path::new(&folder).exists());
    }
}

#[test]
fn what_cannot_be_kept_is_refused_before_anything_is_made() {
    let folder = folder("caps");
    let consent = || Consent { given: true, words: "Yes.".into() };
    let join = |word: String, caps| Device::join(folder.clone(), word, consent(), caps, None);
    assert!(matches!(join("hodeipool1x".into(), caps()), Err(DeviceFault::Word(_))));
    let small = Caps { space_bytes: 1, ..caps() };
    assert!(matches!(join(word(), small), Err(DeviceFault::Caps(_))));
    let huge = Caps { space_bytes: u64::MAX, ..caps() };
    assert!(matches!(join(word(), huge), Err(DeviceFault::Caps(_))));
    let behind = |relays: &[&str]| {
        let relays = relays.iter().map(ToString::to_string).collect();
        Device::join_behind(folder.clone(), word(), consent(), caps(), relays)
    };
    for relays in [&[][..], &["0.0.0.0:4435"], &["203.0.113.9:0"], &["somewhere"], &["203.0.113.9:1"; 9]] {
        assert!(matches!(behind(relays), Err(DeviceFault::Caps(_))), "{relays:?}");
    }
    assert!(!Path::new(&folder).exists());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(Path::new(&folder).join("mine"), "x").unwrap();
    assert!(matches!(join(word(), caps()), Err(DeviceFault::Exists(_))));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_join_that_was_killed_before_it_wrote_anything_down_starts_over() {
    let name = folder("killed");
    let path = Path::new(&name);
    let join = || {
        let consent = Consent { given: true, words: "Yes.".into() };
        Device::join(name.clone(), word(), consent, caps(), None)
    };
    // The folders are made, and the device's file is half written beside its place; or they were being taken back.
    Files::of(&name).home().unwrap();
    std::fs::write(path.join("device.json.new"), "{").unwrap();
    std::fs::write(path.join("lock"), "1\n").unwrap();
    assert!(matches!(join(), Err(DeviceFault::Away(_))), "it asks the pool");
    assert!(Files::of(&name).read().unwrap().is_some());
    // Keys without the device's file are somebody's.
    std::fs::remove_file(path.join("device.json")).unwrap();
    let key = std::fs::read(path.join("keys/node.key")).unwrap();
    assert!(matches!(join(), Err(DeviceFault::Exists(_))));
    assert_eq!(std::fs::read(path.join("keys/node.key")).unwrap(), key);
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_pool_that_is_away_is_asked_again_with_the_same_keys() {
    let folder = folder("away");
    let join = || {
        let consent = Consent { given: true, words: "Yes.".into() };
        Device::join(folder.clone(), word(), consent, caps(), None)
    };
    assert!(matches!(join(), Err(DeviceFault::Away(_))));
    let key = std::fs::read(Path::new(&folder).join("keys/node.key")).unwrap();
    assert!(matches!(Device::open(folder.clone()), Err(DeviceFault::NotJoined(_))));
    assert!(matches!(join(), Err(DeviceFault::Away(_))));
    assert_eq!(std::fs::read(Path::new(&folder).join("keys/node.key")).unwrap(), key);
    // By then it is known how it is reached: the later word counts.
    let relay = "203.0.113.9:4435";
    let consent = Consent { given: true, words: "Yes.".into() };
    let behind = Device::join_behind(folder.clone(), word(), consent, caps(), vec![relay.into()]);
    assert!(matches!(behind, Err(DeviceFault::Away(_))));
    let kept = Files::of(&folder).read().unwrap().unwrap();
    assert_eq!(kept.relays, [relay.parse::<SocketAddr>().unwrap()]);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_join_that_broke_off_goes_on_with_the_pools_new_word_and_the_same_keys() {
    let folder = folder("renewed");
    let join = |word: String| {
        let consent = Consent { given: true, words: "Yes.".into() };
        Device::join(folder.clone(), word, consent, caps(), None)
    };
    assert!(matches!(join(word()), Err(DeviceFault::Away(_))));
    let key = || std::fs::read(Path::new(&folder).join("keys/node.key")).unwrap();
    let (before, first) = (key(), Files::of(&folder).read().unwrap().unwrap());
    let renewed = word_of([4; 20], [6; 16]);
    assert!(matches!(join(renewed.clone()), Err(DeviceFault::Away(_))));
    let kept = Files::of(&folder).read().unwrap().unwrap();
    assert_eq!((kept.word.as_str(), &kept.zone, kept.port), (renewed.as_str(), &first.zone, first.port));
    assert_eq!(key(), before);
    // Another publisher's word changes nothing.
    let refused = join(word_of([9; 20], [6; 16])).err().unwrap();
    assert!(matches!(&refused, DeviceFault::OtherPool(_)), "{refused}");
    assert_eq!((key(), Files::of(&folder).read().unwrap().unwrap()), (before, kept));
    std::fs::remove_dir_all(&folder).unwrap();
}
