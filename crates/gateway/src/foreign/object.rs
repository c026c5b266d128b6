//! Read one object of somebody else's S3 server, going on where the line broke.

use super::{
    ForeignError, Server,
    server::{TRIES, chain, refused, rest},
};
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName},
};
use std::collections::BTreeMap;

/// Headers an object is served with, kept as `:name` beside the user's own metadata.
const SERVED: [&str; 4] = ["cache-control", "content-disposition", "content-encoding", "content-language"];
const META: &str = "x-amz-meta-";
/// S3 allows ten.
const TAGS_MAX: usize = 10;

/// What a server says of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub size_bytes: u64,
    /// Without quotes.
    pub etag: String,
    pub content_type: String,
    /// User metadata, and `:name` for what it is served with.
    pub meta: BTreeMap<String, String>,
    /// The etag of an object in one piece is then no MD5 of what is read.
    pub is_sealed: bool,
    pub tags: usize,
}

/// An object and its bytes, from an offset on.
pub struct Object {
    pub head: Head,
    pub body: BoxStream<'static, Result<Bytes, ForeignError>>,
}

impl Server {
    /// Opens an object; with `etag`, only if it still is that one.
    pub async fn get(&self, bucket: &str, key: &str, offset: u64, etag: Option<&str>) -> Result<Object, ForeignError> {
        let mut tries = 1;
        let answer = loop {
            match self.ask(bucket, key, offset, etag).await {
                Ok(answer) => break answer,
                Err(error) if error.is_temporary() && tries < TRIES && !matches!(error, ForeignError::Changed(_)) => {
                    tokio::time::sleep(rest(tries)).await;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        };
        let length = answer.content_length();
        let mut head = head(answer.headers());
        head.size_bytes = offset
            + length.ok_or_else(|| ForeignError::Answer {
                what: format!("getting s3://{bucket}/{key}"),
                why: "it does not say how long the object is".into(),
            })?;
        let reading = Reading {
            server: self.clone(),
            bucket: bucket.into(),
            key: key.into(),
            etag: head.etag.clone(),
            at: offset,
            end: head.size_bytes,
            body: answer.bytes_stream().boxed(),
            tries: 0,
        };
        Ok(Object { head, body: stream::unfold(Some(reading), next).boxed() })
    }

    async fn ask(
        &self,
        bucket: &str,
        key: &str,
        offset: u64,
        etag: Option<&str>,
    ) -> Result<reqwest::Response, ForeignError> {
        let what = format!("getting s3://{bucket}/{key}");
        if key.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(ForeignError::Key(key.into()));
        }
        let url = self.signed(self.bucket(bucket)?.object_url(key), &[]);
        // What is kept is what is stored: nothing on the way packs or unpacks it.
        let mut request = self.client.get(url).header("accept-encoding", "identity");
        if let Some(etag) = etag.filter(|etag| !etag.is_empty()) {
            request = request.header("if-match", format!("\"{etag}\""));
        }
        if offset > 0 {
            request = request.header("range", format!("bytes={offset}-"));
        }
        let answer = request.send().await.map_err(|error| ForeignError::of_request(&error))?;
        match answer.status() {
            StatusCode::OK if offset == 0 => Ok(answer),
            StatusCode::PARTIAL_CONTENT if offset > 0 => Ok(answer),
            StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => {
                Err(ForeignError::Changed(key.into()))
            }
            status if status.is_success() => {
                Err(ForeignError::Answer { what, why: format!("{status} to a request from byte {offset} on") })
            }
            _ => match refused(&what, answer).await {
                sealed if sealed.is_sealed() => Err(ForeignError::Sealed(key.into())),
                error => Err(error),
            },
        }
    }

    /// An object's tags; none where the server knows no tags.
    pub async fn tags(&self, bucket: &str, key: &str) -> Result<BTreeMap<String, String>, ForeignError> {
        let what = format!("reading the tags of s3://{bucket}/{key}");
        let text =
            self.text(&what, || Ok(self.signed(self.bucket(bucket)?.object_url(key), &[("tagging", "")]))).await?;
        let between = |text: &str, name: &str| {
            let inner = text.split(&format!("<{name}>")).nth(1)?;
            Some(unescape(inner.split(&format!("</{name}>")).next()?))
        };
        let pairs = text.split("<Tag>").skip(1).take(TAGS_MAX);
        Ok(pairs.filter_map(|tag| Some((between(tag, "Key")?, between(tag, "Value").unwrap_or_default()))).collect())
    }
}

/// An object half read.
struct Reading {
    server: Server,
    bucket: String,
    key: String,
    etag: String,
    at: u64,
    end: u64,
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    /// Failures since the last piece that came.
    tries: u32,
}

/// The next piece; after an error nothing follows.
async fn next(reading: Option<Reading>) -> Option<(Result<Bytes, ForeignError>, Option<Reading>)> {
    let mut reading = reading?;
    loop {
        if reading.at == reading.end {
            return None;
        }
        let failure = match reading.body.next().await {
            Some(Ok(piece)) if piece.len() as u64 > reading.end - reading.at => ForeignError::Answer {
                what: format!("getting s3://{}/{}", reading.bucket, reading.key),
                why: "it is longer than it was said to be".into(),
            },
            Some(Ok(piece)) => {
                reading.at += piece.len() as u64;
                reading.tries = 0;
                return Some((Ok(piece), Some(reading)));
            }
            Some(Err(error)) => ForeignError::Unreachable(chain(&error)),
            None => ForeignError::Unreachable(format!("the body ended {} bytes early", reading.end - reading.at)),
        };
        reading.tries += 1;
        if !failure.is_temporary() || reading.tries >= TRIES {
            return Some((Err(failure), None));
        }
        tokio::time::sleep(rest(reading.tries)).await;
        match reading.server.ask(&reading.bucket, &reading.key, reading.at, Some(&reading.etag)).await {
            Ok(answer) => reading.body = answer.bytes_stream().boxed(),
            Err(error) if error.is_temporary() && !matches!(error, ForeignError::Changed(_)) => {
                reading.body = stream::empty().boxed();
            }
            Err(error) => return Some((Err(error), None)),
        }
    }
}

fn head(headers: &HeaderMap) -> Head {
    let text = |name: &str| headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let own = |name: &HeaderName| name.as_str().strip_prefix(META).filter(|name| !name.is_empty()).map(str::to_owned);
    let mut meta: BTreeMap<String, String> = headers
        .iter()
        .filter_map(|(name, value)| Some((own(name)?, std::str::from_utf8(value.as_bytes()).ok()?.to_owned())))
        .collect();
    for name in SERVED {
        // What a server says of how it sends is not what it keeps.
        let value = text(name).filter(|value| !(name == "content-encoding" && value.starts_with("aws-chunked")));
        meta.extend(value.map(|value| (format!(":{name}"), value.to_owned())));
    }
    let sealed = text("x-amz-server-side-encryption").is_some_and(|kind| kind.starts_with("aws:"));
    Head {
        size_bytes: 0,
        etag: text("etag").unwrap_or("").trim_start_matches("W/").trim_matches('"').to_owned(),
        content_type: text("content-type").unwrap_or("").to_owned(),
        meta,
        is_sealed: sealed || text("x-amz-server-side-encryption-customer-algorithm").is_some(),
        tags: text("x-amz-tagging-count").and_then(|count| count.parse().ok()).unwrap_or(0),
    }
}

/// The five entities of XML, and letters by number.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let entity = rest[1..].split_once(';').map(|(name, _)| name).filter(|name| name.len() <= 8);
        let number = |digits: &str| match digits.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        };
        let letter = entity.and_then(|name| match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            name => char::from_u32(number(name.strip_prefix('#')?)?),
        });
        let skip = match letter {
            Some(letter) => {
                out.push(letter);
                entity.map_or(1, |name| name.len() + 2)
            }
            None => {
                out.push('&');
                1
            }
        };
        rest = &rest[skip..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_read_and_nothing_else_is_touched() {
        for (text, read) in [
            ("a &amp; b", "a & b"),
            ("&lt;&#228;&#xe4;&gt;", "<ää>"),
            ("&amp;lt;", "&lt;"),
            ("& &x; &#xffffffff; &", "& &x; &#xffffffff; &"),
            ("", ""),
        ] {
            assert_eq!(unescape(text), read, "{text:?}");
        }
    }

    #[test]
    fn metadata_and_what_it_is_served_with_are_kept_apart() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("etag", "W/\"abc-2\""),
            ("content-type", "text/plain"),
            ("cache-control", "no-cache"),
            ("content-encoding", "aws-chunked"),
            ("x-amz-meta-mtime", "1.5"),
            ("x-amz-meta-", "nameless"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-tagging-count", "2"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let head = head(&headers);
        assert_eq!(
            (head.etag.as_str(), head.content_type.as_str(), head.tags, head.is_sealed),
            ("abc-2", "text/plain", 2, true)
        );
        let meta: Vec<_> = head.meta.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(meta, [(":cache-control", "no-cache"), ("mtime", "1.5")]);
    }
}
