//! Hand each incoming stream to whoever speaks its protocol.
//!
//! One task per stream; at most [`STREAMS_MAX`] at once, of which shards have limits of their own. When all
//! are taken the listener waits, and with it QUIC's flow control.

#[cfg(feature = "host")]
use crate::host::Host;
use crate::{provider::Provider, tasks::Task};
use commonware_runtime::tokio::Context;
use hodei_link::Listener;
use hodei_types::{
    chain::Chain,
    transport::{CHAIN, SHARD},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

/// Streams of all protocols at once.
const STREAMS_MAX: usize = 2048;

/// The longest question waits for a block; a peer that reads slower than this is not worth a place.
const CHAIN_TIMEOUT: Duration = Duration::from_secs(hodei_ledger::wire::WAIT_SECS_MAX + 20);

/// Upon `stop` whoever waits for a block asks somebody else after this; answers that are ready are given within it.
const FAREWELL: Duration = Duration::from_millis(500);

/// What this node answers besides the chain.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) provider: Option<Provider<Context>>,
    #[cfg(feature = "host")]
    pub(crate) host: Option<Host<Context>>,
}

/// Serves until `stop`, then lets what is being served end, but questions that wait for blocks to come. Ends earlier only
/// with the link.
pub(crate) async fn serve(
    mut listener: Listener,
    chain: Arc<dyn Chain>,
    served: Served,
    task: Task,
    mut stop: watch::Receiver<bool>,
) {
    let free = Arc::new(Semaphore::new(STREAMS_MAX));
    let mut open = JoinSet::new();
    task.doing("serving");
    loop {
        let permit = free.clone().acquire_owned().await.expect("never closed");
        let incoming = tokio::select! {
            incoming = listener.accept() => incoming,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some(incoming) = incoming else { break };
        while open.try_join_next().is_some() {}
        let (chain, served, mut stop) = (chain.clone(), served.clone(), stop.clone());
        open.spawn(async move {
            match incoming.protocol {
                CHAIN => {
                    let serve = hodei_ledger::wire::serve(&*chain, incoming.sink, incoming.stream);
                    let stopped = async {
                        let _ = stop.wait_for(|stop| *stop).await;
                        tokio::time::sleep(FAREWELL).await;
                    };
                    tokio::select! {
                        served = tokio::time::timeout(CHAIN_TIMEOUT, serve) => match served {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => tracing::debug!(from = %incoming.from, %error, "chain stream"),
                            Err(_) => tracing::debug!(from = %incoming.from, "chain stream took too long"),
                        },
                        () = stopped => {}
                    }
                }
                SHARD => {
                    if let Some(provider) = served.provider {
                        provider.serve(incoming).await;
                    }
                }
                #[cfg(feature = "host")]
                hodei_types::transport::APP => {
                    if let Some(host) = served.host {
                        host.serve(incoming).await;
                    }
                }
                // The link refuses protocols this node did not name.
                _ => {}
            }
            drop(permit);
        });
    }
    task.doing("letting open streams end");
    while open.join_next().await.is_some() {}
}
