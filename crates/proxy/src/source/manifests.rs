//! Objects from files: a YAML or JSON file, or a folder of them (not its subfolders), followed for changes.
//!
//! No API server is needed: for machines at the edge, for learning, for tests. A file that cannot be read keeps
//! the objects it had. Of an object in two files the first file by name wins.

mod changes;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use switchyard_api::manifest::{self, ManifestError};
use tokio::sync::mpsc;

use self::changes::{Changed, FileChanges};
use self::store::{Contents, Store};
use super::{Kind, ReaderGone, Update, send};
use crate::logging::error;
use crate::{klog_error, klog_info};

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Each is one line that ends with the way out, so the causes are a part of the text.
#[derive(Debug, thiserror::Error)]
pub enum ManifestSourceError {
    #[error(
        "cannot read the manifests {path}: {cause}; --manifests takes a YAML or JSON file, or a folder of them"
    )]
    Unreadable { path: String, cause: io::Error },
    #[error(
        "cannot use the manifest {path}: {cause}; correct it, `kubectl apply --dry-run=client -f {path}` may help"
    )]
    Unparsable { path: String, cause: ManifestError },
}

/// Files that are followed.
#[derive(Debug)]
pub struct ManifestSource {
    files: Files,
    store: Store,
    changes: FileChanges,
    initial: Vec<Update>,
}

/// Where the manifests are.
#[derive(Debug, Clone)]
struct Files {
    folder: PathBuf,
    /// The name of the one file that matters; all with a known extension if `None`.
    only: Option<String>,
}

impl ManifestSource {
    /// Reads everything. A path that does not exist is an error, and so is a single file that cannot be understood;
    /// in a folder, such a file is logged and the others are used. Must be called within a runtime.
    pub fn open(path: &Path, node_name: &str) -> Result<ManifestSource, ManifestSourceError> {
        let files = Files::at(path)?;
        // Before reading, so that no change falls between.
        let changes = FileChanges::follow(&files.folder);
        let mut store = Store::new(Some(node_name));
        let strict = files.only.is_some();
        let read = files.read_all(strict)?;
        let initial = store.apply(read, |name| files.read(name).ok());
        Ok(ManifestSource { files, store, changes, initial })
    }

    /// Sends what there is, then what changes, until nobody reads any more.
    pub async fn run(mut self, updates: mpsc::Sender<Update>) {
        let initial = std::mem::take(&mut self.initial);
        let synced = Kind::ALL.into_iter().map(Update::Synced);
        let mut result = deliver(&updates, initial.into_iter().chain(synced)).await;
        while result.is_ok() {
            let changed = tokio::select! {
                changed = self.changes.next() => changed,
                () = updates.closed() => return,
            };
            // Large files take seconds; other tasks must not wait for them.
            let reread = tokio::task::spawn_blocking(move || {
                let found = self.reload(&changed);
                (self, found)
            });
            let Ok((source, found)) = reread.await else { return };
            self = source;
            result = deliver(&updates, found).await;
        }
    }

    fn reload(&mut self, changed: &Changed) -> Vec<Update> {
        let known: BTreeSet<String> = self.store.file_names().map(str::to_owned).collect();
        let present = match self.files.list() {
            Ok(present) => present,
            Err(reason) => {
                klog_error!("Cannot list the manifests, keeping the last ones", err = error(&reason));
                return Vec::new();
            }
        };
        let mut read = BTreeMap::new();
        for name in known.union(&present).filter(|name| changed.concerns(name)) {
            if !present.contains(name) {
                read.insert(name.clone(), None);
                continue;
            }
            match self.files.read(name) {
                Ok(contents) => {
                    klog_info!(v = 2, "Read manifest", file = name.as_str(), objects = contents.len());
                    read.insert(name.clone(), Some(contents));
                }
                Err(reason) => log_unusable(&reason),
            }
        }
        let files = &self.files;
        self.store.apply(read, |name| files.read(name).ok())
    }
}

/// What `path` holds now, for commands that look once; of nodes one, or all. Any file that cannot be understood is an error.
pub fn read_once(path: &Path, node_name: Option<&str>) -> Result<Vec<Update>, ManifestSourceError> {
    let files = Files::at(path)?;
    let read = files.read_all(true)?;
    Ok(Store::new(node_name).apply(read, |name| files.read(name).ok()))
}

async fn deliver(
    updates: &mpsc::Sender<Update>,
    found: impl IntoIterator<Item = Update>,
) -> Result<(), ReaderGone> {
    for update in found {
        send(updates, update).await?;
    }
    Ok(())
}

fn log_unusable(reason: &ManifestSourceError) {
    klog_error!("Keeping the last objects of a manifest that cannot be read", err = error(reason));
}

impl Files {
    fn at(path: &Path) -> Result<Files, ManifestSourceError> {
        let unreadable = |cause| ManifestSourceError::Unreadable { path: path.display().to_string(), cause };
        if fs::metadata(path).map_err(unreadable)?.is_dir() {
            return Ok(Files { folder: path.to_owned(), only: None });
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| unreadable(io::Error::other("its name is not UTF-8")))?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Ok(Files { folder: folder.to_owned(), only: Some(name.to_owned()) })
    }

    /// Names of the manifests that exist now.
    fn list(&self) -> Result<BTreeSet<String>, ManifestSourceError> {
        let unreadable =
            |cause| ManifestSourceError::Unreadable { path: self.folder.display().to_string(), cause };
        if let Some(name) = &self.only {
            let exists = self.folder.join(name).try_exists().map_err(unreadable)?;
            return Ok(exists.then(|| name.clone()).into_iter().collect());
        }
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            // A leading dot marks the temporary files of editors and the inner links of mounted ConfigMaps.
            let visible = name.filter(|name| !name.starts_with('.'));
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if let Some(name) = visible
                && EXTENSIONS.contains(&extension)
                && path.is_file()
            {
                names.insert(name.to_owned());
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> Result<Contents, ManifestSourceError> {
        let path = self.folder.join(name);
        let shown = || path.display().to_string();
        let text = fs::read_to_string(&path)
            .map_err(|cause| ManifestSourceError::Unreadable { path: shown(), cause })?;
        let objects = manifest::parse(&text)
            .map_err(|cause| ManifestSourceError::Unparsable { path: shown(), cause })?;
        Ok(objects)
    }

    /// If not `strict`, files that cannot be understood are logged and left out.
    fn read_all(&self, strict: bool) -> Result<BTreeMap<String, Option<Contents>>, ManifestSourceError> {
        let mut read = BTreeMap::new();
        for name in self.list()? {
            match self.read(&name) {
                Ok(contents) => {
                    read.insert(name, Some(contents));
                }
                Err(reason) if strict => return Err(reason),
                Err(reason) => log_unusable(&reason),
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
