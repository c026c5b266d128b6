//! Name the image that a replica runs, and what it runs within.
//!
//! An image is its config and its layers, each named by the SHA-256 of the bytes its registry keeps, as OCI has it. Hosts
//! are given exactly these bytes; what they unpack to is checked against the config's DiffIDs where they are unpacked.

use super::{
    ManifestError,
    given::{self, FILES_MAX, Given},
    is_name,
    volume::{VOLUMES_MAX, Volume},
    within,
};
use crate::{
    cbor::{Reader, Writer},
    transport::NodeKey,
};

/// Layers of one image.
pub const LAYERS_MAX: usize = 127;
/// Bytes of an image's config.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Bytes of one packed layer.
pub const LAYER_BYTES_MAX: u64 = 8 << 30;
/// Bytes of an image's config and packed layers together.
pub const IMAGE_BYTES_MAX: u64 = 16 << 30;
/// Words of a command, variables of an environment.
pub const WORDS_MAX: usize = 256;
/// Bytes of all words, variables and names of one container together.
pub const TEXT_BYTES_MAX: usize = 16 << 10;
/// Other apps it reaches by name.
pub const LINKS_MAX: usize = 32;
/// Ports of one of them.
pub const PORTS_MAX: usize = 16;
/// From being asked to stop to being killed, in seconds.
pub const STOP_SECS_MAX: u64 = 600;
/// Between two looks at a container's health, and of one of them, in milliseconds.
pub const HEALTH_MS_MAX: u64 = 3_600_000;

/// Bytes by what they hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob {
    pub sha256: [u8; 32],
    pub bytes: u64,
}

/// How a layer's tar is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Packing {
    Plain = 0,
    Gzip = 1,
    Zstd = 2,
}

/// One layer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    pub blob: Blob,
    pub packing: Packing,
}

/// A command in the container that says with its exit code whether it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub test: Vec<String>,
    pub every_ms: u64,
    pub timeout_ms: u64,
    /// Failures in a row that make it unwell.
    pub retries: u64,
    /// After its start failures do not count for so long.
    pub start_ms: u64,
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Restart {
    Always = 0,
    /// Where its exit code is not 0.
    OnFailure = 1,
    Never = 2,
}

/// Another app of the same owner, reached by a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// What it is called inside.
    pub name: String,
    /// The app by its viewer: the same whatever order it runs under, and whichever of its images.
    pub app: NodeKey,
    pub ports: Vec<u16>,
}

/// Which image runs, how it is started, and what it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// As its deployer wrote it, for people.
    pub image: String,
    /// SHA-256 of the image's own manifest: what its registry calls its digest.
    pub digest: [u8; 32],
    pub config: Blob,
    /// The lowest first.
    pub layers: Vec<Layer>,
    /// In place of the image's, where it is said.
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's, where it is said.
    pub command: Option<Vec<String>>,
    /// Besides the image's.
    pub env: Vec<(String, String)>,
    /// The image's where it is empty.
    pub workdir: String,
    /// The image's where it is empty.
    pub user: String,
    pub is_read_only: bool,
    /// Where it answers HTTP; 0 where it does not.
    pub port: u16,
    pub health: Option<Health>,
    pub restart: Restart,
    pub stop_secs: u64,
    pub reaches: Vec<Reach>,
    /// Makes what the ledger names by a hash unknown to who guesses an environment.
    pub salt: [u8; 16],
    /// Disks that outlive it.
    pub volumes: Vec<Volume>,
    /// Beside those of its image.
    pub files: Vec<Given>,
}

impl Packing {
    pub const ALL: [Self; 3] = [Self::Plain, Self::Gzip, Self::Zstd];
}

impl Restart {
    pub const ALL: [Self; 3] = [Self::Always, Self::OnFailure, Self::Never];
}

impl Container {
    /// The config and the layers, each once: what hosts are given.
    pub fn blobs(&self) -> Vec<Blob> {
        let mut blobs = vec![self.config];
        for layer in &self.layers {
            if !blobs.contains(&layer.blob) {
                blobs.push(layer.blob);
            }
        }
        blobs
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.blobs().iter().map(|blob| blob.bytes).fold(0, u64::saturating_add)
    }

