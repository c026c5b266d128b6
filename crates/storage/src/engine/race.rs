//! Ask one after another for the same thing, and don't wait for who is late.

use commonware_runtime::Clock;
use futures::{
    StreamExt as _,
    future::{Either, select},
    pin_mut,
    stream::FuturesUnordered,
};
use std::time::Duration;

/// Who did not answer by then is joined by the next: some hundred times what a living one needs, and a twentieth of
/// the time after which one that is out of reach is given up.
pub(super) const JOIN: Duration = Duration::from_millis(200);

/// The first answer: so many are asked at once, one more for each that fails, and one more whenever none answered for
/// [`JOIN`]. `lost` is told of failures; `None` once all failed. Who is still being asked then is asked no more.
pub(super) async fn race<V, X, F>(
    context: &impl Clock,
    asks: impl IntoIterator<Item = F>,
    at_once: usize,
    mut lost: impl FnMut(X),
) -> Option<V>
where
    F: Future<Output = Result<V, X>>,
{
    let mut asks = asks.into_iter();
    let mut running: FuturesUnordered<F> = asks.by_ref().take(at_once).collect();
    while !running.is_empty() {
        let next = {
            let (sleep, next) = (context.sleep(JOIN), running.next());
            pin_mut!(sleep, next);
            match select(next, sleep).await {
                Either::Left((next, _)) => next,
                Either::Right(_) => None,
            }
        };
        match next {
            Some(Ok(value)) => return Some(value),
            Some(Err(error)) => {
                lost(error);
                running.extend(asks.next());
            }
            None => running.extend(asks.next()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_runtime::{Runner as _, deterministic};

    /// Each answers after so many milliseconds, or fails then; how long it took, what came, and how many failed.
    fn played(answers: Vec<(u64, Result<u8, u8>)>, at_once: usize) -> (Duration, Option<u8>, Vec<u8>) {
        deterministic::Runner::default().start(|context| async move {
            let (start, mut failed) = (context.current(), Vec::new());
            let asks = answers.into_iter().map(|(millis, answer)| {
                let sleep = context.sleep(Duration::from_millis(millis));
                async move {
                    sleep.await;
                    answer
                }
            });
            let won = race(&context, asks, at_once, |error| failed.push(error)).await;
            (context.current().duration_since(start).unwrap(), won, failed)
        })
    }

    #[test]
    fn the_dead_cost_a_moment_each_and_not_their_patience() {
        let dead = || (4_000, Err(0));
        let (took, won, failed) = played(vec![dead(), dead(), dead(), (5, Ok(7))], 1);
        assert_eq!((won, failed.len()), (Some(7), 0));
        assert!(took < 4 * JOIN, "{took:?}");
        let (took, won, failed) = played(vec![(1, Err(1)), (1, Err(2)), (1, Ok(3))], 1);
        assert_eq!((won, failed), (Some(3), vec![1, 2]));
        assert!(took < JOIN, "who fails at once is followed at once: {took:?}");
    }

    #[test]
    fn who_is_only_late_still_wins_and_all_that_fail_are_told() {
        let (_, won, _) = played(vec![(900, Ok(1)), (4_000, Err(0))], 1);
        assert_eq!(won, Some(1));
        let (_, won, failed) = played(vec![(900, Err(1)), (4_000, Err(2)), (3, Err(3))], 2);
        assert_eq!((won, failed), (None, vec![3, 1, 2]));
        assert_eq!(played(Vec::new(), 3).1, None);
    }
}
