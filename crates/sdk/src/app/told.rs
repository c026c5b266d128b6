//! Tell what was done to keep an app running.

use super::{now_ms, unit::span};
use hodei_types::transport::NodeKey;

/// What was done for an app, or could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Given {
        app: String,
        lease: u64,
    },
    NotGiven {
        app: String,
        lease: u64,
        why: String,
    },
    /// A host knows what is on its volumes.
    Filled {
        app: String,
        lease: u64,
        /// Of each volume when what is on it was stored, in milliseconds since 1970; none of one that begins.
        from: Vec<(String, Option<u64>)>,
    },
    NotFilled {
        app: String,
        lease: u64,
        why: String,
    },
    /// What is on a volume could not be stored.
    NotStored {
        app: String,
        volume: String,
        why: String,
    },
    /// Its replica is lost: nothing is paid for it any more.
    Ended {
        app: String,
        lease: u64,
        node: NodeKey,
    },
    /// The term it was paid for is over.
    Over {
        app: String,
        lease: u64,
    },
    /// Placed again.
    Ordered {
        app: String,
        order: u64,
        replicas: u8,
    },
    NotOrdered {
        app: String,
        why: String,
    },
    /// Further hosts keep a copy of it.
    Spared {
        app: String,
        order: u64,
        copies: u8,
    },
    NotSpared {
        app: String,
        why: String,
    },
    /// What was left of a release that does not run.
    Tidied {
        app: String,
        release: u32,
        leases: usize,
    },
    /// Nothing could be looked at.
    Blind {
        app: String,
        why: String,
    },
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Given { app, lease } => write!(f, "{app}: the host of lease {lease} has what it runs"),
            Self::NotGiven { app, lease, why } => {
                write!(f, "{app}: the host of lease {lease} did not take what it runs: {why}")
            }
            Self::Filled { app, lease, from } => {
                write!(f, "{app}: the host of lease {lease} has its volumes:")?;
                from.iter().try_for_each(|(volume, at_ms)| match at_ms {
                    Some(at_ms) => write!(f, " {volume} as it was stored {} ago", ago(*at_ms)),
                    None => write!(f, " {volume} begins"),
                })
            }
            Self::NotFilled { app, lease, why } => {
                write!(f, "{app}: the host of lease {lease} waits for what is on its volumes: {why}")
            }
            Self::NotStored { app, volume, why } => {
                write!(f, "{app}: what is on volume {volume} is not stored: {why}; what is lost with its host grows")
            }
            Self::Ended { app, lease, node } => {
                write!(f, "{app}: lease {lease} ended, its host {} does not answer", &node.to_string()[..12])
            }
            Self::Over { app, lease } => write!(
                f,
                "{app}: lease {lease} is over, as the term it was paid for is: end it and deploy it again (hodei app delete \
                 {app}), or `hodei app renew {app} 1h` before the end next time"
            ),
            Self::Ordered { app, order, replicas } => write!(f, "{app}: order {order} places {replicas} again"),
            Self::NotOrdered { app, why } => write!(f, "{app}: what is missing could not be placed: {why}"),
            Self::Spared { app, order, copies } => write!(f, "{app}: order {order} keeps {copies} spare copies"),
            Self::NotSpared { app, why } => write!(f, "{app}: spare copies found no host, and are tried again: {why}"),
            Self::Tidied { app, release, leases } => {
                write!(f, "{app}: {leases} leases of release {release} ended, which nobody brought to an end")
            }
            Self::Blind { app, why } => write!(f, "{app}: no look: {why}"),
        }
    }
}

/// How long ago that was.
fn ago(at_ms: u64) -> String {
    span(now_ms().saturating_sub(at_ms) / 1000)
}
