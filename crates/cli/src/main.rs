//! The one binary: picks a command by its first argument, or by the name it is called by.

mod send;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use switchyard_agent::runtime::process;
use switchyard_proxy::flags::Exit;
use switchyard_proxy::logging;

const USAGE: &str = "\
Kubernetes service networking that explains itself.

Usage: switchyard COMMAND [FLAGS]

A cluster on this machine:
  up         bring up a three-node cluster made of network namespaces
  down       take it away again
  status     print what it consists of and how it is
  shell      run a shell or a command on a node, in a pod, or outside
  logs       print what its programs have logged

Parts of a cluster:
  proxy      run the node proxy; takes kube-proxy's flags (a link named kube-proxy does the same)
  apiserver  run the embedded API server; takes kube-apiserver's flags
  agent      run the pods that are bound to this node; takes kubelet's flags

Explaining services:
  services   print what every service address does on a node
  rules      print the rules that the proxy would write, without root and without writing them
  verify     hold this node's kernel against what the proxy would have written
  trace      say what would become of a connection, and why

Others:
  demo       tell the lecture on service networking, with a cluster on this machine
  version    print the version

A link named switchyard-cni is a CNI plugin, for container runtimes to call.
Each command explains its flags with --help.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let called_as = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    match Path::new(&called_as).file_name().and_then(|name| name.to_str()) {
        Some("kube-proxy") => return switchyard_proxy::run::main("kube-proxy", &arguments),
        Some("switchyard-cni") => return cni_plugin(),
        _ => {}
    }
    if let Some(code) = switchyard_agent::hidden_command(&arguments) {
        return code;
    }
    let Some((command, rest)) = arguments.split_first() else {
        return finish(Err(usage_error("a command is missing")));
    };
    match command.as_str() {
        "proxy" => switchyard_proxy::run::main("switchyard proxy", rest),
        "apiserver" => switchyard_server::run::main("switchyard apiserver", rest, install_logging),
        "agent" => switchyard_agent::run::main("switchyard agent", rest, install_logging, |settings| {
            let settings = process::Settings {
                folder: settings.root_dir.join("sandboxes"),
                prefix: settings.namespace_prefix.clone(),
                hidden: vec![settings.kubeconfig.clone()],
            };
            Ok(Arc::new(process::ProcessRuntime::open(settings)?))
        }),
        "services" => finish(switchyard_proxy::inspect::services(&as_the_lab_has_it(rest))),
        "rules" => finish(switchyard_proxy::inspect::rules(&as_the_lab_has_it(rest))),
        "verify" => finish(switchyard_proxy::verify::verify(&as_the_lab_has_it(rest))),
        "trace" => finish(switchyard_proxy::trace::trace(&as_the_lab_has_it(rest), &send::send)),
        "demo" => switchyard_lab::demo::main(rest),
        "version" | "--version" => finish(Ok(format!("switchyard {}\n", env!("CARGO_PKG_VERSION")))),
        "help" | "--help" | "-h" => finish(Ok(USAGE.to_owned())),
        other => switchyard_lab::cluster::main(other, rest)
            .unwrap_or_else(|| finish(Err(usage_error(&format!("there is no command {other:?}"))))),
    }
}

fn install_logging(verbosity: u8) {
    logging::install(logging::Options { verbosity: verbosity.into(), ..Default::default() });
}

/// The flags of a command that explains services; where they name no cluster and kubectl's context is a lab, with those of the lab's
/// proxies.
fn as_the_lab_has_it(arguments: &[String]) -> Vec<String> {
    const OWN: [&str; 7] =
        ["--kubeconfig", "--manifests", "--master", "--config", "--cluster-cidr", "--mode", "--proxy-mode"];
    let name = |word: &String| word.split('=').next().unwrap_or_default().replace('_', "-");
    let mut arguments = arguments.to_vec();
    if !arguments.iter().any(|word| OWN.contains(&name(word).as_str()))
        && let Ok(Some(places)) = switchyard_lab::cluster::Places::current()
    {
        arguments.extend(places.proxy_flags().iter().cloned());
    }
    arguments
}

/// The plugin of the container network interface: told what to do by the environment and standard input.
fn cni_plugin() -> ExitCode {
    let answer = switchyard_cni::plugin::main(&switchyard_cni::plugin::variables(), &mut io::stdin().lock());
    match io::stdout().write_all(&answer.stdout).and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::from(answer.exit_code),
        // A runtime that did not hear the answer must not take it for a success.
        Err(_) => ExitCode::FAILURE,
    }
}

fn usage_error(what: &str) -> Exit {
    Exit {
        stdout: String::new(),
        stderr: format!("Error: {what}; `switchyard help` lists the commands\n"),
        code: 1,
    }
}

/// Prints what a command has to say. A reader that closed the pipe early (`| head`) is no failure.
fn finish(result: Result<String, Exit>) -> ExitCode {
    let exit = result.map_or_else(|exit| exit, |stdout| Exit { stdout, stderr: String::new(), code: 0 });
    let _ = io::stderr().write_all(exit.stderr.as_bytes());
    let _ = io::stdout().write_all(exit.stdout.as_bytes()).and_then(|()| io::stdout().flush());
    ExitCode::from(exit.code)
}
