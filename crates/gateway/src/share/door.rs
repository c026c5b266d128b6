//! Accept connections of people with links, within limits.

use super::{
    PATH,
    page::{self, Shown},
    range::{Wanted, wanted},
};
use crate::{expect, percent::encode};
use bytes::Bytes;
use futures::TryStreamExt as _;
use hodei_sdk::{Fault, Local, share::Opened};
use hodei_types::share::Link;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{self, HeaderMap, HeaderValue},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore};

/// Connections served at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may take to send its headers; slow senders hold a slot otherwise.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Nothing of a page runs, loads from elsewhere, or is framed by another's.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// What is shared never acts in this door's name, whatever it says it is.
const FILE_POLICY: &str = "default-src 'none'; sandbox";

type Answer = Response<UnsyncBoxBody<Bytes, Fault>>;

/// Serves share links on `listener` until the task is dropped.
pub async fn serve(listener: TcpListener, cloud: Local) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "share: accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        socket.set_nodelay(true).ok();
        let cloud = cloud.clone();
        tokio::spawn(async move {
            let handler = hyper::service::service_fn(move |request: Request<Incoming>| {
                let cloud = cloud.clone();
                async move { Ok::<_, Infallible>(answer(&cloud, &request).await) }
            });
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            if let Err(error) = builder.serve_connection(TokioIo::new(socket), handler).await {
                tracing::debug!(%error, "share: connection ended");
            }
            drop(slot);
        });
    }
}

async fn answer(cloud: &Local, request: &Request<Incoming>) -> Answer {
    let is_head = request.method() == Method::HEAD;
    let mut answer = if is_head || request.method() == Method::GET {
        route(cloud, request.uri().path(), request.headers(), is_head).await
    } else {
        let mut answer = html(
            StatusCode::METHOD_NOT_ALLOWED,
            page::refused("Only for reading", "This address can be read, and nothing else."),
        );
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    };
    let headers = answer.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The address is the secret: no page it leads to may learn it, and no index keep it.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("x-robots-tag", HeaderValue::from_static("noindex, nofollow"));
    // No body is ever read here.
    if expect::waits(request.version(), request.headers()) {
        expect::close(headers);
    }
    if is_head {
        *answer.body_mut() = whole("");
    }
    answer
}

async fn route(cloud: &Local, path: &str, headers: &HeaderMap, is_head: bool) -> Answer {
    let Some(rest) = path.strip_prefix(PATH) else {
        return html(
            StatusCode::NOT_FOUND,
            page::refused("Nothing is here", "Links begin with /s/ after this server's name."),
        );
    };
    if rest == "style.css" {
        let mut answer = Response::new(whole(page::STYLE));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
        return answer;
    }
    let (word, name) = rest.split_once('/').map_or((rest, None), |(word, name)| (word, Some(name)));
    let link: Link = match word.parse() {
        Ok(link) => link,
        Err(error) => {
            return html(
                StatusCode::NOT_FOUND,
                page::refused("This is not a whole link", &format!("{error}. Copy it again, to its last letter.")),
            );
        }
    };
    let opened = match cloud.open_link(&link).await {
        Ok(opened) => opened,
        Err(error) => return failed(&error),
    };
    match name {
        None | Some("") => show(word, &opened),
        Some(_) => file(cloud, &opened, headers, is_head),
    }
}

fn show(word: &str, opened: &Opened) -> Answer {
    let record = &opened.record;
    let href = format!("{PATH}{word}/{}", percent(&record.name));
    html(
        StatusCode::OK,
        page::shown(&Shown {
            name: &record.name,
            kind: &record.content_type,
            size_bytes: record.size_bytes(),
            modified_ms: record.modified_ms,
            expires_ms: opened.expires_ms,
            href: &href,
        }),
    )
}

