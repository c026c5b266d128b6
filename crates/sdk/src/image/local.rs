//! Have this machine's own Podman, Docker or Buildah hand over an image, or build one.

use super::{Blobs, Image, ImageError, Platform, archive};
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Whoever may have an image here, the first that has it.
pub const KEEPERS: [&str; 2] = ["podman", "docker"];
/// Whoever may build one, the first that is here.
const BUILDERS: [&str; 3] = ["podman", "docker", "buildah"];
/// What a folder's recipe is called.
const RECIPES: [&str; 2] = ["Containerfile", "Dockerfile"];

/// Whether a folder can be built.
pub fn is_recipe(folder: &Path) -> bool {
    RECIPES.iter().any(|recipe| folder.join(recipe).is_file())
}

/// Of these programs the first that is installed and has the image.
pub fn keeper(reference: &str) -> Option<&'static str> {
    let has = |program: &&&str| {
        let mut command = Command::new(program);
        command.args(["image", "inspect", reference]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    // A word that begins so would be read as a flag.
    KEEPERS.iter().filter(|_| !reference.starts_with('-')).find(has).copied()
}

/// Takes an image out of a program that has it.
pub fn save(program: &str, reference: &str, platform: &Platform, blobs: &Blobs) -> Result<Image, ImageError> {
    let failed = |words: String| ImageError::Engine { program: program.to_owned(), words };
    if reference.starts_with('-') {
        return Err(ImageError::Reference(reference.to_owned(), "no - first"));
    }
    let mut child = Command::new(program)
        .args(["save", reference])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let stdout = child.stdout.take().ok_or_else(|| failed("it has no output".into()))?;
    let taken = archive::take(stdout, reference, platform, blobs);
    if taken.is_err() {
        // It may wait for somebody to take the rest.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    match taken {
        Ok(image) if status.success() => Ok(image),
        Err(error @ ImageError::Io { .. }) if status.success() => Err(error),
        Ok(_) | Err(ImageError::Io { .. } | ImageError::Lacks(_)) => Err(failed(format!("it ended with {status}"))),
        Err(error) => Err(error),
    }
}

/// Builds a folder, and takes what was built.
pub fn build(folder: &Path, platform: &Platform, blobs: &Blobs) -> Result<Image, ImageError> {
    let Some(program) = BUILDERS.iter().find(|program| is_installed(program)).copied() else {
        return Err(ImageError::NoEngine(BUILDERS.to_vec()));
    };
    let path = folder.canonicalize().map_err(ImageError::io(folder))?;
    let name = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
    let tag = format!("localhost/hodei-build-{}:latest", &name[..16]);
    let failed = |words: String| ImageError::Engine { program: program.to_owned(), words };
    // What it says on the way is for people, not for who reads our output.
    let run = |args: &[&str], path: Option<&Path>| {
        let mut command = Command::new(program);
        command.args(args).args(path).stdin(Stdio::null()).stdout(std::io::stderr());
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(format!("`{} {}` ended with {status}", program, args[0]))),
            Err(error) => Err(failed(error.to_string())),
        }
    };
    run(&["build", "--platform", &platform.to_string(), "-t", &tag], Some(&path))?;
    if program != "buildah" {
        return save(program, &tag, platform, blobs);
    }
    let layout = std::env::temp_dir().join(format!("hodei-build-{}", std::process::id()));
    let target = format!("oci:{}:built", layout.display());
    let taken = run(&["push", &tag, &target], None)
        .and_then(|()| archive::of_folder(&layout, &folder.to_string_lossy(), platform, blobs));
    let _ = std::fs::remove_dir_all(&layout);
    taken
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::blobs::tests::Folder;

    #[test]
    fn a_folder_with_a_recipe_can_be_built_and_words_that_are_flags_are_not_run() {
        let folder = Folder::new("recipe");
        assert!(!is_recipe(&folder.0));
        std::fs::write(folder.0.join("Dockerfile"), "FROM scratch\n").unwrap();
        assert!(is_recipe(&folder.0));
        let platform = Platform::here();
        assert_eq!(keeper("--help"), None);
        assert!(matches!(save("docker", "--help", &platform, &folder.blobs()), Err(ImageError::Reference(..))));
        let none = save("hodei-no-such-program", "a:b", &platform, &folder.blobs());
        assert!(matches!(none, Err(ImageError::Engine { .. })), "{none:?}");
    }
}
