//! Keep a running node within its caps, and its pool up to date.
//!
//! Upon each second: what was carried is added to the day's, and the caps decide whether the node rests. Every few
//! seconds the pool is asked how the device stands; upon a new address or space the pool is told, until it knows. A
//! second may carry a little more than the cap; after a crash at most the last minute of a day's transfer is forgotten.

use crate::{
    files::Files,
    process::{Shared, Wish, lock},
};
use hodei_node::{
    Running,
    pool::{Answer, Link, Request, Standing, Word, ask, give_back},
};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two questions to the pool.
const ASK_EVERY: u32 = 10;
/// Looks between two times that the day's transfer is written down.
const REMEMBER_EVERY: u32 = 60;

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Minds a node until it is stopped or ends by itself.
pub(crate) async fn mind(
    running: Running,
    files: Files,
    word: Word,
    shared: Arc<Shared>,
    mut wishes: mpsc::Receiver<Wish>,
    stop: oneshot::Receiver<()>,
) {
    let (link, account, tasks) = (running.link().clone(), running.account().clone(), running.tasks().clone());
    let provider = running.provider().cloned();
    let node = tokio::spawn(running.until(async {
        // Dropped without a word it is the same.
        _ = stop.await;
    }));
    tokio::pin!(node);
    let (mut carried, mut seen, mut turn) = (files.carried(), 0, 0u32);
    let mut asked = JoinSet::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = &mut node => {
                if let Ok(Err(error)) = ended {
                    lock(&shared.live).ended = Some(error.to_string());
                }
                break;
            }
            Some(wish) = wishes.recv() => match wish {
                Wish::Ask(request, answer) => {
                    let (link, door) = (link.clone(), word.door.clone());
                    asked.spawn(async move { _ = answer.send(ask(&link, &door, &request).await); });
                }
                Wish::GiveBack(done) => {
                    let (account, to) = (account.clone(), word.operator);
                    asked.spawn(async move {
                        // What stays behind is less than a day's fees.
                        _ = give_back(&account, to).await;
                        _ = done.send(());
                    });
                }
            },
            _ = look.tick() => {
                let Some(provider) = &provider else { continue };
                let total = provider.carried_bytes();
                let totals = carried.add(total.saturating_sub(seen), now_s());
                let today = totals.day;
                seen = total;
                let conditions = *lock(&shared.conditions);
                let rest = lock(&shared.caps).as_ref().and_then(|caps| caps.rest(conditions, totals));
                provider.set_resting(rest.is_some());
                let ill = ill(provider.is_closed(), provider.is_draining(), &tasks.list());
                {
                    let mut live = lock(&shared.live);
                    live.held_bytes = provider.store().held_bytes();
                    live.pledged_bytes = lock(&shared.caps).as_ref().map_or(0, |caps| caps.space_bytes);
                    (live.today_bytes, live.rest, live.ill) = (today, rest, ill);
                }
                if turn.is_multiple_of(REMEMBER_EVERY) {
                    files.keep_carried(carried);
                }
                if turn.is_multiple_of(ASK_EVERY) {
                    let (link, word, files, shared) = (link.clone(), word.clone(), files.clone(), shared.clone());
                    asked.spawn(async move {
                        if let Some(standing) = tell(&link, &word, &files, &shared).await {
                            let mut live = lock(&shared.live);
                            (live.standing, live.answered) = (Some(standing), Some(Instant::now()));
                        }
                    });
                }
                turn = turn.wrapping_add(1);
                while asked.try_join_next().is_some() {}
            }
        }
    }
    files.keep_carried(carried);
    asked.shutdown().await;
}

/// What keeps a node from being worth anything.
fn ill(
    is_closed: bool,
    is_draining: bool,
    tasks: &std::collections::BTreeMap<&'static str, hodei_node::tasks::Status>,
) -> Option<String> {
    if is_closed {
        return Some("the ledger closed it for missed proofs: leave the pool, and join with a new folder".into());
    }
    if is_draining {
        return Some("it is leaving the pool".into());
    }
    let (name, status) = tasks.iter().find(|(_, status)| status.error.is_some() || status.ended)?;
    Some(format!("{name}: {}", status.error.as_deref().unwrap_or("ended")))
}

/// Asks how the device stands, after telling what changed of it.
async fn tell(link: &Link, word: &Word, files: &Files, shared: &Shared) -> Option<Standing> {
    let kept = files.read().ok().flatten()?;
    let (place, bytes) = (kept.place(word), kept.caps.space_bytes);
    let is_told = kept.told_addresses == place.advertise && kept.told_bytes == bytes;
    let is_somewhere = !(place.advertise.is_empty() && place.relays.is_empty());
    if !is_told && is_somewhere {
        let moved = Request::Moved { offer: kept.offer(&place) };
        if let Ok(Answer::Done) = ask(link, &word.door, &moved).await {
            // What the app changed meanwhile stays, and is told next time.
            _ = files.change(shared, |kept| (kept.told_addresses, kept.told_bytes) = (place.advertise, bytes));
        }
    }
    match ask(link, &word.door, &Request::State).await {
        Ok(Answer::State(standing)) => Some(standing),
        _ => None,
    }
}
