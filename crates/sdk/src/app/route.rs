//! Choose which replica of an app a request goes to: least busy, then nearest.

use super::pay::Pay;
use hodei_types::transport::{NodeKey, Peer};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

/// A replica that could not be reached is asked again after this, or once a look reached it.
const SHUN: Duration = Duration::from_secs(10);
/// Longer nobody waits until somebody looked which apps there are.
const ASKED_MAX: Duration = Duration::from_secs(3);

/// The way to a replica that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub lease: u64,
    pub node: NodeKey,
    pub peer: Peer,
    /// How long one request may take there.
    pub deadline: Duration,
    /// How long its host took to answer the last look.
    pub near: Duration,
    /// The last look missed it.
    pub is_doubtful: bool,
    /// It is of a release that another took over from: asked last, until it ends.
    pub is_leaving: bool,
    /// How its calls are paid, if it is on call.
    pub pay: Option<Arc<Pay>>,
}

#[derive(Debug)]
struct Entry {
    route: Route,
    busy: Arc<AtomicUsize>,
    shunned: Option<Instant>,
}

/// The ways to all apps of a wallet; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<RwLock<BTreeMap<String, Vec<Entry>>>>, Arc<Looks>);

/// Looks at which apps there are, besides those that happen anyway.
#[derive(Debug, Default)]
struct Looks {
    keepers: AtomicUsize,
    wanted: Notify,
    done: watch::Sender<u64>,
}