fn file(cloud: &Local, opened: &Opened, headers: &HeaderMap, is_head: bool) -> Answer {
    let record = &opened.record;
    let size = record.size_bytes();
    let etag = etag(opened);
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    // A download that goes on does so only with the same bytes.
    let is_same = text(header::IF_RANGE).is_none_or(|tag| tag == etag);
    let (status, range) = match wanted(text(header::RANGE).filter(|_| is_same), size) {
        Wanted::Whole => (StatusCode::OK, None),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Wanted::Nowhere => {
            let mut answer = html(
                StatusCode::RANGE_NOT_SATISFIABLE,
                page::refused("No such bytes", &format!("The file has {size} bytes.")),
            );
            answer.headers_mut().insert(header::CONTENT_RANGE, value(&format!("bytes */{size}")));
            return answer;
        }
    };
    let body = if is_head {
        whole("")
    } else {
        match cloud.fetch(opened, range.clone()) {
            Ok(body) => StreamBody::new(body.map_ok(Frame::data)).boxed_unsync(),
            Err(error) => return failed(&error),
        }
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    for (name, text) in &record.headers {
        let name = header::HeaderName::from_bytes(name.as_bytes());
        // Caches keep nothing of a link that may be revoked.
        if let (Ok(name), Ok(text)) = (name, HeaderValue::from_str(text))
            && name != header::CACHE_CONTROL
        {
            headers.insert(name, text);
        }
    }
    let kind = HeaderValue::from_str(&record.content_type).ok().filter(|kind| !kind.is_empty());
    headers.insert(header::CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(FILE_POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::ETAG, value(&etag));
    let length = range.as_ref().map_or(size, |range| range.end - range.start);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let disposition = format!("attachment; filename*=UTF-8''{}", percent(&record.name));
    headers.insert(header::CONTENT_DISPOSITION, value(&disposition));
    if let Some(range) = range {
        headers.insert(header::CONTENT_RANGE, value(&format!("bytes {}-{}/{size}", range.start, range.end - 1)));
    }
    answer
}

/// What the bytes are, not where they come from: links of the same bytes agree.
fn etag(opened: &Opened) -> String {
    let mut text = String::from("\"");
    match opened.record.parts.as_slice() {
        [part] => text.push_str(&hex::encode(&part.content[..16])),
        parts => {
            // Of few parts each is named; of many the first and the last, and how many there are.
            let ends = parts.first().into_iter().chain(parts.last());
            ends.for_each(|part| text.push_str(&hex::encode(&part.content[..16])));
            text.push_str(&format!("-{}-{}", parts.len(), opened.record.modified_ms));
        }
    }
    text.push('"');
    text
}

fn failed(error: &Fault) -> Answer {
    let (status, title) = match error {
        Fault::Link(_) => (StatusCode::GONE, "This link leads nowhere"),
        error if error.is_temporary() => (StatusCode::SERVICE_UNAVAILABLE, "Not now"),
        Fault::Share(_) => (StatusCode::NOT_FOUND, "This is not a whole link"),
        _ => (StatusCode::BAD_GATEWAY, "It could not be read"),
    };
    tracing::debug!(%error, "share: refused");
    let text = match error {
        Fault::Link(why) => format!("The link does not open: {why}."),
        error if error.is_temporary() => "The machines that keep this file do not answer. Try again in a while.".into(),
        error => error.to_string(),
    };
    html(status, page::refused(title, &text))
}

fn html(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(whole(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    answer
}

fn whole(text: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, Fault> {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// A name as one segment of a path, and as RFC 8187 wants it in a header; marks that turn text round are left out.
fn percent(name: &str) -> String {
    let name: String = name.chars().filter(|letter| !page::is_turning(*letter)).collect();
    let out = encode(&name, false);
    // A segment of dots alone would lead elsewhere.
    if out.is_empty() || out.bytes().all(|byte| byte == b'.') { "file".into() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment() {
        for (name, segment) in [
            ("a b.jpg", "a%20b.jpg"),
            ("ü/..", "%C3%BC%2F.."),
            ("..", "file"),
            ("", "file"),
            ("a\"\r\nset-cookie: x", "a%22%0D%0Aset-cookie%3A%20x"),
            ("x\u{202e}gpj.exe", "xgpj.exe"),
        ] {
            assert_eq!(percent(name), segment);
        }
    }
}
