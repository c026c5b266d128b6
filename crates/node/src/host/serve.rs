//! Answer `hodei/app/1`: take components and containers and give them on, ask replicas, say how they are.
//!
//! A request is taken whole before its replica is asked, so that who sends slowly holds up nobody but himself; its
//! answer goes out as it comes. Anybody may ask a replica, as anybody may ask a web server; its log is read by who has
//! the viewer's seal.

use super::{
    Host,
    replica::{BUSY_MS, Replica, give},
    transcript::Asked,
};
use crate::{gate::Reserved, journal::now_ms, provider::lock};
use alloy_primitives::Address;
use bytes::Bytes;
use commonware_runtime::{Sink, Storage, Stream};
use futures::FutureExt as _;
use hodei_ledger::wire::receive;
use hodei_types::{
    abi::{ILeases, LEASES},
    app::{
        Manifest,
        wire::{Answer, CHUNK_BYTES_MAX, FRAME_BYTES_MAX, Header, Request},
    },
    call::ask,
    chain::ChainError,
    transport::{Incoming, NodeKey},
};
use http_body_util::Full;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Who opens a stream says at once what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest component takes this long at 2 Mbit/s, and a body no longer.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// So long may an answer take to be accepted.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Leases of one asking host that are looked through.
const ASKER_LEASES_MAX: usize = 1280;
/// What a wrong seal is told.
pub(super) const NOT_SEALED: &str = "this seal is not the viewer's for this lease and host, or older than a minute: \
     compare the clocks, and use the wallet that deployed the app";

impl<E: Storage> Host<E> {
    /// Serves one stream to its end. Whatever goes wrong is the peer's affair or in the log.
    pub async fn serve<Si: Sink, St: Stream>(&self, incoming: Incoming<Si, St>) {
        let Incoming { from, mut sink, mut stream, .. } = incoming;
        let until = Instant::now() + ANSWER_TIMEOUT;
        let Some(place) = self.0.gate.enter(from).await else {
            drop(stream);
            give(&mut sink, &Answer::Busy { retry_after_ms: BUSY_MS }, until).await;
            return;
        };
        let heard = tokio::time::timeout(REQUEST_TIMEOUT, receive(&mut stream, FRAME_BYTES_MAX)).await;
        let Ok(Ok(bytes)) = heard else { return };
        let answer = match Request::decode(&bytes) {
            Ok(Request::Give { lease, manifest }) => self.take(lease, &manifest, &mut sink, &mut stream).await,
            Ok(Request::Fetch { workload }) => return self.give_on(from, workload, &mut sink, &mut stream).await,
            Ok(Request::Connect { lease, app, port }) => {
                // It may stand for days: its own limit is the container's.
                drop(place);
                return self.connect(from, (lease, app, port), sink, stream).await;
            }
            Ok(Request::Enter { lease, seal, way }) => {
                drop(place);
                return self.let_in((lease, seal, way), sink, stream).await;
            }
            Ok(Request::Ask { lease, method, target, headers, voucher }) => {
                let Some(replica) = self.leased(lease).await else {
                    drop(stream);
                    give(&mut sink, &Answer::Gone, until).await;
                    return;
                };
                let refusal = match replica.unready() {
                    None => self.admit(&replica, voucher).await,
                    unready => unready,
                };
                if let Some(answer) = refusal {
                    drop(stream);
                    give(&mut sink, &answer, until).await;
                    return;
                }
                match self.body(&replica, &mut stream).await {
                    Ok((body, reserved)) => match request(&method, &target, headers.clone(), body.clone()) {
                        Ok(request) if self.0.containers.is_some() => {
                            replica.forward(request, &mut sink).await;
                            drop(reserved);
                            return;
                        }
                        Ok(request) => {
                            let start = self.warm(&replica).boxed();
                            let Some(ran) = replica.ask(request, start, &mut sink).await else { return };
                            let is_taken = ran.is_taken;
                            let asked = Asked { method, target, headers, body };
                            let transcript = self.take_down(&replica, asked, ran).await;
                            drop(reserved);
                            if is_taken {
                                self.give_transcript(transcript, &mut sink, &mut stream).await;
                            }
                            return;
                        }
                        Err(words) => Answer::Refused { words },
                    },
                    Err(answer) => answer,
                }
            }
            Ok(Request::Look { lease, since, seal }) => match self.leased(lease).await {
                Some(replica) => {
                    let (chain_id, node) = (self.0.parts.chain_id, &self.0.id);
                    let viewer = replica.viewer();
                    let sealed = seal.zip(viewer);
                    let is_sealed =
                        sealed.is_some_and(|(seal, viewer)| seal.is_of(&viewer, chain_id, node, lease, now_ms()));
                    match seal {
                        // Before its manifest is here nobody is known who may read its log; it is empty then.
                        Some(_) if viewer.is_some() && !is_sealed => refused(NOT_SEALED),
                        _ => Answer::Replica(Box::new(replica.look(is_sealed.then_some(since)))),
                    }
                }
                None => Answer::Gone,
            },
            Ok(Request::Ping { lease }) => match self.leased(lease).await {
                Some(replica) => Answer::State(replica.state()),
                None => Answer::Gone,
            },
            Ok(Request::Concur { lease, generation, round }) => self.concur(from, lease, generation, round),
            Ok(Request::Sample { lease, from: first, seal }) => match self.leased(lease).await {
                Some(replica) => {
                    drop(stream);
                    let (answer, body) = self.sample(&replica, first, &seal);
                    if give(&mut sink, &answer, until).await && !body.is_empty() {
                        give(&mut sink, &Answer::Bytes(body), until).await;
                    }
                    return;
                }
                None => Answer::Gone,
            },
            Ok(Request::Want { .. }) => {
                refused("a blob is of the container that was fetched before it on the same stream")
            }
            Ok(Request::Transcribe) => refused("a transcript is of the request before it on the same stream"),
            Ok(Request::Bytes(_) | Request::End | Request::Resize { .. }) => {
                refused("a body without a request before it")
            }
            Err(error) => refused(error),
        };
        // Nothing more is read: who still sends learns so.
        drop(stream);
        give(&mut sink, &answer, Instant::now() + ANSWER_TIMEOUT).await;
    }

