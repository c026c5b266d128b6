//! Keep a line of each request: who asked for what, and what came of it.
//!
//! A line is a JSON object. Values of the query stay out, since a presigned link is a key; so do headers. A line is
//! written when the last byte of the answer went, or when its connection broke: `sent` counts what went.

use bytes::Bytes;
use hyper::{
    HeaderMap, Request,
    body::{Body, Frame, SizeHint},
    header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, USER_AGENT},
};
use s3s::HttpResponse;
use serde_json::{Value, json};
use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
    time::{Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::mpsc;

/// Lines that wait for the disk; a door whose disk is slower waits with it, rather than forget who came.
const WAITING: usize = 4096;
/// Letters of a value that a client chose.
const TEXT_MAX: usize = 1024;

/// A file that lines are added to; clones share it.
#[derive(Clone)]
pub struct AccessLog(mpsc::Sender<String>);

impl AccessLog {
    /// Opens or makes the file. Whoever rotates it copies and cuts it: lines go to its end, wherever that is.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.append(true).create(true).open(path)?;
        let (sender, lines) = mpsc::channel(WAITING);
        let path = path.to_owned();
        std::thread::Builder::new().name("access log".into()).spawn(move || write(file, &path, lines))?;
        Ok(Self(sender))
    }

    /// Begins a line.
    pub(super) fn begin<B>(&self, request: &Request<B>, from: SocketAddr) -> Line {
        let text = |name: &HeaderName| {
            request.headers().get(name).map(|value| cut(&String::from_utf8_lossy(value.as_bytes())))
        };
        let query = request.uri().query().unwrap_or_default();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let told = json!({
            "time_ms": u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            "from": from.to_string(), "method": request.method().as_str(), "host": text(&HOST),
            "path": cut(request.uri().path()), "query": names(query), "key": key(request.headers(), query),
            "agent": text(&USER_AGENT),
        });
        Line { log: self.clone(), told, begun: Instant::now(), sent: 0 }
    }
}

/// A line to be.
pub(super) struct Line {
    log: AccessLog,
    told: Value,
    begun: Instant,
    sent: u64,
}

impl Line {
    /// Counts the answer's bytes, and ends with it.
    pub(super) fn answered(mut self, response: HttpResponse) -> HttpResponse {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        self.told["id"] = json!(header("x-amz-request-id"));
        self.told["status"] = json!(response.status().as_u16());
        self.told["length"] = json!(header(CONTENT_LENGTH.as_str()).and_then(|text| text.parse::<u64>().ok()));
        response.map(|body| s3s::Body::http_body(Counted { body, line: self }))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.told["sent"] = json!(self.sent);
        self.told["ms"] = json!(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        let (line, sender) = (format!("{}\n", self.told), self.log.0.clone());
        if let Err(mpsc::error::TrySendError::Full(line)) = sender.try_send(line) {
            tokio::spawn(async move { sender.send(line).await });
        }
    }
}

/// A body whose bytes are counted.
struct Counted {
    body: s3s::Body,
    line: Line,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = <s3s::Body as Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.line.sent += data.len() as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn write(mut file: std::fs::File, path: &Path, mut lines: mpsc::Receiver<String>) {
    let mut is_broken = false;
    while let Some(line) = lines.blocking_recv() {
        let written = file.write_all(line.as_bytes());
        if let (Err(error), false) = (&written, is_broken) {
            tracing::error!(%error, path = %path.display(), "s3: the access log cannot be written");
        }
        is_broken = written.is_err();
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// Names of what is asked for; those of a signature say nothing.
fn names(query: &str) -> Vec<String> {
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    names.filter(|name| !name.is_empty() && !name.to_ascii_lowercase().starts_with("x-amz-")).map(cut).collect()
}

/// The access key that a request claims: what it may do, its status tells.
fn key(headers: &HeaderMap, query: &str) -> Option<String> {
    let told = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let of_header = told.and_then(|text| text.split("Credential=").nth(1)).and_then(|rest| rest.split('/').next());
    let of_query = || query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Credential=")).map(scope_free);
    of_header.or_else(of_query).filter(|key| !key.is_empty()).map(cut)
}

/// A credential's key, before the slash however it is written.
fn scope_free(credential: &str) -> &str {
    credential.split(['/', '%']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_line_tells_who_asked_for_what_and_no_secret() {
        let path = std::env::temp_dir().join(format!("hodei-access-log-{}", std::process::id()));
        std::fs::remove_file(&path).ok();
        let log = AccessLog::open(&path).unwrap();
        let from = "127.0.0.1:4000".parse().unwrap();
        let request = Request::get("/photos/a%20b?versionId=7&X-Amz-Credential=AKIA1%2F2026&X-Amz-Signature=5ec4e7")
            .header(HOST, "s3.localhost")
            .body(())
            .unwrap();
        let mut response = HttpResponse::new(s3s::Body::from("four".to_owned()));
        response.headers_mut().insert("x-amz-request-id", "abc".parse().unwrap());
        let response = log.begin(&request, from).answered(response);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "four");
        // A connection that breaks before the answer.
        let signed =
            Request::put("/photos/c").header(AUTHORIZATION, "AWS4-HMAC-SHA256 Credential=AKIA2/x, Signature=5ec4e7");
        drop(log.begin(&signed.body(()).unwrap(), from));
        drop(log);
        let lines = loop {
            let text = std::fs::read_to_string(&path).unwrap();
            if text.lines().count() == 2 {
                break text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        };
        std::fs::remove_file(&path).unwrap();
        assert!(!lines.contains("5ec4e7"), "{lines}");
        let [first, second]: [Value; 2] =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>().try_into().unwrap();
        let told = json!([first["path"], first["query"], first["key"], first["status"], first["sent"], first["id"]]);
        assert_eq!(told, json!(["/photos/a%20b", ["versionId"], "AKIA1", 200, 4, "abc"]));
        assert_eq!(json!([second["method"], second["key"], second["status"]]), json!(["PUT", "AKIA2", null]));
    }
}
