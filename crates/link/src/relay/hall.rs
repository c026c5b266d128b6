//! Know who is connected to a relay, and who of them is served.

use super::{Admission, Limits};
use bytes::Bytes;
use hodei_types::transport::NodeKey;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

/// Frames that wait for one node, and their bytes; beyond, datagrams are dropped, and QUIC sends again.
const QUEUE_FRAMES: usize = 512;
const QUEUE_BYTES: usize = 512 * 1024;
/// The ledger is asked again about who is served after this, and about who is not.
const SERVED: Duration = Duration::from_secs(60);
const REFUSED: Duration = Duration::from_secs(5);
/// Questions to the ledger at once, and how long one may take.
const QUESTIONS: usize = 4;
const QUESTION: Duration = Duration::from_secs(10);
/// Connections under one key, since several programs of one reader share it; one more ends the oldest.
const LINES: usize = 4;
/// Nodes remembered of those whom a connection spoke to; one more forgets all.
const SPOKEN_TO: usize = 256;

/// What a relay did since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes connected now.
    pub connected: usize,
    /// Of them served.
    pub served: usize,
    /// Bytes passed on, of datagrams and their frames.
    pub bytes: u64,
    /// Frames dropped: between two of whom none is served, for somebody who is not there or reads too slowly.
    pub dropped: u64,
}

/// Everybody who is connected to one relay.
pub struct Hall {
    pub(super) limits: Limits,
    admission: Arc<dyn Admission>,
    floor: Mutex<Floor>,
    networks: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    questions: Arc<Semaphore>,
    connections: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Floor {
    guests: BTreeMap<NodeKey, Guest>,
    /// Who left and was served, and when the ledger said so: who comes back is not asked about anew.
    served: BTreeMap<NodeKey, Instant>,
}

/// One key, and all who are connected under it.
struct Guest {
    /// The newest is last; never empty.
    lines: VecDeque<Line>,
    is_served: bool,
    /// When the ledger answered last.
    answered: Option<Instant>,
    is_asked: bool,
}

struct Line {
    connection: u64,
    queue: Queue,
    /// Whom it sent to, and so hears from.
    spoke_to: BTreeSet<NodeKey>,
}

impl Guest {
    /// Whether the ledger is to be asked about it.
    fn is_stale(&self) -> bool {
        let kept = if self.is_served { SERVED } else { REFUSED };
        !self.is_asked && self.answered.is_none_or(|at| at.elapsed() >= kept)
    }

    /// Notes whom a connection sends to.
    fn speaks(&mut self, connection: u64, to: NodeKey) {
        let Some(line) = self.lines.iter_mut().find(|line| line.connection == connection) else { return };
        if line.spoke_to.contains(&to) {
            return;
        }
        if line.spoke_to.len() >= SPOKEN_TO {
            line.spoke_to.clear();
        }
        line.spoke_to.insert(to);
    }

    /// Brings a frame to the newest connection, and to each earlier one that spoke to its sender: only the two ends know
    /// whose it is, and QUIC drops what it does not know. Gives how many took it.
    fn hear(&self, from: NodeKey, frame: &Bytes) -> u64 {
        let newest = self.lines.len().saturating_sub(1);
        let hears = self.lines.iter().enumerate().filter(|(at, line)| *at == newest || line.spoke_to.contains(&from));
        hears.filter(|(_, line)| line.queue.push(frame.clone())).count() as u64
    }
}

struct Queue {
    frames: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
}

impl Queue {
    fn push(&self, frame: Bytes) -> bool {
        let length = frame.len();
        let fits = self.bytes.fetch_add(length, Ordering::Relaxed) + length <= QUEUE_BYTES;
        if fits && self.frames.try_send(frame).is_ok() {
            return true;
        }
        self.bytes.fetch_sub(length, Ordering::Relaxed);
        false
    }
}

/// Frames for one node, in order.
pub(super) struct Waiting {
    frames: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicUsize>,
}

impl Waiting {
    /// `None` when too many others connected under the same key.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let frame = self.frames.recv().await?;
        self.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        Some(frame)
    }
}

/// One connection's place among those of its network; given back when dropped.
pub(super) struct Place(Arc<Mutex<BTreeMap<IpAddr, usize>>>, IpAddr);

impl Drop for Place {
    fn drop(&mut self) {
        let mut networks = lock(&self.0);
        if let Some(count) = networks.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                networks.remove(&self.1);
            }
        }
    }
}

