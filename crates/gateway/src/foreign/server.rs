//! Reach one S3 server, and list what it has.

use super::{ForeignError, named};
use futures::StreamExt as _;
use rusty_s3::{Bucket, Credentials, Method, S3Action as _, UrlStyle, actions::ListObjectsV2, signing::sign};
use std::{sync::Once, time::Duration};

/// How long one request's signature is good.
const SIGNED: Duration = Duration::from_secs(3600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// So long may a server stay silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// A page of a thousand keys of 1 KiB, each escaped to three bytes, with all that stands around them.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// What is read of an error's text.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Times a request is asked that failed for a reason that passes, and the rest between.
pub(super) const TRIES: u32 = 4;
const REST: Duration = Duration::from_millis(400);

static PROVIDER: Once = Once::new();

/// Where a server is and who asks.
#[derive(Clone, Default)]
pub struct Config {
    /// As `https://minio.example:9000`.
    pub endpoint: String,
    pub region: String,
    /// Access key and secret; `None` asks as nobody.
    pub keys: Option<(String, String)>,
    pub session_token: Option<String>,
    /// The bucket's name stands in the host's, as Amazon has it.
    pub is_virtual: bool,
    /// Further certificates to believe, as PEM.
    pub certificates: Option<Vec<u8>>,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub key: String,
    pub size_bytes: u64,
    /// Without quotes; empty if the server tells none.
    pub etag: String,
    pub modified_ms: u64,
}

/// A page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub found: Vec<Found>,
    /// Give it for the next page.
    pub next: Option<String>,
}

/// One server; clones share its connections.
#[derive(Clone)]
pub struct Server {
    pub(super) client: reqwest::Client,
    endpoint: reqwest::Url,
    style: UrlStyle,
    region: String,
    credentials: Option<Credentials>,
}