    /// Whether each field is within its bounds.
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        within("config bytes", self.config.bytes, 1, CONFIG_BYTES_MAX)?;
        within("layers", self.layers.len() as u64, 1, LAYERS_MAX as u64)?;
        self.layers.iter().try_for_each(|layer| within("layer bytes", layer.blob.bytes, 1, LAYER_BYTES_MAX))?;
        within("image bytes", self.bytes(), 1, IMAGE_BYTES_MAX)?;
        within("stop_secs", self.stop_secs, 0, STOP_SECS_MAX)?;
        within("variables", self.env.len() as u64, 0, WORDS_MAX as u64)?;
        within("reached apps", self.reaches.len() as u64, 0, LINKS_MAX as u64)?;
        let commands = [self.entrypoint.as_deref(), self.command.as_deref(), self.test()];
        for words in commands.into_iter().flatten() {
            within("words of a command", words.len() as u64, 0, WORDS_MAX as u64)?;
        }
        within("text bytes", self.texts().map(|text| text.len() as u64).sum(), 0, TEXT_BYTES_MAX as u64)?;
        // A NUL would end a word early in every system call.
        if let Some(text) = self.texts().find(|text| text.contains('\0')) {
            return Err(ManifestError::Text(text.replace('\0', "\\0")));
        }
        if let Some((key, _)) = self.env.iter().find(|(key, _)| key.is_empty() || key.contains('=')) {
            return Err(ManifestError::Text(key.clone()));
        }
        if let Some(health) = &self.health {
            within("health test words", health.test.len() as u64, 1, WORDS_MAX as u64)?;
            within("health every_ms", health.every_ms, 1, HEALTH_MS_MAX)?;
            within("health timeout_ms", health.timeout_ms, 1, HEALTH_MS_MAX)?;
            within("health retries", health.retries, 1, 1000)?;
            within("health start_ms", health.start_ms, 0, HEALTH_MS_MAX)?;
        }
        for reach in &self.reaches {
            if !is_name(&reach.name) {
                return Err(ManifestError::Name(reach.name.clone()));
            }
            within("ports of a reached app", reach.ports.len() as u64, 1, PORTS_MAX as u64)?;
        }
        given::check(&self.files)?;
        within("volumes", self.volumes.len() as u64, 0, VOLUMES_MAX as u64)?;
        for (place, volume) in self.volumes.iter().enumerate() {
            volume.check()?;
            let others = &self.volumes[..place];
            if others.iter().any(|other| other.name == volume.name || other.path == volume.path) {
                return Err(ManifestError::Name(volume.name.clone()));
            }
        }
        Ok(())
    }

    /// Bytes of its host's disk that its volumes take: each one, and as much again for the copy that a snapshot is.
    pub fn volume_bytes(&self) -> u64 {
        self.volumes.iter().map(|volume| volume.bytes.saturating_mul(2)).fold(0, u64::saturating_add)
    }

    fn test(&self) -> Option<&[String]> {
        self.health.as_ref().map(|health| &health.test[..])
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let commands = [self.entrypoint.as_deref(), self.command.as_deref(), self.test()];
        let words = commands.into_iter().flatten().flatten().map(String::as_str);
        let env = self.env.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
        [self.image.as_str(), &self.workdir, &self.user].into_iter().chain(words).chain(env)
    }

    pub(super) fn write(&self, out: &mut Writer) {
        // One without files, and without volumes, is spelled as before there were any.
        let more = if self.files.is_empty() { usize::from(!self.volumes.is_empty()) } else { 2 };
        out.array(16 + more).text(&self.image).bytes(&self.digest);
        self.config.write(out);
        out.array(self.layers.len());
        for layer in &self.layers {
            layer.blob.write(out);
            out.uint(layer.packing as u64);
        }
        write_words(out, self.entrypoint.as_deref());
        write_words(out, self.command.as_deref());
        out.array(self.env.len());
        self.env.iter().for_each(|(key, value)| _ = out.array(2).text(key).text(value));
        out.text(&self.workdir).text(&self.user).uint(self.is_read_only.into()).uint(self.port.into());
        match &self.health {
            None => _ = out.array(0),
            Some(health) => {
                out.array(5);
                write_list(out, &health.test);
                out.uint(health.every_ms).uint(health.timeout_ms).uint(health.retries).uint(health.start_ms);
            }
        }
        out.uint(self.restart as u64).uint(self.stop_secs).array(self.reaches.len());
        for reach in &self.reaches {
            out.array(3).text(&reach.name).bytes(&reach.app.0).array(reach.ports.len());
            reach.ports.iter().for_each(|port| _ = out.uint((*port).into()));
        }
        out.bytes(&self.salt);
        if more > 0 {
            out.array(self.volumes.len());
            self.volumes.iter().for_each(|volume| volume.write(out));
        }
        if more > 1 {
            out.array(self.files.len());
            self.files.iter().for_each(|file| file.write(out));
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, ManifestError> {
        let values = input.array(18)?;
        let (image, digest) = (input.text(TEXT_BYTES_MAX)?.to_owned(), input.fixed()?);
        let config = Blob::read(input)?;
        let count = input.array(LAYERS_MAX)?;
        let layer = |input: &mut Reader<'_>| {
            Ok::<_, ManifestError>(Layer {
                blob: Blob::read(input)?,
                packing: one_of(input, "packing", &Packing::ALL)?,
            })
        };
        let layers = (0..count).map(|_| layer(input)).collect::<Result<_, _>>()?;
        let (entrypoint, command) = (read_words(input)?, read_words(input)?);
        let count = input.array(WORDS_MAX)?;
        let variable = |input: &mut Reader<'_>| {
            input.tuple(2)?;
            Ok::<_, ManifestError>((input.text(TEXT_BYTES_MAX)?.to_owned(), input.text(TEXT_BYTES_MAX)?.to_owned()))
        };
        let env = (0..count).map(|_| variable(input)).collect::<Result<_, _>>()?;
        let (workdir, user) = (input.text(TEXT_BYTES_MAX)?.to_owned(), input.text(TEXT_BYTES_MAX)?.to_owned());
        let is_read_only = one_of(input, "is_read_only", &[false, true])?;
        let port = read_port(input)?;
        let health = match input.array(5)? {
            0 => None,
            5 => Some(Health {
                test: read_list(input)?,
                every_ms: input.uint()?,
                timeout_ms: input.uint()?,
                retries: input.uint()?,
                start_ms: input.uint()?,
            }),
            other => return Err(ManifestError::Field { field: "health", found: other as u64, least: 0, most: 5 }),
        };
        let restart = one_of(input, "restart", &Restart::ALL)?;
        let stop_secs = input.uint()?;
        let count = input.array(LINKS_MAX)?;
        let reach = |input: &mut Reader<'_>| {
            input.tuple(3)?;
            let (name, app) = (input.text(super::NAME_BYTES_MAX)?.to_owned(), NodeKey(input.fixed()?));
            let ports = input.array(PORTS_MAX)?;
            let ports = (0..ports).map(|_| read_port(input)).collect::<Result<_, _>>()?;
            Ok::<_, ManifestError>(Reach { name, app, ports })
        };
        let reaches = (0..count).map(|_| reach(input)).collect::<Result<_, _>>()?;
        let salt = input.fixed()?;
        if !(16..=18).contains(&values) {
            let (field, found) = ("container's values", values as u64);
            return Err(ManifestError::Field { field, found, least: 16, most: 18 });
        }
        let mut volumes = Vec::new();
        if values > 16 {
            let count = input.array(VOLUMES_MAX)?;
            // Said in its short form where there are none of both.
            within("volumes", count as u64, u64::from(values == 17), VOLUMES_MAX as u64)?;
            volumes = (0..count).map(|_| Volume::read(input)).collect::<Result<_, _>>()?;
        }
        let mut files = Vec::new();
        if values > 17 {
            let count = input.array(FILES_MAX)?;
            within("files", count as u64, 1, FILES_MAX as u64)?;
            files = (0..count).map(|_| Given::read(input)).collect::<Result<_, _>>()?;
        }
        Ok(Self {
            image,
            digest,
            config,
            layers,
            entrypoint,
            command,
            env,
            workdir,
            user,
            is_read_only,
            port,
            health,
            restart,
            stop_secs,
            reaches,
            salt,
            volumes,
            files,
        })
    }
}

