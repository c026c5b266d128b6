//! Find out where an image is, and bring it here.

use super::deploy::limited;
use crate::{
    args::Container,
    fault::{self, Fault, Result},
    out::{Out, bytes},
    session::sdk_fault,
};
use hodei_sdk::image::{Blobs, Image, ImageError, Platform, Reference, Registry, archive, local};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Longest file of variables.
const ENV_BYTES_MAX: u64 = 64 << 10;
/// From one word about what came to the next.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Where an image is, and which of several it is.
pub(super) struct Source {
    place: Place,
    platform: Platform,
}

enum Place {
    Registry(Reference),
    /// A program of this machine, and what the image is called there.
    Local(String, String),
    Archive(PathBuf),
    Layout(PathBuf),
    Recipe(PathBuf),
}

/// Whether a word of the command line means an image, not a component's file.
pub(super) fn is_meant(what: &Path, args: &Container) -> bool {
    let is_component = what.extension().is_some_and(|ending| ending == "wasm" || ending == "wat");
    let is_file = what.is_file() && what.extension().is_none_or(|ending| ending != "tar");
    args.from.is_some() || !is_component && !is_file
}

/// What `-e` and `--env-file` say.
pub(super) fn env(args: &Container) -> Result<Option<BTreeMap<String, String>>> {
    let mut lines = Vec::new();
    if let Some(path) = &args.env_file {
        let text = String::from_utf8(limited(path, ENV_BYTES_MAX, &fault::SETTINGS)?)
            .map_err(|_| Fault::new(&fault::SETTINGS, "it is not UTF-8", "write it anew").at(path.display()))?;
        let said = text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
        lines.extend(said.map(|line| line.trim_start().to_owned()));
    }
    lines.extend(args.env.iter().cloned());
    let mut env = BTreeMap::new();
    for line in lines {
        match line.split_once('=') {
            Some((key, value)) => _ = env.insert(key.to_owned(), value.to_owned()),
            // Where this shell has none, there is none.
            None => env.extend(std::env::var(&line).ok().map(|value| (line, value))),
        }
    }
    Ok((!env.is_empty()).then_some(env))
}

/// An image, for programs.
pub(super) fn shown(image: &Image) -> Value {
    json!({
        "reference": image.reference, "digest": format!("sha256:{}", hex::encode(image.digest)), "bytes": image.bytes(),
        "layers": image.layers.len(),
    })
}

fn platform(args: &Container) -> Result<Platform> {
    let Some(text) = &args.platform else { return Ok(Platform::here()) };
    Platform::parse(text).ok_or_else(|| {
        let rule = format!("--platform is {text:?}: hosts are linux/amd64 or linux/arm64");
        Fault::new(&fault::APP_SPEC, rule, "name one of these, or leave it out")
    })
}

impl Source {
    /// Of what was said, beside `folder`.
    pub(super) fn of(what: &str, folder: &Path, args: &Container) -> Result<Self> {
        let platform = platform(args)?;
        let path = folder.join(what);
        let place = match &args.from {
            Some(program) => Place::Local(program.clone(), what.to_owned()),
            None if path.is_file() => Place::Archive(path),
            None if path.is_dir() && archive::is_layout(&path) => Place::Layout(path),
            None if path.is_dir() && local::is_recipe(&path) => Place::Recipe(path),
            None if path.is_dir() => {
                let words = "it has no Containerfile, no Dockerfile, and is no OCI layout";
                return Err(Fault::new(&fault::IMAGE, words, "name another folder, or an image").at(path.display()));
            }
            // No reference begins so, and none is likely to end so: a file was meant that is not there.
            None if what.starts_with(['/', '.']) || what.ends_with(".tar") => {
                let error = std::io::ErrorKind::NotFound.into();
                return Err(Fault::io(&path, "reading it", &error));
            }
            None => Place::Registry(Reference::parse(what).map_err(|error| sdk_fault(error.into()))?),
        };
        Ok(Self { place, platform })
    }

    /// Of a reference, whatever files are called so.
    pub(super) fn named(reference: &str, args: &Container) -> Result<Self> {
        let place = Place::Registry(Reference::parse(reference).map_err(|error| sdk_fault(error.into()))?);
        Ok(Self { place, platform: platform(args)? })
    }

