//! Make an app's device a part of its publisher's pool.

use crate::{
    caps::{Caps, Conditions},
    fault::DeviceFault,
    files::{Files, KEEP_FREE_BYTES, Kept, Phase, disk_bytes, free_port},
    minder::now_s,
    process::{Ear, Process, Shared, ask_once, lock},
    state::{DeviceState, Leaving, Redeemed},
};
use hodei_node::{
    Network,
    config::is_nameable,
    disk,
    keys::Keys,
    pool::{Answer, Reason, Request, Word},
};
use hodei_types::{
    abi::{ADDRESSES_MAX, operator_consent},
    ack::Signer,
};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

const VERSION: u32 = 1;
/// The pool answered within this: the device is online.
const ONLINE_FOR: Duration = Duration::from_secs(60);
/// Times a pool that is busy with this device is asked again.
const TRIES: u32 = 10;
/// Times a pool that did not answer is asked again.
const AGAIN_MAX: u32 = 2;
const CONSENT_BYTES_MAX: usize = 64 << 10;

/// What the user was asked, and answered.
#[derive(Clone, Debug, uniffi::Record)]
pub struct Consent {
    pub given: bool,
    /// The words that were agreed to; kept in the device's folder with the time.
    pub words: String,
}

/// A device that joined a pool. Its keys are in its folder and never shown.
#[derive(uniffi::Object)]
pub struct Device {
    files: Files,
    word: Word,
    shared: Arc<Shared>,
    process: Mutex<Option<Process>>,
}

#[uniffi::export]
impl Device {
    /// Joins a pool: makes keys in `folder`, which must be empty or absent, and has the publisher register the device.
    /// `address` is `IP:PORT` where others reach it, if the app knows better than the device. Without consent nothing
    /// is made. When the pool could not be reached, or the app was killed before it answered, the same call goes on with
    /// the same keys; so it does with a new word of the same pool, once its publisher changed the word.
    #[uniffi::constructor]
    pub fn join(
        folder: String,
        word: String,
        consent: Consent,
        caps: Caps,
        address: Option<String>,
    ) -> Result<Arc<Self>, DeviceFault> {
        Self::join_at(folder, word, consent, caps, address, Vec::new())
    }

    /// The same for a device that nobody reaches from outside, as behind a household's router: others reach it through
    /// these relays of the network, one to eight, each `IP:PORT`. It keeps a connection to one of them.
    #[uniffi::constructor]
    pub fn join_behind(
        folder: String,
        word: String,
        consent: Consent,
        caps: Caps,
        relays: Vec<String>,
    ) -> Result<Arc<Self>, DeviceFault> {
        if relays.is_empty() || relays.len() > ADDRESSES_MAX {
            return Err(DeviceFault::Caps(format!("expected one to {ADDRESSES_MAX} relays, found {}", relays.len())));
        }
        Self::join_at(folder, word, consent, caps, None, relays)
    }

    /// Opens the folder of a device that joined before. Starts nothing.
    #[uniffi::constructor]
    pub fn open(folder: String) -> Result<Arc<Self>, DeviceFault> {
        let files = Files::of(&folder);
        let kept = files.read()?.filter(|kept| kept.phase != Phase::Joining);
        let kept = kept.ok_or(DeviceFault::NotJoined(folder))?;
        let word = Word::parse(&kept.word)?;
        let shared = Arc::new(Shared::default());
        *lock(&shared.caps) = Some(kept.caps);
        Ok(Arc::new(Self { files, word, shared, process: Mutex::default() }))
    }

    /// Starts serving; returns when others can reach it. Started already, it does nothing.
    pub fn start(&self) -> Result<(), DeviceFault> {
        let mut process = lock(&self.process);
        if process.as_ref().is_some_and(Process::is_running) {
            return Ok(());
        }
        let kept = self.kept()?;
        if kept.phase == Phase::Left {
            return Err(DeviceFault::Left);
        }
        *process = None;
        *process = Some(Process::start(&self.files, &kept, self.word.clone(), self.shared.clone())?);
        Ok(())
    }

