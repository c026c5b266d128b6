//! Pull from a registry that wants tokens, leads elsewhere, breaks off and lies.

use super::*;
use crate::image::{blobs::tests::Folder, hex};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap as Headers, Response as Answer},
};
use bytes::Bytes;
use futures::stream;
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

const LAYER: &[u8] = &[7; 300_000];

/// What the registry does besides answering.
#[derive(Clone, Copy, Default)]
struct Manners {
    /// Of a layer it answers half, once.
    cuts: bool,
    /// Where it was cut it begins anew.
    forgets: bool,
    lies: bool,
    /// A layer is at the other host.
    leads: bool,
}

struct Served {
    manners: Manners,
    config: Vec<u8>,
    manifest: Vec<u8>,
    port: u16,
    other: u16,
    layers: AtomicUsize,
    /// Of requests to the other host.
    leaked: AtomicUsize,
}

fn blob(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&blobs::of(bytes).sha256))
}

fn served(manners: Manners, port: u16, other: u16) -> Served {
    let id = format!("sha256:{}", "07".repeat(32));
    let config =
        json!({ "os": "linux", "architecture": "amd64", "rootfs": { "diff_ids": [id] } }).to_string().into_bytes();
    let descriptor =
        |media: &str, bytes: &[u8]| json!({ "mediaType": media, "digest": blob(bytes), "size": bytes.len() });
    let gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let manifest =
        json!({ "schemaVersion": 2, "config": descriptor("c", &config), "layers": [descriptor(gzip, LAYER)] });
    let (layers, leaked) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Served { manners, config, manifest: manifest.to_string().into_bytes(), port, other, layers, leaked }
}

fn from_of(headers: &Headers) -> usize {
    let range = headers.get("range").and_then(|value| value.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0)
}

fn status(code: u16) -> axum::http::response::Builder {
    Answer::builder().status(code)
}

