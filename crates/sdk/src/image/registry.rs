//! Ask a registry of the OCI distribution protocol for an image, blob by blob.
//!
//! Credentials go to the registry and to where it says that tokens are given; where it leads on to another host, as
//! registries do for blobs, they stay behind. A blob that breaks off is gone on with from there.

use super::{
    Blobs, Image, ImageError, Platform, Reference,
    auth::{self, Credentials},
    blobs,
    manifest::{self, ACCEPT, MANIFEST_BYTES_MAX, Manifest},
    reference::{Name, digest_of},
};
use hodei_types::app::container::{Blob, CONFIG_BYTES_MAX};
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    header::{ACCEPT as ACCEPT_HEADER, AUTHORIZATION, CONTENT_RANGE, HeaderMap, LOCATION, RANGE, WWW_AUTHENTICATE},
};
use serde::Deserialize;
use std::{
    path::PathBuf,
    sync::{Mutex, Once},
    time::Duration,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two bytes.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Hosts a request is led on to.
const HOPS_MAX: usize = 5;
/// Indexes that name indexes.
const DEPTH_MAX: usize = 3;
/// Requests in a row that bring no new byte of a blob.
const TRIES_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);
/// Longest answer of who gives tokens, and what is read of an error.
const TOKEN_BYTES_MAX: u64 = 256 << 10;
/// Shown of what a registry says.
const WORDS_MAX: usize = 300;
const CLIENT: &str = concat!("hodei/", env!("CARGO_PKG_VERSION"));

static PROVIDER: Once = Once::new();

/// One repository of a registry, and who asks it.
pub struct Registry {
    reference: Reference,
    base: Url,
    client: Client,
    credentials: Option<Credentials>,
    /// What it wants to be sent with each request, once it said so.
    header: Mutex<Option<String>>,
}