    /// Stops serving; what was acknowledged is on disk. A device that is away misses proofs, which costs collateral.
    pub fn stop(&self) {
        *lock(&self.process) = None;
    }

    /// How the device stands.
    pub fn state(&self) -> Result<DeviceState, DeviceFault> {
        let kept = self.kept()?;
        let running = lock(&self.process).as_ref().is_some_and(Process::is_running);
        let live = lock(&self.shared.live).clone();
        let online = running && live.answered.is_some_and(|at| at.elapsed() < ONLINE_FOR);
        let home = self.files.home()?;
        let keys = Keys::open(&home)?;
        let mut state = DeviceState {
            key: Signer::new(keys.node.bytes()).node().to_string(),
            running,
            online,
            pledged_bytes: kept.caps.space_bytes,
            held_bytes: live.held_bytes,
            folder_bytes: disk_bytes(self.files.path()),
            disk_free_bytes: disk::free_bytes(self.files.path()).unwrap_or(0),
            carried_today_bytes: live.today_bytes,
            ..DeviceState::default()
        };
        if let Some(standing) = &live.standing {
            state = state.with(standing);
        }
        let is_member = live.standing.as_ref().is_none_or(|standing| standing.is_member);
        state.why_not_earning = match (kept.phase, running) {
            (Phase::Left, _) => Some("it has left the pool".into()),
            (_, false) => Some(live.ended.map_or("it is not started".into(), |why| format!("it ended: {why}"))),
            _ if live.rest.is_some() => live.rest,
            _ if live.ill.is_some() => live.ill,
            _ if !is_member => Some("the pool takes it no more".into()),
            _ if !online => Some("the pool has not answered within the last minute".into()),
            _ if live.held_bytes == 0 => Some("nobody keeps anything on it yet".into()),
            _ => None,
        };
        Ok(state)
    }

    /// What the system tells the app: tell it at once when it changes.
    pub fn set_conditions(&self, conditions: Conditions) {
        *lock(&self.shared.conditions) = Some(conditions);
    }

    /// Changes what the user allows. A running device starts again where its space changed, and tells its pool.
    pub fn set_caps(&self, caps: Caps) -> Result<(), DeviceFault> {
        caps.check().map_err(DeviceFault::Caps)?;
        let before = self.kept()?.caps.space_bytes;
        self.files.change(&self.shared, |kept| kept.caps = caps.clone())?;
        let is_other_space = before != caps.space_bytes;
        *lock(&self.shared.caps) = Some(caps);
        let runs = lock(&self.process).as_ref().is_some_and(Process::is_running);
        if is_other_space && runs {
            self.stop();
            self.start()?;
        }
        Ok(())
    }

    /// Asks for credit, all of it without an amount: coins to the account `to` where the pool pays coins, else a claim
    /// with the app's own `code` of at most 64 bytes, which the publisher settles.
    pub fn redeem(
        &self,
        amount_wei: Option<String>,
        to: Option<String>,
        code: String,
    ) -> Result<Redeemed, DeviceFault> {
        let wrong = |what: &str| DeviceFault::Refused(format!("expected {what}"));
        let amount =
            amount_wei.map(|text| text.parse().map_err(|_| wrong("an amount in wei, as digits"))).transpose()?;
        let to = to.map(|text| text.parse().map_err(|_| wrong("an account, 0x and 40 hex digits"))).transpose()?;
        if code.len() > hodei_node::pool::CODE_BYTES_MAX {
            return Err(wrong("a code of at most 64 bytes"));
        }
        match self.ask(Request::Redeem { amount, to, code })? {
            Answer::Redeemed { amount, tx } => {
                Ok(Redeemed { amount_wei: amount.to_string(), transaction: tx.map(hex::encode) })
            }
            _ => Err(strange()),
        }
    }

