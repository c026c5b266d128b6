//! Remember which readers keep what they read here, and tell others of the same bucket.
//!
//! Upon ANNOUNCE: deal and grant are checked as for a read, and the reader is called back: only who answers there, with the
//! key that announced, is remembered. Pages of the bucket that lie at others are remembered too: those may be away when
//! somebody asks. Of several addresses one is enough: that it is at the others too is found by readers. Upon WHO: readers
//! that announced any of the pages. All of it is in memory: after a restart readers say it again.

use super::{
    Provider,
    serve::{BUSY_MS, denied, refused},
};
use crate::journal::now_ms;
use bytes::Bytes;
use commonware_runtime::Storage;
use futures::{FutureExt as _, future::BoxFuture};
use hodei_link::{Config, Link};
use hodei_storage::{
    crowd::{Book, Question, VERSION},
    wire::{self, Answer, MESSAGE_BYTES_MAX, Reason},
};
use hodei_types::{
    grant::Rights,
    reach::is_reachable,
    slice::ShardId,
    transport::{CROWD, NodeKey, Peer, Transport as _},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::sync::{Semaphore, SemaphorePermit};

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

/// Calls readers back from this address of the machine's, each time from another port and under a key of that call's own:
/// over the node's link an open connection, or a way that is known from one, would answer for whatever is announced.
pub fn probe(from: IpAddr) -> Probe {
    Arc::new(move |peer| {
        async move {
            let config = Config {
                secret: rand::random(),
                bind: SocketAddr::new(from, 0),
                protocols: Vec::new(),
                relays: Vec::new(),
            };
            let (link, _nobody) = match Link::bind(config).await {
                Ok(bound) => bound,
                Err(error) => {
                    tracing::warn!(%error, "readers cannot be called back");
                    return false;
                }
            };
            let answers = async {
                let (mut sink, mut stream) = link.open(&peer, CROWD).await.ok()?;
                let hello = Question::Hello { version: VERSION }.encode();
                wire::send(&mut sink, hello, Bytes::new()).await.ok()?;
                let answer = wire::receive(&mut stream, MESSAGE_BYTES_MAX).await.ok()?;
                // Who is busy is there too.
                matches!(Answer::decode(&answer), Ok(Answer::Hello { .. } | Answer::Busy { .. })).then_some(())
            };
            let is_there = matches!(tokio::time::timeout(PROBE, answers).await, Ok(Some(())));
            // Goodbye takes its time, for which nobody waits.
            tokio::spawn(async move { link.close().await });
            is_there
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
    /// Buckets of which a reader is called back just now: one at a time, so that who may read one bucket keeps the places from
    /// no other.
    probed: Mutex<BTreeSet<[u8; 32]>>,
}

impl Default for Crowd {
    fn default() -> Self {
        let (book, counts, probed) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { book, counts, probes: Semaphore::new(PROBES_MAX), probed }
    }
}

/// A place to call a reader of a bucket back; dropping it gives it back.
struct Probing<'a> {
    crowd: &'a Crowd,
    bucket: [u8; 32],
    _permit: SemaphorePermit<'a>,
}

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        self.crowd.probed().remove(&self.bucket);
    }
}

impl Crowd {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn probed(&self) -> MutexGuard<'_, BTreeSet<[u8; 32]>> {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place to call a reader of that bucket back; `None` while another of it is called, or all places are taken.
    fn probing(&self, bucket: [u8; 32]) -> Option<Probing<'_>> {
        let permit = self.probes.try_acquire().ok()?;
        self.probed().insert(bucket).then(|| Probing { crowd: self, bucket, _permit: permit })
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
        let kept = ids.len() as u64;
        let Some(_probing) = self.0.crowd.probing(terms.bucket.0) else {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reader_of_a_bucket_is_called_back_at_a_time() {
        let crowd = Crowd::default();
        let first = crowd.probing([1; 32]).expect("there are places");
        assert!(crowd.probing([1; 32]).is_none(), "one of that bucket is called");
        let others: Vec<_> = (2..5).map(|bucket| crowd.probing([bucket; 32])).collect();
        assert!(others.iter().all(Option::is_some) && crowd.probing([5; 32]).is_none(), "four are called");
        drop(first);
        assert!(crowd.probing([1; 32]).is_some());
        drop(others);
        assert_eq!((crowd.probed().len(), crowd.probes.available_permits()), (0, PROBES_MAX));
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
