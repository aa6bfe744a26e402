//! Real files in a real folder, followed by inotify.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::source::{Change, Malformed};

const PATIENCE: Duration = Duration::from_secs(20);

fn service(name: &str, port: u16) -> String {
    format!(
        "kind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: 10.0.0.1, ports: [{{port: {port}}}]}}\n"
    )
}

fn node(name: &str) -> String {
    format!("kind: Node\nmetadata: {{name: {name}}}\n")
}

/// What a reader of the updates holds.
#[derive(Default)]
struct Reader {
    services: BTreeMap<String, u16>,
    nodes: Vec<String>,
    synced: Vec<Kind>,
    malformed: Vec<String>,
    updates: usize,
}

impl Reader {
    fn apply(&mut self, update: Update) {
        self.updates += 1;
        match update {
            Update::Service(Change::Set(service)) => {
                self.services.insert(service.metadata.name.to_string(), service.spec.ports[0].port);
            }
            Update::Service(Change::Removed(key)) => {
                self.services.remove(&*key.name).expect("only what is there is removed");
            }
            Update::Node(Change::Set(node)) => self.nodes.push(node.metadata.name.to_string()),
            Update::Synced(kind) => self.synced.push(kind),
            Update::Malformed(Malformed { object, .. }) => self.malformed.push(object.to_string()),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn shown(&self) -> String {
        self.services.iter().map(|(name, port)| format!("{name}:{port} ")).collect()
    }
}

/// A folder that is followed, and the reader of what is found there.
struct Followed {
    folder: TempDir,
    updates: mpsc::Receiver<Update>,
    reader: Reader,
}

impl Followed {
    async fn with(files: &[(&str, &str)]) -> Followed {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Followed::folder(folder).await
    }

    async fn folder(folder: TempDir) -> Followed {
        let source = ManifestSource::open(folder.path(), "node-1").unwrap();
        let (sender, updates) = mpsc::channel(4);
        tokio::spawn(source.run(sender));
        let mut followed = Followed { folder, updates, reader: Reader::default() };
        followed.until(|reader| reader.synced.len() == Kind::ALL.len()).await;
        followed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    async fn until(&mut self, condition: impl Fn(&Reader) -> bool) {
        while !condition(&self.reader) {
            let update = timeout(PATIENCE, self.updates.recv()).await;
            let update = update.unwrap_or_else(|_| panic!("still {:?}", self.reader.shown()));
            self.reader.apply(update.expect("the source goes on"));
        }
    }

    async fn until_services(&mut self, wanted: &str) {
        self.until(|reader| reader.shown() == wanted).await;
    }
}

#[tokio::test]
async fn everything_in_the_folder_is_delivered_before_the_end_of_the_start() {
    let files = [
        ("a.yaml", format!("{}---\n{}", service("a", 80), node("node-1"))),
        ("b.yml", format!("{}---\n{}", service("b", 80), node("node-2"))),
        ("c.json", r#"{"kind":"Service","metadata":{"name":"c"},"spec":{"ports":[{"port":80}]}}"#.to_owned()),
        ("notes.txt", service("notes", 80)),
        (".hidden.yaml", service("hidden", 80)),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let followed = Followed::with(&files).await;
    assert_eq!(followed.reader.shown(), "a:80 b:80 c:80 ");
    assert_eq!(followed.reader.nodes, ["node-1"], "other nodes are of no interest");
    assert_eq!(followed.reader.synced, Kind::ALL);
}

#[tokio::test]
async fn files_come_change_and_go() {
    let mut followed = Followed::with(&[("a.yaml", &service("a", 80))]).await;
    followed.write("b.yaml", &service("b", 80));
    followed.until_services("a:80 b:80 ").await;
    followed.write("a.yaml", &service("a", 81));
    followed.until_services("a:81 b:80 ").await;
    fs::remove_file(followed.path("b.yaml")).unwrap();
    followed.until_services("a:81 ").await;
    followed.write("a.yaml", "");
    followed.until_services("").await;
}

#[tokio::test]
async fn an_editor_that_replaces_the_file_is_followed() {
    let mut followed = Followed::with(&[("a.yaml", &service("a", 80)), ("b.yaml", &service("b", 80))]).await;
    let before = followed.reader.updates;
    followed.write("a.yaml.new", &service("a", 81));
    fs::rename(followed.path("a.yaml.new"), followed.path("a.yaml")).unwrap();
    followed.until_services("a:81 b:80 ").await;
    assert_eq!(followed.reader.updates, before + 1, "one change and nothing else");
    // As vim does: the old file steps aside, and the new one is written in its place.
    fs::rename(followed.path("a.yaml"), followed.path("a.yaml~")).unwrap();
    followed.write("a.yaml", &service("a", 82));
    fs::remove_file(followed.path("a.yaml~")).unwrap();
    followed.until_services("a:82 b:80 ").await;
    assert_eq!(followed.reader.updates, before + 2);
}

#[tokio::test]
async fn a_file_that_is_still_being_written_is_left_alone() {
    let mut followed = Followed::with(&[]).await;
    let mut slow = fs::File::create(followed.path("slow.yaml")).unwrap();
    io::Write::write_all(&mut slow, service("half", 80).as_bytes()).unwrap();
    followed.write("marker.yaml", &service("marker", 80));
    followed.until_services("marker:80 ").await;
    io::Write::write_all(&mut slow, format!("---\n{}", service("whole", 80)).as_bytes()).unwrap();
    drop(slow);
    followed.until_services("half:80 marker:80 whole:80 ").await;
}

#[tokio::test]
async fn a_file_that_does_not_parse_keeps_its_last_objects() {
    let mut followed = Followed::with(&[("a.yaml", &service("a", 80)), ("bad.yaml", "kind: [")]).await;
    assert_eq!(followed.reader.shown(), "a:80 ", "one bad file in a folder does not stop the others");
    followed.write("a.yaml", "kind: [");
    followed.write("b.yaml", &service("b", 80));
    followed.until_services("a:80 b:80 ").await;
    followed.write("a.yaml", &service("a", 81));
    followed.until_services("a:81 b:80 ").await;
}

#[tokio::test]
async fn a_malformed_object_is_reported_and_keeps_its_last_state() {
    let mut followed = Followed::with(&[("a.yaml", &service("a", 80))]).await;
    followed.write("a.yaml", &format!("{}---\n{}", service("a", 80).replace("80", "http"), service("b", 80)));
    followed.until(|reader| reader.shown() == "a:80 b:80 " && reader.malformed.len() == 1).await;
    assert!(
        followed.reader.malformed[0].starts_with("Service default/a: "),
        "{:?}",
        followed.reader.malformed
    );
    followed.write("a.yaml", &service("b", 80));
    followed.until_services("b:80 ").await;
}

#[tokio::test]
async fn of_an_object_in_two_files_the_first_file_wins_until_it_goes() {
    let mut followed = Followed::with(&[("2.yaml", &service("a", 82))]).await;
    followed.write("1.yaml", &service("a", 81));
    followed.until_services("a:81 ").await;
    fs::remove_file(followed.path("1.yaml")).unwrap();
    followed.until_services("a:82 ").await;
}

#[tokio::test]
async fn a_mounted_config_map_is_exchanged_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, port) in [("..v1", 80), ("..v2", 81)] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("a.yaml"), service("a", port)).unwrap();
    }
    symlink("..v1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let mut followed = Followed::folder(folder).await;
    assert_eq!(followed.reader.shown(), "a:80 ");
    symlink("..v2", followed.path("..data_tmp")).unwrap();
    fs::rename(followed.path("..data_tmp"), followed.path("..data")).unwrap();
    followed.until_services("a:81 ").await;
}

#[tokio::test]
async fn a_folder_that_is_replaced_is_found_again() {
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("manifests");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a.yaml"), service("a", 80)).unwrap();
    let source = ManifestSource::open(&path, "node-1").unwrap();
    let (sender, updates) = mpsc::channel(4);
    tokio::spawn(source.run(sender));
    let mut followed = Followed { folder: outer, updates, reader: Reader::default() };
    followed.until_services("a:80 ").await;
    fs::rename(&path, path.with_extension("old")).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("b.yaml"), service("b", 80)).unwrap();
    followed.until_services("b:80 ").await;
}

#[tokio::test]
async fn a_single_file_is_followed_and_its_neighbours_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("objects"), service("a", 80)).unwrap();
    let source = ManifestSource::open(&at("objects"), "node-1").unwrap();
    let (sender, updates) = mpsc::channel(4);
    tokio::spawn(source.run(sender));
    fs::write(at("other.yaml"), service("other", 80)).unwrap();
    fs::write(at("objects"), service("a", 81)).unwrap();
    let mut followed = Followed { folder, updates, reader: Reader::default() };
    followed.until_services("a:81 ").await;
}

#[tokio::test]
async fn what_cannot_be_read_at_the_start_is_an_error_of_one_line_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.yaml");
    fs::write(&bad, "kind: Service\n  spec: [").unwrap();
    let missing = folder.path().join("missing");
    for path in [&missing, &bad] {
        let error = ManifestSource::open(path, "node-1").unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && !error.contains('\n'), "{error}");
    }
    assert!(read_once(folder.path(), Some("node-1")).is_err(), "a look at the folder shows its mistakes");
}
