//! Keep a reader's files in memory, as the drawer of a whole machine would.

use super::Drawer;
use std::{collections::BTreeMap, io, sync::Mutex};

/// What a reader's programs keep of links, which outlives each of them.
#[derive(Default)]
pub(super) struct Files(pub(super) Mutex<BTreeMap<String, Vec<u8>>>);

impl Drawer for Files {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        Ok(self.0.lock().unwrap().iter().map(|(name, file)| (name.clone(), file.len() as u64)).collect())
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
