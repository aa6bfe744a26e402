//! The proxy as its operators meet it: its pages, its log, its one-off jobs, its configuration file.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use libtest_mimic::Arguments;
use serde_json::{Value, json};
use switchyard_tests::case::{Case, Family};
use switchyard_tests::harness::{Test, trial};
use switchyard_tests::http;
use switchyard_tests::kernel::check_untouched;
use switchyard_tests::objects::{cluster_ip_service, http_slice, put, remove, service, slice};
use switchyard_tests::proxy::{Proxy, binary};
use switchyard_tests::stage::{NODE, Stage};
use switchyard_tests::variant::Variant;
use switchyard_tests::wait::eventually;
use switchyard_tests::watch_server::WatchServer;

/// The default port of the health server.
const HEALTH: u16 = 10256;
/// The default port of the metrics server.
const METRICS: u16 = 10249;
/// Far more than a change takes.
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(4));
    let tests: [(&str, Test); 12] = [
        ("the_pages_of_both_servers_answer", the_pages_of_both_servers_answer),
        ("the_log_has_the_lines_that_operators_look_for", the_log_has_the_lines_that_operators_look_for),
        ("a_taken_health_port_is_tried_again", a_taken_port_is_tried_again),
        ("init_only_prepares_the_node_and_writes_no_rule", init_only_prepares_the_node_and_writes_no_rule),
        ("the_version_is_printed", the_version_is_printed),
        ("a_written_configuration_is_read_back_the_same", a_written_configuration_is_read_back_the_same),
        ("by_the_name_kube_proxy_it_takes_flags_directly", by_the_name_kube_proxy_it_takes_flags_directly),
        ("a_changed_configuration_file_ends_the_process", a_changed_configuration_file_ends_the_process),
        ("a_configuration_file_and_flags_give_the_same_rules", a_file_and_flags_give_the_same_rules),
        ("a_health_check_node_port_counts_local_endpoints", a_health_check_node_port_counts_local_endpoints),
        ("rules_are_printed_from_an_api_server_as_from_files", rules_from_an_api_server),
        ("verbosity_can_be_changed_while_it_runs", verbosity_can_be_changed_while_it_runs),
    ];
    let trials = tests.map(|(name, test)| trial(name.to_owned(), test));
    Ok(libtest_mimic::run(&args, trials.into()).exit_code())
}

fn stage(test: &str) -> Result<Stage> {
    Stage::alone(&format!("daemon-{test}"), Variant::NfTables)
}