async fn answer(State(served): State<Arc<Served>>, request: Request) -> Answer<Body> {
    let (path, headers) = (request.uri().path().to_owned(), request.headers());
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok());
    if path == "/token" {
        // user:secret
        let is_known = bearer == Some("Basic dXNlcjpzZWNyZXQ=");
        let asked = request.uri().query().unwrap_or_default();
        assert!(asked.contains("scope=repository%3Ame%2Fapp%3Apull") && asked.contains("service=here"), "{asked}");
        return match is_known {
            true => status(200).body(Body::from(r#"{"token":"t0k"}"#)).unwrap(),
            false => status(401).body(Body::from("who are you")).unwrap(),
        };
    }
    if path == "/elsewhere" {
        served.leaked.fetch_add(usize::from(bearer.is_some()), Ordering::Relaxed);
        return status(200).body(Body::from(LAYER)).unwrap();
    }
    if bearer != Some("Bearer t0k") {
        let realm = format!("Bearer realm=\"http://127.0.0.1:{}/token\",service=\"here\"", served.port);
        return status(401).header("www-authenticate", realm).body(Body::empty()).unwrap();
    }
    if path == "/v2/me/app/manifests/v1" {
        return status(200).body(Body::from(served.manifest.clone())).unwrap();
    }
    if path == format!("/v2/me/app/blobs/{}", blob(&served.config)) {
        return status(200).body(Body::from(served.config.clone())).unwrap();
    }
    if path != format!("/v2/me/app/blobs/{}", blob(LAYER)) {
        return status(404).body(Body::empty()).unwrap();
    }
    let Manners { cuts, forgets, lies, leads } = served.manners;
    if leads {
        let there = format!("http://127.0.0.1:{}/elsewhere", served.other);
        return status(307).header("location", there).body(Body::empty()).unwrap();
    }
    let is_first = served.layers.fetch_add(1, Ordering::Relaxed) == 0;
    if lies {
        return status(200).body(Body::from(vec![8; LAYER.len()])).unwrap();
    }
    if cuts && is_first {
        let half = [Ok(Bytes::from_static(&LAYER[..100_000])), Err(std::io::Error::other("cut"))];
        return status(200).body(Body::from_stream(stream::iter(half))).unwrap();
    }
    match from_of(headers) {
        0 => status(200).body(Body::from(LAYER)).unwrap(),
        _ if forgets => status(200).body(Body::from(LAYER)).unwrap(),
        from => {
            let range = format!("bytes {from}-{}/{}", LAYER.len() - 1, LAYER.len());
            status(206).header("content-range", range).body(Body::from(&LAYER[from..])).unwrap()
        }
    }
}

/// A registry that behaves so, what it is called, and a file with what lets one in.
async fn registry(manners: Manners, folder: &Folder, auth: &str) -> (Arc<Served>, Registry) {
    let [one, other] = [bound().await, bound().await];
    let [port, far] = [&one, &other].map(|socket| socket.local_addr().unwrap().port());
    let served = Arc::new(served(manners, port, far));
    for socket in [one, other] {
        let router = Router::new().fallback(answer).with_state(served.clone());
        tokio::spawn(async move { axum::serve(socket, router).await });
    }
    let file = folder.0.join("auth.json");
    std::fs::write(&file, format!(r#"{{"auths":{{"127.0.0.1:{port}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
    let reference = Reference::parse(&format!("127.0.0.1:{port}/me/app:v1")).unwrap();
    (served, Registry::with(&reference, &[file]).unwrap())
}

async fn bound() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

const USER: &str = "dXNlcjpzZWNyZXQ=";

async fn pulled(manners: Manners, folder: &Folder) -> (Arc<Served>, Result<Image, ImageError>) {
    let (served, registry) = registry(manners, folder, USER).await;
    let blobs = folder.blobs();
    let image = registry.resolve(&Platform::parse("linux/amd64").unwrap(), &blobs).await.unwrap();
    let mut last = 0;
    let pulled = registry.pull(&image, &blobs, &mut |bytes| last = bytes).await;
    let pulled = pulled.map(|()| {
        assert_eq!(last, image.bytes());
        assert!(blobs.has(&image.config) && image.layers.iter().all(|layer| blobs.has(&layer.blob)));
        image
    });
    (served, pulled)
}

#[tokio::test]
async fn an_image_is_pulled_with_a_token_and_not_twice() {
    let folder = Folder::new("pull");
    let (served, image) = pulled(Manners::default(), &folder).await;
    let image = image.unwrap();
    assert_eq!(image.digest, blobs::of(&served.manifest).sha256);
    assert_eq!(served.layers.load(Ordering::Relaxed), 1);
    let (again, _) = pulled(Manners::default(), &folder).await;
    assert_eq!(again.layers.load(Ordering::Relaxed), 0, "it is here already");
}

#[tokio::test]
async fn a_layer_that_breaks_off_is_gone_on_with_or_begun_anew() {
    for forgets in [false, true] {
        let folder = Folder::new(if forgets { "anew" } else { "on" });
        let (served, image) = pulled(Manners { cuts: true, forgets, ..Manners::default() }, &folder).await;
        image.unwrap();
        assert_eq!(served.layers.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn what_lets_us_in_does_not_go_to_where_a_blob_is() {
    let folder = Folder::new("leads");
    let (served, image) = pulled(Manners { leads: true, ..Manners::default() }, &folder).await;
    image.unwrap();
    assert_eq!(served.leaked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn bytes_that_are_not_what_they_are_called_are_not_kept() {
    let folder = Folder::new("lies");
    let (_, image) = pulled(Manners { lies: true, ..Manners::default() }, &folder).await;
    assert!(matches!(image, Err(ImageError::Lie { .. })), "{image:?}");
    let kept = std::fs::read_dir(folder.0.join("blobs")).unwrap().count();
    assert_eq!(kept, 1, "its config alone");
}

#[tokio::test]
async fn who_is_not_known_is_refused_and_what_is_not_there_is_named() {
    let folder = Folder::new("denied");
    let platform = Platform::parse("linux/amd64").unwrap();
    // user:wrong
    let (_, stranger) = registry(Manners::default(), &folder, "dXNlcjp3cm9uZw==").await;
    let denied = stranger.resolve(&platform, &folder.blobs()).await;
    assert!(matches!(denied, Err(ImageError::Denied { .. })), "{denied:?}");
    let (served, known) = registry(Manners::default(), &folder, USER).await;
    let absent = Reference::parse(&format!("127.0.0.1:{}/me/app:v2", served.port)).unwrap();
    let absent = Registry::with(&absent, &[folder.0.join("auth.json")]).unwrap();
    let missing = absent.resolve(&platform, &folder.blobs()).await;
    assert!(matches!(missing, Err(ImageError::NotFound { .. })), "{missing:?}");
    drop(known);
}

#[test]
fn challenges_are_read_as_registries_write_them() {
    let read = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, text.parse().unwrap());
        challenge(&headers)
    };
    let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
        let of = |text: Option<&str>| text.map(ToOwned::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: of(service), scope: of(scope) })
    };
    let text = r#"Bearer realm="https://a/t",service="a.b",scope="repository:a/b:pull,push""#;
    assert_eq!(read(text), bearer("https://a/t", Some("a.b"), Some("repository:a/b:pull,push")));
    assert_eq!(read("bearer realm=https://a/t, service=x"), bearer("https://a/t", Some("x"), None));
    assert_eq!(read("Basic realm=\"a\""), Some(Challenge::Basic));
    for text in ["Negotiate", "Bearer", "Bearer realm=\"open", "Bearer service=\"a\""] {
        assert_eq!(read(text), None, "{text}");
    }
}
