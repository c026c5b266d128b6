//! Know since when a node is reached through a relay of its own, or is not.

use crate::{caps::keep::now_s, provider::Provider, tasks::Task};
use commonware_runtime::Storage;
use hodei_link::Link;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A connection is made anew in less; longer without one is told as a failure, and then once a minute.
const LOOKS_UNTIL_TOLD: u32 = 10;
const LOOKS_BETWEEN: u32 = 60;

/// The relays a node names, and whether one of them has it.
pub struct Reached {
    link: Link,
    relays: Vec<SocketAddr>,
    state: Mutex<State>,
}

/// Whether it is so, and since when, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    connected: bool,
    since_s: u64,
}

impl State {
    /// The state after a look.
    fn after(self, connected: bool, now_s: u64) -> Self {
        if self.connected == connected { self } else { Self { connected, since_s: now_s } }
    }
}

impl Reached {
    pub(crate) fn new(link: Link, relays: Vec<SocketAddr>) -> Arc<Self> {
        Arc::new(Self { link, relays, state: Mutex::new(State { connected: false, since_s: now_s() }) })
    }

    /// Whether a relay of its own has this node now.
    pub fn is_connected(&self) -> bool {
        self.look().connected
    }

    fn look(&self) -> State {
        let connected = self.relays.iter().any(|relay| self.link.is_at(*relay));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.after(connected, now_s());
        *state
    }

    /// Those that have this node now.
    pub fn connected(&self) -> Vec<SocketAddr> {
        self.relays.iter().filter(|relay| self.link.is_at(**relay)).copied().collect()
    }

    fn named(&self) -> String {
        self.relays.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// For `/status`.
    pub(crate) fn status(&self) -> serde_json::Value {
        let State { connected, since_s } = self.look();
        serde_json::json!({ "connected": connected, "since_s": since_s })
    }

    /// Each relay with whether it has this node; of several only one is kept a connection to.
    pub fn relays(&self) -> Vec<serde_json::Value> {
        let told = |at: &SocketAddr| serde_json::json!({ "address": at, "connected": self.link.is_at(*at) });
        self.relays.iter().map(told).collect()
    }

    /// Waits until a relay has this node, `patience` at most; whether one has.
    pub async fn wait(&self, patience: Duration) -> bool {
        let found = async {
            while !self.is_connected() {
                tokio::time::sleep(LOOK_EVERY / 10).await;
            }
        };
        tokio::time::timeout(patience, found).await.is_ok()
    }

    /// Follows it until `stop`: the provider does not offer what nobody reaches, and the loop is unwell meanwhile.
    pub(crate) async fn follow<E: Storage>(
        self: Arc<Self>,
        provider: Option<Provider<E>>,
        task: Task,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut looks = 0u32;
        loop {
            let state = self.look();
            if let Some(provider) = &provider {
                provider.set_reached(state.connected);
            }
            match state.connected {
                true => {
                    looks = 0;
                    task.doing("reached through a relay");
                    task.passed();
                }
                false => {
                    looks = looks.saturating_add(1);
                    task.doing(format!("no relay of {} answers", self.named()));
                    if looks.saturating_sub(LOOKS_UNTIL_TOLD).is_multiple_of(LOOKS_BETWEEN) && looks >= LOOKS_UNTIL_TOLD
                    {
                        let text = format!("no relay of {} answers: nobody reaches this node", self.named());
                        task.failed(&text);
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_as_old_as_its_last_change() {
        let lost = State { connected: true, since_s: 5 }.after(true, 7).after(false, 9);
        assert_eq!(lost, State { connected: false, since_s: 9 });
        assert_eq!(lost.after(false, 20), lost);
        assert_eq!(lost.after(true, 21), State { connected: true, since_s: 21 });
    }
}
