//! Ask the ledger for a bucket once for all who want to know at the same time.
//!
//! A door serves hundreds of requests at once, and each wants the bucket's record as it is now: each by itself would be a
//! question to a validator, several for one object. They are asked in rounds instead. Who comes while a round is under
//! way waits for the next one, which begins after that: an answer is never older than the question it is given for.

use crate::{
    bucket::Record,
    cloud::{Cloud, Runtime},
    fault::Fault,
};
use futures::channel::oneshot;
use hodei_types::transport::Transport;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

/// `None` if there is no bucket of this name.
type Told = Result<Option<Record>, Fault>;

/// Who waits for the next round, by the bucket's name; a name is in here while a task asks for it.
#[derive(Clone, Default)]
pub(crate) struct Rounds(Arc<Mutex<BTreeMap<String, Vec<oneshot::Sender<Told>>>>>);

impl Rounds {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, Vec<oneshot::Sender<Told>>>> {
        self.0.lock().expect("no panic under this lock")
    }

    /// Joins the next round; gives the task to start if there is none.
    fn join(&self, name: &str) -> (oneshot::Receiver<Told>, Option<Asking>) {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting();
        if let Some(next) = waiting.get_mut(name) {
            next.push(sender);
            return (receiver, None);
        }
        waiting.insert(name.into(), vec![sender]);
        (receiver, Some(Asking { rounds: self.clone(), name: name.into(), is_over: false }))
    }
}

/// Round after round for one name, until nobody waits.
struct Asking {
    rounds: Rounds,
    name: String,
    is_over: bool,
}

impl Asking {
    async fn run(mut self, ask: impl AsyncFn(&str) -> Told) {
        while let Some(round) = self.begin() {
            let told = ask(&self.name).await;
            for sender in round {
                let _ = sender.send(told.clone());
            }
        }
    }

    /// Those whose round begins now.
    fn begin(&mut self) -> Option<Vec<oneshot::Sender<Told>>> {
        let mut waiting = self.rounds.waiting();
        let mut round = waiting.get_mut(&self.name).map(std::mem::take).unwrap_or_default();
        round.retain(|sender| !sender.is_canceled());
        if round.is_empty() {
            waiting.remove(&self.name);
            self.is_over = true;
            return None;
        }
        Some(round)
    }
}

/// Lets others begin anew where the task ended before its time; who waited asks for himself.
impl Drop for Asking {
    fn drop(&mut self) {
        if !self.is_over {
            self.rounds.waiting().remove(&self.name);
        }
    }
}

impl<E: Runtime, T: Transport> Cloud<E, T> {
    /// A bucket's record, as of a moment after this was asked.
    pub(crate) async fn record(&self, name: &str) -> Told {
        let (receiver, asking) = self.0.rounds.join(name);
        if let Some(asking) = asking {
            let buckets = self.0.buckets.clone();
            self.0.context.child("rounds").spawn(move |_| asking.run(async move |name: &str| buckets.find(name).await));
        }
        match receiver.await {
            Ok(told) => told,
            Err(_) => self.0.buckets.find(name).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt as _, executor::block_on, future::join};
    use std::cell::Cell;

    fn told(count: u32) -> Told {
        Err(Fault::Local(count.to_string()))
    }

    fn count(told: Result<Told, oneshot::Canceled>) -> u32 {
        match told.unwrap() {
            Err(Fault::Local(count)) => count.parse().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_comes_during_a_round_is_told_by_the_next_and_all_of_them_by_one() {
        let (rounds, asked) = (Rounds::default(), Cell::new(0));
        let (first, asking) = rounds.join("photos");
        let (second, none) = rounds.join("photos");
        assert!(none.is_none(), "one task asks");
        let (answer, waits) = oneshot::channel::<()>();
        let waits = waits.shared();
        let run = asking.unwrap().run(async |name: &str| {
            assert_eq!(name, "photos");
            asked.set(asked.get() + 1);
            let count = asked.get();
            let _ = waits.clone().await;
            told(count)
        });
        let late = async {
            let (late, none) = rounds.join("photos");
            let (later, _) = rounds.join("photos");
            let (other, task) = rounds.join("music");
            assert!(none.is_none() && task.is_some(), "each bucket has rounds of its own");
            drop(other);
            answer.send(()).unwrap();
            (late.await, later.await)
        };
        let ((), (late, later)) = block_on(join(run, late));
        assert_eq!((count(block_on(first)), count(block_on(second))), (1, 1));
        assert_eq!((count(late), count(later)), (2, 2));
        assert!(rounds.waiting().is_empty());
        assert!(rounds.join("photos").1.is_some(), "a new task begins");
    }

    #[test]
    fn nobody_waits_for_a_task_that_is_gone() {
        let rounds = Rounds::default();
        let (first, asking) = rounds.join("photos");
        drop(asking);
        assert!(block_on(first).is_err(), "he asks for himself");
        assert!(rounds.join("photos").1.is_some());
    }
}