impl Server {
    /// Checks the settings; nothing is asked yet.
    pub fn new(config: Config) -> Result<Self, ForeignError> {
        // The one provider of this process; that there is one already is as good.
        PROVIDER.call_once(|| _ = rustls::crypto::aws_lc_rs::default_provider().install_default());
        let wrong = |why: String| ForeignError::Endpoint(config.endpoint.clone(), why);
        let endpoint: reqwest::Url = config.endpoint.parse().map_err(|error| wrong(format!("{error}")))?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host_str().is_none() {
            return Err(wrong("it must begin with http:// or https:// and name a host".into()));
        }
        // An answer that leads elsewhere is told, not followed: what is signed is for this host.
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT);
        if let Some(pem) = &config.certificates {
            builder = builder.tls_backend_preconfigured(named::believing(pem)?);
        }
        let client = builder.build().map_err(|error| wrong(chain(&error)))?;
        let credentials = config.keys.map(|(key, secret)| match config.session_token {
            Some(token) => Credentials::new_with_token(key, secret, token),
            None => Credentials::new(key, secret),
        });
        let style = if config.is_virtual { UrlStyle::VirtualHost } else { UrlStyle::Path };
        Ok(Self { client, endpoint, style, region: config.region, credentials })
    }

    pub(super) fn bucket(&self, name: &str) -> Result<Bucket, ForeignError> {
        let bucket = Bucket::new(self.endpoint.clone(), self.style, name.to_owned(), self.region.clone());
        bucket.map_err(|error| ForeignError::Endpoint(self.endpoint.to_string(), error.to_string()))
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// An address with these parameters, in the order of their names.
    pub(super) fn signed(&self, url: reqwest::Url, query: &[(&str, &str)]) -> reqwest::Url {
        match &self.credentials {
            Some(keys) => {
                let none = std::iter::empty::<(&str, &str)>();
                let now = jiff::Timestamp::now();
                let query = query.iter().copied();
                sign(
                    &now,
                    Method::Get,
                    url,
                    keys.key(),
                    keys.secret(),
                    keys.token(),
                    &self.region,
                    SIGNED.as_secs(),
                    query,
                    none,
                )
            }
            None => {
                let mut url = url;
                url.query_pairs_mut().extend_pairs(query);
                url
            }
        }
    }

    /// Names of all buckets these keys may see.
    pub async fn buckets(&self) -> Result<Vec<String>, ForeignError> {
        let what = "listing buckets";
        let text = self.text(what, || Ok(self.signed(self.endpoint.clone(), &[]))).await?;
        // Names of buckets hold nothing that XML escapes.
        let names = text.split("<Bucket>").skip(1).filter_map(|bucket| {
            let name = bucket.split("<Name>").nth(1)?.split("</Name>").next()?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            (!name.is_empty() && name.bytes().all(plain)).then(|| name.to_owned())
        });
        Ok(names.collect())
    }

    /// Objects whose keys begin with `prefix`, a page at a time.
    pub async fn list(&self, bucket: &str, prefix: &str, token: Option<&str>) -> Result<Page, ForeignError> {
        let what = format!("listing s3://{bucket}/{prefix}");
        let place = self.bucket(bucket)?;
        let address = || {
            let mut list = ListObjectsV2::new(&place, self.credentials());
            if !prefix.is_empty() {
                list.with_prefix(prefix);
            }
            if let Some(token) = token {
                list.with_continuation_token(token);
            }
            Ok(list.sign(SIGNED))
        };
        let text = self.text(&what, address).await?;
        let parsed = ListObjectsV2::parse_response(&text)
            .map_err(|error| ForeignError::Answer { what: what.clone(), why: error.to_string() })?;
        let found = parsed.contents.into_iter().map(|content| {
            let modified = content.last_modified.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            Found {
                key: content.key,
                size_bytes: content.size.unwrap_or(0),
                etag: content.etag.unwrap_or_default().trim_matches('"').to_owned(),
                modified_ms: modified.map_or(0, |at| u64::try_from(at.as_millisecond()).unwrap_or(0)),
            }
        });
        Ok(Page { found: found.collect(), next: parsed.next_continuation_token })
    }

    /// The text of an answer that must be a success, asked again where what failed may pass.
    pub(super) async fn text(
        &self,
        what: &str,
        address: impl Fn() -> Result<reqwest::Url, ForeignError>,
    ) -> Result<String, ForeignError> {
        let mut tries = 1;
        loop {
            let failure = match self.client.get(address()?).send().await {
                Ok(answer) if answer.status().is_success() => match bounded(answer, PAGE_BYTES_MAX).await {
                    Ok(text) => return Ok(text),
                    Err(failure) => failure,
                },
                Ok(answer) => refused(what, answer).await,
                Err(error) => ForeignError::of_request(&error),
            };
            if !failure.is_temporary() || tries >= TRIES {
                return Err(failure);
            }
            tokio::time::sleep(REST * 2u32.pow(tries)).await;
            tries += 1;
        }
    }
}

/// How long to wait before a request is asked again.
pub(super) fn rest(tries: u32) -> Duration {
    REST * 2u32.pow(tries.min(6))
}

/// A body that is no longer than `max`.
async fn bounded(answer: reqwest::Response, max: usize) -> Result<String, ForeignError> {
    let mut body = Box::pin(answer.bytes_stream());
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| ForeignError::Unreachable(chain(&error)))?;
        bytes.extend_from_slice(&piece[..piece.len().min(max - bytes.len())]);
        if bytes.len() == max {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What an answer that is no success says.
pub(super) async fn refused(what: &str, answer: reqwest::Response) -> ForeignError {
    let status = answer.status().as_u16();
    let text = bounded(answer, ERROR_BYTES_MAX).await.unwrap_or_default();
    let between = |name: &str| {
        let inner = text.split(&format!("<{name}>")).nth(1)?.split('<').next()?;
        Some(inner.chars().filter(|letter| !letter.is_control()).take(300).collect::<String>())
    };
    ForeignError::Refused {
        what: what.into(),
        status,
        code: between("Code").unwrap_or_default(),
        message: between("Message").unwrap_or_else(|| "without saying why".into()),
    }
}

/// An error with what caused it, without the address, which is signed.
pub(super) fn chain(error: &reqwest::Error) -> String {
    use std::error::Error as _;
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    if causes.is_empty() { "the request failed".into() } else { causes.join(": ") }
}