    /// What it is; all of it is here already where it is not in a registry.
    pub(super) async fn find(&self, blobs: &Blobs, out: Out) -> std::result::Result<Image, hodei_sdk::Fault> {
        let Place::Registry(reference) = &self.place else { return self.taken(blobs).await };
        let found = Registry::of(reference)?.resolve(&self.platform, blobs).await;
        let (Err(error @ (ImageError::NotFound { .. } | ImageError::Denied { .. })), name) =
            (&found, reference.to_string())
        else {
            return Ok(found?);
        };
        let keeper = {
            let name = name.clone();
            blocking(move || Ok(local::keeper(&name))).await?
        };
        let Some(program) = keeper else { return Ok(found?) };
        out.say(format!("{error}; {program} of this machine has it"));
        let here = Self { place: Place::Local(program.to_owned(), name), platform: self.platform.clone() };
        here.taken(blobs).await
    }

    /// Takes what is on this machine.
    async fn taken(&self, blobs: &Blobs) -> std::result::Result<Image, hodei_sdk::Fault> {
        let (platform, blobs) = (self.platform.clone(), blobs.clone());
        let image = match &self.place {
            Place::Registry(reference) => return Ok(Registry::of(reference)?.resolve(&platform, &blobs).await?),
            Place::Local(program, name) => {
                let (program, name) = (program.clone(), name.clone());
                blocking(move || local::save(&program, &name, &platform, &blobs)).await?
            }
            Place::Archive(path) => {
                let path = path.clone();
                blocking(move || {
                    let file =
                        std::fs::File::open(&path).map_err(|error| ImageError::Io { path: path.clone(), error })?;
                    archive::take(file, &path.to_string_lossy(), &platform, &blobs)
                })
                .await?
            }
            Place::Layout(path) => {
                let path = path.clone();
                blocking(move || archive::of_folder(&path, &path.to_string_lossy(), &platform, &blobs)).await?
            }
            Place::Recipe(path) => {
                let path = path.clone();
                blocking(move || local::build(&path, &platform, &blobs)).await?
            }
        };
        Ok(image)
    }

    /// Brings what of it is not here.
    pub(super) async fn pull(
        &self,
        image: &Image,
        blobs: &Blobs,
        out: Out,
    ) -> std::result::Result<(), hodei_sdk::Fault> {
        let Place::Registry(reference) = &self.place else { return Ok(()) };
        // This machine's own program had it.
        if image.layers.iter().all(|layer| blobs.has(&layer.blob)) {
            return Ok(());
        }
        let (all, mut last) = (image.bytes(), Instant::now());
        let mut tell = |came: u64| {
            if last.elapsed() > TELL_EVERY {
                out.say(format!("{} of {} are here", bytes(came), bytes(all)));
                last = Instant::now();
            }
        };
        Ok(Registry::of(reference)?.pull(image, blobs, &mut tell).await?)
    }
}

/// Runs what waits for disks and programs beside everything else.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, ImageError> + Send + 'static,
) -> std::result::Result<T, hodei_sdk::Fault> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| hodei_sdk::Fault::Local(error.to_string()))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(env: &[&str]) -> Container {
        let env = env.iter().map(ToString::to_string).collect();
        Container {
            env,
            env_file: None,
            port: None,
            volumes: Vec::new(),
            snapshot: None,
            bucket: None,
            from: None,
            platform: None,
            command: Vec::new(),
        }
    }

    #[test]
    fn what_is_no_file_of_a_component_is_an_image() {
        for (what, is_image) in [("nginx:1.27", true), ("a.wasm", false), ("a.wat", false), ("./image.tar", true)] {
            assert_eq!(is_meant(Path::new(what), &args(&[])), is_image, "{what}");
        }
        let local = Container { from: Some("podman".into()), ..args(&[]) };
        assert!(is_meant(Path::new("a.wasm"), &local));
    }

    #[test]
    fn variables_are_read_from_flags_and_files_and_flags_win() {
        let path = std::env::temp_dir().join(format!("hodei-env-{}", std::process::id()));
        std::fs::write(&path, "# mine\n\nA=1\n  B=two words\n").unwrap();
        let said = Container { env_file: Some(path.clone()), ..args(&["A=3=4", "HODEI_SURELY_NOT_SET"]) };
        let env = env(&said).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        let expected = [("A", "3=4"), ("B", "two words")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(env.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_platform_no_host_has_is_refused() {
        let windows = Container { platform: Some("windows/amd64".into()), ..args(&[]) };
        assert!(Source::of("nginx", Path::new(""), &windows).is_err_and(|fault| fault.code.id == "HD3051"));
        assert!(Source::of("Nginx", Path::new(""), &args(&[])).is_err_and(|fault| fault.code.id == "HD3063"));
    }
}
