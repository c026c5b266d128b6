//! Accept connections to apps, and pass requests to replicas, within limits.

use super::question::{Named, heard, named, question};
use crate::{
    expect,
    s3::{
        patience::Patient,
        silence::{Heard, Silence},
    },
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, future::Either, stream};
use hodei_sdk::app::{HostError, Pick, Question, Route, Routes, request};
use hodei_types::{app::is_name, transport::Transport};
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Frame, Incoming},
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// Connections served at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// How long a connection may take to send its headers; slow senders hold a slot otherwise.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a peer may take nothing of an answer, or send nothing of a body.
const TAKING_TIMEOUT: Duration = Duration::from_secs(60);
const SENDING_TIMEOUT: Duration = Duration::from_secs(60);
/// A body of at most so many bytes is read first, so that it can be sent again.
const BUFFERED_BYTES_MAX: u64 = 64 << 10;
/// Of an answer that is paid for so much is heard before it is passed on, to say what it cost if that is all.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// Replicas a request is offered to.
const TRIES: usize = 3;
/// While a replica is waited for, its routes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Who comes too early may come again after that.
const RETRY_SECS: u64 = 2;

type Answer = Response<UnsyncBoxBody<Bytes, HostError>>;

/// Answers for the apps of `routes` on `listener` until the task is dropped; hosts are reached over `link`.
pub async fn serve<T: Transport>(listener: TcpListener, link: T, routes: Routes) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "app: accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        socket.set_nodelay(true).ok();
        let (link, routes) = (link.clone(), routes.clone());
        tokio::spawn(async move {
            connection(socket, link, routes).await;
            drop(slot);
        });
    }
}

async fn connection<T: Transport>(socket: TcpStream, link: T, routes: Routes) {
    let handler = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (link, routes) = (link.clone(), routes.clone());
        async move { Ok::<_, Infallible>(answer(&link, &routes, request).await) }
    });
    let socket = Patient::new(socket, TAKING_TIMEOUT);
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    if let Err(error) = builder.serve_connection(TokioIo::new(socket), handler).await {
        tracing::debug!(%error, "app: connection ended");
    }
}

async fn answer<T: Transport>(link: &T, routes: &Routes, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let waits = expect::waits(head.version, &head.headers);
    let (body, silence) = Heard::new(body, SENDING_TIMEOUT);
    let mut answer = match named(&head) {
        Named::App(name) => match question(&head) {
            Ok(asked) => pass(link, routes, (&name, &head.method), asked, (body, &silence)).await,
            Err(status) => said(status, "The request is beyond what an app takes."),
        },
        Named::Nobody => {
            said(StatusCode::NOT_FOUND, "Apps are at their own names: http://NAME.localhost, and this port.")
        }
        Named::Stranger => said(StatusCode::FORBIDDEN, "This door answers for names under localhost alone."),
    };
    if waits && !silence.is_asked() {
        expect::close(answer.headers_mut());
    }
    answer
}

/// A request's body, to be sent once or again.
enum Carried {
    Whole(Bytes),
    Passing(Heard<Incoming>),
}

impl Carried {
    async fn of(body: Heard<Incoming>) -> Result<Self, Answer> {
        let is_short = body.size_hint().upper().is_some_and(|most| most <= BUFFERED_BYTES_MAX);
        if !is_short {
            return Ok(Self::Passing(body));
        }
        match body.collect().await {
            Ok(whole) => Ok(Self::Whole(whole.to_bytes())),
            Err(_) => Err(said(StatusCode::REQUEST_TIMEOUT, "The request's body did not come.")),
        }
    }
}

