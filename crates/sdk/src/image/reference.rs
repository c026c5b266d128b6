//! Read an image's reference as Docker does.

use super::{ImageError, hex};

/// Where a name without a host is.
const HOST: &str = "docker.io";
/// Where Docker's own registry answers.
const HOST_API: &str = "registry-1.docker.io";
const TEXT_BYTES_MAX: usize = 512;
const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// What of a repository is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Tag(String),
    /// SHA-256 of a manifest.
    Digest([u8; 32]),
}

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// With its port, where it has one.
    pub host: String,
    pub repository: String,
    pub name: Name,
}

impl Reference {
    /// Reads `nginx`, `nginx:1.27`, `localhost:5000/a/b@sha256:…`; a tag beside a digest says nothing.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let refused = |why| Err(ImageError::Reference(text.chars().take(TEXT_BYTES_MAX).collect(), why));
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return refused("1 to 512 letters");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => match digest_of(digest) {
                Some(digest) => (rest, Some(digest)),
                None => return refused("a digest is sha256: and 64 digits of 0-9 a-f"),
            },
            None => (text, None),
        };
        // What is before the first slash is a host if it cannot be a folder.
        let (host, rest) = match rest.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => (HOST, rest),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if !is_host(host) {
            return refused("the registry is a name or an address, and a port where it has one");
        }
        let host = if host == "index.docker.io" { HOST } else { host };
        let is_official = host == HOST && !repository.contains('/');
        let repository = if is_official { format!("library/{repository}") } else { repository.to_owned() };
        if repository.len() > NAME_BYTES_MAX || !repository.split('/').all(is_part) {
            return refused("a name is a-z 0-9, with . _ __ or - between, and slashes");
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return refused("a tag is 1 to 128 of A-Z a-z 0-9 _ . -, with no . or - first");
        }
        let name = digest.map_or_else(|| Name::Tag(tag.unwrap_or("latest").to_owned()), Name::Digest);
        Ok(Self { host: host.to_owned(), repository, name })
    }

    /// Last part of its name: what an app of it is called.
    pub fn stem(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// Where its registry answers.
    pub(super) fn address(&self) -> String {
        let host = if self.host == HOST { HOST_API } else { &self.host };
        let is_here = matches!(host.rsplit_once(':').map_or(host, |(name, _)| name), "localhost" | "127.0.0.1");
        format!("{}://{host}", if is_here { "http" } else { "https" })
    }

    /// The last part of its manifest's address.
    pub(super) fn point(&self) -> String {
        match &self.name {
            Name::Tag(tag) => tag.clone(),
            Name::Digest(digest) => format!("sha256:{}", hex(digest)),
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, repository, name } = self;
        match name {
            Name::Tag(tag) => write!(f, "{host}/{repository}:{tag}"),
            Name::Digest(digest) => write!(f, "{host}/{repository}@sha256:{}", hex(digest)),
        }
    }
}

/// The SHA-256 that `sha256:…` names.
pub(super) fn digest_of(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?;
    if !digits.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit)) {
        return None;
    }
    alloy_primitives::hex::decode(digits).ok()?.try_into().ok()
}

fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').all(is_label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Letters and digits, with one `.`, one or two `_`, or any `-` between.
fn is_part(part: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = part.bytes().next().is_some_and(is_letter) && part.bytes().next_back().is_some_and(is_letter);
    let between = part.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    ends && between
        .into_iter()
        .all(|mark| matches!(mark, "" | "." | "_" | "__") || mark.bytes().all(|letter| letter == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=TAG_BYTES_MAX).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_what_docker_takes() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, whole, address) in [
            ("nginx", "docker.io/library/nginx:latest", "https://registry-1.docker.io"),
            ("nginx:1.27", "docker.io/library/nginx:1.27", "https://registry-1.docker.io"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest", "https://registry-1.docker.io"),
            ("grafana/grafana", "docker.io/grafana/grafana:latest", "https://registry-1.docker.io"),
            ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1", "https://ghcr.io"),
            ("localhost/a", "localhost/a:latest", "http://localhost"),
            ("localhost:5000/a:b", "localhost:5000/a:b", "http://localhost:5000"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest", "http://127.0.0.1:5000"),
            ("10.0.0.1:5000/a", "10.0.0.1:5000/a:latest", "https://10.0.0.1:5000"),
            (
                "my-reg.example:443/a_b/c--d.e__f:X_1.-",
                "my-reg.example:443/a_b/c--d.e__f:X_1.-",
                "https://my-reg.example:443",
            ),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!((reference.to_string().as_str(), reference.address().as_str()), (whole, address), "{text}");
            assert_eq!(Reference::parse(whole).unwrap(), reference);
        }
        let both = Reference::parse(&format!("nginx:1.27@{digest}")).unwrap();
        assert_eq!((both.name.clone(), both.point()), (Name::Digest([0xab; 32]), digest));
        assert_eq!(both.stem(), "nginx");
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            "Nginx",
            "nginx:",
            "nginx:.a",
            "nginx@sha256:12",
            "nginx@md5:aa",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a//b",
            "a/",
            "/a",
            "./a",
            "../a",
            "host.x:99999/a",
            "host.x:0/a",
            "a b",
            "a:b:c",
            "é",
            "bad_host.x/a",
            "a@b@c",
        ] {
            assert!(matches!(Reference::parse(text), Err(ImageError::Reference(..))), "{text:?}");
        }
        assert!(Reference::parse(&"a".repeat(256)).is_err());
        assert!(Reference::parse(&format!("nginx@sha256:{}", "AB".repeat(32))).is_err());
    }
}
