//! Network configurations in a folder, such as /etc/cni/net.d.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::types::{ConfError, NetConfList};

const ENDINGS: [&str; 3] = ["conflist", "conf", "json"];

/// All networks of a folder, in the order of their files' names. The first is the one that containers are joined to by
/// default.
///
/// # Errors
/// When the folder or a file in it cannot be read, or there is none.
pub fn load_folder(folder: &Path) -> Result<Vec<NetConfList>, ConfError> {
    let mut files = files(folder).map_err(|source| ConfError::Read { path: folder.to_owned(), source })?;
    files.sort();
    let networks: Vec<NetConfList> = files.iter().map(|file| load_file(file)).collect::<Result<_, _>>()?;
    if networks.is_empty() { Err(ConfError::NoneIn { folder: folder.to_owned() }) } else { Ok(networks) }
}

/// The network of that name in a folder.
///
/// # Errors
/// When there is none of that name; else as [`load_folder`].
pub fn load(folder: &Path, name: &str) -> Result<NetConfList, ConfError> {
    let networks = load_folder(folder)?;
    let known: Vec<String> = networks.iter().map(|network| network.name.clone()).collect();
    let found = networks.into_iter().find(|network| network.name == name);
    found.ok_or_else(|| ConfError::NoSuchNetwork { name: name.to_owned(), folder: folder.to_owned(), known })
}

fn load_file(path: &Path) -> Result<NetConfList, ConfError> {
    let bytes = fs::read(path).map_err(|source| ConfError::Read { path: path.to_owned(), source })?;
    let wrong = |source| ConfError::File { path: path.to_owned(), source: Box::new(source) };
    NetConfList::parse(&bytes).map_err(wrong)
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if ending.is_some_and(|ending| ENDINGS.contains(&ending)) && path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_come_in_the_order_of_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, name: &str| {
            let text = format!(r#"{{"cniVersion": "1.0.0", "name": "{name}", "type": "t"}}"#);
            fs::write(folder.path().join(file), text).unwrap();
        };
        assert!(matches!(load_folder(folder.path()), Err(ConfError::NoneIn { .. })));
        write("20-second.conf", "second");
        write("10-first.conflist", "first");
        write("05-not-one.txt", "..");
        let names: Vec<String> = load_folder(folder.path()).unwrap().into_iter().map(|n| n.name).collect();
        assert_eq!(names, ["first", "second"]);
        assert_eq!(load(folder.path(), "second").unwrap().name, "second");
        let error = load(folder.path(), "third").unwrap_err().to_string();
        assert!(error.contains("third") && error.contains("first, second"), "{error}");
        write("00-wrong.conf", "../..");
        let error = crate::types::Error::because(5, &load_folder(folder.path()).unwrap_err()).msg;
        assert!(error.contains("00-wrong.conf") && error.contains("../.."), "{error}");
        assert!(load_folder(Path::new("/none/such")).unwrap_err().to_string().contains("/none/such"));
    }
}
