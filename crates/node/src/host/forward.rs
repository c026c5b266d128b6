//! Ask a container one HTTP request, and pass on what it answers.
//!
//! A connection into the container's own network is opened for each, and closed behind it. What is about one connection
//! alone, such as `connection` or `upgrade`, does not pass, in either direction. A deadline, and a limit on the answer,
//! are the manifest's.

use super::replica::{BUSY_MS, Replica, give, listed, micros};
use bytes::Bytes;
use commonware_runtime::Sink;
use hodei_types::app::{
    Manifest,
    wire::{Answer, CHUNK_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX, Readings},
};
use http::{HeaderMap, HeaderName, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::{task::JoinSet, time::Instant};

/// Beyond a request's deadline, so long may its asker take to accept the answer's rest.
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// About one connection alone, by HTTP's own rules or by custom.
const HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

impl Replica {
    /// Asks its container one request, and sends what it answers.
    pub(super) async fn forward<Si: Sink>(&self, request: Request<Full<Bytes>>, sink: &mut Si) {
        let answer = tokio::select! {
            answer = self.pass(request, sink) => answer,
            () = self.ended() => Some(Answer::Gone),
        };
        if let Some(answer) = answer {
            give(sink, &answer, Instant::now() + TAKE_TIMEOUT).await;
        }
    }

    /// `None` where its asker takes no more.
    async fn pass<Si: Sink>(&self, request: Request<Full<Bytes>>, sink: &mut Si) -> Option<Answer> {
        let Some(_place) = self.contained.request() else {
            return Some(Answer::Busy { retry_after_ms: BUSY_MS });
        };
        let Some(manifest) = self.manifest() else { return Some(self.not_ready()) };
        let begun = Instant::now();
        let until = begun + Duration::from_millis(manifest.limits.deadline_ms);
        let mut passed = Passed::default();
        let passing = self.exchange_over(request, &manifest, until + TAKE_TIMEOUT, sink, &mut passed);
        let failure = match tokio::time::timeout_at(until, passing).await {
            Ok(Ok(())) => None,
            Ok(Err(words)) => Some(words),
            Err(_) => Some(format!("it did not answer within {} ms", manifest.limits.deadline_ms)),
        };
        let readings = Readings {
            bytes_in: passed.bytes_in,
            bytes_out: passed.bytes_out,
            wall_us: micros(begun.elapsed()),
            ..Readings::default()
        };
        self.count(&readings, failure.as_deref(), &[]);
        (!passed.is_left).then_some(Answer::Done { readings, failure, due: None })
    }

    async fn exchange_over<Si: Sink>(
        &self,
        request: Request<Full<Bytes>>,
        manifest: &Manifest,
        until: Instant,
        sink: &mut Si,
        passed: &mut Passed,
    ) -> Result<(), String> {
        let port = manifest.container().map_or(0, |container| container.port);
        if port == 0 {
            return Err("this container answers no requests: its manifest names no port".into());
        }
        let running = self.contained.running().ok_or("its container is not there")?;
        let socket = running.connect(port).await.map_err(|error| format!("port {port}: {error}"))?;
        let broken = |error: hyper::Error| format!("what answers at port {port} breaks HTTP: {error}");
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_headers(HEADERS_MAX);
        let (mut sender, connection) = builder.handshake(TokioIo::new(socket)).await.map_err(broken)?;
        // It ends with this exchange, however that ends.
        let mut carrying = JoinSet::new();
        carrying.spawn(async move {
            // Its failure is the exchange's, which tells it.
            let _ = connection.await;
        });
        let request = inward(request)?;
        passed.bytes_in = length(request.headers()) + hyper::body::Body::size_hint(request.body()).lower();
        let response = sender.send_request(request).await.map_err(broken)?;
        let (mut head, mut body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err("it changes the protocol, which nobody asked for".into());
        }
        clean(&mut head.headers);
        passed.bytes_out = length(&head.headers);
        if passed.bytes_out > HEADER_BYTES_MAX as u64 || head.headers.len() > HEADERS_MAX {
            return Err(format!("its headers are more than {HEADERS_MAX}, or longer than {HEADER_BYTES_MAX} bytes"));
        }
        let answer = Answer::Head { status: head.status.as_u16(), headers: listed(&head.headers) };
        passed.is_left = !give(sink, &answer, until).await;
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            // Trailers are not passed on.
            let Ok(chunk) = frame.map_err(broken)?.into_data() else { continue };
            bytes += chunk.len() as u64;
            if bytes > manifest.limits.response_bytes {
                return Err(format!("its answer is longer than {} bytes", manifest.limits.response_bytes));
            }
            passed.bytes_out += chunk.len() as u64;
            for chunk in chunk.chunks(CHUNK_BYTES_MAX) {
                passed.is_left = passed.is_left || !give(sink, &Answer::Bytes(chunk.to_vec()), until).await;
            }
            // Who takes no more is not worked for.
            if passed.is_left {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What passed of one exchange.
#[derive(Default)]
struct Passed {
    bytes_in: u64,
    bytes_out: u64,
    /// Its asker took not all of it.
    is_left: bool,
}

/// The request as a server hears it that is asked directly.
fn inward(mut request: Request<Full<Bytes>>) -> Result<Request<Full<Bytes>>, String> {
    let host = request.uri().authority().map(|authority| authority.to_string());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>().map_err(|error| format!("the target is none: {error}"))?;
    clean(request.headers_mut());
    // Its length is what came, whatever was said of it.
    request.headers_mut().remove(header::CONTENT_LENGTH);
    if let Some(host) = host.filter(|_| !request.headers().contains_key(header::HOST)) {
        let host = host.parse().map_err(|_| "the host's name is none".to_owned())?;
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(request)
}

/// Takes out what is about one connection alone.
fn clean(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let custom = ["keep-alive", "proxy-connection"].map(HeaderName::from_static);
    for name in named.iter().chain(&HOP).chain(&custom) {
        headers.remove(name);
    }
}

fn length(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_one_connection_alone_does_not_pass() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "x-own, close"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("content-type", "text/plain"),
        ] {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        clean(&mut headers);
        assert_eq!(listed(&headers), [("content-type".to_owned(), b"text/plain".to_vec())]);
    }

    #[test]
    fn a_server_inside_is_asked_for_a_path_under_the_name_it_came_by() {
        let asked = |uri: &str, host: Option<&str>| {
            let mut request = Request::builder().method("POST").uri(uri).header("content-length", "999");
            if let Some(host) = host {
                request = request.header("host", host);
            }
            inward(request.body(Full::new(Bytes::from_static(b"body"))).unwrap()).unwrap()
        };
        let request = asked("http://shop.localhost:8080/a?b=c", None);
        assert_eq!(request.uri().to_string(), "/a?b=c");
        assert_eq!(request.headers()["host"], "shop.localhost:8080");
        assert!(!request.headers().contains_key("content-length"));
        assert_eq!(asked("http://app.localhost/", Some("shop.example")).headers()["host"], "shop.example");
    }
}