    /// Leaves the pool: the device takes nothing new, and when its last deal has ended the publisher has the collateral
    /// back. Keep it running and ask again until it is done; its credit stays with the publisher.
    pub fn leave(&self) -> Result<Leaving, DeviceFault> {
        if self.kept()?.phase == Phase::Left {
            return Ok(Leaving { open_deals: 0, is_done: true });
        }
        match self.ask(Request::Leave)? {
            Answer::Leaving { collateral: Some(_), .. } => {
                if let Some(ear) = self.ear() {
                    ear.give_back();
                }
                self.files.change(&self.shared, |kept| kept.phase = Phase::Left)?;
                self.stop();
                Ok(Leaving { open_deals: 0, is_done: true })
            }
            Answer::Leaving { open, collateral: None } => Ok(Leaving { open_deals: open.len() as u64, is_done: false }),
            _ => Err(strange()),
        }
    }
}

impl Device {
    fn join_at(
        folder: String,
        word: String,
        consent: Consent,
        caps: Caps,
        address: Option<String>,
        relays: Vec<String>,
    ) -> Result<Arc<Self>, DeviceFault> {
        if !consent.given || consent.words.trim().is_empty() || consent.words.len() > CONSENT_BYTES_MAX {
            return Err(DeviceFault::NoConsent);
        }
        let parsed = Word::parse(word.trim())?;
        caps.check().map_err(DeviceFault::Caps)?;
        let at = |text: String| {
            let wrong = || DeviceFault::Caps("expected an address as 203.0.113.9:4433 or [2001:db8::1]:4433".into());
            text.parse::<SocketAddr>().map_err(|_| wrong())
        };
        let address = address.map(at).transpose()?;
        let relays = relays.into_iter().map(at).collect::<Result<Vec<_>, _>>()?;
        if let Some(wrong) = address.iter().chain(&relays).find(|at| !is_nameable(at)) {
            return Err(DeviceFault::Caps(format!("expected an address that others can dial, found {wrong}")));
        }
        let files = Files::of(&folder);
        let before = files.read()?;
        let is_first = before.is_none();
        let kept = match before {
            Some(kept) if kept.phase != Phase::Joining => return Err(DeviceFault::Exists(folder)),
            // What is asked for now counts, of a first attempt only what nobody asks for anew.
            Some(kept) if Word::parse(&kept.word).is_ok_and(|before| parsed.is_of_the_pool_of(&before)) => {
                let (word, port) = (word.trim().into(), address.map_or(kept.port, |at| at.port()));
                Kept { word, caps, address, relays, port, ..kept }
            }
            Some(_) => return Err(DeviceFault::OtherPool(folder)),
            None => fresh(&files, &parsed, &word, &consent, caps, (address, relays))?,
        };
        files.home()?;
        files.write(&kept)?;
        match enrol(&files, &parsed, &kept) {
            Ok(()) => {}
            Err(Refused::ForGood(fault)) => {
                // What was not there before is not left half made. Keys of an attempt before this one stay: the publisher
                // may have registered them, and placed collateral.
                if is_first {
                    files.remove();
                }
                return Err(fault);
            }
            Err(Refused::ForNow(fault)) => return Err(fault),
        }
        Self::open(folder)
    }

    fn kept(&self) -> Result<Kept, DeviceFault> {
        self.files.read()?.ok_or_else(|| DeviceFault::NotJoined(self.files.name()))
    }

    fn ear(&self) -> Option<Ear> {
        lock(&self.process).as_ref().filter(|process| process.is_running()).map(Process::ear)
    }

    fn ask(&self, request: Request) -> Result<Answer, DeviceFault> {
        // What takes credit is never asked twice.
        let again = if matches!(request, Request::Redeem { .. }) { 0 } else { AGAIN_MAX };
        let asked = patiently(again, || match self.ear() {
            Some(ear) => ear.ask(request.clone()),
            None => ask_once(&self.files, &self.word, request.clone()),
        });
        asked.map_err(|(Refused::ForGood(fault) | Refused::ForNow(fault))| fault)
    }
}

