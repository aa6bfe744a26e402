//! What an operator gets wrong, and what the proxy says to it: one line that names the thing and the way out,
//! exit code 1, and a kernel that nobody has touched.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Arguments;
use nix::sys::signal::Signal;
use switchyard_tests::harness::{Test, trial};
use switchyard_tests::kernel::check_untouched;
use switchyard_tests::proxy::{Proxy, binary};
use switchyard_tests::stage::{NODE, Stage};
use switchyard_tests::variant::Variant;
use switchyard_tests::wait::eventually;

/// A command line that cannot work.
struct Mistake {
    name: &'static str,
    args: &'static [&'static str],
    /// What the last line of the output holds: the thing, and the way out.
    says: &'static [&'static str],
}

/// `manifests` is an empty folder, `config.yaml` what [`files`] writes, and nothing else exists.
const MISTAKES: [Mistake; 22] = [
    Mistake { name: "unknown_flag", args: &["--nonsense"], says: &["unknown flag: --nonsense"] },
    Mistake {
        name: "duration_without_unit",
        args: &["--iptables-sync-period=30"],
        says: &["invalid argument \"30\" for \"--iptables-sync-period\" flag", "missing unit in duration"],
    },
    Mistake {
        name: "number_out_of_range",
        args: &["--iptables-masquerade-bit=99999999999"],
        says: &["invalid argument \"99999999999\" for \"--iptables-masquerade-bit\" flag"],
    },
    Mistake {
        name: "positional_argument",
        args: &["--manifests=manifests", "everything"],
        says: &["does not take any arguments", "[\"everything\"]"],
    },
    Mistake {
        name: "malformed_cidr",
        args: &["--manifests=manifests", "--cluster-cidr=10.0.0.0/99"],
        says: &["ClusterCIDRs[0]: Invalid value: \\\"10.0.0.0/99\\\": must be a valid CIDR"],
    },
    Mistake {
        name: "two_cidrs_of_one_family",
        args: &["--manifests=manifests", "--cluster-cidr=10.0.0.0/8,10.1.0.0/16"],
        says: &["ClusterCIDRs", "only one CIDR allowed or a valid DualStack CIDR (e.g. "],
    },
    Mistake {
        name: "malformed_node_port_addresses",
        args: &["--manifests=manifests", "--nodeport-addresses=here"],
        says: &["NodePortAddresses[0]: Invalid value: \\\"here\\\": must be a valid CIDR"],
    },
    Mistake {
        name: "unknown_mode",
        args: &["--manifests=manifests", "--proxy-mode=magic"],
        says: &["Invalid value: \\\"magic\\\": must be iptables, ipvs, nftables"],
    },
    Mistake {
        name: "mode_to_come_ipvs",
        args: &["--manifests=manifests", "--proxy-mode=ipvs"],
        says: &["mode ipvs is not part of this version; use --proxy-mode=iptables"],
    },
    Mistake {
        name: "mode_to_come_nftables",
        args: &["--manifests=manifests", "--proxy-mode=nftables"],
        says: &["mode nftables is not part of this version; use --proxy-mode=iptables"],
    },
    Mistake {
        name: "mode_to_come_userspace",
        args: &["--manifests=manifests", "--proxy-mode=userspace"],
        says: &["mode userspace is not part of this version; use --proxy-mode=iptables"],
    },
    Mistake {
        name: "unknown_feature_gate",
        args: &["--manifests=manifests", "--feature-gates=Magic=true"],
        says: &["Magic"],
    },
    Mistake {
        name: "config_file_missing",
        args: &["--config=elsewhere.yaml"],
        says: &["elsewhere.yaml", "no such file or directory"],
    },
    Mistake {
        name: "config_field_of_the_wrong_type",
        args: &["--config=wrong-type.yaml"],
        says: &["wrong-type.yaml", "iptables.masqueradeAll", "expected a boolean"],
    },
    Mistake { name: "config_is_not_yaml", args: &["--config=broken.yaml"], says: &["broken.yaml"] },
    Mistake {
        name: "config_of_another_kind",
        args: &["--config=other-kind.yaml"],
        says: &["no kind \\\"KubeletConfiguration\\\" is registered"],
    },
    Mistake {
        name: "kubeconfig_missing",
        args: &["--kubeconfig=elsewhere.conf"],
        says: &["cannot read the kubeconfig elsewhere.conf", "name an existing file with --kubeconfig"],
    },
    Mistake {
        name: "manifests_missing",
        args: &["--manifests=elsewhere"],
        says: &["cannot read the manifests elsewhere", "--manifests takes a YAML or JSON file, or a folder"],
    },
    Mistake {
        name: "manifest_is_not_yaml",
        args: &["--manifests=broken.yaml"],
        says: &["cannot use the manifest ./broken.yaml", "correct it"],
    },
    Mistake {
        name: "no_api_server_named",
        args: &[],
        says: &["unable to load in-cluster configuration", "KUBERNETES_SERVICE_HOST"],
    },
    Mistake {
        name: "node_that_does_not_exist",
        args: &["--manifests=manifests", "--detect-local-mode=NodeCIDR", "--hostname-override=nobody"],
        says: &["timeout waiting for node \\\"nobody\\\" to exist"],
    },
    Mistake {
        name: "disk_full",
        args: &["--write-config-to=/dev/full"],
        says: &["cannot write the configuration to /dev/full: no space left on device"],
    },
];

