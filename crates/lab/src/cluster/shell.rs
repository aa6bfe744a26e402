//! A shell or a command in a place of the lab.

use std::env;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use switchyard_kernel::namespace::NamespaceFile;

use super::client;
use super::error::{LabError, doing};
use super::flags::ShellFlags;
use super::places::Places;
use super::settings::{CONTROL, OUTSIDE, Settings};
use super::state::{self, Folder};

const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// `switchyard shell`: becomes the command, and comes back only if that cannot be.
pub(super) fn run(flags: &ShellFlags) -> Result<ExitCode, LabError> {
    let (folder, record) = state::meant_lab(flags.name.as_deref())?;
    find(flags, &folder, &record.settings)?.enter()?;
    let shell = || env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    let (program, arguments) = match flags.command.split_first() {
        Some((program, arguments)) => (program.clone(), arguments),
        None => (shell(), [].as_slice()),
    };
    let mut command = Command::new(&program);
    command.args(arguments);
    if flags.place == OUTSIDE {
        command.env_remove("KUBECONFIG");
    } else {
        command.env("KUBECONFIG", folder.inner_kubeconfig());
    }
    // This only returns when the program could not be run.
    let error = command.exec();
    let not_found = error.kind() == std::io::ErrorKind::NotFound;
    let error = doing(format!("running {program}"))(error);
    super::commands::complain(&error);
    // What a shell says of a command that is not there, or cannot be run.
    Ok(ExitCode::from(if not_found { 127 } else { 126 }))
}

fn find(flags: &ShellFlags, folder: &Folder, settings: &Settings) -> Result<NamespaceFile, LabError> {
    let machines = [CONTROL.to_owned(), OUTSIDE.to_owned()].into_iter().chain(settings.node_names());
    if machines.into_iter().any(|machine| machine == flags.place) {
        return Places::of(&settings.name, settings).machine(&flags.place);
    }
    let Some(pod) = flags.place.strip_prefix("pod/") else {
        return Err(no_such_place(flags, folder, settings));
    };
    match pod_address(folder, &flags.namespace, pod)? {
        Some(address) => Places::of(&settings.name, settings).with_address(address),
        None => Err(no_such_place(flags, folder, settings)),
    }
}

fn no_such_place(flags: &ShellFlags, folder: &Folder, settings: &Settings) -> LabError {
    let pods = pods(folder, &flags.namespace).unwrap_or_default();
    let machines = settings.node_names().chain([CONTROL.to_owned(), OUTSIDE.to_owned()]);
    LabError::NoSuchPlace {
        lab: settings.name.clone(),
        place: flags.place.clone(),
        places: machines.chain(pods.into_iter().map(|(name, _)| format!("pod/{name}"))).collect(),
    }
}

/// The pod's address; `None` if there is no such pod.
fn pod_address(folder: &Folder, namespace: &str, name: &str) -> Result<Option<IpAddr>, LabError> {
    match pods(folder, namespace)?.into_iter().find(|(pod, _)| pod == name) {
        Some((_, Some(address))) => Ok(Some(address)),
        Some((_, None)) => Err(LabError::Other(format!("pod {name} has no address yet"))),
        None => Ok(None),
    }
}

fn pods(folder: &Folder, namespace: &str) -> Result<Vec<(String, Option<IpAddr>)>, LabError> {
    let list = client::block_on(ANSWER_LIMIT, async {
        let api = Api::<Pod>::namespaced(client::connect(&folder.kubeconfig()).await?, namespace);
        client::told("listing pods", api.list(&ListParams::default()).await)
    })?;
    let pod = |pod: Pod| {
        let address = pod.status.and_then(|status| status.pod_ip).and_then(|address| address.parse().ok());
        Some((pod.metadata.name?, address))
    };
    Ok(list.items.into_iter().filter_map(pod).collect())
}
