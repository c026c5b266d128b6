//! Hold a process that may be asked, and what one on call has beside it.

use super::{calls::Calls, room::Taken};
use futures::future::BoxFuture;
use hodei_sandbox::{Fence, Sandbox};
use hodei_types::app::{
    transcript::{COLD_HEADER as COLD, is_of_host},
    wire::{Answer, HEADER_BYTES_MAX, HEADERS_MAX, Header},
};
use std::{sync::Mutex, time::Duration};
use tokio::time::Instant;

/// What one on call has beside others.
pub(super) struct OnCall {
    pub(super) calls: Mutex<Calls>,
    /// Held while a voucher is written.
    pub(super) writing: tokio::sync::Mutex<()>,
}

/// A process that may be asked.
pub(super) struct Warm {
    pub(super) sandbox: Sandbox,
    /// From nothing to ready, as who asks it waits.
    pub(super) cold: Duration,
    pub(super) asked: Instant,
    /// What it takes, if no lease has that.
    _room: Option<Taken>,
}

impl Warm {
    pub(super) fn new(sandbox: Sandbox, cold: Duration, room: Option<Taken>) -> Self {
        Self { sandbox, cold, asked: Instant::now(), _room: room }
    }

    /// Fences around it that do not stand whole, in words.
    pub(super) fn missing(&self) -> String {
        let told = self.sandbox.confinement().fences().into_iter().filter_map(|(name, fence)| match fence {
            Fence::Stands => None,
            Fence::Partly(words) => Some(format!("{name} in part: {words}")),
            Fence::Missing(words) => Some(format!("no {name}: {words}")),
        });
        told.collect::<Vec<_>>().join("; ")
    }
}

/// Starts a process for one on call, if there is room.
pub(super) type Start<'a> = BoxFuture<'a, Result<Warm, Answer>>;

/// Says how long who asked waited for a start, if he did; a component says nothing under such a name.
pub(super) fn mark(headers: &mut Vec<Header>, cold_ms: Option<u64>) {
    headers.retain(|(name, _)| !is_of_host(name));
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let fits = headers.len() < HEADERS_MAX && bytes + 2 * COLD.len() <= HEADER_BYTES_MAX;
    let cold_ms = cold_ms.filter(|_| fits);
    headers.extend(cold_ms.map(|ms| (COLD.to_owned(), format!("{ms}ms").into_bytes())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_cannot_say_what_it_cost() {
        let mut headers = vec![("X-Hodei-Price".to_owned(), b"1".to_vec()), ("x".into(), b"2".to_vec())];
        mark(&mut headers, Some(7));
        assert_eq!(headers, [("x".to_owned(), b"2".to_vec()), (COLD.into(), b"7ms".to_vec())]);
        mark(&mut headers, None);
        assert_eq!(headers, [("x".to_owned(), b"2".to_vec())]);
        // Where what it says leaves no room, nothing is added.
        let full = vec![("y".to_owned(), vec![0; HEADER_BYTES_MAX - 1])];
        let mut headers = full.clone();
        mark(&mut headers, Some(7));
        assert_eq!(headers, full);
    }
}
