//! Find the deployer's own credentials for a registry, as Docker and Podman keep them.

use super::ImageError;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Longest file of credentials, and longest answer of a helper.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What Docker's own registry is called in its files.
const DOCKER: &str = "https://index.docker.io/v1/";

/// Who asks a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Basic {
        user: String,
        password: String,
    },
    /// Exchanged for a token of the registry's.
    Identity(String),
}

// What is secret is in no log.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Basic { user, .. } => write!(f, "Basic({user:?})"),
            Self::Identity(_) => f.write_str("Identity"),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    identitytoken: String,
    username: String,
    password: String,
}

/// Where a file leads to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Here(Credentials),
    /// A helper, and what it is asked for.
    Helper(String, String),
}

/// The files that are looked into, in order.
pub(super) fn files(var: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    files.extend(var("REGISTRY_AUTH_FILE").map(PathBuf::from));
    let docker = var("DOCKER_CONFIG").map(PathBuf::from);
    files.extend(
        docker.or_else(|| Some(Path::new(&var("HOME")?).join(".docker"))).map(|folder| folder.join("config.json")),
    );
    files.extend(var("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join("containers/auth.json")));
    files
}

/// Credentials for a registry, if there are some in these files.
pub(super) fn of(host: &str, repository: &str, files: &[PathBuf]) -> Result<Option<Credentials>, ImageError> {
    for path in files {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ImageError::io(path)(error)),
        };
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(ImageError::io(path))?;
        let lost = |words: String| ImageError::Credentials { host: host.to_owned(), words };
        // What it says may be a secret: only where it breaks off is told.
        let file: File = serde_json::from_slice(&text)
            .map_err(|error| lost(format!("{}, line {} is not as Docker writes it", path.display(), error.line())))?;
        match find(&file, host, repository).map_err(|words| lost(format!("{}: {words}", path.display())))? {
            Some(Found::Here(credentials)) => return Ok(Some(credentials)),
            Some(Found::Helper(helper, server)) => {
                if let Some(credentials) = ask(&helper, &server).map_err(lost)? {
                    return Ok(Some(credentials));
                }
            }
            None => {}
        }
    }
    Ok(None)
}

/// How a host may be called in a file, the narrowest first: Podman names repositories too.
fn names(host: &str, repository: &str) -> Vec<String> {
    let mut names = Vec::new();
    let parts: Vec<&str> = repository.split('/').collect();
    names.extend((1..=parts.len()).rev().map(|count| format!("{host}/{}", parts[..count].join("/"))));
    names.extend([host.to_owned(), format!("https://{host}"), format!("http://{host}")]);
    names.extend([format!("https://{host}/v1/"), format!("https://{host}/v2/")]);
    if host == "docker.io" {
        names.extend([DOCKER, "index.docker.io", "registry-1.docker.io"].map(ToOwned::to_owned));
    }
    names
}

fn find(file: &File, host: &str, repository: &str) -> Result<Option<Found>, String> {
    let names = names(host, repository);
    if let Some((server, helper)) = names.iter().find_map(|name| file.cred_helpers.get_key_value(name)) {
        return Ok(Some(Found::Helper(helper.clone(), server.clone())));
    }
    let entry = names.iter().find_map(|name| file.auths.get(name));
    if let Some(credentials) = entry.map(written).transpose()?.flatten() {
        return Ok(Some(Found::Here(credentials)));
    }
    let server = if host == "docker.io" { DOCKER } else { host };
    Ok(file.creds_store.as_ref().map(|helper| Found::Helper(helper.clone(), server.to_owned())))
}

