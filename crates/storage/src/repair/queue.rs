//! Order what is to be restored: least margin first, and each by one repairer at a time.

use hodei_types::code::Class;
use std::collections::{BTreeMap, BTreeSet};

/// How long a repairer has, and nobody else is sent after the same shards: phones wake once a day.
pub fn ticket_ms(class: Class) -> u64 {
    match class {
        Class::Phone => 24 * 3_600_000,
        Class::Datacentre | Class::Home | Class::Small => 30 * 60_000,
    }
}

/// What waits, and who works on it. `K` names what is restored together: stripes placed together lack the same.
#[derive(Clone, Debug)]
pub struct Queue<K> {
    /// By margin, since when, and name.
    waiting: BTreeSet<(u16, u64, K)>,
    known: BTreeMap<K, (u16, u64)>,
    /// Until when a ticket holds.
    tickets: BTreeMap<K, u64>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { waiting: BTreeSet::new(), known: BTreeMap::new(), tickets: BTreeMap::new() }
    }
}

impl<K: Copy + Ord> Queue<K> {
    /// Takes note that something has this margin left, and is due for it; with `None` that it is not.
    pub fn set(&mut self, key: K, margin: Option<u16>, now_ms: u64) {
        let before = self.known.remove(&key);
        if let Some((margin, since_ms)) = before {
            self.waiting.remove(&(margin, since_ms, key));
        }
        if let Some(margin) = margin {
            let since_ms = before.map_or(now_ms, |(_, since_ms)| since_ms);
            self.known.insert(key, (margin, since_ms));
            self.waiting.insert((margin, since_ms, key));
        }
    }

    /// A ticket for what is most urgent and nobody works on.
    pub fn take(&mut self, class: Class, now_ms: u64) -> Option<K> {
        let is_free = |key: &K| self.tickets.get(key).is_none_or(|until_ms| *until_ms <= now_ms);
        let (_, _, key) = *self.waiting.iter().find(|(_, _, key)| is_free(key))?;
        self.tickets.insert(key, now_ms.saturating_add(ticket_ms(class)));
        Some(key)
    }

    /// Gives a ticket back: it was restored, or cannot be now and is tried again from `again_ms` on.
    pub fn end(&mut self, key: K, again_ms: Option<u64>) {
        match again_ms {
            Some(again_ms) => _ = self.tickets.insert(key, again_ms),
            None => _ = self.tickets.remove(&key),
        }
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_margin_goes_first_and_to_one_repairer() {
        let mut queue = Queue::default();
        queue.set('a', Some(5), 10);
        queue.set('b', Some(2), 20);
        queue.set('c', Some(5), 5);
        let take = |queue: &mut Queue<char>, now_ms| queue.take(Class::Home, now_ms);
        assert_eq!([30; 4].map(|now_ms| take(&mut queue, now_ms)), [Some('b'), Some('c'), Some('a'), None]);
        // Nobody came back with it: another may try.
        assert_eq!(take(&mut queue, 30 + ticket_ms(Class::Home)), Some('b'));
        queue.set('b', None, 40);
        queue.end('b', None);
        assert_eq!(queue.len(), 2);
        // It waits as long as before, with less left.
        queue.set('a', Some(1), 50);
        queue.end('a', None);
        assert_eq!(take(&mut queue, 60), Some('a'));
        queue.end('a', Some(100));
        queue.end('c', Some(100));
        assert_eq!([99, 100].map(|now_ms| take(&mut queue, now_ms)), [None, Some('a')]);
    }
}