fn flags(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

/// Runs the program to its end.
fn job(stage: &Stage, args: &[&str]) -> Result<String> {
    let (mut command, log) = stage.command(binary()?)?;
    command.args(args);
    let mut proxy = Proxy::run(&stage.scene, NODE, command, log)?;
    let status = proxy.wait_for_end()?;
    ensure!(status.success(), "{args:?} ended with {status}:\n{}", proxy.log());
    Ok(proxy.log())
}

fn the_pages_of_both_servers_answer() -> Result<()> {
    let stage = stage("pages")?;
    let proxy = stage.start_proxy(&Case::named("clusterip-single")?)?;
    for path in ["/healthz", "/livez"] {
        let reply = proxy.get(HEALTH, path)?;
        ensure!(reply.status == 200, "{path} answers {}: {}", reply.status, reply.body);
        let body: Value = serde_json::from_str(&reply.body)?;
        ensure!(body["healthy"] == true, "{path} says {body}");
        ensure!(body["status"]["IPv4"]["healthy"] == true, "{path} says {body}");
        ensure!(body["status"]["IPv6"]["healthy"] == true, "{path} says {body}");
        ensure!((path == "/healthz") == (body["nodeEligible"] == true), "{path} says {body}");
    }
    let pages = [
        ("/healthz", "ok"),
        ("/proxyMode", "iptables"),
        ("/metrics", "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}"),
        ("/configz", "\"kubeproxy.config.k8s.io\""),
        // Between the two stands another delimiter each time, so that nobody parses it.
        ("/flagz", "hostname-override"),
        ("/statusz", "Binary version"),
    ];
    for (path, words) in pages {
        let reply = proxy.get(METRICS, path)?;
        ensure!(reply.status == 200, "{path} answers {}: {}", reply.status, reply.body);
        ensure!(reply.body.contains(words), "{path} does not say {words:?}: {}", reply.body);
    }
    ensure!(proxy.get(METRICS, "/nothing")?.status == 404, "/nothing exists");
    let configuration: Value = serde_json::from_str(&proxy.get(METRICS, "/configz")?.body)?;
    let configuration = &configuration["kubeproxy.config.k8s.io"];
    ensure!(configuration["hostnameOverride"] == "node-1", "/configz says {configuration}");
    ensure!(configuration["iptables"]["syncPeriod"] == "30s", "/configz says {configuration}");
    Ok(())
}

fn the_log_has_the_lines_that_operators_look_for() -> Result<()> {
    let stage = stage("log")?;
    let case = Case::named("nodeport")?;
    case.write_manifests(stage.scene.topology(), &stage.manifests())?;
    let proxy = stage.start(&[case.args()?, flags(&["-v=4"])].concat())?;
    let log = proxy.log();
    for words in [
        "] \"Using iptables Proxier\"",
        "] \"Adding new service port\" portName=\"default/web:http\" servicePort=\"10.96.",
        "] \"Successfully retrieved NodeIPs\" NodeIPs=[\"192.168.56.11\",\"fd00:56::11\"]",
        "] \"SyncProxyRules complete\"",
    ] {
        ensure!(log.contains(words), "the log does not say {words:?}:\n{log}");
    }
    Ok(())
}

fn a_taken_port_is_tried_again() -> Result<()> {
    let stage = stage("taken")?;
    let taken = stage.scene.run(NODE, || std::net::TcpListener::bind(("0.0.0.0", HEALTH)))??;
    let proxy = stage.start(&flags(&["--hostname-override=node-1"]))?;
    ensure!(proxy.log().contains("Failed to start healthz server"), "nothing is logged:\n{}", proxy.log());
    drop(taken);
    let answered = eventually(LIMIT, || {
        ensure!(proxy.get(HEALTH, "/livez")?.status == 200, "it is not healthy");
        Ok(())
    });
    proxy.explain(answered)
}

fn init_only_prepares_the_node_and_writes_no_rule() -> Result<()> {
    let stage = stage("init")?;
    let setting = "/proc/sys/net/ipv4/conf/all/route_localnet";
    stage.scene.run(NODE, || fs::write(setting, "0"))??;
    let log = job(&stage, &["proxy", "--manifests=manifests", "--hostname-override=node-1", "--init-only"])?;
    ensure!(log.contains("System initialized and --init-only specified"), "{log}");
    let value = stage.scene.run(NODE, || fs::read_to_string(setting))??;
    ensure!(value.trim() == "1", "node ports do not answer on 127.0.0.1: route_localnet is {value}");
    // Nobody listens on port 1.
    let refused = job(&stage, &["rules", "--node", NODE, "--master", "http://127.0.0.1:1"]);
    let Err(error) = refused else { bail!("it printed rules of a server that is not there") };
    ensure!(error.to_string().ends_with("(os error 111)\n"), "{error}");
    ensure!(error.to_string().contains("Error: cannot reach the API server at 127.0.0.1:1"), "{error}");
    check_untouched(&stage)
}

fn the_version_is_printed() -> Result<()> {
    let stage = stage("version")?;
    let version = job(&stage, &["proxy", "--version"])?;
    ensure!(version.starts_with("Kubernetes v1.36."), "{version}");
    let raw = job(&stage, &["proxy", "--version=raw"])?;
    ensure!(raw.contains("1.36"), "{raw}");
    Ok(())
}

fn a_written_configuration_is_read_back_the_same() -> Result<()> {
    let stage = stage("round-trip")?;
    let written = stage.dir().join("written.yaml");
    let again = stage.dir().join("again.yaml");
    job(
        &stage,
        &[
            "proxy",
            "--cluster-cidr=10.244.0.0/16,fd00:10:244::/56",
            "--iptables-sync-period=17s",
            "--nodeport-addresses=192.168.56.0/24,10.0.0.0/8",
            "--masquerade-all",
            "--conntrack-max-per-core=0",
            "--write-config-to=written.yaml",
        ],
    )?;
    job(&stage, &["proxy", "--config=written.yaml", "--write-config-to=again.yaml"])?;
    let text = fs::read_to_string(&written)?;
    ensure!(text.contains("syncPeriod: 17s"), "the flag is not in the file:\n{text}");
    ensure!(text == fs::read_to_string(&again)?, "it is read back otherwise:\n{text}");
    // Nobody listens on port 1.
    let refused = job(&stage, &["rules", "--node", NODE, "--master", "http://127.0.0.1:1"]);
    let Err(error) = refused else { bail!("it printed rules of a server that is not there") };
    ensure!(error.to_string().ends_with("(os error 111)\n"), "{error}");
    ensure!(error.to_string().contains("Error: cannot reach the API server at 127.0.0.1:1"), "{error}");
    check_untouched(&stage)
}

fn by_the_name_kube_proxy_it_takes_flags_directly() -> Result<()> {
    let stage = stage("name")?;
    let link = stage.dir().join("kube-proxy");
    symlink(binary()?, &link)?;
    let (mut command, log) = stage.command(&link)?;
    command.args(["--hostname-override=node-1", "--manifests=manifests"]);
    let mut proxy = Proxy::run(&stage.scene, NODE, command, log)?;
    let synced = proxy.wait_until_synced();
    proxy.explain(synced)
}

/// A KubeProxyConfiguration with these further lines.
fn configuration(stage: &Stage, lines: &str) -> Result<String> {
    let path = stage.dir().join("config.yaml");
    let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    fs::write(&path, format!("{head}{lines}"))?;
    Ok(format!("--config={}", path.display()))
}

fn a_changed_configuration_file_ends_the_process() -> Result<()> {
    let stage = stage("config-change")?;
    let config = configuration(&stage, "hostnameOverride: node-1\n")?;
    let mut proxy = stage.start(&[config])?;
    let mut file = File::options().append(true).open(stage.dir().join("config.yaml"))?;
    file.write_all(b"# Something else.\n")?;
    let status = proxy.wait_for_end();
    let status = proxy.explain(status)?;
    ensure!(status.code() == Some(1), "it ended with {status}");
    let words = "content of the proxy server's configuration file was updated";
    ensure!(proxy.log().contains(words), "it does not say why:\n{}", proxy.log());
    Ok(())
}

fn a_file_and_flags_give_the_same_rules() -> Result<()> {
    let case = Case::named("masquerade-all")?;
    let stage = stage("file")?;
    case.write_manifests(stage.scene.topology(), &stage.manifests())?;
    let config = configuration(
        &stage,
        "hostnameOverride: node-1\n\
         clusterCIDR: 10.244.0.0/16,fd00:10:244::/56\n\
         iptables: {masqueradeAll: true}\n\
         mode: iptables\n",
    )?;
    let proxy = stage.start(&[config])?;
    for family in Family::BOTH {
        proxy.explain(stage.check_dump(family, &case.recorded_dump(family)?))?;
    }
    Ok(())
}

fn a_health_check_node_port_counts_local_endpoints() -> Result<()> {
    const PORT: u16 = 32_123;
    let stage = stage("health-check")?;
    let folder = stage.manifests();
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30_080}]);
    let spec = json!({
        "type": "LoadBalancer",
        "clusterIP": "10.96.1.1",
        "ports": ports,
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": PORT,
    });
    let on = |address: &str, node: &str| json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true}});
    let endpoints =
        |endpoints: &[Value]| slice("web-1", "web", &json!([{"name": "http", "port": 8080}]), endpoints);
    put(&folder, &service("web", &spec))?;
    put(
        &folder,
        &endpoints(&[on("10.244.1.2", "node-1"), on("10.244.1.3", "node-1"), on("10.244.2.2", "node-2")]),
    )?;
    let proxy = stage.start(&flags(&["--hostname-override=node-1", "--iptables-min-sync-period=0s"]))?;

    let answers = |status: u16, count: u64| {
        eventually(LIMIT, || {
            let reply = proxy.get(PORT, "/")?;
            let body: Value = serde_json::from_str(&reply.body)?;
            let expected = json!({
                "service": {"namespace": "default", "name": "web"},
                "localEndpoints": count,
                "serviceProxyHealthy": true,
            });
            ensure!(reply.status == status && body == expected, "{} {body}", reply.status);
            Ok(reply)
        })
    };
    let reply = proxy.explain(answers(200, 2))?;
    let head = reply.head.to_ascii_lowercase();
    ensure!(head.contains("x-load-balancing-endpoint-weight: 2"), "the head is {head}");
    put(&folder, &endpoints(&[on("10.244.2.2", "node-2")]))?;
    proxy.explain(answers(503, 0))?;

    remove(&folder, &service("web", &spec))?;
    let closed = eventually(LIMIT, || {
        ensure!(proxy.get(PORT, "/").is_err(), "the port of a service that is gone still answers");
        Ok(())
    });
    proxy.explain(closed)
}