/// What a registry wants of who asks.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Registry {
    /// With this user's own credentials for it, as Docker and Podman keep them.
    pub fn of(reference: &Reference) -> Result<Self, ImageError> {
        Self::with(reference, &auth::files(|name| std::env::var(name).ok()))
    }

    fn with(reference: &Reference, files: &[PathBuf]) -> Result<Self, ImageError> {
        // The one provider of this process; that there is one already is as good.
        PROVIDER.call_once(|| _ = rustls::crypto::aws_lc_rs::default_provider().install_default());
        let credentials = auth::of(&reference.host, &reference.repository, files)?;
        let away = |words: String| ImageError::Away { host: reference.host.clone(), words };
        let base = format!("{}/v2/{}/", reference.address(), reference.repository);
        let base = base.parse().map_err(|error| away(format!("{error}")))?;
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(CLIENT)
            .build()
            .map_err(|error| away(told(&error)))?;
        Ok(Self { reference: reference.clone(), base, client, credentials, header: Mutex::default() })
    }

    /// Finds the image for a platform; its config is kept, its layers are not here yet.
    pub async fn resolve(&self, platform: &Platform, kept: &Blobs) -> Result<Image, ImageError> {
        let mut point = self.reference.point();
        let mut named = match &self.reference.name {
            Name::Digest(digest) => Some(*digest),
            Name::Tag(_) => None,
        };
        for _ in 0..DEPTH_MAX {
            let (bytes, said) = self.manifest(&point).await?;
            let found = blobs::of(&bytes);
            if let Some(expected) = named.or(said).filter(|expected| *expected != found.sha256) {
                return Err(blobs::lie(&Blob { sha256: expected, bytes: found.bytes }, &found));
            }
            match manifest::read(&bytes, platform)? {
                Manifest::Index(blob) => {
                    point = format!("sha256:{}", super::hex(&blob.sha256));
                    named = Some(blob.sha256);
                }
                Manifest::Image { config, layers } => {
                    self.blob(&config, kept, &mut |_| {}).await?;
                    let text = kept.read(&config, "config", CONFIG_BYTES_MAX)?;
                    let says = manifest::config(&text, layers.len(), platform)?;
                    let reference = self.reference.to_string();
                    return Ok(Image { reference, digest: found.sha256, config, layers, says });
                }
            }
        }
        Err(ImageError::form("index", "it names an index that names an index"))
    }

    /// Brings all its blobs that are not here; told is how many bytes of all are.
    pub async fn pull(
        &self,
        image: &Image,
        kept: &Blobs,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), ImageError> {
        let mut blobs = vec![image.config];
        blobs.extend(image.layers.iter().map(|layer| layer.blob));
        let mut here = Vec::new();
        let mut bytes = 0;
        for blob in blobs {
            if here.contains(&blob) {
                continue;
            }
            self.blob(&blob, kept, &mut |of| tell(bytes + of)).await?;
            bytes += blob.bytes;
            tell(bytes);
            here.push(blob);
        }
        Ok(())
    }

    /// A manifest's bytes, and what its registry says they hash to.
    async fn manifest(&self, point: &str) -> Result<(Vec<u8>, Option<[u8; 32]>), ImageError> {
        let mut answer = self.get(&format!("manifests/{point}"), Some(ACCEPT), 0).await?;
        let said = answer.headers().get("docker-content-digest").and_then(|value| digest_of(value.to_str().ok()?));
        let bytes = self.bounded(&mut answer, MANIFEST_BYTES_MAX).await?;
        Ok((bytes, said))
    }

    /// Brings one blob.
    async fn blob(&self, blob: &Blob, kept: &Blobs, tell: &mut (dyn FnMut(u64) + Send)) -> Result<(), ImageError> {
        if kept.has(blob) {
            return Ok(());
        }
        let path = format!("blobs/sha256:{}", super::hex(&blob.sha256));
        let mut part = kept.begin(blob.bytes)?;
        let (mut most, mut tries) = (0, 0);
        while part.bytes() < blob.bytes {
            let words = match self.get(&path, None, part.bytes()).await {
                Ok(mut answer) => {
                    if !goes_on(&answer, part.bytes()) {
                        part.restart()?;
                    }
                    loop {
                        match answer.chunk().await {
                            Ok(Some(bytes)) => {
                                part.take(&bytes)?;
                                tell(part.bytes());
                            }
                            Ok(None) => break "it ended before its end".to_owned(),
                            Err(error) => break told(&error),
                        }
                    }
                }
                Err(error) if error.is_temporary() => error.to_string(),
                Err(error) => return Err(error),
            };
            tries = if part.bytes() > most { 0 } else { tries + 1 };
            most = most.max(part.bytes());
            if part.bytes() < blob.bytes {
                if tries >= TRIES_MAX {
                    return Err(self.away(words));
                }
                tokio::time::sleep(PAUSE * tries).await;
            }
        }
        let blob = *blob;
        // It waits for the disk.
        let ended = tokio::task::spawn_blocking(move || part.end(Some(&blob))).await;
        ended.map_err(|error| self.away(error.to_string()))?.map(drop)
    }

    /// Asks for something below the repository from byte `from` on, as who is let in.
    async fn get(&self, path: &str, accept: Option<&'static str>, from: u64) -> Result<Response, ImageError> {
        let url = self.base.join(path).map_err(|error| self.away(error.to_string()))?;
        let mut has_tried = false;
        loop {
            let answer = self.follow(url.clone(), accept, from).await?;
            match answer.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(answer),
                StatusCode::UNAUTHORIZED if !has_tried => {
                    has_tried = true;
                    let Some(challenge) = challenge(answer.headers()) else { return Err(self.refused(answer).await) };
                    let header = self.let_in(challenge).await?;
                    *self.header.lock().expect("no panic under this lock") = Some(header);
                }
                _ => return Err(self.refused(answer).await),
            }
        }
    }

    /// Follows where a registry leads to; what lets us in there goes to no other host.
    async fn follow(&self, first: Url, accept: Option<&'static str>, from: u64) -> Result<Response, ImageError> {
        let header = self.header.lock().expect("no panic under this lock").clone();
        let mut url = first;
        for _ in 0..HOPS_MAX {
            let mut request = self.client.request(Method::GET, url.clone());
            if let Some(accept) = accept {
                request = request.header(ACCEPT_HEADER, accept);
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if let Some(header) = header.as_ref().filter(|_| url.origin() == self.base.origin()) {
                request = request.header(AUTHORIZATION, header);
            }
            let answer = request.send().await.map_err(|error| self.away(told(&error)))?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let next = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            url = next
                .and_then(|next| url.join(next).ok())
                .filter(|next| self.is_allowed(next))
                .ok_or_else(|| self.away("it leads on to nowhere that may be asked".into()))?;
        }
        Err(self.away(format!("it leads on more than {HOPS_MAX} times")))
    }

    /// Plain HTTP only where the registry is on this machine itself.
    fn is_allowed(&self, url: &Url) -> bool {
        url.scheme() == "https" || url.scheme() == "http" && self.base.scheme() == "http"
    }

    /// What lets us in, as a registry wants it.
    async fn let_in(&self, challenge: Challenge) -> Result<String, ImageError> {
        let denied = |words: &str| ImageError::Denied { host: self.reference.host.clone(), words: words.to_owned() };
        let (realm, service, scope) = match challenge {
            Challenge::Basic => match &self.credentials {
                Some(Credentials::Basic { user, password }) => {
                    return Ok(format!(
                        "Basic {}",
                        base64_simd::STANDARD.encode_to_string(format!("{user}:{password}"))
                    ));
                }
                _ => {
                    return Err(denied(
                        "it wants a user and a password: log in to it by `docker login` or `podman login`",
                    ));
                }
            },
            Challenge::Bearer { realm, service, scope } => (realm, service, scope),
        };
        let url: Option<Url> = realm.parse().ok().filter(|url| self.is_allowed(url));
        let mut url = url.ok_or_else(|| denied("it names no place that gives tokens over TLS"))?;
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository));
        let mut pairs = vec![("scope", scope)];
        pairs.extend(service.map(|service| ("service", service)));
        let request = match &self.credentials {
            Some(Credentials::Identity(token)) => {
                let more = [("grant_type", "refresh_token"), ("client_id", "hodei"), ("refresh_token", token.as_str())];
                pairs.extend(more.map(|(key, value)| (key, value.to_owned())));
                let mut form = url.clone();
                form.query_pairs_mut().clear().extend_pairs(&pairs);
                let form = form.query().unwrap_or_default().to_owned();
                self.client.post(url).header("content-type", "application/x-www-form-urlencoded").body(form)
            }
            who => {
                url.query_pairs_mut().extend_pairs(&pairs);
                let request = self.client.get(url);
                match who {
                    Some(Credentials::Basic { user, password }) => request.basic_auth(user, Some(password)),
                    _ => request,
                }
            }
        };
        let mut answer = request.send().await.map_err(|error| self.away(told(&error)))?;
        if !answer.status().is_success() {
            return Err(self.refused(answer).await);
        }
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            token: String,
            #[serde(default)]
            access_token: String,
        }
        let text = self.bounded(&mut answer, TOKEN_BYTES_MAX).await?;
        let token: Token = serde_json::from_slice(&text).map_err(|_| denied("its token is not as tokens are"))?;
        let token = if token.token.is_empty() { token.access_token } else { token.token };
        match token.is_empty() {
            true => Err(denied("it gave no token")),
            false => Ok(format!("Bearer {token}")),
        }
    }

    async fn bounded(&self, answer: &mut Response, most: u64) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.away(told(&error)))? {
            bytes.extend_from_slice(&chunk);
            let found = bytes.len() as u64;
            if found > most {
                return Err(ImageError::Large { what: "manifest", found, most });
            }
        }
        Ok(bytes)
    }

    /// What an answer means that is not what was asked for.
    async fn refused(&self, mut answer: Response) -> ImageError {
        let status = answer.status();
        let text = self.bounded(&mut answer, TOKEN_BYTES_MAX).await.unwrap_or_default();
        let words =
            String::from_utf8_lossy(&text).chars().filter(|letter| !letter.is_control()).take(WORDS_MAX).collect();
        let host = self.reference.host.clone();
        match status {
            StatusCode::NOT_FOUND => ImageError::NotFound { image: self.reference.to_string(), host },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ImageError::Denied { host, words },
            status => ImageError::Status { host, status: status.as_u16(), words },
        }
    }

    fn away(&self, words: String) -> ImageError {
        ImageError::Away { host: self.reference.host.clone(), words }
    }
}

