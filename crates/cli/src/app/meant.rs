//! Tell a compose file and manifests from all else that can be deployed.

use super::manifests;
use std::path::{Path, PathBuf};

/// What a folder's file may be called, the first that is there.
const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// What a word of the command line means, where that is several apps.
pub(crate) enum Meant {
    Compose(PathBuf),
    /// Files of manifests, and the folder they are in.
    Manifests(Vec<PathBuf>),
}

/// The compose file or manifests that a word of the command line means, if it means some.
pub(crate) fn meant(what: &Path) -> Option<Meant> {
    if what.is_dir() {
        let file = NAMES.iter().map(|name| what.join(name)).find(|file| file.is_file());
        return file.map(Meant::Compose).or_else(|| manifests::within(what).map(Meant::Manifests));
    }
    if manifests::is_one(what) {
        return Some(Meant::Manifests(vec![what.to_owned()]));
    }
    let is_yaml = what.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    is_yaml.then(|| Meant::Compose(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compose_file_is_meant_by_itself_and_by_its_folder_and_manifests_by_what_they_say() {
        let folder = std::env::temp_dir().join(format!("hodei-stack-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let compose = |what: &Path| match meant(what) {
            Some(Meant::Compose(file)) => Some(file),
            _ => None,
        };
        let manifests = |what: &Path| match meant(what) {
            Some(Meant::Manifests(files)) => files,
            _ => Vec::new(),
        };
        assert!(meant(&folder).is_none());
        assert!(meant(Path::new("nginx:1.27")).is_none());
        assert!(meant(Path::new("app.toml")).is_none());
        assert_eq!(compose(Path::new("stack.yml")), Some("stack.yml".into()));
        let (web, db) = (folder.join("web.yaml"), folder.join("db.yml"));
        std::fs::write(&web, "# mine\n{apiVersion: v1, kind: Pod}\n").unwrap();
        std::fs::write(&db, "\u{feff}---\napiVersion: v1\nkind: Pod\n").unwrap();
        std::fs::write(folder.join("notes.txt"), "none").unwrap();
        assert_eq!(manifests(&web), std::slice::from_ref(&web));
        assert_eq!(manifests(&folder), [db, web]);
        std::fs::write(folder.join("Dockerfile"), "FROM scratch\n").unwrap();
        assert!(meant(&folder).is_none());
        std::fs::write(folder.join("docker-compose.yml"), "services: {}\n").unwrap();
        assert_eq!(compose(&folder), Some(folder.join("docker-compose.yml")));
        std::fs::write(folder.join("compose.yaml"), "services: {}\n").unwrap();
        assert_eq!(compose(&folder), Some(folder.join("compose.yaml")));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