impl Blob {
    fn write(&self, out: &mut Writer) {
        out.array(2).bytes(&self.sha256).uint(self.bytes);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, ManifestError> {
        input.tuple(2)?;
        Ok(Self { sha256: input.fixed()?, bytes: input.uint()? })
    }
}

fn read_port(input: &mut Reader<'_>) -> Result<u16, ManifestError> {
    let found = input.uint()?;
    u16::try_from(found).map_err(|_| ManifestError::Field { field: "port", found, least: 0, most: u16::MAX.into() })
}

fn one_of<T: Copy>(input: &mut Reader<'_>, field: &'static str, all: &[T]) -> Result<T, ManifestError> {
    let found = input.uint()?;
    let most = all.len() as u64 - 1;
    within(field, found, 0, most)?;
    Ok(all[found as usize])
}

fn write_list(out: &mut Writer, words: &[String]) {
    out.array(words.len());
    words.iter().for_each(|word| _ = out.text(word));
}

/// Those that are not said as an array of one number, so that none and no words differ.
fn write_words(out: &mut Writer, words: Option<&[String]>) {
    out.array(1 + usize::from(words.is_some())).uint(u64::from(words.is_some()));
    words.iter().for_each(|words| write_list(out, words));
}

fn read_list(input: &mut Reader<'_>) -> Result<Vec<String>, ManifestError> {
    let count = input.array(WORDS_MAX)?;
    (0..count).map(|_| Ok(input.text(TEXT_BYTES_MAX)?.to_owned())).collect()
}

fn read_words(input: &mut Reader<'_>) -> Result<Option<Vec<String>>, ManifestError> {
    let values = input.array(2)?;
    let is_said = one_of(input, "words", &[false, true])?;
    match (values, is_said) {
        (1, false) => Ok(None),
        (2, true) => Ok(Some(read_list(input)?)),
        _ => Err(ManifestError::Field { field: "words", found: values as u64, least: 1, most: 2 }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        app::{Limits, Manifest},
        transport::NodeKey,
    };

    pub(in crate::app) fn container() -> Container {
        let blob = |byte, bytes| Blob { sha256: [byte; 32], bytes };
        Container {
            image: "docker.io/library/nginx:1.27".into(),
            digest: [1; 32],
            config: blob(2, 100),
            layers: vec![
                Layer { blob: blob(3, 10), packing: Packing::Gzip },
                Layer { blob: blob(4, 20), packing: Packing::Zstd },
                Layer { blob: blob(3, 10), packing: Packing::Gzip },
            ],
            entrypoint: Some(Vec::new()),
            command: Some(vec!["nginx".into(), "-g".into()]),
            env: vec![("A".into(), "1".into()), ("B".into(), String::new())],
            workdir: "/srv".into(),
            user: String::new(),
            is_read_only: true,
            port: 80,
            health: Some(Health {
                test: vec!["true".into()],
                every_ms: 30_000,
                timeout_ms: 1000,
                retries: 3,
                start_ms: 0,
            }),
            restart: Restart::OnFailure,
            stop_secs: 10,
            reaches: vec![Reach { name: "db".into(), app: NodeKey([6; 32]), ports: vec![5432, 80] }],
            salt: [9; 16],
            volumes: vec![Volume { name: "data".into(), path: "/srv/data".into(), bytes: 64 << 20 }],
            files: vec![Given { path: "/run/secrets/key".into(), uid: 7, gid: 0, mode: 0o400, bytes: b"k".to_vec() }],
        }
    }

    fn manifest(container: Container) -> Result<Manifest, ManifestError> {
        Manifest::of_container("shop", container, Limits::default(), NodeKey([7; 32]))
    }

    #[test]
    fn a_container_returns_from_its_bytes_and_no_other_spelling_is_taken() {
        let bare = Container { entrypoint: None, health: None, reaches: Vec::new(), port: 0, ..container() };
        let bare = Container { volumes: Vec::new(), files: Vec::new(), ..bare };
        let (filed, disked) =
            (Container { volumes: Vec::new(), ..container() }, Container { files: Vec::new(), ..container() });
        for container in [container(), bare, filed, disked] {
            let manifest = manifest(container).unwrap();
            let bytes = manifest.encode();
            assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
            assert!(Manifest::decode(&[&bytes[..], &[0]].concat()).is_err());
            (0..bytes.len()).for_each(|end| assert!(Manifest::decode(&bytes[..end]).is_err(), "cut at {end}"));
            for at in 0..bytes.len() * 8 {
                let mut bent = bytes.clone();
                bent[at / 8] ^= 1 << (at % 8);
                if let Ok(bent) = Manifest::decode(&bent) {
                    assert_ne!(bent.workload(), manifest.workload(), "bit {at}");
                }
            }
        }
    }

    #[test]
    fn the_largest_container_fits_into_a_manifest() {
        let layer = Layer { blob: Blob { sha256: [1; 32], bytes: 1 << 20 }, packing: Packing::Gzip };
        let reach = Reach { name: "n".repeat(63), app: NodeKey([6; 32]), ports: vec![u16::MAX; PORTS_MAX] };
        let largest = Container {
            image: String::new(),
            workdir: String::new(),
            layers: vec![layer; LAYERS_MAX],
            entrypoint: Some(vec!["w".repeat(40); WORDS_MAX]),
            command: Some(vec!["w".into(); WORDS_MAX]),
            env: vec![("k".repeat(10), "v".repeat(10)); WORDS_MAX],
            health: None,
            reaches: vec![reach; LINKS_MAX],
            files: (0..FILES_MAX)
                .map(|at| Given {
                    path: format!("/f{at}"),
                    uid: 65_535,
                    gid: 65_535,
                    mode: 0o777,
                    bytes: vec![at as u8; given::FILES_BYTES_MAX / FILES_MAX - 4],
                })
                .collect(),
            ..container()
        };
        let manifest = manifest(largest).unwrap();
        assert!(manifest.encode().len() <= crate::app::MANIFEST_BYTES_MAX, "{}", manifest.encode().len());
    }

    #[test]
    fn a_layer_that_stands_twice_is_given_once() {
        assert_eq!(container().blobs().len(), 3);
        assert_eq!(container().bytes(), 130);
    }

    #[test]
    fn fields_beyond_their_bounds_are_refused_by_name() {
        let bent = |bend: fn(&mut Container)| {
            let mut container = container();
            bend(&mut container);
            match manifest(container) {
                Err(ManifestError::Field { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(bent(|container| container.layers.clear()), "layers");
        assert_eq!(bent(|container| container.config.bytes = 0), "config bytes");
        assert_eq!(bent(|container| container.layers[0].blob.bytes = LAYER_BYTES_MAX + 1), "layer bytes");
        assert_eq!(bent(|container| container.stop_secs = STOP_SECS_MAX + 1), "stop_secs");
        assert_eq!(bent(|container| container.user = "u".repeat(TEXT_BYTES_MAX)), "text bytes");
        assert_eq!(bent(|container| container.reaches[0].ports.clear()), "ports of a reached app");
        let text = |bend: fn(&mut Container)| {
            let mut container = container();
            bend(&mut container);
            manifest(container).unwrap_err()
        };
        assert!(matches!(text(|container| container.user = "a\0b".into()), ManifestError::Text(_)));
        assert!(matches!(text(|container| container.env[0].0 = "A=B".into()), ManifestError::Text(_)));
        assert!(matches!(text(|container| container.reaches[0].name = "a.b".into()), ManifestError::Name(_)));
    }
}