/// Asks again while the pool is busy with this device, and up to `again` times where it did not answer: it may just have
/// started again.
fn patiently(mut again: u32, ask: impl Fn() -> Result<Answer, DeviceFault>) -> Result<Answer, Refused> {
    for _ in 0..TRIES {
        match ask() {
            Err(DeviceFault::Away(_)) if again > 0 => {
                again -= 1;
                std::thread::sleep(patience(1_000));
            }
            Err(fault) => return Err(Refused::ForNow(fault)),
            Ok(Answer::Busy { retry_after_ms }) => std::thread::sleep(patience(retry_after_ms)),
            Ok(Answer::Refused { reason: Reason::Ledger | Reason::Late, text }) => {
                return Err(Refused::ForNow(DeviceFault::Away(text)));
            }
            Ok(Answer::Refused { text, .. }) => return Err(Refused::ForGood(DeviceFault::Refused(text))),
            Ok(answer) => return Ok(answer),
        }
    }
    Err(Refused::ForNow(DeviceFault::Away("the pool is busy with this device: ask again in a moment".into())))
}

fn patience(retry_after_ms: u32) -> Duration {
    Duration::from_millis(retry_after_ms.min(5_000).into())
}

fn strange() -> DeviceFault {
    DeviceFault::Away("the pool answered something else: it may be of another version".into())
}

/// A device's file before it was ever asked for; nothing is made yet.
fn fresh(
    files: &Files,
    word: &Word,
    text: &str,
    consent: &Consent,
    caps: Caps,
    (address, relays): (Option<SocketAddr>, Vec<SocketAddr>),
) -> Result<Kept, DeviceFault> {
    let path = files.path();
    if !files.is_vacant().map_err(|error| DeviceFault::Folder(error.to_string()))? {
        return Err(DeviceFault::Exists(files.name()));
    }
    let nearest = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let free = disk::free_bytes(nearest).map_err(|error| DeviceFault::Folder(error.to_string()))?;
    let needed = caps.space_bytes.saturating_add(KEEP_FREE_BYTES);
    if free < needed {
        return Err(DeviceFault::Caps(format!("expected {needed} bytes free on this disk, found {free}")));
    }
    let mut byte = [0; 6];
    let entropy = hodei_node::keys::Secret::generate()?;
    byte.copy_from_slice(&entropy.bytes()[..6]);
    let port = free_port(word).ok_or_else(|| DeviceFault::Start("the app may not open a UDP socket".into()))?;
    Ok(Kept {
        version: VERSION,
        phase: Phase::Joining,
        word: text.trim().into(),
        consent: consent.words.clone(),
        consent_s: now_s(),
        caps,
        // Nobody knows what it fails with: a zone of its own.
        zone: format!("device-{}", hex::encode(byte)),
        port: address.map_or(port, |address| address.port()),
        address,
        relays,
        told_addresses: Vec::new(),
        told_bytes: 0,
    })
}

enum Refused {
    /// Asked again it would be refused again.
    ForGood(DeviceFault),
    ForNow(DeviceFault),
}

/// Has the publisher register the device.
fn enrol(files: &Files, word: &Word, kept: &Kept) -> Result<(), Refused> {
    let now = |fault: DeviceFault| Refused::ForNow(fault);
    let keys = Keys::open(&files.home().map_err(now)?).map_err(|error| now(error.into()))?;
    let signer = Signer::new(keys.node.bytes());
    let chain_id = Network { key: word.network, genesis: None }.chain_id();
    let possession = signer.sign(&operator_consent(chain_id, word.operator, signer.node().0.into()));
    let account = keys.address().ok_or_else(|| now(DeviceFault::Folder("its account's key is none".into())))?;
    let place = kept.place(word);
    if place.advertise.is_empty() && place.relays.is_empty() {
        return Err(now(DeviceFault::Away("this device has no network".into())));
    }
    let request = Request::Join { secret: word.secret, possession, account, offer: kept.offer(&place) };
    match patiently(0, || ask_once(files, word, request.clone()))? {
        Answer::Enrolled => {
            let told = Kept {
                phase: Phase::Member,
                told_bytes: kept.caps.space_bytes,
                told_addresses: place.advertise,
                ..kept.clone()
            };
            files.write(&told).map_err(now)
        }
        _ => Err(now(strange())),
    }
}

#[cfg(test)]
mod tests;
