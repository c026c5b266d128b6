//! Accept connections of people with links, within limits.

use super::{
    PATH,
    file::{Manner, file, percent},
    page::{self, Shown},
    shelf::Shelf,
};
use crate::{
    expect,
    percent::{decode, encode},
};
use bytes::Bytes;
use hodei_sdk::{
    Fault, Local,
    share::{Collection, Opened, Record, Told},
};
use hodei_types::share::Link;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
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

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Fault>>;

/// Serves share links on `listener` until the task is dropped, and passes for the reader that `cloud` is.
pub async fn serve(listener: TcpListener, cloud: Local) {
    let (slots, shelf) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Shelf::default());
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
        let (cloud, shelf) = (cloud.clone(), shelf.clone());
        tokio::spawn(async move {
            let handler = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (cloud, shelf) = (cloud.clone(), shelf.clone());
                async move { Ok::<_, Infallible>(answer(&cloud, &shelf, &request).await) }
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

async fn answer(cloud: &Local, shelf: &Shelf, request: &Request<Incoming>) -> Answer {
    let is_head = request.method() == Method::HEAD;
    let mut answer = if is_head || request.method() == Method::GET {
        route(cloud, shelf, request.uri().path(), request.headers(), is_head).await
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

async fn route(cloud: &Local, shelf: &Shelf, path: &str, headers: &HeaderMap, is_head: bool) -> Answer {
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
    let kept = match shelf.open(cloud, word, &link).await {
        Ok(kept) => kept,
        Err(error) => return failed(&error),
    };
    let opened: &Opened = &kept;
    match (&opened.told, name) {
        (Told::One(object), None | Some("")) => show(word, opened, object),
        (Told::One(object), Some(_)) => file(cloud, (opened, object), Manner::Alone, headers, is_head).await,
        // What a page names beside itself is found behind the slash.
        (Told::Many(_), None) => {
            let mut answer = Response::new(whole(""));
            *answer.status_mut() = StatusCode::FOUND;
            answer.headers_mut().insert(header::LOCATION, value(&format!("{PATH}{word}/")));
            answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
            answer
        }
        (Told::Many(folder), Some("")) => list(opened, folder),
        (Told::Many(folder), Some(path)) => match decode(path).and_then(|path| folder.file(&path)) {
            Some(object) => file(cloud, (opened, object), Manner::InFolder, headers, is_head).await,
            None => html(
                StatusCode::NOT_FOUND,
                page::refused("Nothing is here", "The link tells of no such file. Its list is at the link itself."),
            ),
        },
    }
}

fn show(word: &str, opened: &Opened, object: &Record) -> Answer {
    let href = format!("{PATH}{word}/{}", percent(&object.name));
    html(
        StatusCode::OK,
        page::shown(&Shown {
            name: &object.name,
            kind: &object.content_type,
            size_bytes: object.size_bytes(),
            modified_ms: object.modified_ms,
            expires_ms: opened.expires_ms,
            href: &href,
        }),
    )
}

fn list(opened: &Opened, folder: &Collection) -> Answer {
    let rows = folder.files.iter().map(|file| page::Row {
        path: &file.name,
        href: reachable(&file.name).then(|| encode(&file.name, true)),
        size_bytes: file.size_bytes(),
    });
    html(StatusCode::OK, page::listed(&folder.name, folder.size_bytes(), opened.expires_ms, rows))
}

/// Whether a browser leaves a path as it is: segments of dots, and empty ones at its beginning, lead elsewhere.
fn reachable(path: &str) -> bool {
    !path.starts_with('/') && path.split('/').all(|segment| segment != "." && segment != "..")
}

pub(super) fn failed(error: &Fault) -> Answer {
    let (status, title) = match error {
        Fault::Link(_) => (StatusCode::GONE, "This link leads nowhere"),
        Fault::Pass { .. } => (StatusCode::FORBIDDEN, "This pass is for another reader"),
        Fault::Spent { held, .. } if !held.may_return => (StatusCode::PAYMENT_REQUIRED, "This pass is used up"),
        error if error.is_temporary() => (StatusCode::SERVICE_UNAVAILABLE, "Not now"),
        Fault::Share(_) => (StatusCode::NOT_FOUND, "This is not a whole link"),
        _ => (StatusCode::BAD_GATEWAY, "It could not be read"),
    };
    tracing::debug!(%error, "share: refused");
    let text = match error {
        Fault::Link(why) => format!("The link does not open: {why}."),
        Fault::Pass { .. } => format!(
            "It opens only to the reader it names, on that reader's own machine: {error}. Ask whoever shares it for a \
             pass of your own."
        ),
        Fault::Spent { held, .. } if held.may_return => {
            format!("{}, until the pass ends on {}.", capital(&error.to_string()), page::minute(held.until_ms))
        }
        Fault::Spent { .. } => format!("{}. Ask whoever shares it for another pass.", capital(&error.to_string())),
        error if error.is_temporary() => "The machines that keep this file do not answer. Try again in a while.".into(),
        error => error.to_string(),
    };
    html(status, page::refused(title, &text))
}

/// As a sentence begins.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

pub(super) fn html(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(whole(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    answer
}

pub(super) fn whole(text: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, Fault> {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use hodei_sdk::share::Held;
    use hodei_types::transport::NodeKey;

    #[test]
    fn a_pass_that_is_used_up_is_to_be_paid_and_not_tried_again() {
        let spent = |held| {
            let wei = "1000000000000000000".parse().unwrap();
            Fault::Spent { paid_mib: 5, bound_mib: 6, wei, held }
        };
        let held = Held { mib: 3, away: vec![NodeKey([7; 32])], may_return: true, until_ms: 1 };
        let returns = spent(held);
        assert!(returns.is_temporary());
        let answer = failed(&returns);
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = answer.into_body().collect().now_or_never().expect("it is whole").unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("until the pass ends on 1970-01-01 00:00 UTC.") && !text.contains("&lt;"), "{text}");
        let spent = spent(Held::default());
        assert!(!spent.is_temporary());
        assert_eq!(failed(&spent).status(), StatusCode::PAYMENT_REQUIRED);
        assert_eq!(failed(&Fault::Contended).status(), StatusCode::SERVICE_UNAVAILABLE);
        let text = capital(&spent.to_string());
        assert!(text.starts_with("The pass is used up: 5 of the 6 MiB") && text.contains(" 1 coins"), "{text}");
    }

    #[test]
    fn a_path_that_a_browser_would_change_is_no_address() {
        for path in ["a", "a/b.c", "a//b", "...", "a/..b"] {
            assert!(reachable(path), "{path}");
        }
        for path in ["..", "a/../b", "./a", "/a", "a/."] {
            assert!(!reachable(path), "{path}");
        }
    }
}
