//! Take an image out of what `docker save` wrote, or of an OCI layout, as a tar or as a folder.
//!
//! Each file goes into the store by its hash as it comes; what no app names of them leaves it later. Names lead only to
//! what was in the archive, so that nothing else on this machine can be meant by them.

use super::{
    Blobs, Image, ImageError, Platform,
    manifest::{self, MANIFEST_BYTES_MAX, Manifest},
};
use hodei_types::app::container::{Blob, CONFIG_BYTES_MAX, IMAGE_BYTES_MAX, LAYERS_MAX, Layer};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Component, Path},
};

/// Files of one archive.
const FILES_MAX: usize = 4096;
/// Links that lead to links.
const LINKS_MAX: usize = 8;
const DEPTH_MAX: usize = 3;

/// What was in an archive, by its name.
#[derive(Default)]
struct Found {
    files: BTreeMap<String, Blob>,
    links: BTreeMap<String, String>,
    bytes: u64,
}

/// One of several images of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

/// Takes the image of a tar, which may come through a pipe.
pub fn take(tar: impl Read, reference: &str, platform: &Platform, blobs: &Blobs) -> Result<Image, ImageError> {
    let here = Path::new(reference);
    let mut found = Found::default();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().map_err(ImageError::io(here))? {
        let mut entry = entry.map_err(ImageError::io(here))?;
        let kind = entry.header().entry_type();
        let path = entry.path().map_err(ImageError::io(here))?.into_owned();
        let Some(name) = plain(&path) else { continue };
        if kind.is_symlink() || kind.is_hard_link() {
            let link = entry.link_name().map_err(ImageError::io(here))?;
            let folder = if kind.is_symlink() { Path::new(&name).parent() } else { None };
            let target = link.and_then(|link| plain(&folder.unwrap_or(Path::new("")).join(link)));
            found.links.extend(target.map(|target| (name, target)));
        } else if kind.is_file() {
            found.take(name, &mut entry, here, blobs)?;
        }
        found.check()?;
    }
    found.image(reference, platform, blobs)
}

/// Takes the image of an OCI layout's folder.
pub fn of_folder(folder: &Path, reference: &str, platform: &Platform, blobs: &Blobs) -> Result<Image, ImageError> {
    let mut found = Found::default();
    let mut names = vec!["index.json".to_owned()];
    let inner = folder.join("blobs/sha256");
    for entry in std::fs::read_dir(&inner).map_err(ImageError::io(&inner))? {
        let name = entry.map_err(ImageError::io(&inner))?.file_name();
        names.extend(name.to_str().map(|name| format!("blobs/sha256/{name}")));
        if names.len() > FILES_MAX {
            break;
        }
    }
    for name in names {
        let path = folder.join(&name);
        let mut file = File::open(&path).map_err(ImageError::io(&path))?;
        if file.metadata().map_err(ImageError::io(&path))?.is_file() {
            found.take(name, &mut file, &path, blobs)?;
        }
        found.check()?;
    }
    found.image(reference, platform, blobs)
}

/// Whether a folder is an OCI layout.
pub fn is_layout(folder: &Path) -> bool {
    folder.join("oci-layout").is_file() && folder.join("index.json").is_file()
}

