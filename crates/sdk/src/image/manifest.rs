//! Read manifests, indexes and configs of images, as OCI and as Docker's second schema write them.

use super::{ImageError, reference::digest_of};
use hodei_types::app::container::{
    Blob, CONFIG_BYTES_MAX, IMAGE_BYTES_MAX, LAYER_BYTES_MAX, LAYERS_MAX, Layer, Packing,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Longest manifest or index, as registries have it.
pub(super) const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Manifests that an index names.
const MANIFESTS_MAX: usize = 1024;

/// What is asked for, the first that a registry has.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// What an image is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
}

impl Platform {
    /// `linux/amd64` or `linux/arm64`: what hosts are.
    pub fn parse(text: &str) -> Option<Self> {
        let (os, architecture) = text.split_once('/')?;
        // Whoever names a variant of these names the one there is.
        let architecture = architecture.strip_suffix("/v8").unwrap_or(architecture);
        let platform = Self { os: os.to_owned(), architecture: architecture.to_owned() };
        platform.is_run().then_some(platform)
    }

    /// This machine's, if hosts can be like it.
    pub fn here() -> Self {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned() }
    }

    fn is_run(&self) -> bool {
        self.os == "linux" && matches!(self.architecture.as_str(), "amd64" | "arm64")
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<PlatformText>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
struct PlatformText {
    os: String,
    architecture: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    #[serde(default)]
    schema_version: u64,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// What a manifest's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Manifest {
    Image {
        config: Blob,
        layers: Vec<Layer>,
    },
    /// Of several; the one for a platform.
    Index(Blob),
}

/// Reads a manifest, or an index and what of it is for this platform.
pub(super) fn read(bytes: &[u8], wanted: &Platform) -> Result<Manifest, ImageError> {
    let text: Text = serde_json::from_slice(bytes).map_err(|error| ImageError::form("manifest", error))?;
    if text.schema_version != 2 {
        return Err(ImageError::form("manifest", format!("schema {}, 2 is taken", text.schema_version)));
    }
    if let Some(config) = text.config {
        return image(&config, &text.layers);
    }
    let found = text.manifests.len();
    if found > MANIFESTS_MAX {
        return Err(ImageError::Large { what: "index", found: found as u64, most: MANIFESTS_MAX as u64 });
    }
    chosen(&text.manifests, wanted)
}

fn chosen(manifests: &[Descriptor], wanted: &Platform) -> Result<Manifest, ImageError> {
    // What signs or describes an image says that it is for no machine.
    let is_image = |one: &&Descriptor| {
        one.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
            && !one.annotations.contains_key("vnd.docker.reference.type")
    };
    let images: Vec<&Descriptor> = manifests.iter().filter(is_image).collect();
    let is_for = |one: &&&Descriptor| {
        let platform = one.platform.as_ref();
        platform.is_some_and(|platform| platform.os == wanted.os && platform.architecture == wanted.architecture)
    };
    let alone = || match &images[..] {
        [one] if one.platform.is_none() => Some(*one),
        _ => None,
    };
    match images.iter().find(is_for).copied().or_else(alone) {
        Some(one) => Ok(Manifest::Index(blob(one, "manifest", MANIFEST_BYTES_MAX)?)),
        None => {
            let of = |one: &&Descriptor| {
                one.platform.as_ref().map_or("?".to_owned(), |of| format!("{}/{}", of.os, of.architecture))
            };
            let mut found: Vec<String> = images.iter().map(of).take(16).collect();
            found.dedup();
            Err(ImageError::NoPlatform { wanted: wanted.to_string(), found })
        }
    }
}

fn image(config: &Descriptor, layers: &[Descriptor]) -> Result<Manifest, ImageError> {
    let config = blob(config, "config", CONFIG_BYTES_MAX)?;
    let layer = |layer: &Descriptor| {
        Ok(Layer { blob: blob(layer, "layer", LAYER_BYTES_MAX)?, packing: packing(&layer.media_type)? })
    };
    if layers.len() > LAYERS_MAX {
        return Err(ImageError::Large { what: "layers", found: layers.len() as u64, most: LAYERS_MAX as u64 });
    }
    let layers: Vec<Layer> = layers.iter().map(layer).collect::<Result<_, ImageError>>()?;
    check(&layers)?;
    Ok(Manifest::Image { config, layers })
}

/// How many layers an image has, and how long they are.
pub(super) fn check(layers: &[Layer]) -> Result<(), ImageError> {
    let (found, most) = (layers.len() as u64, LAYERS_MAX as u64);
    if found > most {
        return Err(ImageError::Large { what: "layers", found, most });
    }
    if found == 0 {
        return Err(ImageError::form("manifest", "it has no layers: nothing could run"));
    }
    let found = layers.iter().map(|layer| layer.blob.bytes).fold(0, u64::saturating_add);
    if found > IMAGE_BYTES_MAX {
        return Err(ImageError::Large { what: "length", found, most: IMAGE_BYTES_MAX });
    }
    Ok(())
}

fn blob(descriptor: &Descriptor, what: &'static str, most: u64) -> Result<Blob, ImageError> {
    let Descriptor { digest, size, .. } = descriptor;
    let Some(sha256) = digest_of(digest) else {
        let digest: String = digest.chars().take(80).collect();
        return Err(ImageError::form(what, format!("{digest:?} is no digest of SHA-256")));
    };
    match *size {
        0 => Err(ImageError::form(what, "it has no bytes")),
        found if found > most => Err(ImageError::Large { what, found, most }),
        bytes => Ok(Blob { sha256, bytes }),
    }
}

/// By a layer's media type.
fn packing(media_type: &str) -> Result<Packing, ImageError> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar" => Ok(Packing::Plain),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" => Ok(Packing::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => Ok(Packing::Zstd),
        other => Err(ImageError::Packing(other.chars().take(120).collect())),
    }
}

