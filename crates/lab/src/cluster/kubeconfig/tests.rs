use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

/// With values that YAML takes for something else unless they are quoted.
const FOREIGN: &str = "\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: |
      LS0t
      LS0t
    insecure-skip-tls-verify: true
    server: https://192.0.2.7:6443
  name: prod
contexts:
- context: {cluster: prod, namespace: \"0123\", user: 'on'}
  name: prod
current-context: prod
kind: Config
preferences: {colors: true}
users:
- name: 'on'
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      args: [\"--age\", \"1e3\", \"null\", \"~\", \"\", \"yes\", \"0x1f\", \"# no\", \"a: b\", \"2001:db8::1\", \"12:30\"]
      command: login
      env: null
    token: \"0755\"
";

fn access() -> Access {
    Access {
        server: "https://127.0.0.1:40000".to_owned(),
        authority: "Q0E=".to_owned(),
        identity: Identity::Certificate { certificate: "Q0VSVA==".to_owned(), key: "S0VZ".to_owned() },
    }
}

fn parse(text: &str) -> Map<String, Value> {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn everything_of_others_means_the_same_before_between_and_after() {
    let foreign = parse(FOREIGN);
    let with_lab = parse(&text(&merge(foreign.clone(), "lab", &access()).unwrap()));
    for (list, _) in LISTS {
        assert_eq!(with_lab[list][0], foreign[list][0]);
        assert_eq!(with_lab[list][1]["name"], "switchyard-lab");
    }
    assert_eq!(with_lab["preferences"], foreign["preferences"]);
    assert_eq!(with_lab["current-context"], "switchyard-lab");

    let mut after = remove(with_lab, "lab");
    assert_eq!(after.insert("current-context".to_owned(), "prod".into()), Some("".into()));
    assert_eq!(after, foreign);
}

#[test]
fn a_current_context_that_somebody_chose_since_is_left() {
    let mut config = merge(parse(FOREIGN), "lab", &access()).unwrap();
    config.insert("current-context".to_owned(), "prod".into());
    assert_eq!(remove(config, "lab"), parse(FOREIGN));
}

#[test]
fn labs_stand_side_by_side_and_one_brought_up_again_is_there_once() {
    let one = merge(Map::new(), "lab", &access()).unwrap();
    let both = merge(one, "other", &access()).unwrap();
    let again =
        merge(both.clone(), "lab", &Access { server: "https://127.0.0.1:1".to_owned(), ..access() }).unwrap();
    assert_eq!(again["clusters"].as_array().unwrap().len(), 2);
    assert_eq!(again["clusters"][0]["cluster"]["server"], "https://127.0.0.1:1");
    assert_eq!(remove(remove(both, "other"), "lab")["users"], json!([]));
}

#[test]
fn an_entry_of_our_name_that_is_not_ours_is_neither_replaced_nor_removed() {
    for (list, field) in LISTS {
        let config: Map<String, Value> =
            serde_json::from_value(json!({list: [{"name": "switchyard-lab", field: {}}]})).unwrap();
        assert_eq!(merge(config.clone(), "lab", &access()), Err(NotOurs(field)));
        assert_eq!(remove(config.clone(), "lab"), config);
    }
}

#[test]
fn lists_that_kubectl_left_empty_are_filled() {
    let config = parse("apiVersion: v1\nclusters: null\ncontexts: []\nkind: Config\n");
    assert_eq!(merge(config, "lab", &access()).unwrap()["clusters"][0]["name"], "switchyard-lab");
}

#[test]
fn a_file_that_up_made_goes_with_the_lab_and_one_that_was_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("home/.kube/config");
    let made = missing(&path);
    assert_eq!(made.len(), 3);
    add(&path, "lab", Some(&access())).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    remove_from(&path, "lab", &made).unwrap();
    assert!(!folder.path().join("home").exists());

    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, FOREIGN).unwrap();
    add(&path, "lab", Some(&access())).unwrap();
    remove_from(&path, "lab", &missing(&path)).unwrap();
    assert_eq!(parse(&fs::read_to_string(&path).unwrap())["clusters"], parse(FOREIGN)["clusters"]);
}

#[test]
fn what_others_added_meanwhile_keeps_the_file_that_up_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let made = missing(&path);
    add(&path, "lab", Some(&access())).unwrap();
    add(&path, "other", Some(&access())).unwrap();
    remove_from(&path, "lab", &made).unwrap();
    assert_eq!(parse(&fs::read_to_string(&path).unwrap())["users"][0]["name"], "switchyard-other");
}

#[test]
fn a_link_stays_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let (path, target) = (folder.path().join("config"), folder.path().join("target"));
    fs::write(&target, FOREIGN).unwrap();
    symlink(&target, &path).unwrap();
    add(&path, "lab", Some(&access())).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("switchyard-lab"));
}

#[test]
fn what_is_no_kubeconfig_is_left_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    for text in ["kind: Pod\n", "- a\n- b\n", "a: [\n"] {
        fs::write(&path, text).unwrap();
        let error = add(&path, "lab", Some(&access())).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_file_that_another_program_holds_is_left_and_the_lock_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    fs::write(folder.path().join("config.lock"), "").unwrap();
    let error = add(&path, "lab", Some(&access())).unwrap_err().to_string();
    assert!(error.contains("config.lock"), "{error}");
    assert!(!path.exists());
}

#[test]
fn the_lock_of_a_program_that_was_killed_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let lock = folder.path().join("config.lock");
    let own = switchyard_kernel::process::Process::own().unwrap();
    symlink(format!("{MARK}:{}:{}", own.pid, own.started + 1), &lock).unwrap();
    add(&path, "lab", Some(&access())).unwrap();
    assert!(fs::symlink_metadata(&lock).is_err());

    symlink(format!("{MARK}:{}:{}", own.pid, own.started), &lock).unwrap();
    assert!(add(&path, "lab", Some(&access())).unwrap_err().to_string().contains("config.lock"));
}
