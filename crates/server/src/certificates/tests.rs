use std::fs;
use std::os::unix::fs::PermissionsExt;

use jiff::ToSpan;
use serde_json::{Value, json};

use super::*;

fn names() -> ServerNames {
    ServerNames::new("node-a.example", [[10, 0, 0, 1].into(), [192, 0, 2, 1].into(), [0, 0, 0, 0].into()])
}

#[test]
fn the_server_answers_to_all_its_names() {
    let names = names();
    assert!(names.dns.contains(&"kubernetes.default.svc".to_owned()));
    assert!(names.dns.contains(&"node-a.example".to_owned()));
    let addresses: Vec<String> = names.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["127.0.0.1", "::1", "10.0.0.1", "192.0.2.1"]);
    assert!(!ServerNames::new("not a name", []).dns.contains(&"not a name".to_owned()));
}

#[test]
fn what_is_good_is_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pki");
    let now = Timestamp::now();
    let first = prepare(&path, &names(), now).unwrap();
    let second = prepare(&path, &names(), now + 24.hours()).unwrap();
    assert_eq!((&first.authority, &first.serving), (&second.authority, &second.serving));
    assert_eq!((&first.admin, &first.token_key), (&second.admin, &second.token_key));
    for entry in fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 9, "nothing is left behind");
}

#[test]
fn what_is_not_good_any_more_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let now = Timestamp::now();
    let first = prepare(path, &names(), now).unwrap();
    let later = prepare(path, &names(), now + (340 * 24).hours()).unwrap();
    assert_eq!(first.authority, later.authority);
    assert!(first.serving != later.serving && first.admin != later.admin, "they end soon");
    let moved = prepare(path, &ServerNames::new("other", []), now + (340 * 24).hours()).unwrap();
    assert!(moved.serving != later.serving, "the names are others");
    assert_eq!(moved.admin, later.admin);
    fs::remove_file(path.join("ca.crt")).unwrap();
    let replaced = prepare(path, &ServerNames::new("other", []), now).unwrap();
    assert!(replaced.admin != moved.admin, "the authority is another");
}

#[test]
fn an_authority_that_cannot_be_read_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("ca.crt"), "junk").unwrap();
    fs::write(directory.path().join("ca.key"), "junk").unwrap();
    let error = prepare(directory.path(), &names(), Timestamp::now()).unwrap_err().to_string();
    assert!(error.starts_with("reading the certificate authority "), "{error}");
    assert_eq!(fs::read_to_string(directory.path().join("ca.crt")).unwrap(), "junk");
}

#[test]
fn a_kubeconfig_keeps_what_others_put_into_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/config");
    let pair = Pair { certificate: "c".to_owned(), key: "k".to_owned() };
    let read = || -> Value { serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap() };
    kubeconfig::write(&path, "https://127.0.0.1:6443", "ca", &pair).unwrap();
    assert_eq!(read()["current-context"], "switchyard");
    assert_eq!(read()["clusters"][0]["cluster"]["certificate-authority-data"], "Y2E=");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let other = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "work", "preferences": {"colors": true},
        "clusters": [{"name": "work", "cluster": {"server": "https://work"}}],
        "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me"}}],
        "users": [{"name": "me", "user": {"token": "yes"}}],
    });
    fs::write(&path, other.to_string()).unwrap();
    kubeconfig::write(&path, "https://127.0.0.1:1", "ca", &pair).unwrap();
    kubeconfig::write(&path, "https://127.0.0.1:2", "ca", &pair).unwrap();
    let merged = read();
    assert_eq!(merged["current-context"], "work");
    assert_eq!(merged["users"][0], other["users"][0]);
    assert_eq!(merged["clusters"].as_array().unwrap().len(), 2);
    assert_eq!(merged["clusters"][1]["cluster"]["server"], "https://127.0.0.1:2");

    fs::write(&path, "- a list").unwrap();
    assert!(kubeconfig::write(&path, "https://127.0.0.1:1", "ca", &pair).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "- a list");
}