/// By how a layer begins, where nothing says it.
pub(super) fn packing_of(head: &[u8]) -> Packing {
    match head {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
        _ => Packing::Plain,
    }
}

/// What an image says of how it is run, as far as a deployer uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// TCP ports that it exposes, in rising order.
    pub ports: Vec<u16>,
    /// A command that says whether it is well, and for how long, how often and from when it is asked, in milliseconds.
    pub health: Option<Check>,
    /// Whether it names something to start.
    pub has_command: bool,
    /// In seconds, where it says how long it may take to stop.
    pub stop_secs: Option<u64>,
}

/// An image's own test of its health; what is 0 is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    pub test: Vec<String>,
    pub every_ms: u64,
    pub timeout_ms: u64,
    pub retries: u64,
    pub start_ms: u64,
}

#[derive(Deserialize)]
struct ConfigText {
    os: String,
    architecture: String,
    rootfs: RootText,
    #[serde(default)]
    config: Option<RunText>,
}

#[derive(Deserialize)]
struct RootText {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RunText {
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    healthcheck: Option<CheckText>,
    stop_timeout: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CheckText {
    test: Option<Vec<String>>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    retries: u64,
}

/// Reads a config; refused where no host would run it.
pub(super) fn config(bytes: &[u8], layers: usize, wanted: &Platform) -> Result<Config, ImageError> {
    let text: ConfigText = serde_json::from_slice(bytes).map_err(|error| ImageError::form("config", error))?;
    let found = Platform { os: text.os, architecture: text.architecture };
    if !found.is_run() {
        return Err(ImageError::Platform { found: found.to_string() });
    }
    if found != *wanted {
        return Err(ImageError::NoPlatform { wanted: wanted.to_string(), found: vec![found.to_string()] });
    }
    let ids = text.rootfs.diff_ids.unwrap_or_default();
    if ids.len() != layers || ids.iter().any(|id| digest_of(id).is_none()) {
        return Err(ImageError::form("config", format!("{} layers are in it, {layers} in the manifest", ids.len())));
    }
    let run = text.config.unwrap_or_default();
    let tcp = |port: &String| match port.split_once('/') {
        Some((port, "tcp")) => port.parse().ok(),
        Some(_) => None,
        None => port.parse().ok(),
    };
    let mut ports: Vec<u16> = run.exposed_ports.iter().flat_map(|ports| ports.keys()).filter_map(tcp).collect();
    ports.sort_unstable();
    ports.dedup();
    let has = |words: &Option<Vec<String>>| words.as_ref().is_some_and(|words| !words.is_empty());
    let has_command = has(&run.entrypoint) || has(&run.cmd);
    Ok(Config { ports, health: run.healthcheck.and_then(check_of), has_command, stop_secs: run.stop_timeout })
}

fn check_of(text: CheckText) -> Option<Check> {
    const MS: u64 = 1_000_000;
    let mut words = text.test.unwrap_or_default().into_iter();
    let test: Vec<String> = match words.next()?.as_str() {
        "CMD" => words.collect(),
        "CMD-SHELL" => ["/bin/sh".to_owned(), "-c".to_owned()].into_iter().chain(words.next()).collect(),
        _ => return None,
    };
    let CheckText { interval, timeout, start_period, retries, .. } = text;
    let (every_ms, timeout_ms, start_ms) = (interval / MS, timeout / MS, start_period / MS);
    (!test.is_empty()).then_some(Check { test, every_ms, timeout_ms, retries, start_ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn amd64() -> Platform {
        Platform::parse("linux/amd64").unwrap()
    }

    fn one(media_type: &str, byte: u8, size: u64) -> Value {
        json!({ "mediaType": media_type, "digest": format!("sha256:{}", format!("{byte:02x}").repeat(32)), "size": size })
    }

    fn read_of(value: &Value) -> Result<Manifest, ImageError> {
        read(value.to_string().as_bytes(), &amd64())
    }

    fn manifest(layers: Vec<Value>) -> Value {
        json!({ "schemaVersion": 2, "config": one("application/vnd.oci.image.config.v1+json", 1, 100), "layers": layers })
    }

    const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    #[test]
    fn manifests_of_both_kinds_are_read() {
        let types = [
            GZIP,
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.oci.image.layer.v1.tar",
        ];
        let layers = types.iter().enumerate().map(|(at, media)| one(media, at as u8 + 2, 10)).collect();
        let Manifest::Image { config, layers } = read_of(&manifest(layers)).unwrap() else { panic!("an index") };
        assert_eq!(config, Blob { sha256: [1; 32], bytes: 100 });
        let packings: Vec<Packing> = layers.iter().map(|layer| layer.packing).collect();
        assert_eq!(packings, [Packing::Gzip, Packing::Gzip, Packing::Zstd, Packing::Plain]);
        assert_eq!(layers[3].blob, Blob { sha256: [5; 32], bytes: 10 });
    }

    #[test]
    fn of_an_index_what_is_for_the_platform_is_taken() {
        let of = |os: &str, architecture: &str, byte| {
            let mut value = one("application/vnd.oci.image.manifest.v1+json", byte, 7);
            value["platform"] = json!({ "os": os, "architecture": architecture });
            value
        };
        let all =
            [of("unknown", "unknown", 1), of("linux", "arm64", 2), of("linux", "amd64", 3), of("windows", "amd64", 4)];
        let index = |manifests: &[Value]| json!({ "schemaVersion": 2, "manifests": manifests });
        assert_eq!(read_of(&index(&all)).unwrap(), Manifest::Index(Blob { sha256: [3; 32], bytes: 7 }));
        let arm = Platform::parse("linux/arm64/v8").unwrap();
        let found = read(index(&all).to_string().as_bytes(), &arm).unwrap();
        assert_eq!(found, Manifest::Index(Blob { sha256: [2; 32], bytes: 7 }));
        match read_of(&index(&[all[0].clone(), all[3].clone()])) {
            Err(ImageError::NoPlatform { found, .. }) => assert_eq!(found, ["windows/amd64"]),
            other => panic!("{other:?}"),
        }
        let bare = one("application/vnd.oci.image.manifest.v1+json", 9, 7);
        assert_eq!(read_of(&index(&[bare])).unwrap(), Manifest::Index(Blob { sha256: [9; 32], bytes: 7 }));
    }

    #[test]
    fn sizes_and_forms_that_are_hostile_are_refused() {
        let refused = |value: Value| read_of(&value).unwrap_err();
        let large = |error: ImageError, of: &str| match error {
            ImageError::Large { what, .. } => assert_eq!(what, of),
            other => panic!("{other}"),
        };
        large(refused(manifest(vec![one(GZIP, 2, LAYER_BYTES_MAX + 1)])), "layer");
        large(refused(manifest(vec![one(GZIP, 2, u64::MAX)])), "layer");
        large(refused(manifest(vec![one(GZIP, 2, LAYER_BYTES_MAX); 3])), "length");
        large(refused(manifest(vec![one(GZIP, 2, 1); LAYERS_MAX + 1])), "layers");
        let mut config = manifest(vec![one(GZIP, 2, 1)]);
        config["config"]["size"] = json!(CONFIG_BYTES_MAX + 1);
        large(refused(config), "config");
        let index = json!({ "schemaVersion": 2, "manifests": vec![one("m", 1, 1); MANIFESTS_MAX + 1] });
        large(refused(index), "index");
        for layer in [
            one(GZIP, 2, 0),
            json!({ "mediaType": GZIP, "digest": "sha512:aa", "size": 1 }),
            json!({ "mediaType": GZIP, "digest": "sha256:../../etc", "size": 1 }),
        ] {
            assert!(matches!(refused(manifest(vec![layer])), ImageError::Form { .. }));
        }
        assert!(matches!(refused(manifest(Vec::new())), ImageError::Form { .. }));
        assert!(matches!(refused(json!({ "schemaVersion": 1, "fsLayers": [] })), ImageError::Form { .. }));
        assert!(matches!(read(b"{", &amd64()), Err(ImageError::Form { .. })));
        match refused(manifest(vec![one("application/vnd.oci.image.layer.v1.tar+xz", 2, 1)])) {
            ImageError::Packing(found) => assert!(found.ends_with("+xz")),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_config_says_its_ports_its_health_and_what_it_is_for() {
        let id = format!("sha256:{}", "07".repeat(32));
        let text = |os: &str, config: Value| {
            json!({ "os": os, "architecture": "amd64", "rootfs": { "type": "layers", "diff_ids": [id] }, "config": config })
                .to_string()
        };
        let run = json!({
            "ExposedPorts": { "80/tcp": {}, "53/udp": {}, "8080": {} }, "Cmd": ["a"], "Entrypoint": null,
            "Healthcheck": { "Test": ["CMD-SHELL", "curl localhost"], "Interval": 5_000_000_000u64, "Retries": 2 },
        });
        let found = config(text("linux", run).as_bytes(), 1, &amd64()).unwrap();
        assert_eq!((found.ports, found.has_command), (vec![80, 8080], true));
        let health = found.health.unwrap();
        assert_eq!(health.test, ["/bin/sh", "-c", "curl localhost"]);
        assert_eq!((health.every_ms, health.timeout_ms, health.retries), (5000, 0, 2));
        let none = config(text("linux", Value::Null).as_bytes(), 1, &amd64()).unwrap();
        assert_eq!(none, Config::default());
        let windows = config(text("windows", Value::Null).as_bytes(), 1, &amd64());
        assert!(matches!(windows, Err(ImageError::Platform { .. })));
        let arm = Platform::parse("linux/arm64").unwrap();
        assert!(matches!(config(text("linux", Value::Null).as_bytes(), 1, &arm), Err(ImageError::NoPlatform { .. })));
        assert!(matches!(config(text("linux", Value::Null).as_bytes(), 2, &amd64()), Err(ImageError::Form { .. })));
    }

    #[test]
    fn a_layer_tells_by_its_first_bytes_how_it_is_packed() {
        assert_eq!(packing_of(&[0x1f, 0x8b, 8]), Packing::Gzip);
        assert_eq!(packing_of(&[0x28, 0xb5, 0x2f, 0xfd]), Packing::Zstd);
        assert_eq!(packing_of(b"./etc"), Packing::Plain);
        assert_eq!(packing_of(&[]), Packing::Plain);
    }
}