/// Whether an answer goes on at that byte; one that does not begins anew.
fn goes_on(answer: &Response, from: u64) -> bool {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let begins = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    answer.status() == StatusCode::PARTIAL_CONTENT && begins == Some(from)
}

/// The first challenge that is understood.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut is_basic = false;
    for value in values {
        let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            let said = |name: &str| parameter(rest, name);
            if let Some(realm) = said("realm") {
                return Some(Challenge::Bearer { realm, service: said("service"), scope: said("scope") });
            }
        }
        is_basic |= scheme.eq_ignore_ascii_case("basic");
    }
    is_basic.then_some(Challenge::Basic)
}

/// One of `a="b,c",d=e`.
fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(after) => after.split_once('"')?,
            None => {
                (&after[..after.find(',').unwrap_or(after.len())], &after[after.find(',').unwrap_or(after.len())..])
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next.trim_start().strip_prefix(',')?;
    }
}

/// An error with what caused it, without the address: where blobs are it has a signature.
fn told(error: &reqwest::Error) -> String {
    use std::error::Error as _;
    let causes: Vec<String> =
        std::iter::successors(error.source(), |cause| (*cause).source()).map(ToString::to_string).collect();
    if causes.is_empty() { "the request failed".into() } else { causes.join(": ") }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
