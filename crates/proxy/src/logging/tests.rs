use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use switchyard_api::{IpFamily, ObjectKey};
use tracing_subscriber::layer::SubscriberExt;

use super::line::{Origin, render};
use super::*;

fn origin() -> Origin {
    Origin {
        time: "2026-11-23T09:07:04.123456789Z".parse::<Timestamp>().unwrap(),
        zone: TimeZone::UTC,
        process_id: 1234,
    }
}

fn record<'a>(severity: Severity, message: &'a str, fields: &'a [(&'a str, Value<'a>)]) -> Record<'a> {
    Record { severity, verbosity: 2, file: "crates/proxy/src/file.rs", line: 12, message, fields }
}

fn text_line(message: &str, fields: &[(&str, Value<'_>)]) -> String {
    render(Format::Text, &record(Severity::Info, message, fields), &origin())
}

#[test]
fn a_text_line_is_klogs() {
    let fields = [("key", Value::from("value")), ("n", 3.into()), ("ok", true.into()), ("ratio", 0.5.into())];
    assert_eq!(
        text_line("Message", &fields),
        "I1123 09:07:04.123456    1234 file.rs:12] \"Message\" key=\"value\" n=3 ok=true ratio=0.5\n"
    );
}

#[test]
fn the_time_is_local() {
    let origin = Origin { zone: TimeZone::fixed(jiff::tz::offset(-10)), ..origin() };
    let line = render(Format::Text, &record(Severity::Info, "Message", &[]), &origin);
    assert_eq!(line, "I1122 23:07:04.123456    1234 file.rs:12] \"Message\"\n");
}

#[test]
fn the_first_letter_is_the_severity() {
    for (severity, letter) in
        [(Severity::Info, "I"), (Severity::Warning, "W"), (Severity::Error, "E"), (Severity::Fatal, "F")]
    {
        assert!(render(Format::Text, &record(severity, "m", &[]), &origin()).starts_with(letter));
    }
}

#[test]
fn kubernetes_values_are_written_as_upstream_writes_them() {
    let fields = [
        ("service", Value::from(&ObjectKey::new("default", "db"))),
        ("node", Value::from(&ObjectKey::new("", "node-1"))),
        ("ipFamily", IpFamily::V4.into()),
        ("NodeIPs", Value::from(&vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)])),
        ("elapsed", Duration::from_micros(12_500).into()),
        ("\"primary ipFamily\"", IpFamily::V6.into()),
    ];
    assert_eq!(
        text_line("m", &fields).split_once("] ").unwrap().1,
        "\"m\" service=\"default/db\" node=\"node-1\" ipFamily=\"IPv4\" NodeIPs=[\"10.0.0.1\",\"10.0.0.2\"] \
         elapsed=\"12.5ms\" primary ipFamily=\"IPv6\"\n"
    );
}

#[test]
fn quotes_and_control_characters_are_escaped() {
    let line = text_line("say \"hi\"\n", &[("key", "tab\t bell\u{7} nul\0 ü".into())]);
    assert!(line.ends_with("] \"say \\\"hi\\\"\\n\" key=\"tab\\t bell\\a nul\\x00 ü\"\n"), "{line}");
}

#[test]
fn a_value_of_several_lines_is_indented() {
    let line = text_line("m", &[("rules", "*nat\nCOMMIT\n".into()), ("next", 1.into())]);
    assert!(line.ends_with("\"m\" rules=<\n\t*nat\n\tCOMMIT\n > next=1\n"), "{line}");
    let unterminated = text_line("m", &[("rules", "a\nb".into())]);
    assert!(unterminated.ends_with("\"m\" rules=<\n\ta\n\tb\n >\n"), "{unterminated}");
}

#[test]
fn a_json_line_is_one_object() {
    let fields = [("service", Value::from("default/db")), ("count", 3.into())];
    assert_eq!(
        render(Format::Json, &record(Severity::Info, "Message", &fields), &origin()),
        "{\"ts\":1795424824123.456,\"caller\":\"src/file.rs:12\",\"msg\":\"Message\",\"v\":2,\
         \"service\":\"default/db\",\"count\":3}\n"
    );
    let error = render(Format::Json, &record(Severity::Error, "m", &[("err", "boom".into())]), &origin());
    assert!(error.ends_with("\"msg\":\"m\",\"err\":\"boom\"}\n"), "{error}");
}

#[test]
fn an_error_brings_its_causes_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot write the rules")]
    struct Outer(#[source] std::io::Error);
    let outer = Outer(std::io::Error::other("disk full"));
    assert_eq!(error(&outer), Value::from("cannot write the rules: disk full"));
}

#[test]
fn verbosity_can_change_at_run_time() {
    let logger = Logger::new(Options { verbosity: 2, ..Options::default() });
    assert!(logger.enabled(2, "src/run.rs"));
    assert!(!logger.enabled(3, "src/run.rs"));
    logger.set_verbosity(4);
    assert!(logger.enabled(3, "src/run.rs"));
}

#[test]
fn vmodule_raises_single_files() {
    let entry = |pattern: &str, verbosity| FilePattern { pattern: pattern.to_owned(), verbosity };
    let patterns = vec![entry("prox*", 5), entry("he?lth", 3), entry("*", 1)];
    let logger = Logger::new(Options { patterns, ..Options::default() });
    assert!(logger.enabled(5, "src/iptables/mod.rs"), "upstream's name of the file");
    assert!(!logger.enabled(6, "src/iptables/mod.rs"));
    assert!(logger.enabled(3, "src/health.rs"));
    assert!(!logger.enabled(2, "src/metrics/mod.rs"));
    assert!(logger.enabled(1, "src/metrics/mod.rs"));
}

#[test]
fn macros_do_not_evaluate_what_they_do_not_write() {
    let captured = logger().capture(1);
    let mut evaluated = 0;
    let mut count = || {
        evaluated += 1;
        evaluated
    };
    klog_info!(v = 9, "Not written by this test", count = count());
    klog_error!("Written by this test", err = "boom", "two words" = count());
    assert_eq!(evaluated, 1);
    assert!(captured.contains("\"Written by this test\" err=\"boom\" two words=1\n"));
    assert!(!captured.contains("Not written"));
}

#[test]
fn lines_of_libraries_are_heard_when_asked_for() {
    let captured = logger().capture(1);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(Bridge::new(logger())), || {
        tracing::warn!(target: "rustls", attempts = 3, "connection {}", "lost");
        tracing::debug!(target: "rustls", "sent bytes");
        tracing::error!(target: "kube_client", "failed with a refusal");
    });
    assert!(captured.contains("\"connection lost\" attempts=3\n"));
    assert!(!captured.contains("sent bytes"));
    assert!(!captured.contains("refusal"), "whoever asked says it once, in words of its own");
}