/// A name without what leads up or out.
fn plain(path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => _ = parts.pop()?,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

impl Found {
    fn take(&mut self, name: String, from: &mut impl Read, path: &Path, blobs: &Blobs) -> Result<(), ImageError> {
        let blob = blobs.copy(from, IMAGE_BYTES_MAX.saturating_sub(self.bytes), path)?;
        self.bytes = self.bytes.saturating_add(blob.bytes);
        self.files.insert(name, blob);
        Ok(())
    }

    fn check(&self) -> Result<(), ImageError> {
        let found = self.files.len() + self.links.len();
        match found > FILES_MAX {
            true => Err(ImageError::Large { what: "archive", found: found as u64, most: FILES_MAX as u64 }),
            false => Ok(()),
        }
    }

    /// What a name leads to.
    fn at(&self, name: &str) -> Result<Blob, ImageError> {
        let lacks = || ImageError::Lacks(name.chars().take(200).collect());
        let mut name = plain(Path::new(name)).ok_or_else(lacks)?;
        for _ in 0..LINKS_MAX {
            match (self.files.get(&name), self.links.get(&name)) {
                (Some(blob), _) => return Ok(*blob),
                (None, Some(target)) => name.clone_from(target),
                (None, None) => break,
            }
        }
        Err(lacks())
    }

    /// Whether it has these bytes.
    fn has(&self, blob: &Blob) -> Result<(), ImageError> {
        let found = self.at(&format!("blobs/sha256/{}", super::hex(&blob.sha256)))?;
        if found == *blob { Ok(()) } else { Err(super::blobs::lie(blob, &found)) }
    }

    fn image(&self, reference: &str, platform: &Platform, blobs: &Blobs) -> Result<Image, ImageError> {
        let (digest, config, layers) = match self.at("index.json") {
            Ok(index) => self.of_layout(index, platform, blobs)?,
            Err(_) => self.of_saved(blobs)?,
        };
        let text = blobs.read(&config, "config", CONFIG_BYTES_MAX)?;
        let says = manifest::config(&text, layers.len(), platform)?;
        Ok(Image { reference: reference.to_owned(), digest, config, layers, says })
    }

    fn of_layout(
        &self,
        index: Blob,
        platform: &Platform,
        blobs: &Blobs,
    ) -> Result<([u8; 32], Blob, Vec<Layer>), ImageError> {
        let mut blob = index;
        // The layout's own, and those that it names.
        for _ in 0..=DEPTH_MAX {
            let text = blobs.read(&blob, "index", MANIFEST_BYTES_MAX)?;
            match manifest::read(&text, platform)? {
                Manifest::Index(next) => {
                    self.has(&next)?;
                    blob = next;
                }
                Manifest::Image { config, layers } => {
                    self.has(&config)?;
                    layers.iter().try_for_each(|layer| self.has(&layer.blob))?;
                    return Ok((blob.sha256, config, layers));
                }
            }
        }
        Err(ImageError::form("index", "it names an index that names an index"))
    }

    fn of_saved(&self, blobs: &Blobs) -> Result<([u8; 32], Blob, Vec<Layer>), ImageError> {
        let text = blobs.read(&self.at("manifest.json")?, "manifest.json", MANIFEST_BYTES_MAX)?;
        let saved: Vec<Saved> =
            serde_json::from_slice(&text).map_err(|error| ImageError::form("manifest.json", error))?;
        let [saved] = &saved[..] else {
            let words = format!("it has {} images: save the one that is meant alone", saved.len());
            return Err(ImageError::form("manifest.json", words));
        };
        if saved.layers.len() > LAYERS_MAX {
            let (found, most) = (saved.layers.len() as u64, LAYERS_MAX as u64);
            return Err(ImageError::Large { what: "layers", found, most });
        }
        let layer = |name: &String| {
            let blob = self.at(name)?;
            let mut head = Vec::new();
            let path = blobs.path(&blob.sha256);
            blobs.open(&blob)?.take(4).read_to_end(&mut head).map_err(ImageError::io(&path))?;
            Ok(Layer { blob, packing: manifest::packing_of(&head) })
        };
        let layers: Vec<Layer> = saved.layers.iter().map(layer).collect::<Result<_, ImageError>>()?;
        manifest::check(&layers)?;
        let config = self.at(&saved.config)?;
        // Such an archive has no manifest as registries have it: an image is called by its config then.
        Ok((config.sha256, config, layers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::blobs::{of, tests::Folder};
    use serde_json::json;

    fn amd64() -> Platform {
        Platform::parse("linux/amd64").unwrap()
    }

    fn config(layers: usize) -> Vec<u8> {
        let ids = vec![format!("sha256:{}", "07".repeat(32)); layers];
        let run = json!({ "ExposedPorts": { "80/tcp": {} }, "Cmd": ["a"] });
        json!({ "os": "linux", "architecture": "amd64", "config": run, "rootfs": { "diff_ids": ids } })
            .to_string()
            .into_bytes()
    }

    fn tar(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_entry_type(tar::EntryType::Regular);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        for (name, target) in links {
            let mut header = tar::Header::new_ustar();
            header.set_size(0);
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, name, target).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn what_docker_saved_is_taken_with_its_links() {
        let folder = Folder::new("saved");
        let blobs = folder.blobs();
        let config = config(3);
        let manifest =
            json!([{ "Config": "c.json", "RepoTags": ["a:b"], "Layers": ["1/layer.tar", "2/layer.tar", "3.tar"] }]);
        let manifest = manifest.to_string();
        let files: [(&str, &[u8]); 4] = [
            ("1/layer.tar", b"\x1f\x8bzipped"),
            ("3.tar", b"plain tar"),
            ("c.json", &config),
            ("manifest.json", manifest.as_bytes()),
        ];
        let image = take(&tar(&files, &[("2/layer.tar", "../1/layer.tar")])[..], "a.tar", &amd64(), &blobs).unwrap();
        assert_eq!((image.digest, image.config), (of(&config).sha256, of(&config)));
        assert_eq!(image.layers.len(), 3);
        assert_eq!(image.layers[0], image.layers[1]);
        assert_eq!(image.bytes(), (config.len() + 8 + 9) as u64, "a layer that stands twice is one");
        assert_eq!(image.says.ports, [80]);
        assert!(image.layers.iter().all(|layer| blobs.has(&layer.blob)));
    }

    #[test]
    fn names_lead_to_nothing_outside_of_the_archive() {
        let folder = Folder::new("escape");
        let config = config(1);
        for layer in ["/etc/passwd", "../../etc/passwd", "l.tar", "none", ""] {
            let manifest = json!([{ "Config": "c.json", "Layers": [layer] }]).to_string();
            let files: [(&str, &[u8]); 2] = [("c.json", &config), ("manifest.json", manifest.as_bytes())];
            let links = [("l.tar", "/etc/passwd"), ("loop", "loop")];
            let found = take(&tar(&files, &links)[..], "a.tar", &amd64(), &folder.blobs());
            assert!(matches!(found, Err(ImageError::Lacks(_))), "{layer}: {found:?}");
        }
        assert!(take(&b"no tar at all"[..], "a.tar", &amd64(), &folder.blobs()).is_err());
    }

    #[test]
    fn a_layout_is_taken_as_tar_and_as_folder_and_its_bytes_must_be_what_they_are_called() {
        let folder = Folder::new("layout");
        let (config, layer) = (config(1), b"\x28\xb5\x2f\xfdzstd".to_vec());
        let name = |bytes: &[u8]| crate::image::hex(&of(bytes).sha256);
        let descriptor = |media: &str, bytes: &[u8]| json!({ "mediaType": media, "digest": format!("sha256:{}", name(bytes)), "size": bytes.len() });
        let manifest = json!({ "schemaVersion": 2, "config": descriptor("c", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+zstd", &layer)] })
        .to_string()
        .into_bytes();
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor("m", &manifest)] }).to_string().into_bytes();
        let path = |bytes: &[u8]| format!("blobs/sha256/{}", name(bytes));
        let names = [path(&config), path(&layer), path(&manifest)];
        let files: Vec<(&str, &[u8])> = vec![
            ("index.json", &index),
            (&names[0], &config),
            (&names[1], &layer),
            (&names[2], &manifest),
            ("oci-layout", b"{}"),
        ];
        let taken = take(&tar(&files, &[])[..], "a", &amd64(), &folder.blobs()).unwrap();
        assert_eq!(taken.digest, of(&manifest).sha256);

        let layout = folder.0.join("layout");
        std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(layout.join(name), bytes).unwrap());
        assert!(is_layout(&layout));
        assert_eq!(of_folder(&layout, "a", &amd64(), &folder.blobs()).unwrap(), taken);
        std::fs::write(layout.join(&names[1]), b"\x28\xb5\x2f\xfdzstD").unwrap();
        assert!(matches!(of_folder(&layout, "a", &amd64(), &folder.blobs()), Err(ImageError::Lie { .. })));
    }
}