impl Hall {
    pub(super) fn new(limits: Limits, admission: Arc<dyn Admission>) -> Self {
        Self {
            limits,
            admission,
            floor: Mutex::default(),
            networks: Arc::default(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            connections: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// What it did since it began.
    pub fn counts(&self) -> Counts {
        let floor = lock(&self.floor);
        Counts {
            connected: floor.guests.len(),
            served: floor.guests.values().filter(|guest| guest.is_served).count(),
            bytes: self.bytes.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    /// A place for a connection from this address, or `None` where all are taken.
    pub(super) fn place(&self, from: IpAddr) -> Option<Place> {
        let network = network(from);
        let mut networks = lock(&self.networks);
        if networks.values().sum::<usize>() >= self.limits.connections
            || networks.get(&network).is_some_and(|count| *count >= self.limits.connections_per_network)
        {
            return None;
        }
        *networks.entry(network).or_default() += 1;
        Some(Place(self.networks.clone(), network))
    }

    /// A node came; of too many connections under its key the oldest ends.
    pub(super) fn enter(&self, key: NodeKey) -> (u64, Waiting) {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        let (frames, waiting) = mpsc::channel(QUEUE_FRAMES);
        let bytes = Arc::new(AtomicUsize::new(0));
        let queue = Queue { frames, bytes: bytes.clone() };
        let mut floor = lock(&self.floor);
        let Floor { guests, served } = &mut *floor;
        let guest = guests.entry(key).or_insert_with(|| {
            let answered = served.remove(&key).filter(|at| at.elapsed() < SERVED);
            Guest { lines: VecDeque::new(), is_served: answered.is_some(), answered, is_asked: false }
        });
        guest.lines.push_back(Line { connection, queue, spoke_to: BTreeSet::new() });
        if guest.lines.len() > LINES {
            guest.lines.pop_front();
        }
        (connection, Waiting { frames: waiting, bytes })
    }

    /// A connection ended.
    pub(super) fn leave(&self, key: NodeKey, connection: u64) {
        let mut floor = lock(&self.floor);
        let Floor { guests, served } = &mut *floor;
        let Some(guest) = guests.get_mut(&key) else { return };
        guest.lines.retain(|line| line.connection != connection);
        if !guest.lines.is_empty() {
            return;
        }
        if let (true, Some(at)) = (guest.is_served, guest.answered) {
            if served.len() >= self.limits.connections {
                served.retain(|_, at| at.elapsed() < SERVED);
            }
            if served.len() < self.limits.connections {
                served.insert(key, at);
            }
        }
        guests.remove(&key);
    }

    /// Passes a frame on, or drops it. `from` is a key, and which connection under it.
    pub(super) fn pass(self: &Arc<Self>, from: (NodeKey, u64), to: NodeKey, frame: Bytes) {
        let (from, connection) = from;
        let length = frame.len() as u64;
        let passed = {
            let mut floor = lock(&self.floor);
            let guests = &mut floor.guests;
            // Who is dialled is asked about first: one answer does for both directions.
            let is_served = guests.contains_key(&to)
                && [to, from].into_iter().any(|key| guests.get_mut(&key).is_some_and(|guest| self.serves(key, guest)));
            if is_served && let Some(guest) = guests.get_mut(&from) {
                guest.speaks(connection, to);
            }
            if is_served { guests.get(&to).map_or(0, |guest| guest.hear(from, &frame)) } else { 0 }
        };
        match passed {
            0 => self.dropped.fetch_add(1, Ordering::Relaxed),
            lines => self.bytes.fetch_add(length * lines, Ordering::Relaxed),
        };
    }

    /// What is known of a node; where that is old, the ledger is asked meanwhile.
    fn serves(self: &Arc<Self>, key: NodeKey, guest: &mut Guest) -> bool {
        if guest.is_stale()
            && let Ok(question) = self.questions.clone().try_acquire_owned()
        {
            guest.is_asked = true;
            let hall = self.clone();
            tokio::spawn(async move {
                let answer = tokio::time::timeout(QUESTION, hall.admission.serves(key)).await;
                drop(question);
                hall.answered(key, answer.ok().flatten());
            });
        }
        guest.is_served
    }

    fn answered(&self, key: NodeKey, answer: Option<bool>) {
        let mut floor = lock(&self.floor);
        if let Some(guest) = floor.guests.get_mut(&key) {
            // A ledger that cannot be asked takes nobody's place away.
            guest.is_served = answer.unwrap_or(guest.is_served);
            guest.answered = Some(Instant::now());
            guest.is_asked = false;
        }
    }
}

/// What one household or machine has: an IPv4 address, or a /64 of IPv6.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