    /// The replica of a lease; the ledger is asked once if the lease is not known, for it may be a block old.
    pub(super) async fn leased(&self, lease: u64) -> Option<Arc<Replica>> {
        if let Some(replica) = self.replica(lease) {
            return Some(replica).filter(|replica| !replica.is_over());
        }
        if let Err(error) = self.refresh_soon().await {
            tracing::warn!(%error, "the ledger was not asked about a lease");
        }
        self.replica(lease).filter(|replica| !replica.is_over())
    }

    async fn take<Si: Sink, St: Stream>(
        &self,
        lease: u64,
        manifest: &Manifest,
        sink: &mut Si,
        stream: &mut St,
    ) -> Answer {
        let Some(replica) = self.leased(lease).await else { return Answer::Gone };
        if replica.workload != manifest.workload() {
            return refused(format!(
                "lease {lease} is for workload {}, and this manifest is {}",
                hex::encode(replica.workload),
                hex::encode(manifest.workload())
            ));
        }
        match (&self.0.containers, manifest.container()) {
            (None, None) => {}
            (Some(containers), Some(_)) => return self.take_image(containers, manifest, sink, stream).await,
            (None, Some(_)) => return refused("this host runs components, and this is a container: order runtime oci"),
            (Some(_), None) => {
                return refused("this host runs containers, and this is a component: order runtime wasm");
            }
        }
        if self.0.shelf.has(&replica.workload) {
            return Answer::Given;
        }
        let Some(_reserved) = self.0.queue.reserve(manifest.bytes()) else {
            return Answer::Busy { retry_after_ms: BUSY_MS };
        };
        let bytes = manifest.bytes() as usize;
        let reading = async {
            let mut wasm = Vec::with_capacity(bytes.min(CHUNK_BYTES_MAX));
            while wasm.len() < bytes {
                let frame = receive(stream, FRAME_BYTES_MAX).await.map_err(|error| error.to_string())?;
                match Request::decode(&frame).map_err(|error| error.to_string())? {
                    Request::Bytes(chunk) if wasm.len() + chunk.len() <= bytes => wasm.extend_from_slice(&chunk),
                    Request::Bytes(_) => return Err(format!("more than the {bytes} bytes its manifest says")),
                    _ => return Err("something else than the component's bytes".into()),
                }
            }
            Ok(wasm)
        };
        let wasm = match tokio::time::timeout(BODY_TIMEOUT, reading).await {
            Ok(Ok(wasm)) => wasm,
            Ok(Err(words)) => return refused(format!("the component did not arrive: {words}")),
            Err(_) => return refused(format!("the component did not arrive within {} s", BODY_TIMEOUT.as_secs())),
        };
        match self.keep(manifest.clone(), wasm).await {
            Ok(()) => Answer::Given,
            Err(words) => refused(words),
        }
    }

