//! Turn an HTTP request into what a replica is asked, and a reply into what a client hears.

use hodei_sdk::app::Question;
use hodei_types::app::wire::{HEADER_BYTES_MAX, HEADERS_MAX, Header, TARGET_BYTES_MAX};
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
};

/// What a request's body has at most: what a replica takes.
pub(super) const BODY_BYTES_MAX: u64 = 64 << 20;
/// The name under which this machine's apps stand.
const DOMAIN: &str = "localhost";
/// Of one connection, not of the request (RFC 9110, 7.6.1); and what a sender expected, who was told to go on by then.
const HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::EXPECT,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Whose name a request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    App(String),
    /// This machine, and no app of it.
    Nobody,
    /// Another machine: a page that reaches this one through a name of its own.
    Stranger,
}

/// Whose name the authority, or the Host header, is.
pub(super) fn named(head: &Parts) -> Named {
    let header = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = head.uri.authority().map(|authority| authority.as_str()).or(header) else {
        return Named::Stranger;
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if host == "[::1]" || host.starts_with("[::1]:") {
        return Named::Nobody;
    }
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    if host == DOMAIN || host == "127.0.0.1" {
        return Named::Nobody;
    }
    match host.strip_suffix(DOMAIN).and_then(|name| name.strip_suffix('.')) {
        Some(name) => Named::App(name.to_owned()),
        None => Named::Stranger,
    }
}

/// What a replica is asked, but for its lease; which limit is passed, otherwise.
pub(super) fn question(head: &Parts) -> Result<Question, StatusCode> {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    if target.len() + head.method.as_str().len() > TARGET_BYTES_MAX {
        return Err(StatusCode::URI_TOO_LONG);
    }
    if head.method == Method::CONNECT || head.method.as_str().len() > 32 {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let mut headers: Vec<Header> = Vec::new();
    for (name, value) in &head.headers {
        if !is_of_connection(&head.headers, name) {
            headers.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
        }
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    Ok(Question { lease: 0, method: head.method.as_str().to_owned(), target: target.to_owned(), headers, pay: None })
}

/// A reply's headers as a client hears them; what is none is left out.
pub(super) fn heard(headers: Vec<Header>) -> HeaderMap {
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            all.append(name, value);
        }
    }
    let of_connection: Vec<HeaderName> = all.keys().filter(|name| is_of_connection(&all, name)).cloned().collect();
    for name in of_connection {
        all.remove(name);
    }
    all
}

fn is_of_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    let listed = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    HOP.contains(name)
        || listed.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn head(host: &str) -> Parts {
        Request::builder().uri("/a?b=c").header("host", host).body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_name_before_localhost_is_an_app_and_other_machines_are_strangers() {
        let app = |name: &str| Named::App(name.into());
        for (host, wanted) in [
            ("shop.localhost:8080", app("shop")),
            ("Shop.LOCALHOST.", app("shop")),
            ("a.b.localhost", app("a.b")),
            ("localhost:8080", Named::Nobody),
            ("127.0.0.1:8080", Named::Nobody),
            ("[::1]:8080", Named::Nobody),
            ("shop.example", Named::Stranger),
            ("shop-localhost", Named::Stranger),
            ("notlocalhost", Named::Stranger),
            ("localhost.example", Named::Stranger),
        ] {
            assert_eq!(named(&head(host)), wanted, "{host}");
        }
        let none = Request::builder().uri("/").body(()).unwrap().into_parts().0;
        assert_eq!(named(&none), Named::Stranger);
    }

    #[test]
    fn what_is_of_the_connection_goes_no_further() {
        let request = Request::builder()
            .method("POST")
            .uri("/a?b=c")
            .header("host", "shop.localhost")
            .header("connection", "close, X-Mine")
            .header("x-mine", "1")
            .header("te", "trailers")
            .header("expect", "100-continue")
            .header("transfer-encoding", "chunked")
            .header("accept", "text/plain");
        let question = question(&request.body(()).unwrap().into_parts().0).unwrap();
        assert_eq!((question.method.as_str(), question.target.as_str()), ("POST", "/a?b=c"));
        let mut names: Vec<_> = question.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "host"]);
        let said = [("connection", "x-gone"), ("x-gone", "1"), ("content-type", "text/plain"), ("bad name", "1")];
        let heard = heard(said.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        assert_eq!((heard.len(), heard.get("content-type").unwrap().as_bytes()), (1, &b"text/plain"[..]));
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_own_status() {
        let of = |build: fn(hyper::http::request::Builder) -> hyper::http::request::Builder| {
            question(&build(Request::builder().uri("/")).body(()).unwrap().into_parts().0).unwrap_err()
        };
        assert_eq!(of(|request| request.uri(format!("/{}", "a".repeat(TARGET_BYTES_MAX)))), 414);
        assert_eq!(of(|request| request.header("x-long", "a".repeat(HEADER_BYTES_MAX))), 431);
        assert_eq!(of(|request| (0..=HEADERS_MAX).fold(request, |request, i| request.header("x-many", i))), 431);
        assert_eq!(of(|request| request.header("content-length", BODY_BYTES_MAX + 1)), 413);
        assert_eq!(of(|request| request.method("CONNECT").uri("shop.localhost:80")), 405);
    }
}