async fn pass<T: Transport>(
    link: &T,
    routes: &Routes,
    (name, method): (&str, &Method),
    asked: Question,
    (body, silence): (Heard<Incoming>, &Silence),
) -> Answer {
    if !is_name(name) {
        return unknown(name);
    }
    let (mut tried, mut is_paid) = (BTreeSet::new(), false);
    // Before the body is read: nobody sends one to what is not there.
    let mut picked = routes.pick(name, &tried, Instant::now());
    if matches!(picked, Pick::Unknown) {
        // It may have been deployed since the last look.
        routes.look().await;
        picked = routes.pick(name, &tried, Instant::now());
    }
    let mut held = match picked {
        Pick::Unknown => return unknown(name),
        Pick::None => return later(&format!("No replica of {name} is ready.")),
        Pick::To(held) => held,
    };
    let mut carried = match Carried::of(body).await {
        Ok(carried) => Some(carried),
        Err(answer) => return answer,
    };
    loop {
        let route = held.route.clone();
        let (sent, again) = match carried.take() {
            Some(Carried::Whole(bytes)) => (Either::Left(once(bytes.clone())), Some(Carried::Whole(bytes))),
            Some(Carried::Passing(body)) => (Either::Right(passing(body)), None),
            None => return said(StatusCode::BAD_GATEWAY, "The request was passed on already."),
        };
        carried = again;
        let question = Question { lease: route.lease, pay: route.pay.clone(), ..asked.clone() };
        let asked = request(link, &route.peer, question, sent, route.deadline);
        let is_repeatable = carried.is_some() && method.is_idempotent();
        // A host that died answers nothing: who looks at it knows sooner than a deadline does.
        let answered = tokio::select! {
            answered = asked => answered,
            () = missed(routes, name, &route), if is_repeatable => Err(HostError::Late(LOOK_EVERY)),
        };
        let error = match answered {
            Ok(mut reply) => {
                // What it cost stands at its end: a short one is heard first.
                let begun = if reply.price.is_some() { ahead(&mut reply.body).await } else { Vec::new() };
                let price = reply.price.and_then(|price| price.get().copied());
                // Counted as busy until its last byte is taken, or its client is gone.
                let body = stream::iter(begun).chain(reply.body).map_ok(Frame::data).inspect(move |_| _ = &held);
                let mut answer = Response::new(StreamBody::new(body).boxed_unsync());
                // A status that is none, or of a connection, is no answer to a request.
                let status = StatusCode::from_u16(reply.status).ok().filter(|status| !status.is_informational());
                *answer.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
                *answer.headers_mut() = heard(reply.headers);
                mark(answer.headers_mut(), route.lease);
                price.iter().for_each(|wei| charge(answer.headers_mut(), *wei));
                return answer;
            }
            Err(HostError::Unpaid(due)) if !is_paid => {
                is_paid = true;
                let is_more = route.pay.as_ref().is_some_and(|pay| pay.unpaid(due));
                // Signed for more: the same replica again, once. Not more by what was seen here: another one.
                if is_more && carried.is_some() {
                    continue;
                }
                if !is_more {
                    let (lease, wei) = (route.lease, due.wei);
                    tracing::warn!(
                        name,
                        lease,
                        wei,
                        "app: a host counts calls that were not seen, or the escrow is over"
                    );
                }
                HostError::Unpaid(due)
            }
            Err(error) => error,
        };
        tracing::debug!(name, lease = route.lease, %error, "app: not answered");
        if !matches!(error, HostError::Failed(_) | HostError::Busy { .. }) {
            routes.shun(name, route.lease, Instant::now());
        }
        tried.insert(route.lease);
        // A component that failed would fail again.
        let may_repeat = !matches!(error, HostError::Failed(_)) && (error.is_untouched() || method.is_idempotent());
        let next = if may_repeat && carried.is_some() && tried.len() < TRIES {
            routes.pick(name, &tried, Instant::now())
        } else {
            Pick::None
        };
        match next {
            Pick::To(next) => held = next,
            _ => {
                let mut answer = failed(&error, silence);
                mark(answer.headers_mut(), route.lease);
                return answer;
            }
        }
    }
}

