//! Answer with the bytes of one shared object: whole, a range, or only if they are others.

use super::{
    door::{Answer, failed, html, value, whole},
    page,
    range::{Wanted, wanted},
};
use crate::percent::encode;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hodei_sdk::{
    Local,
    share::{Opened, Others, Record},
};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    Response, StatusCode,
    body::Frame,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

/// What is shared never acts in this door's name, whatever it says it is.
const FILE_POLICY: &str = "default-src 'none'; sandbox";
/// A page of a folder runs and loads what its own door gives, and its origin is nobody's: it reads no other link, and
/// keeps nothing.
const PAGE_POLICY: &str = "sandbox allow-scripts; default-src 'self' blob: data:; base-uri 'none'; \
                           form-action 'none'; frame-ancestors 'none'";
/// How many providers gave this door bytes of the same bucket so far, and the fastest answer of them; how many other
/// readers did, and how many bytes.
const FROM: &str = "x-hodei-from";

/// How an object is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// To be saved.
    Alone,
    /// Beside others of its folder: its pages run scripts, of the folder alone, in an origin that is nobody's.
    InFolder,
}

pub(super) async fn file(
    cloud: &Local,
    (opened, object): (&Opened, &Record),
    manner: Manner,
    headers: &HeaderMap,
    is_head: bool,
) -> Answer {
    let (size, etag) = (object.size_bytes(), etag(object));
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(status) = unmet(text(header::IF_MATCH), text(header::IF_NONE_MATCH), &etag) {
        let mut answer = Response::new(whole(""));
        *answer.status_mut() = status;
        answer.headers_mut().insert(header::ETAG, value(&etag));
        return answer;
    }
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
        let mut body = match cloud.fetch(opened, object, range.clone()) {
            Ok(body) => body,
            Err(error) => return failed(&error),
        };
        // The first bytes are waited for: until then it can still be said that there are none.
        let first = body.next().await;
        match first {
            None => whole(""),
            Some(Err(error)) => return failed(&error),
            Some(Ok(first)) => {
                let all = stream::iter([Ok(first)]).chain(body);
                StreamBody::new(all.map_ok(Frame::data)).boxed_unsync()
            }
        }
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let to = answer.headers_mut();
    for (name, text) in &object.headers {
        // Caches keep nothing of a link that may be revoked.
        if let (Ok(name), Ok(text)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(text))
            && name != header::CACHE_CONTROL
        {
            to.insert(name, text);
        }
    }
    let kind = HeaderValue::from_str(&object.content_type).ok().filter(|kind| !kind.is_empty());
    to.insert(header::CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    to.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    to.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    to.insert(header::ETAG, value(&etag));
    let length = range.as_ref().map_or(size, |range| range.end - range.start);
    to.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(range) = range {
        to.insert(header::CONTENT_RANGE, value(&format!("bytes {}-{}/{size}", range.start, range.end - 1)));
    }
    match manner {
        Manner::Alone => {
            to.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(FILE_POLICY));
            let disposition = format!("attachment; filename*=UTF-8''{}", percent(&object.name));
            to.insert(header::CONTENT_DISPOSITION, value(&disposition));
        }
        Manner::InFolder => {
            to.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy(&object.content_type)));
            // Pages of the folder are of an origin that is nobody's. Who else asks has the link, which is the secret.
            to.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
    }
    if !is_head {
        let sources = cloud.sources(opened);
        let nearest = sources.first().map_or(0.0, |source| source.fastest.as_secs_f64() * 1000.0);
        let Others { readers, bytes } = cloud.others(opened);
        let from =
            format!("providers={}, nearest_ms={nearest:.1}, crowd={readers}, crowd_bytes={bytes}", sources.len());
        to.insert(FROM, value(&from));
    }
    answer
}

/// What a request's conditions lead to, unless they hold (RFC 9110, section 13.2.2).
fn unmet(matches: Option<&str>, none_match: Option<&str>, etag: &str) -> Option<StatusCode> {
    let lists = |list: &str, is_weak: bool| {
        let mut tags = list.split(',').map(str::trim);
        tags.any(|tag| tag == "*" || tag == etag || (is_weak && tag.strip_prefix("W/") == Some(etag)))
    };
    if matches.is_some_and(|list| !lists(list, false)) {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    none_match.is_some_and(|list| lists(list, true)).then_some(StatusCode::NOT_MODIFIED)
}

/// What a file of a folder may do in a browser.
fn policy(kind: &str) -> &'static str {
    let is_page = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"));
    if is_page { PAGE_POLICY } else { FILE_POLICY }
}

/// What the bytes are, not where they come from: links of the same bytes agree.
fn etag(object: &Record) -> String {
    let mut text = String::from("\"");
    match object.parts.as_slice() {
        [part] => text.push_str(&hex::encode(&part.content[..16])),
        parts => {
            // Of few parts each is named; of many the first and the last, and how many there are.
            let ends = parts.first().into_iter().chain(parts.last());
            ends.for_each(|part| text.push_str(&hex::encode(&part.content[..16])));
            text.push_str(&format!("-{}-{}", parts.len(), object.modified_ms));
        }
    }
    text.push('"');
    text
}

/// A name as one segment of a path, and as RFC 8187 wants it in a header; marks that turn text round are left out.
pub(super) fn percent(name: &str) -> String {
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

    #[test]
    fn conditions_are_judged_as_the_standard_says() {
        let (same, other, weak) = (Some("\"a\""), Some("\"b\", \"c\""), Some("\"b\", W/\"a\""));
        for (matches, none_match, outcome) in [
            (None, None, None),
            (same, None, None),
            (Some("*"), None, None),
            (other, None, Some(StatusCode::PRECONDITION_FAILED)),
            (weak, None, Some(StatusCode::PRECONDITION_FAILED)),
            (None, same, Some(StatusCode::NOT_MODIFIED)),
            (None, weak, Some(StatusCode::NOT_MODIFIED)),
            (None, Some("*"), Some(StatusCode::NOT_MODIFIED)),
            (None, other, None),
            (other, same, Some(StatusCode::PRECONDITION_FAILED)),
        ] {
            assert_eq!(unmet(matches, none_match, "\"a\""), outcome, "{matches:?} {none_match:?}");
        }
    }

    #[test]
    fn only_a_page_of_a_folder_runs_and_in_no_origin() {
        assert_eq!(policy("text/html; charset=utf-8"), PAGE_POLICY);
        assert!(PAGE_POLICY.starts_with("sandbox allow-scripts;") && !PAGE_POLICY.contains("same-origin"));
        for kind in ["", "text/htmlx", "image/svg+xml", "application/xhtml+xml", "text/plain"] {
            assert_eq!(policy(kind), FILE_POLICY, "{kind}");
        }
    }
}