    /// Puts a component on disk, if it is what its manifest names, and wakes who waits for it.
    pub(super) async fn keep(&self, manifest: Manifest, wasm: Vec<u8>) -> Result<(), String> {
        let (host, workload) = (self.clone(), manifest.workload());
        // Hashing and writing 32 MiB would hold up everybody else.
        let kept = tokio::task::spawn_blocking(move || {
            manifest.check_component(&wasm).map_err(|error| error.to_string())?;
            host.0.shelf.keep(&manifest, &wasm).map_err(|error| error.to_string())
        });
        kept.await.map_err(|error| error.to_string())??;
        self.wake(&workload);
        Ok(())
    }

    /// Wakes whoever waits for that workload.
    pub(super) fn wake(&self, workload: &[u8; 32]) {
        let replicas: Vec<_> = crate::provider::lock(&self.0.replicas).values().cloned().collect();
        replicas.iter().filter(|replica| replica.workload == *workload).for_each(|replica| replica.wake.notify_one());
    }

    /// Gives a component, or a container with its variables and files, to a host that holds a lease of the same workload of
    /// an owner whose lease this host runs: anybody may order what has that hash, which the ledger names.
    async fn give_on<Si: Sink, St: Stream>(&self, from: NodeKey, workload: [u8; 32], sink: &mut Si, stream: &mut St) {
        let until = Instant::now() + ANSWER_TIMEOUT;
        let image = self.0.containers.as_ref().and_then(|it| Some((it, it.images.get(&workload)?)));
        if image.is_none() && !self.0.shelf.has(&workload) {
            give(sink, &refused("this host does not have it"), until).await;
            return;
        }
        match self.is_leased_to(from, workload).await {
            Ok(true) => {}
            Ok(false) => {
                let words =
                    "the ledger knows no running lease of it on the asking node, of an owner whose this node runs";
                give(sink, &refused(words), until).await;
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "the ledger was not asked about another host");
                give(sink, &Answer::Busy { retry_after_ms: BUSY_MS }, until).await;
                return;
            }
        }
        if let Some((containers, manifest)) = image {
            return self.give_image(containers, manifest, sink, stream).await;
        }
        let Ok(Some((manifest, wasm))) = self.0.shelf.read(workload).await else {
            give(sink, &refused("this host does not have it whole"), until).await;
            return;
        };
        let mut is_taken = give(sink, &Answer::Manifest(manifest), until).await;
        for chunk in wasm.chunks(CHUNK_BYTES_MAX) {
            is_taken = is_taken && give(sink, &Answer::Bytes(chunk.to_vec()), until).await;
        }
    }

    async fn is_leased_to(&self, node: NodeKey, workload: [u8; 32]) -> Result<bool, ChainError> {
        let owners: BTreeSet<Address> = {
            let replicas = lock(&self.0.replicas);
            replicas.values().filter(|replica| replica.workload == workload).map(|replica| replica.owner).collect()
        };
        self.has_lease(node, |lease| lease.workload.0 == workload && owners.contains(&lease.owner)).await
    }

    /// Whether a node has a running lease of that kind.
    pub(super) async fn has_lease(
        &self,
        node: NodeKey,
        is_one: impl Fn(&ILeases::Lease) -> bool + Send,
    ) -> Result<bool, ChainError> {
        let ids = super::register::leases_of(self.chain(), node.0.into(), ASKER_LEASES_MAX).await?;
        for batch in ids.chunks(super::follow::MANY_MAX) {
            let leases = ask(self.chain(), LEASES, &ILeases::manyCall { leases: batch.to_vec() }).await?;
            if leases.iter().any(&is_one) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A request's body, whole, and the room it takes here.
    async fn body<St: Stream>(&self, replica: &Replica, stream: &mut St) -> Result<(Bytes, Vec<Reserved>), Answer> {
        let limit = replica.request_bytes();
        let mut reserved = Vec::new();
        let mut body = Vec::new();
        let reading = async {
            loop {
                let frame = receive(stream, FRAME_BYTES_MAX).await.map_err(refused)?;
                match Request::decode(&frame).map_err(refused)? {
                    Request::End => return Ok(()),
                    Request::Bytes(chunk) => {
                        if (body.len() + chunk.len()) as u64 > limit {
                            return Err(refused(format!("the body is longer than the {limit} bytes this app takes")));
                        }
                        let room = self.0.queue.reserve(chunk.len() as u64);
                        reserved.push(room.ok_or(Answer::Busy { retry_after_ms: BUSY_MS })?);
                        body.extend_from_slice(&chunk);
                    }
                    _ => return Err(refused("something else than a body")),
                }
            }
        };
        match tokio::time::timeout(BODY_TIMEOUT, reading).await {
            Ok(done) => done?,
            Err(_) => return Err(refused(format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs()))),
        }
        Ok((body.into(), reserved))
    }
}

