//! Files that every container of a pod has from its agent: whom it asks for names, and those it need not ask for.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::spec;
use crate::core::DnsSettings;

/// In the agent's folder.
const FOLDER: &str = "files";

/// Writes a pod's files, and gives for each its path inside and outside.
pub(super) fn write(
    root: &Path,
    pod: &Pod,
    addresses: &[IpAddr],
    dns: &DnsSettings,
) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let folder = folder(root, &pod.uid().unwrap_or_default());
    fs::create_dir_all(&folder)?;
    let mut mounts = Vec::new();
    let mut add = |name: &str, inside: &str, text: Option<String>| -> io::Result<()> {
        let Some(text) = text else { return Ok(()) };
        let path = folder.join(name);
        fs::write(&path, text)?;
        mounts.push((PathBuf::from(inside), path));
        Ok(())
    };
    // On the node's own network, names are the node's.
    let hosts = (!spec::is_on_host_network(pod)).then(|| hosts(pod, addresses));
    add("hosts", "/etc/hosts", hosts)?;
    add("resolv.conf", "/etc/resolv.conf", resolv_conf(pod, dns))?;
    Ok(mounts)
}

/// Removes a pod's files. None being there is no error.
pub(super) fn remove(root: &Path, uid: &str) -> io::Result<()> {
    match fs::remove_dir_all(folder(root, uid)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn folder(root: &Path, uid: &str) -> PathBuf {
    root.join(FOLDER).join(uid)
}

/// Itself by its name, and the aliases of its spec.
fn hosts(pod: &Pod, addresses: &[IpAddr]) -> String {
    let mut text = String::from(
        "# Managed by the node agent.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    );
    for address in addresses {
        let _ = writeln!(text, "{address}\t{}", spec::hostname(pod));
    }
    for alias in pod.spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten()) {
        let _ = writeln!(
            text,
            "{}\t{}",
            alias.ip,
            alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t")
        );
    }
    text
}

/// `None` leaves the host's own file in place: policy `Default`, and clusters without DNS.
fn resolv_conf(pod: &Pod, dns: &DnsSettings) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let policy = match spec.dns_policy.as_deref() {
        // On the node's own network only who asks for it sees the cluster's names.
        Some("ClusterFirst") | None if spec::is_on_host_network(pod) => "Default",
        Some(policy) => policy,
        None => "ClusterFirst",
    };
    let of_cluster = policy.starts_with("ClusterFirst") && !dns.servers.is_empty();
    if !of_cluster && policy != "None" {
        return None;
    }
    let (mut servers, mut search, mut options) = (Vec::new(), Vec::new(), Vec::new());
    if of_cluster {
        servers.extend(dns.servers.iter().map(ToString::to_string));
        let domain = &dns.domain;
        let namespace = pod.namespace().unwrap_or_default();
        search.extend([format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()]);
        options.push("ndots:5".to_owned());
    }
    if let Some(own) = &spec.dns_config {
        servers.extend(own.nameservers.iter().flatten().cloned());
        search.extend(own.searches.iter().flatten().cloned());
        options.extend(own.options.iter().flatten().filter_map(|option| {
            let name = option.name.as_ref()?;
            Some(option.value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}:{value}")))
        }));
    }
    let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (word, values) in [("search", search), ("options", options)] {
        if !values.is_empty() {
            let _ = writeln!(text, "{word} {}", values.join(" "));
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": spec}),
        )
        .unwrap()
    }

    fn dns() -> DnsSettings {
        DnsSettings { servers: vec!["10.96.0.10".parse().unwrap()], domain: "cluster.local".to_owned() }
    }

    #[test]
    fn a_pod_asks_the_cluster_for_names() {
        let text = resolv_conf(&pod(json!({"containers": []})), &dns()).unwrap();
        assert_eq!(
            text,
            "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
        );
        for spec in [
            json!({"containers": [], "dnsPolicy": "Default"}),
            json!({"containers": [], "hostNetwork": true}),
        ] {
            assert_eq!(resolv_conf(&pod(spec), &dns()), None);
        }
        assert_eq!(resolv_conf(&pod(json!({"containers": []})), &DnsSettings::default()), None);
    }

    #[test]
    fn its_own_configuration_is_added_or_stands_alone() {
        let config = json!({"nameservers": ["192.0.2.1"], "searches": ["example"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        let text =
            resolv_conf(&pod(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": config})), &dns());
        assert_eq!(text.unwrap(), "nameserver 192.0.2.1\nsearch example\noptions ndots:2 edns0\n");
    }

    #[test]
    fn files_come_and_go_with_the_pod() {
        let root = tempfile::tempdir().unwrap();
        let aliases = json!([{"ip": "192.0.2.9", "hostnames": ["a", "b"]}]);
        let pod = pod(json!({"containers": [], "hostAliases": aliases}));
        let mounts = write(root.path(), &pod, &["10.244.1.2".parse().unwrap()], &dns()).unwrap();
        assert_eq!(mounts[0].0, Path::new("/etc/hosts"));
        let hosts = fs::read_to_string(&mounts[0].1).unwrap();
        assert!(hosts.ends_with("10.244.1.2\tweb\n192.0.2.9\ta\tb\n"), "{hosts}");
        remove(root.path(), "u").unwrap();
        remove(root.path(), "u").unwrap();
        assert!(!mounts[1].1.exists());
    }
}