/// Somebody looks when he is asked, until this is dropped.
#[derive(Debug)]
pub(super) struct Keeper(Arc<Looks>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.keepers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A route that is in use until this is dropped.
#[derive(Debug)]
pub struct Held {
    pub route: Route,
    busy: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What there is for a name.
#[derive(Debug)]
pub enum Pick {
    /// No app has it.
    Unknown,
    /// It has no replica that is ready and was not tried.
    None,
    To(Held),
}

impl Routes {
    /// From now on these are the ways to an app; what is in use of them stays counted.
    pub fn set(&self, name: &str, routes: Vec<Route>) {
        let mut all = self.0.write().expect("no panic under this lock");
        let before = all.remove(name).unwrap_or_default();
        let entry = |route: Route| {
            let known = before.iter().find(|entry| entry.route.lease == route.lease);
            let shunned = known.and_then(|entry| entry.shunned).filter(|_| route.is_doubtful);
            Entry { busy: known.map(|entry| entry.busy.clone()).unwrap_or_default(), shunned, route }
        };
        all.insert(name.to_owned(), routes.into_iter().map(entry).collect());
    }

    /// There are these apps, whether anything of them is ready or not; whether one of them is new.
    pub fn know(&self, names: &[String]) -> bool {
        let mut all = self.0.write().expect("no panic under this lock");
        let before = all.len();
        names.iter().for_each(|name| _ = all.entry(name.clone()).or_default());
        all.len() > before
    }

    /// Has somebody look which apps there are, and waits until that is done; not at all where nobody does.
    pub async fn look(&self) {
        let mut done = self.1.done.subscribe();
        if self.1.keepers.load(Ordering::Relaxed) > 0 {
            self.1.wanted.notify_one();
            // Who looks no more leaves things as they are.
            let _ = tokio::time::timeout(ASKED_MAX, done.changed()).await;
        }
    }

    pub(super) fn keeper(&self) -> Keeper {
        self.1.keepers.fetch_add(1, Ordering::Relaxed);
        Keeper(self.1.clone())
    }

    /// Until somebody wants a look.
    pub(super) async fn asked(&self) {
        self.1.wanted.notified().await;
    }

    /// All who wanted a look go on.
    pub(super) fn looked(&self) {
        self.1.done.send_modify(|looks| *looks = looks.wrapping_add(1));
    }

    /// Forgets all apps but these.
    pub fn retain(&self, names: &BTreeSet<String>) {
        self.0.write().expect("no panic under this lock").retain(|name, _| names.contains(name));
    }

    /// Whether the last look missed a lease, or it is routed to no more.
    pub fn is_missed(&self, name: &str, lease: u64) -> bool {
        let all = self.0.read().expect("no panic under this lock");
        let entry = all.get(name).and_then(|entries| entries.iter().find(|entry| entry.route.lease == lease));
        entry.is_none_or(|entry| entry.route.is_doubtful)
    }

    /// Whether requests go to a lease.
    pub fn has(&self, name: &str, lease: u64) -> bool {
        let all = self.0.read().expect("no panic under this lock");
        all.get(name).is_some_and(|entries| entries.iter().any(|entry| entry.route.lease == lease))
    }

    /// The best way to an app at that time, but for leases that were tried.
    pub fn pick(&self, name: &str, tried: &BTreeSet<u64>, now: Instant) -> Pick {
        let all = self.0.read().expect("no panic under this lock");
        let Some(entries) = all.get(name) else { return Pick::Unknown };
        let cost = |entry: &&Entry| {
            let is_shunned = entry.shunned.is_some_and(|until| until > now);
            let (route, busy) = (&entry.route, entry.busy.load(Ordering::Relaxed));
            (is_shunned, route.is_doubtful, route.is_leaving, busy, route.near, route.lease)
        };
        match entries.iter().filter(|entry| !tried.contains(&entry.route.lease)).min_by_key(cost) {
            None => Pick::None,
            Some(entry) => {
                entry.busy.fetch_add(1, Ordering::Relaxed);
                Pick::To(Held { route: entry.route.clone(), busy: entry.busy.clone() })
            }
        }
    }

    /// A replica did not take a request: others come first for a while.
    pub fn shun(&self, name: &str, lease: u64, now: Instant) {
        let mut all = self.0.write().expect("no panic under this lock");
        let entry = all.get_mut(name).and_then(|entries| entries.iter_mut().find(|entry| entry.route.lease == lease));
        if let Some(entry) = entry {
            entry.shunned = Some(now + SHUN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(lease: u64, near_ms: u64) -> Route {
        let node = NodeKey([lease as u8; 32]);
        Route {
            lease,
            node,
            peer: Peer::at(node, Vec::new()),
            deadline: Duration::from_secs(1),
            near: Duration::from_millis(near_ms),
            is_doubtful: false,
            is_leaving: false,
            pay: None,
        }
    }

    fn picked(routes: &Routes, tried: &[u64], now: Instant) -> Option<Held> {
        match routes.pick("shop", &tried.iter().copied().collect(), now) {
            Pick::To(held) => Some(held),
            _ => None,
        }
    }

    #[test]
    fn the_least_busy_is_asked_and_of_those_the_nearest() {
        let (routes, now) = (Routes::default(), Instant::now());
        assert!(matches!(routes.pick("shop", &BTreeSet::new(), now), Pick::Unknown));
        routes.set("shop", vec![route(1, 30), route(2, 10), route(3, 20)]);
        let held: Vec<_> = (0..4).map(|_| picked(&routes, &[], now).unwrap()).collect();
        let leases: Vec<_> = held.iter().map(|held| held.route.lease).collect();
        assert_eq!(leases, [2, 3, 1, 2]);
        // A look in between forgets nothing of what is in use.
        routes.set("shop", vec![route(1, 30), route(2, 10), route(3, 20)]);
        assert_eq!(picked(&routes, &[], now).unwrap().route.lease, 3);
        drop(held);
        assert_eq!(picked(&routes, &[], now).unwrap().route.lease, 2);
    }

    #[test]
    fn what_was_tried_or_failed_comes_not_first() {
        let (routes, now) = (Routes::default(), Instant::now());
        routes.set("shop", vec![route(1, 10), route(2, 20)]);
        assert_eq!(picked(&routes, &[1], now).unwrap().route.lease, 2);
        assert!(matches!(routes.pick("shop", &[1, 2].into(), now), Pick::None));
        routes.shun("shop", 1, now);
        assert_eq!(picked(&routes, &[], now).unwrap().route.lease, 2);
        assert_eq!(picked(&routes, &[2], now).unwrap().route.lease, 1, "better than none");
        assert_eq!(picked(&routes, &[], now + SHUN).unwrap().route.lease, 1);
        routes.shun("shop", 1, now);
        routes.set("shop", vec![route(1, 10), route(2, 20)]);
        assert_eq!(picked(&routes, &[], now).unwrap().route.lease, 1, "a look reached it");
        routes.set("shop", vec![Route { is_doubtful: true, ..route(1, 10) }, route(2, 20)]);
        assert_eq!(picked(&routes, &[], now).unwrap().route.lease, 2);
        assert!(routes.is_missed("shop", 1) && !routes.is_missed("shop", 2) && routes.is_missed("shop", 3));
        assert!(routes.has("shop", 1) && !routes.has("shop", 3) && !routes.has("else", 1));
        routes.retain(&BTreeSet::new());
        assert!(matches!(routes.pick("shop", &BTreeSet::new(), now), Pick::Unknown));
    }

    #[test]
    fn what_another_release_took_over_from_is_asked_last_and_ends_what_it_was_asked() {
        let (routes, now) = (Routes::default(), Instant::now());
        routes.set("shop", vec![route(1, 10)]);
        let held = picked(&routes, &[], now).unwrap();
        routes.set("shop", vec![Route { is_leaving: true, ..route(1, 10) }, route(2, 90)]);
        let all: Vec<_> = (0..3).map(|_| picked(&routes, &[], now).unwrap()).collect();
        assert!(all.iter().all(|held| held.route.lease == 2), "however busy and far");
        assert!(routes.has("shop", held.route.lease), "nobody breaks off what it answers");
        routes.shun("shop", 2, now);
        assert_eq!(picked(&routes, &[], now).unwrap().route.lease, 1, "better than one that does not answer");
    }

    #[tokio::test]
    async fn a_name_that_is_not_known_is_looked_for_at_once_where_somebody_looks() {
        let (routes, now) = (Routes::default(), Instant::now());
        // Nobody does: there is nothing to wait for.
        routes.look().await;
        let keeper = routes.keeper();
        let looks = async {
            routes.asked().await;
            assert!(routes.know(&["shop".to_owned()]), "new");
            routes.looked();
        };
        tokio::join!(routes.look(), looks);
        assert!(matches!(routes.pick("shop", &BTreeSet::new(), now), Pick::None), "known, and not ready");
        assert!(matches!(routes.pick("else", &BTreeSet::new(), now), Pick::Unknown));
        assert!(!routes.know(&["shop".to_owned()]), "no more");
        drop(keeper);
        routes.look().await;
    }
}