/// What an entry says itself; none where it only names that there is something in a store.
fn written(entry: &Entry) -> Result<Option<Credentials>, String> {
    if !entry.identitytoken.is_empty() {
        return Ok(Some(Credentials::Identity(entry.identitytoken.clone())));
    }
    if !entry.auth.is_empty() {
        let bytes = base64_simd::STANDARD.decode_to_vec(&entry.auth).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = text.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
        let (user, password) = pair.ok_or("an auth is not USER:PASSWORD in base64")?;
        return Ok(Some(Credentials::Basic { user: user.to_owned(), password: password.to_owned() }));
    }
    let Entry { username: user, password, .. } = entry;
    let has_both = !user.is_empty() && !password.is_empty();
    Ok(has_both.then(|| Credentials::Basic { user: user.clone(), password: password.clone() }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    username: String,
    secret: String,
}

/// Asks `docker-credential-HELPER get`, as Docker does; none where it knows none.
fn ask(helper: &str, server: &str) -> Result<Option<Credentials>, String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if helper.is_empty() || !helper.bytes().all(is_word) {
        return Err(format!("{helper:?} is no name of a credential helper"));
    }
    let program = format!("docker-credential-{helper}");
    let failed = |error: std::io::Error| format!("{program}: {error}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it reads says why by how it ends.
        let _ = stdin.write_all(server.as_bytes());
    }
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        let words = String::from_utf8_lossy(&text);
        let is_absent = words.contains("credentials not found");
        return if is_absent { Ok(None) } else { Err(format!("{program} ended with {status}")) };
    }
    let told: Told =
        serde_json::from_slice(&text).map_err(|_| format!("{program} answered in no form that is known"))?;
    Ok(Some(match told.username.as_str() {
        "<token>" => Credentials::Identity(told.secret),
        _ => Credentials::Basic { user: told.username, password: told.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, host: &str) -> Result<Option<Found>, String> {
        find(&serde_json::from_str(text).unwrap(), host, "me/app")
    }

    fn basic(user: &str, password: &str) -> Option<Found> {
        Some(Found::Here(Credentials::Basic { user: user.into(), password: password.into() }))
    }

    #[test]
    fn what_docker_and_podman_write_is_found_by_its_registry() {
        // user:pa:ss and me:own
        let text = r#"{ "auths": {
            "https://index.docker.io/v1/": { "auth": "dXNlcjpwYTpzcw==" },
            "ghcr.io": { "identitytoken": "tok" },
            "quay.io/me": { "auth": "bWU6b3du" },
            "plain.example:5000": { "username": "a", "password": "b" },
            "broken.example": { "auth": "bm9jb2xvbg==" }
        }, "HttpHeaders": {} }"#;
        assert_eq!(found(text, "docker.io").unwrap(), basic("user", "pa:ss"));
        assert_eq!(found(text, "ghcr.io").unwrap(), Some(Found::Here(Credentials::Identity("tok".into()))));
        assert_eq!(found(text, "quay.io").unwrap(), basic("me", "own"));
        assert_eq!(found(text, "plain.example:5000").unwrap(), basic("a", "b"));
        assert_eq!(found(text, "other.example").unwrap(), None);
        assert!(found(text, "broken.example").is_err());
    }

    #[test]
    fn helpers_are_asked_where_a_file_names_them() {
        let text = r#"{ "auths": { "https://index.docker.io/v1/": {} }, "credsStore": "desktop",
            "credHelpers": { "eu.gcr.io": "gcloud" } }"#;
        let helper = |helper: &str, server: &str| Some(Found::Helper(helper.into(), server.into()));
        assert_eq!(found(text, "eu.gcr.io").unwrap(), helper("gcloud", "eu.gcr.io"));
        assert_eq!(found(text, "docker.io").unwrap(), helper("desktop", DOCKER));
        assert!(ask("../sh", "x").is_err() && ask("", "x").is_err());
    }

    #[test]
    fn secrets_are_in_no_log() {
        let told = format!("{:?} {:?}", basic("user", "hidden"), Credentials::Identity("hidden".into()));
        assert!(told.contains("user") && !told.contains("hidden"), "{told}");
    }

    #[test]
    fn files_are_looked_into_in_dockers_and_podmans_places() {
        let var = |name: &str| match name {
            "HOME" => Some("/home/a".to_owned()),
            "XDG_RUNTIME_DIR" => Some("/run/user/1".to_owned()),
            _ => None,
        };
        let paths = [PathBuf::from("/home/a/.docker/config.json"), "/run/user/1/containers/auth.json".into()];
        assert_eq!(files(var), paths);
        assert_eq!(of("a.example", "b", &["/none/at/all".into()]).unwrap(), None);
    }
}
