//! Remember which readers keep what they read here, and tell others of the same bucket.
//!
//! Upon ANNOUNCE: deal and grant are checked as for a read, pages that the deal does not hold are left out, and the reader is
//! called back: only who answers, with the key that announced, is remembered. That it is where it says is found by readers. Upon WHO: readers that
//! announced any of the pages. All of it is in memory: after a restart readers say it again.

use super::{
    Provider,
    serve::{BUSY_MS, denied, refused},
};
use crate::journal::now_ms;
use bytes::Bytes;
use commonware_runtime::Storage;
use futures::{FutureExt as _, future::BoxFuture};
use hodei_link::Link;
use hodei_storage::{
    crowd::{Book, Question, VERSION},
    wire::{self, Answer, MESSAGE_BYTES_MAX, Reason},
};
use hodei_types::{
    grant::Rights,
    slice::ShardId,
    transport::{CROWD, NodeKey, Peer, Transport as _},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::Semaphore;

/// Readers called back at once; more are told BUSY.
const PROBES_MAX: usize = 4;
/// Who does not answer by then is not where it says.
const PROBE: Duration = Duration::from_secs(4);
/// Announcements of one reader in half a minute: one for each deal it may read.
const ANNOUNCES: (u32, Duration) = (8, Duration::from_secs(30));
/// Its questions.
const WHOS: (u32, Duration) = (20, Duration::from_secs(10));
/// Readers whose requests are counted; when all are, a further one is told BUSY.
const COUNTED_MAX: usize = 4096;

/// Calls a reader back: whether it answers there, under that key.
pub type Probe = Arc<dyn Fn(Peer) -> BoxFuture<'static, bool> + Send + Sync>;

/// Calls readers back over a link.
pub fn probe(link: Link) -> Probe {
    Arc::new(move |peer| {
        let link = link.clone();
        async move {
            let answers = async {
                let (mut sink, mut stream) = link.open(&peer, CROWD).await.ok()?;
                let hello = Question::Hello { version: VERSION }.encode();
                wire::send(&mut sink, hello, Bytes::new()).await.ok()?;
                let answer = wire::receive(&mut stream, MESSAGE_BYTES_MAX).await.ok()?;
                matches!(Answer::decode(&answer), Ok(Answer::Hello { .. })).then_some(())
            };
            matches!(tokio::time::timeout(PROBE, answers).await, Ok(Some(())))
        }
        .boxed()
    })
}

/// What a provider remembers of readers.
pub(super) struct Crowd {
    book: Mutex<Book>,
    /// When each reader's requests of a kind began to be counted, and how many came since.
    counts: Mutex<BTreeMap<(NodeKey, bool), (SystemTime, u32)>>,
    probes: Semaphore,
}

impl Default for Crowd {
    fn default() -> Self {
        Self { book: Mutex::default(), counts: Mutex::default(), probes: Semaphore::new(PROBES_MAX) }
    }
}

impl Crowd {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request; `false` if it is one too many.
    fn admits(&self, from: NodeKey, is_announce: bool, now: SystemTime) -> bool {
        let window = |is_announce: bool| if is_announce { ANNOUNCES } else { WHOS };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= COUNTED_MAX && !counts.contains_key(&(from, is_announce)) {
            counts.retain(|(_, is_announce), (since, _)| now < *since + window(*is_announce).1);
            if counts.len() >= COUNTED_MAX {
                return false;
            }
        }
        let (max, time) = window(is_announce);
        let (since, count) = counts.entry((from, is_announce)).or_insert((now, 0));
        if now >= *since + time {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= max
    }
}

impl<E: Storage> Provider<E> {
    /// Readers whose announcements are remembered.
    pub fn keepers(&self) -> usize {
        self.0.crowd.book().len()
    }

    pub(super) async fn announce(
        &self,
        from: NodeKey,
        deal: u64,
        (ids, addresses): (Vec<ShardId>, Vec<SocketAddr>),
        secs: u64,
        grant: &[u8],
    ) -> Result<Answer, Answer> {
        let terms = self.meet(from, deal, grant, true).await?;
        let addresses: Vec<SocketAddr> =
            addresses.into_iter().filter(|address| is_reachable(*address, &self.0.parts.reach.addresses)).collect();
        if addresses.is_empty() {
            return Err(refused(
                Reason::NotGranted,
                "no address by which others who reach this provider reach the reader",
            ));
        }
        let held = self.store().has(deal, &ids).await.map_err(|error| self.store_failed(error))?;
        let ids: Vec<ShardId> = ids.into_iter().zip(held).filter_map(|(id, held)| held.then_some(id)).collect();
        let kept = ids.len() as u64;
        if kept == 0 {
            return Ok(Answer::Announced { kept, secs: 0 });
        }
        let Ok(_probing) = self.0.crowd.probes.try_acquire() else {
            return Err(Answer::Busy { retry_after_ms: BUSY_MS });
        };
        let peer = Peer::at(from, addresses);
        if !(self.0.parts.probe)(peer.clone()).await {
            return Err(refused(Reason::NotGranted, "nobody answers there under the key that announced"));
        }
        let now = SystemTime::now();
        let secs = self.0.crowd.book().remember(terms.bucket.0, from, (peer.addresses, ids), secs, now);
        Ok(Answer::Announced { kept, secs })
    }

    pub(super) async fn who(&self, from: NodeKey, deal: u64, ids: &[ShardId], grant: &[u8]) -> Result<Answer, Answer> {
        let terms = self.meet(from, deal, grant, false).await?;
        let chance = rand::random::<u32>() as usize;
        Ok(Answer::Keepers(self.0.crowd.book().who(terms.bucket.0, from, ids, chance, SystemTime::now())))
    }

    /// Who may read may meet others who do, within limits.
    async fn meet(
        &self,
        from: NodeKey,
        deal: u64,
        grant: &[u8],
        is_announce: bool,
    ) -> Result<super::deals::Terms, Answer> {
        if !self.0.config.crowd {
            return Err(refused(Reason::Malformed, "this provider introduces no readers"));
        }
        let terms = self.access().check(from, deal, grant, Rights::READ, now_ms()).await.map_err(denied)?;
        if !self.0.crowd.admits(from, is_announce, SystemTime::now()) {
            return Err(Answer::Busy { retry_after_ms: BUSY_MS });
        }
        Ok(terms)
    }
}

/// How far an address is good: on one machine, in one place, anywhere; `None` if for nobody.
fn reach(address: SocketAddr) -> Option<u8> {
    let ip = address.ip().to_canonical();
    if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]) {
        return None;
    }
    let is_near = match ip {
        IpAddr::V4(v4) => {
            v4.is_private() || v4.is_link_local() || (v4.octets()[0] == 100 && v4.octets()[1] & 192 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    Some(if ip.is_loopback() { 0 } else { 2 - u8::from(is_near) })
}

/// Whether who reaches this provider may reach that address: it is good at least as far as the provider's own.
fn is_reachable(address: SocketAddr, own: &[SocketAddr]) -> bool {
    let needed = own.iter().filter_map(|own| reach(*own)).max().unwrap_or(2);
    reach(address).is_some_and(|reach| reach >= needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_good_at_least_as_far_as_the_providers_own() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let (loopback, home, public) = (at("127.0.0.1:1"), at("192.168.1.2:1"), at("203.0.113.7:1"));
        for (address, own, is_good) in [
            (loopback, vec![at("[::1]:9")], true),
            (home, vec![loopback], true),
            (loopback, vec![home], false),
            (at("10.1.2.3:1"), vec![home, loopback], true),
            (home, vec![home, public], false),
            (at("100.64.3.2:1"), vec![public], false),
            (at("[fd00::1]:1"), vec![public], false),
            (at("169.254.0.1:1"), vec![public], false),
            (at("[2001:db8::1]:1"), vec![public], true),
            (public, vec![], true),
            (home, vec![], false),
            (at("203.0.113.7:0"), vec![loopback], false),
            (at("0.0.0.0:1"), vec![loopback], false),
            (at("224.0.0.1:1"), vec![loopback], false),
            (at("[ff02::1]:1"), vec![loopback], false),
            (at("[::ffff:127.0.0.1]:1"), vec![home], false),
        ] {
            assert_eq!(is_reachable(address, &own), is_good, "{address} beside {own:?}");
        }
    }

    #[test]
    fn a_reader_asks_so_often_and_no_crowd_of_them_fills_the_memory() {
        let (crowd, now) = (Crowd::default(), SystemTime::UNIX_EPOCH);
        let key = |number: u32| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            NodeKey(key)
        };
        let admitted = (0..100).filter(|_| crowd.admits(key(0), false, now)).count();
        assert_eq!(admitted, WHOS.0 as usize);
        assert!(crowd.admits(key(0), true, now) && crowd.admits(key(0), false, now + WHOS.1));
        let admitted = (1..10_000).filter(|number| crowd.admits(key(*number), true, now + WHOS.1)).count();
        assert_eq!(admitted, COUNTED_MAX - 2);
        assert!(crowd.admits(key(10_001), true, now + WHOS.1 + ANNOUNCES.1), "those that are over make room");
        assert!(crowd.counts.lock().unwrap().len() <= COUNTED_MAX);
    }
}
