//! `switchyard apiserver snapshot`: the whole state as a file, and back.

use super::RunError;
use crate::flags::{SnapshotAction, SnapshotFlags};
use crate::store::Embedded;

pub(super) fn run(action: &SnapshotAction) -> Result<(), RunError> {
    match action {
        SnapshotAction::Save(SnapshotFlags { file, data_dir }) => {
            if !data_dir.is_dir() {
                let directory = data_dir.display();
                return Err(RunError::Other(format!(
                    "there is no directory {directory}; name another --data-dir"
                )));
            }
            Embedded::open(data_dir)?.save(file)?;
        }
        SnapshotAction::Restore(SnapshotFlags { file, data_dir }) => Embedded::restore(file, data_dir)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Batch, Key, Store, Write};

    #[tokio::test]
    async fn a_state_survives_as_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (data_dir, file) = (folder.path().join("old"), folder.path().join("file"));
        std::fs::create_dir(&data_dir).unwrap();
        let key = Key::object("", "services", "default", "web");
        let store = Embedded::open(&data_dir).unwrap();
        let write = Write { key: key.clone(), value: Some("{}".into()) };
        store.commit(Batch { writes: vec![write], ..Batch::default() }).await.unwrap();
        drop(store);
        run(&SnapshotAction::Save(SnapshotFlags { file: file.clone(), data_dir })).unwrap();
        let data_dir = folder.path().join("new");
        run(&SnapshotAction::Restore(SnapshotFlags { file: file.clone(), data_dir: data_dir.clone() }))
            .unwrap();
        let feed = Embedded::open(&data_dir).unwrap().follow().await.unwrap();
        assert_eq!((feed.revision, &feed.entries[0].key), (1, &key));
        let missing = SnapshotFlags { file, data_dir: folder.path().join("nope") };
        assert!(
            run(&SnapshotAction::Save(missing)).unwrap_err().to_string().ends_with("name another --data-dir")
        );
    }
}