fn verbosity_can_be_changed_while_it_runs() -> Result<()> {
    let stage = stage("verbosity")?;
    let config = configuration(&stage, "hostnameOverride: node-1\nenableProfiling: true\n")?;
    let proxy = stage.start(&[config, "--iptables-min-sync-period=0s".to_owned()])?;
    let reply = stage.scene.run(NODE, || http::request(METRICS, "PUT", "/debug/flags/v", "4"))??;
    ensure!(reply.body.contains("successfully set klog.logging.verbosity to 4"), "{}", reply.body);
    put(&stage.manifests(), &cluster_ip_service("new", "10.96.1.1"))?;
    let logged = eventually(LIMIT, || {
        ensure!(proxy.log().contains("Adding new service port"), "the change is not logged");
        Ok(())
    });
    proxy.explain(logged)
}

fn rules_from_an_api_server() -> Result<()> {
    let stage = stage("rules")?;
    let objects = [
        ("services", cluster_ip_service("web", "10.96.1.1")),
        ("endpointslices", http_slice("web", &["10.244.1.2", "10.244.2.2"])),
    ];
    let api = stage.scene.run(NODE, WatchServer::start)??;
    for (kind, object) in objects {
        put(&stage.manifests(), &object)?;
        api.add(kind, [object]);
    }
    let (folder, url) = (stage.manifests().display().to_string(), api.url());
    for command in [&["rules", "--family", "ipv4"][..], &["services", "-o", "json"]] {
        let of = |source: [&str; 2]| job(&stage, &[command, &["--node", NODE], &source].concat());
        let (from_files, from_api) = (of(["--manifests", &folder])?, of(["--master", &url])?);
        ensure!(from_files.contains("10.244.2.2"), "{command:?} prints {from_files}");
        ensure!(
            from_files == from_api,
            "{command:?} prints from files\n{from_files}\nfrom the API\n{from_api}"
        );
    }
    // Nobody listens on port 1.
    let refused = job(&stage, &["rules", "--node", NODE, "--master", "http://127.0.0.1:1"]);
    let Err(error) = refused else { bail!("it printed rules of a server that is not there") };
    ensure!(error.to_string().ends_with("(os error 111)\n"), "{error}");
    ensure!(error.to_string().contains("Error: cannot reach the API server at 127.0.0.1:1"), "{error}");
    check_untouched(&stage)
}