/// A configuration's beginning, up to where the mistake is made.
const KIND: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
/// Far more than an answer takes.
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    args.test_threads = args.test_threads.or(Some(4));
    let mut trials: Vec<_> = MISTAKES
        .into_iter()
        .map(|mistake| trial(mistake.name.to_owned(), move || the_mistake_is_named(&mistake)))
        .collect();
    let others: [(&str, Test); 4] = [
        ("unknown_config_field_is_a_notice", unknown_config_field_is_a_notice),
        ("iptables_missing", iptables_missing),
        ("no_root", no_root),
        ("api_server_that_refuses_is_tried_again", api_server_that_refuses_is_tried_again),
    ];
    trials.extend(others.map(|(name, test)| trial(name.to_owned(), test)));
    Ok(libtest_mimic::run(&args, trials).exit_code())
}

fn stage(test: &str) -> Result<Stage> {
    let stage = Stage::alone(&format!("bad-{}", test.replace('_', "-")), Variant::NfTables)?;
    for (name, text) in [
        ("unknown-field.yaml", format!("{KIND}flavour: sweet\nhostnameOverride: node-1\n")),
        ("wrong-type.yaml", format!("{KIND}iptables:\n  masqueradeAll: perhaps\n")),
        ("broken.yaml", format!("{KIND}iptables: {{\n")),
        (
            "other-kind.yaml",
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n".to_owned(),
        ),
    ] {
        fs::write(stage.dir().join(name), text)?;
    }
    Ok(stage)
}

fn the_mistake_is_named(mistake: &Mistake) -> Result<()> {
    let stage = stage(mistake.name)?;
    let (mut command, log) = stage.command(binary()?)?;
    command.arg("proxy").args(mistake.args);
    refused(&stage, Proxy::run(&stage.scene, NODE, command, log)?, mistake.says)
}

/// Exit code 1, a last line that says all this, and an untouched kernel.
fn refused(stage: &Stage, mut proxy: Proxy<'_>, says: &[&str]) -> Result<()> {
    let status = proxy.wait_for_end();
    let status = proxy.explain(status)?;
    let log = proxy.log();
    ensure!(status.code() == Some(1), "it ended with {status}:\n{log}");
    let last = log.lines().last().unwrap_or_default();
    for words in says {
        ensure!(last.contains(words), "the last line does not say {words:?}:\n{log}");
    }
    check_untouched(stage)
}

fn unknown_config_field_is_a_notice() -> Result<()> {
    let stage = stage("unknown_config_field")?;
    let config = stage.dir().join("unknown-field.yaml");
    let proxy = stage.start(&[format!("--config={}", config.display())])?;
    let log = proxy.log();
    ensure!(log.matches("strict decoding error: unknown field \\\"flavour\\\"").count() == 1, "{log}");
    Ok(())
}

fn iptables_missing() -> Result<()> {
    let stage = stage("iptables_missing")?;
    let (mut command, log) = stage.command(binary()?)?;
    let nothing = OsString::from(stage.manifests());
    command.arg("proxy").arg("--manifests=manifests").env("PATH", nothing);
    let proxy = Proxy::run(&stage.scene, NODE, command, log)?;
    refused(&stage, proxy, &["cannot run iptables", "install the iptables package"])
}

/// The id of the user `nobody`, by Debian's policy.
const NOBODY: u32 = 65534;

fn no_root() -> Result<()> {
    let stage = stage("no_root")?;
    // The build may lie where only root can read.
    let program = stage.dir().join("switchyard");
    fs::copy(binary()?, &program)?;
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(stage.dir(), open_to_all)?;
    let (mut command, log) = stage.command(&program)?;
    command.arg("proxy").arg("--manifests=manifests").uid(NOBODY).gid(NOBODY);
    let proxy = Proxy::run(&stage.scene, NODE, command, log)?;
    refused(&stage, proxy, &["CAP_NET_ADMIN", "root"])
}

fn api_server_that_refuses_is_tried_again() -> Result<()> {
    let stage = stage("api_server_that_refuses")?;
    // Nobody listens on port 1 of a namespace that was made a moment ago.
    let kubeconfig = "\
apiVersion: v1
kind: Config
clusters: [{name: there, cluster: {server: 'http://127.0.0.1:1'}}]
contexts: [{name: there, context: {cluster: there, user: me}}]
users: [{name: me, user: {}}]
current-context: there
";
    fs::write(stage.dir().join("kubeconfig"), kubeconfig)?;
    let (mut command, log) = stage.command(binary()?)?;
    command.arg("proxy").args(["--kubeconfig=kubeconfig", "--hostname-override=node-1"]);
    let mut proxy = Proxy::run(&stage.scene, NODE, command, log)?;
    let tried_twice = eventually(LIMIT, || {
        let failures = proxy.log().lines().filter(|line| line.contains("refused")).count();
        ensure!(failures >= 2, "{failures} refused connections were logged");
        Ok(())
    });
    proxy.explain(tried_twice)?;
    ensure!(proxy.is_running()?, "it gave up:\n{}", proxy.log());
    check_untouched(&stage)?;
    ensure!(proxy.end(Signal::SIGTERM)?.code().is_none(), "SIGTERM does not end it at once");
    Ok(())
}