/// Resolves once a look missed a replica; one that the last look missed already, once it is given up.
async fn missed(routes: &Routes, name: &str, route: &Route) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let is_gone = !routes.has(name, route.lease);
        if is_gone || !route.is_doubtful && routes.is_missed(name, route.lease) {
            return;
        }
    }
}

fn once(bytes: Bytes) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
    stream::iter((!bytes.is_empty()).then_some(Ok(bytes)))
}

fn passing(body: Heard<Incoming>) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
    let data = futures::TryStreamExt::map_err(BodyStream::new(body), io::Error::other);
    Box::pin(data.try_filter_map(|frame| async move { Ok(frame.into_data().ok()) }))
}

/// The beginning of a body: all of a short one.
async fn ahead<B>(body: &mut B) -> Vec<Result<Bytes, HostError>>
where
    B: Stream<Item = Result<Bytes, HostError>> + Unpin,
{
    let (mut begun, mut bytes) = (Vec::new(), 0);
    while bytes < AHEAD_BYTES_MAX
        && let Some(chunk) = body.next().await
    {
        bytes += chunk.as_ref().map_or(AHEAD_BYTES_MAX, Bytes::len);
        begun.push(chunk);
    }
    begun
}

/// What a call cost, in wei.
fn charge(headers: &mut HeaderMap, wei: u128) {
    if let Ok(wei) = HeaderValue::try_from(wei.to_string()) {
        headers.insert(HeaderName::from_static("x-hodei-price"), wei);
    }
}

/// Which replica answered, or did not.
fn mark(headers: &mut HeaderMap, lease: u64) {
    headers.insert(HeaderName::from_static("x-hodei-lease"), HeaderValue::from(lease));
}

fn failed(error: &HostError, silence: &Silence) -> Answer {
    match error {
        HostError::Busy { .. }
        | HostError::NotReady(_)
        | HostError::Gone
        | HostError::Unpaid(_)
        | HostError::Transport(_) => later("No replica takes the request now."),
        HostError::Late(_) => said(StatusCode::GATEWAY_TIMEOUT, "The app did not answer in time."),
        HostError::Failed(words) => said(StatusCode::BAD_GATEWAY, &format!("The app failed: {words}")),
        HostError::Refused(words) => said(StatusCode::BAD_GATEWAY, &format!("The app's host refused: {words}")),
        _ if silence.fell() => said(StatusCode::REQUEST_TIMEOUT, "The request's body did not come."),
        _ => said(StatusCode::BAD_GATEWAY, "The app's host broke off before it answered."),
    }
}

fn unknown(name: &str) -> Answer {
    let name: String = name.chars().filter(|letter| letter.is_ascii_graphic()).take(63).collect();
    said(StatusCode::NOT_FOUND, &format!("No app of this wallet is called {name}: `hodei app list` shows which are."))
}

fn later(text: &str) -> Answer {
    let mut answer = said(StatusCode::SERVICE_UNAVAILABLE, &format!("{text} Try again in a moment."));
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_SECS));
    answer
}

fn said(status: StatusCode, text: &str) -> Answer {
    let body = Full::new(Bytes::from(format!("{text}\n"))).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_come_again_says_when_and_what_failed_says_so() {
        let silence = Silence::default();
        let status = |error| failed(&error, &silence).status();
        let busy = failed(&HostError::Busy { retry_after_ms: 1 }, &silence);
        assert_eq!(
            (busy.status(), busy.headers()["retry-after"].as_bytes()),
            (StatusCode::SERVICE_UNAVAILABLE, &b"2"[..])
        );
        assert_eq!(status(HostError::Gone), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(HostError::Late(Duration::ZERO)), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(status(HostError::Failed("out of fuel".into())), StatusCode::BAD_GATEWAY);
        assert_eq!(unknown("a\u{1b}[2Jb").status(), StatusCode::NOT_FOUND);
    }
}
