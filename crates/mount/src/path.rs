//! Remove and rename files; make and remove folders.
//!
//! A bucket has no folders: one that is made is a marker, an empty object whose key ends in a slash. A file is
//! renamed by naming its content again, which moves no byte, and removing the old name; in between it has both.

use crate::{
    event::Event,
    fault::Wrong,
    file::File,
    folder::{Attr, Folder, There, now_ms},
    name,
    store::{Only, Page, Store},
};
use std::sync::Arc;

/// What a rename does with what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rename {
    #[default]
    Replace,
    Refuse,
}

impl<S: Store> Folder<S> {
    fn place(&self, parent: u64, name: &str) -> Result<(String, String), Wrong> {
        if self.config().is_read_only {
            return Err(Wrong::ReadOnly);
        }
        let prefix = self.tree().folder(parent)?;
        let key = name::join(&prefix, name)?;
        Ok((prefix, key))
    }

    /// Removes a file; who has it open reads on.
    pub async fn unlink(&self, parent: u64, name: &str) -> Result<(), Wrong> {
        let (prefix, key) = self.place(parent, name)?;
        let is_object = match self.find(&prefix, name, &key).await?.ok_or(Wrong::NotFound)? {
            There::Folder => return Err(Wrong::IsFolder),
            There::Local(_, file) => file.state().base.is_some(),
            There::File(_) => true,
        };
        let known = self.tree().named(&key);
        let _turn = match &known {
            Some((_, file)) => Some(file.turn.lock().await),
            None => None,
        };
        // It may have been stored while its turn was waited for.
        let is_object = is_object || known.as_ref().is_some_and(|(_, file)| file.state().base.is_some());
        if is_object {
            self.0.store.remove(&key, Only::Always).await?;
        }
        let mut tree = self.tree();
        tree.unname(&key);
        tree.keep_folder_of(&key, &self.config().prefix);
        drop(tree);
        if let Some((_, file)) = &known {
            self.orphan(file);
        }
        self.changed(&key);
        Ok(())
    }

    pub async fn mkdir(&self, parent: u64, name: &str) -> Result<Attr, Wrong> {
        let (prefix, key) = self.place(parent, name)?;
        if self.find(&prefix, name, &key).await?.is_some() {
            return Err(Wrong::Exists);
        }
        let marker = format!("{key}/");
        match self.0.store.put(&marker, None, None, now_ms(), Only::Absent).await {
            Ok(_) => {}
            Err(Wrong::Changed) => return Err(Wrong::Exists),
            Err(wrong) => return Err(wrong),
        }
        self.changed(&marker);
        let ino = self.tree().enter_folder(&marker);
        Ok(self.folder_attr(ino))
    }

    pub async fn rmdir(&self, parent: u64, name: &str) -> Result<(), Wrong> {
        let (prefix, key) = self.place(parent, name)?;
        match self.find(&prefix, name, &key).await?.ok_or(Wrong::NotFound)? {
            There::Folder => {}
            _ => return Err(Wrong::NotFolder),
        }
        let folder = format!("{key}/");
        self.empty(&folder).await?;
        self.0.store.remove(&folder, Only::Always).await?;
        let mut tree = self.tree();
        tree.unmake(&folder);
        tree.keep_folder_of(&key, &self.config().prefix);
        drop(tree);
        self.changed(&folder);
        Ok(())
    }

    /// Refuses where anything but the marker is in a folder.
    async fn empty(&self, folder: &str) -> Result<(), Wrong> {
        let Page { files, folders, .. } = self.0.store.list(folder, None, 2).await?;
        let (local, below) = self.tree().overlay(folder);
        let is_empty =
            folders.is_empty() && files.iter().all(|(key, _)| key == folder) && local.is_empty() && below.is_empty();
        if is_empty { Ok(()) } else { Err(Wrong::NotEmpty) }
    }

    pub async fn rename(&self, from: (u64, &str), to: (u64, &str), how: Rename) -> Result<(), Wrong> {
        let (from_prefix, from_key) = self.place(from.0, from.1)?;
        let (to_prefix, to_key) = self.place(to.0, to.1)?;
        if from_key == to_key {
            return Ok(());
        }
        let there = self.find(&to_prefix, to.1, &to_key).await?;
        if there.is_some() && how == Rename::Refuse {
            return Err(Wrong::Exists);
        }
        match self.find(&from_prefix, from.1, &from_key).await?.ok_or(Wrong::NotFound)? {
            There::Folder => return self.rename_folder(&from_key, &to_key, there).await,
            There::Local(..) | There::File(_) => {}
        }
        if matches!(there, Some(There::Folder)) {
            return Err(Wrong::IsFolder);
        }
        // The file is held under a number while it changes its name.
        let ino = self.lookup(from.0, from.1).await?.ino;
        let renamed = self.rename_file(ino, &from_key, &to_key, how).await;
        self.forget(ino, 1);
        renamed
    }

    async fn rename_file(&self, ino: u64, from: &str, to: &str, how: Rename) -> Result<(), Wrong> {
        let file: Arc<File<S::Pin>> = self.tree().file(ino)?;
        let _turn = file.turn.lock().await;
        // What was written belongs to the name it gets.
        self.store(&file).await?;
        self.pin(&file).await?;
        let (pin, etag, mtime_ms) = {
            let state = file.state();
            let etag = state.base.as_ref().map(|base| base.etag.clone());
            (state.pin.clone(), etag, state.mtime_ms)
        };
        let (Some(pin), Some(etag)) = (pin, etag) else { return Err(Wrong::Changed) };
        let only = if how == Rename::Refuse { Only::Absent } else { Only::Always };
        let (facts, pin) = match self.0.store.copy((from, &pin), to, mtime_ms, only).await {
            Err(Wrong::Changed) if how == Rename::Refuse => return Err(Wrong::Exists),
            done => done?,
        };
        let removed = self.0.store.remove(from, Only::Is(&etag)).await;
        {
            let mut tree = self.tree();
            let replaced = tree.named(to);
            tree.rename(from, to);
            tree.keep_folder_of(from, &self.config().prefix);
            drop(tree);
            if let Some((_, replaced)) = replaced {
                self.orphan(&replaced);
            }
        }
        file.state().settle(facts, pin);
        self.changed(from);
        self.changed(to);
        if let Err(wrong) = removed {
            let why = format!("it has its new name, and its old one could not be removed: {wrong}");
            self.tell(Event::Failed { object: self.0.store.show(from), why });
        }
        Ok(())
    }

    /// A folder that holds nothing has only a marker; one that holds something would be renamed key by key, and be
    /// two halves in between: programs that move things then copy them themselves.
    async fn rename_folder(&self, from: &str, to: &str, there: Option<There<S::Pin>>) -> Result<(), Wrong> {
        let (from, to) = (format!("{from}/"), format!("{to}/"));
        if self.empty(&from).await.is_err() {
            return Err(Wrong::CrossFolder);
        }
        match there {
            Some(There::Folder) => self.empty(&to).await?,
            Some(_) => return Err(Wrong::NotFolder),
            None => {
                let made = self.0.store.put(&to, None, None, now_ms(), Only::Absent).await;
                made.map(drop).or_else(|wrong| if wrong == Wrong::Changed { Ok(()) } else { Err(wrong) })?;
            }
        }
        self.0.store.remove(&from, Only::Always).await?;
        let mut tree = self.tree();
        tree.unmake(&to);
        tree.rename(&from, &to);
        tree.unmake(&from);
        tree.keep_folder_of(from.trim_end_matches('/'), &self.config().prefix);
        drop(tree);
        self.changed(&from);
        self.changed(&to);
        Ok(())
    }
}
