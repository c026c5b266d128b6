//! Keep which apps belong to one project, and what each was deployed as.
//!
//! `PROJECT.stack` beside the apps' records names them, each with a hash of what runs and where it may.

use super::{Apps, deploy::Payload, record::Shelf, spec::Spec};
use crate::fault::Fault;
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolValue as _;
use hodei_types::{
    app::is_name,
    transport::{NodeKey, Transport},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io};

/// Longer than the names of all services a file may have.
const BYTES_MAX: u64 = 64 << 10;

/// Apps of a project, each with what it was deployed as.
pub type Project = BTreeMap<String, B256>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    apps: Project,
}

impl Shelf {
    fn project(&self, name: &str) -> Result<Option<Project>, Fault> {
        if !is_name(name) {
            return Ok(None);
        }
        let file = format!("{name}.stack");
        let lost = |error: &dyn std::fmt::Display| Fault::Local(format!("{file}: {error}"));
        let files = self.0.list().map_err(|error| lost(&error))?;
        let Some((_, bytes)) = files.iter().find(|(found, _)| *found == file) else { return Ok(None) };
        let damaged = || Fault::Local(format!("{file} is damaged: put back a copy of it"));
        if *bytes > BYTES_MAX {
            return Err(damaged());
        }
        let text = String::from_utf8(self.0.read(&file).map_err(|error| lost(&error))?).map_err(|_| damaged())?;
        let read: File = toml::from_str(&text).map_err(|_| damaged())?;
        Ok(Some(read.apps))
    }

    fn keep_project(&self, name: &str, apps: &Project) -> Result<(), Fault> {
        let file = format!("{name}.stack");
        let done = if apps.is_empty() {
            match self.0.remove(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        } else {
            let text = toml::to_string(&File { apps: apps.clone() });
            let text = text.map_err(|error| Fault::Local(format!("{file}: {error}")))?;
            self.0.write(&file, text.as_bytes())
        };
        done.map_err(|error| Fault::Local(format!("{file}: {error}")))
    }
}

impl<T: Transport> Apps<T> {
    /// The apps of a project that was deployed from here.
    pub fn project(&self, name: &str) -> Result<Option<Project>, Fault> {
        self.shelf.project(name)
    }

    /// Notes which apps a project has; one without apps is none.
    pub fn keep_project(&self, name: &str, apps: &Project) -> Result<(), Fault> {
        self.shelf.keep_project(name, apps)
    }

    /// The project that an app belongs to, if it was deployed with one.
    pub fn project_of(&self, app: &str) -> Result<Option<String>, Fault> {
        let files = self.shelf.0.list().map_err(|error| Fault::Local(format!("apps: {error}")))?;
        for name in files.iter().filter_map(|(file, _)| file.strip_suffix(".stack")) {
            if self.shelf.project(name)?.is_some_and(|apps| apps.contains_key(app)) {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }

    /// Notes that an app is no longer what its project's file says: the next deployment of that file brings it back.
    pub fn unmark(&self, app: &str) -> Result<(), Fault> {
        let Some(name) = self.project_of(app)? else { return Ok(()) };
        let mut apps = self.shelf.project(&name)?.unwrap_or_default();
        apps.insert(app.to_owned(), B256::ZERO);
        self.shelf.keep_project(&name, &apps)
    }

    /// By which key others reach an app of this wallet, deployed or not.
    pub fn reached_as(&self, app: &str) -> NodeKey {
        self.viewer(app).node()
    }

    /// The same for what would be deployed alike.
    pub fn mark(&self, spec: &Spec, payload: &Payload<'_>) -> Result<B256, Fault> {
        let workload = self.manifest(spec, payload)?.workload();
        let terms = spec.terms.abi_encode();
        Ok(B256::from(*blake3::Hasher::new().update(&workload[..]).update(&terms).finalize().as_bytes()))
    }

    /// Refuses what the wallet could not pay in one sum.
    pub async fn afford(&self, wei: U256) -> Result<(), Fault> {
        self.wallet.afford(wei).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::Drawer;
    use std::sync::{Arc, Mutex};

    #[derive(Default)]
    struct InMemory(Mutex<BTreeMap<String, Vec<u8>>>);

    impl Drawer for InMemory {
        fn list(&self) -> io::Result<Vec<(String, u64)>> {
            Ok(self.0.lock().unwrap().iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
        }

        fn read(&self, name: &str) -> io::Result<Vec<u8>> {
            self.0.lock().unwrap().get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
            self.0.lock().unwrap().insert(name.into(), bytes.into());
            Ok(())
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            self.0.lock().unwrap().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    #[test]
    fn a_project_returns_with_its_apps_and_is_none_without() {
        let drawer = Arc::new(InMemory::default());
        let shelf = Shelf(drawer.clone());
        assert_eq!(shelf.project("shop").unwrap(), None);
        let apps: Project = [("shop-web".to_owned(), B256::repeat_byte(7))].into();
        shelf.keep_project("shop", &apps).unwrap();
        assert_eq!(shelf.project("shop").unwrap(), Some(apps));
        assert!(shelf.names().unwrap().is_empty(), "it is no app");
        drawer.write("shop.stack", b"apps = 1").unwrap();
        assert!(matches!(shelf.project("shop"), Err(Fault::Local(_))));
        shelf.keep_project("shop", &Project::new()).unwrap();
        shelf.keep_project("shop", &Project::new()).unwrap();
        assert_eq!(shelf.project("shop").unwrap(), None);
        assert_eq!(shelf.project("../shop").unwrap(), None);
    }
}