pub(super) fn refused(words: impl ToString) -> Answer {
    Answer::Refused { words: words.to_string() }
}

/// The request as a component hears it: with a name of its own, for its address says whom to ask.
pub(super) fn request(
    method: &str,
    target: &str,
    headers: Vec<Header>,
    body: Bytes,
) -> Result<http::Request<Full<Bytes>>, String> {
    if !target.starts_with('/') {
        return Err(format!("the target {target:?} does not begin with /"));
    }
    let host = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = host.and_then(|(_, value)| std::str::from_utf8(value).ok()).unwrap_or("app.localhost");
    let mut request = http::Request::builder().method(method).uri(format!("http://{host}{target}"));
    for (name, value) in &headers {
        request = request.header(name.as_str(), value.as_slice());
    }
    request.body(Full::new(body)).map_err(|error| format!("the request is not HTTP: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_asked_under_the_name_it_came_by() {
        let headers = vec![("host".to_owned(), b"shop.localhost:8080".to_vec()), ("x".into(), b"1".to_vec())];
        let made = request("POST", "/a?b=c", headers, Bytes::from_static(b"body")).unwrap();
        assert_eq!(made.uri().to_string(), "http://shop.localhost:8080/a?b=c");
        assert_eq!((made.method().as_str(), made.headers()["x"].as_bytes()), ("POST", b"1".as_slice()));
        let bare = request("GET", "/", Vec::new(), Bytes::new()).unwrap();
        assert_eq!(bare.uri().host(), Some("app.localhost"));
    }

    #[test]
    fn what_is_no_request_is_told() {
        let one = |method: &str, target: &str, name: &str, value: &[u8]| {
            request(method, target, vec![(name.into(), value.into())], Bytes::new()).is_err()
        };
        assert!(one("GET", "http://elsewhere/", "x", b"1"));
        assert!(one("G T", "/", "x", b"1"));
        assert!(one("GET", "/ ", "x", b"1"));
        assert!(one("GET", "/", "x y", b"1"));
        assert!(one("GET", "/", "x", b"1\n2"));
        assert!(one("GET", "/", "host", b"a b"));
    }
}
