//! kube-rs as controllers use it: a watcher that survives a restart of the server, a reflector, pages.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::Signal;
use serde_json::json;
use switchyard_tests::api_server::ApiServer;
use tokio::runtime::Runtime;

/// Far more than an event takes, also past a restart and the client's back-off.
const LIMIT: Duration = Duration::from_secs(30);

type Test = fn() -> Result<()>;

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    let tests: [(&str, Test); 3] = [
        ("a_reflector_holds_what_the_server_holds_past_a_restart", restart),
        ("a_list_in_pages_is_that_of_its_first_page", pages),
        ("initial_events_stream_where_the_client_asks_for_them", streaming),
    ];
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
    });
    Ok(libtest_mimic::run(&args, trials.into()).exit_code())
}

fn map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    }
}

async fn create_maps(client: &Client, names: impl Iterator<Item = String>) -> Result<()> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), "kube-public");
    for name in names {
        api.create(&PostParams::default(), &map(&name)).await?;
    }
    Ok(())
}

fn restart() -> Result<()> {
    let mut server = ApiServer::start(&[])?;
    let runtime = Runtime::new()?;
    let client = runtime.block_on(server.client())?;
    let (reader, writer) = reflector::store::<Service>();
    let services = Api::<Service>::default_namespaced(client.clone());
    let stream = watcher(services.clone(), watcher::Config::default()).default_backoff().reflect(writer);
    let following = runtime.spawn(stream.applied_objects().for_each(|_| async {}));
    let holds = |name: &str, label: Option<&str>| {
        runtime.block_on(async {
            let come = async {
                loop {
                    let found = reader.find(|service| service.name_any() == name);
                    let is =
                        found.as_ref().map(|service| service.labels().get("v").map_or("", String::as_str));
                    if is == label {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(LIMIT, come)
                .await
                .with_context(|| format!("{name} does not become {label:?}"))
        })
    };
    let service: Service =
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}))?;
    runtime.block_on(services.create(&PostParams::default(), &service))?;
    holds("web", Some(""))?;
    server.end(Signal::SIGKILL)?;
    server.start_again()?;
    let patch = Patch::Strategic(json!({"metadata": {"labels": {"v": "2"}}}));
    runtime.block_on(services.patch("web", &PatchParams::default(), &patch))?;
    holds("web", Some("2"))?;
    runtime.block_on(services.delete("web", &DeleteParams::default()))?;
    holds("web", None)?;
    following.abort();
    Ok(())
}

fn pages() -> Result<()> {
    let server = ApiServer::start(&[])?;
    Runtime::new()?.block_on(async {
        let client = server.client().await?;
        create_maps(&client, (0..10).map(|n| format!("a{n}"))).await?;
        let api = Api::<ConfigMap>::namespaced(client.clone(), "kube-public");
        let mut params = ListParams::default().limit(4);
        let mut names = Vec::new();
        loop {
            let page = api.list(&params).await?;
            names.extend(page.items.iter().map(ResourceExt::name_any));
            // What comes meanwhile is not in this list.
            create_maps(&client, std::iter::once(format!("b{}", names.len()))).await?;
            let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) else { break };
            params = params.continue_token(&token);
        }
        let mut expected: Vec<String> = (0..10).map(|n| format!("a{n}")).collect();
        expected.push("kube-root-ca.crt".to_owned());
        ensure!(names == expected, "{names:?}");
        Ok(())
    })
}

fn streaming() -> Result<()> {
    let server = ApiServer::start(&[])?;
    Runtime::new()?.block_on(async {
        let client = server.client().await?;
        create_maps(&client, (0..3).map(|n| format!("a{n}"))).await?;
        let api = Api::<ConfigMap>::namespaced(client, "kube-public");
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default().streaming_lists()));
        let mut names = Vec::new();
        let initial = async {
            while let Some(event) = events.try_next().await? {
                match event {
                    watcher::Event::InitApply(map) => names.push(map.name_any()),
                    watcher::Event::InitDone => break,
                    _ => {}
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(LIMIT, initial).await.context("the initial events do not end")??;
        names.sort();
        ensure!(names == ["a0", "a1", "a2", "kube-root-ca.crt"], "{names:?}");
        Ok(())
    })
}
