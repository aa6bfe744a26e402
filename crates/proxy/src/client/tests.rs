//! What an operator reads when the way to the API server is described wrongly.

use std::path::PathBuf;

use super::*;

async fn error_of(settings: ClientSettings) -> String {
    let error = ApiClient::new(settings, None).await.unwrap_err().to_string();
    assert!(!error.contains('\n'), "one line: {error}");
    error
}

async fn error_of_kubeconfig(text: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let error =
        error_of(ClientSettings { kubeconfig: file.path().into(), ..ClientSettings::default() }).await;
    assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    error
}

#[tokio::test]
async fn outside_of_a_pod_the_missing_variables_are_named() {
    assert_eq!(
        error_of(ClientSettings::default()).await,
        "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
    );
}

#[tokio::test]
async fn a_kubeconfig_that_points_nowhere_is_named_with_the_way_out() {
    let kubeconfig = PathBuf::from("/nonexistent/kubeconfig");
    let error = error_of(ClientSettings { kubeconfig, ..ClientSettings::default() }).await;
    assert_eq!(
        error,
        "cannot read the kubeconfig /nonexistent/kubeconfig: No such file or directory (os error 2); \
         name an existing file with --kubeconfig, or none inside a pod"
    );
}

#[tokio::test]
async fn a_kubeconfig_that_makes_no_sense_is_named_with_the_reason() {
    assert!(error_of_kubeconfig("clusters: [").await.contains("line"));
    assert!(error_of_kubeconfig("kind: Config").await.contains("current context"));
    let no_cluster = "current-context: x\ncontexts: [{name: x, context: {cluster: gone, user: u}}]";
    assert!(error_of_kubeconfig(no_cluster).await.contains("gone"));
    let no_file = "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n\
                   clusters: [{name: c, cluster: {server: 'https://10.0.0.1', certificate-authority: /nowhere/ca.crt}}]";
    assert!(error_of_kubeconfig(no_file).await.contains("/nowhere/ca.crt"));
}

#[tokio::test]
async fn a_master_that_is_no_address_is_named() {
    for master in ["https://", "ftp://10.0.0.1", "10.0.0.1:port", "a b"] {
        let error = error_of(ClientSettings { master: master.to_owned(), ..ClientSettings::default() }).await;
        assert!(error.contains(&format!("{master:?}")), "{error}");
    }
}

#[tokio::test]
async fn a_master_needs_no_scheme() {
    let settings = ClientSettings { master: "10.0.0.1:8080".to_owned(), ..ClientSettings::default() };
    assert_eq!(ApiClient::new(settings, None).await.unwrap().host(), "10.0.0.1:8080");
}

#[test]
fn the_user_agent_names_program_version_and_platform() {
    let agent = user_agent("v1.36.2");
    assert!(agent.starts_with("kube-proxy/v1.36.2 (linux/") && agent.ends_with(") switchyard"), "{agent}");
}
