//! Objects that make no sense, among others that do.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::json;
use switchyard_tests::case::Family;
use switchyard_tests::harness::trial;
use switchyard_tests::objects::{cluster_ip_service, http_slice, put, service};
use switchyard_tests::stage::Stage;
use switchyard_tests::variant::Variant;
use switchyard_tests::wait::eventually;

use crate::prompt;

const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn trials() -> Vec<Trial> {
    let name = "one_object_that_makes_no_sense_is_skipped_with_one_line";
    vec![trial(name.to_owned(), one_object_that_makes_no_sense_is_skipped_with_one_line)]
}

/// What the lines about the broken objects name.
const BROKEN: [&str; 4] = ["broken-address", "broken-port", "broken-slice", "broken.yaml"];

fn one_object_that_makes_no_sense_is_skipped_with_one_line() -> Result<()> {
    let stage = Stage::alone("malformed", Variant::NfTables)?;
    let folder = stage.manifests();
    put(&folder, &cluster_ip_service("good", "10.96.1.1"))?;
    put(&folder, &http_slice("good", &["10.244.1.2"]))?;
    put(&folder, &cluster_ip_service("broken-address", "10.96.0.300"))?;
    let ports = json!([{"name": "http", "port": "eighty", "protocol": "TCP"}]);
    put(&folder, &service("broken-port", &json!({"clusterIP": "10.96.1.2", "ports": ports})))?;
    put(&folder, &http_slice("broken-slice", &["10.244.1.2.3"]))?;
    fs::write(folder.join("broken.yaml"), "kind: Service\n  metadata: {\n")?;

    let proxy = stage.start(&prompt(&[]))?;
    let dump = stage.save(Family::Ipv4)?;
    ensure!(dump.contains("default/good:http cluster IP"), "the good service does not work:\n{dump}");

    // A later change of a good object does not bring the complaints back, and arrives.
    put(&folder, &http_slice("good", &["10.244.1.2", "10.244.2.2"]))?;
    let arrived = eventually(LIMIT, || {
        ensure!(stage.save(Family::Ipv4)?.contains("10.244.2.2:8080"), "the change has not arrived");
        Ok(())
    });
    proxy.explain(arrived)?;
    let log = proxy.log();
    for broken in BROKEN {
        let lines = log.lines().filter(|line| line.starts_with('E') && line.contains(broken)).count();
        ensure!(lines == 1, "{lines} lines name {broken}:\n{log}");
    }

    put(&folder, &cluster_ip_service("broken-address", "10.96.0.30"))?;
    put(&folder, &http_slice("broken-address", &["10.244.1.2"]))?;
    let mended = eventually(LIMIT, || {
        ensure!(stage.save(Family::Ipv4)?.contains("-d 10.96.0.30/32"), "the mended service does not work");
        Ok(())
    });
    proxy.explain(mended)
}
