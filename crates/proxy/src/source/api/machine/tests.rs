//! Events in, updates out: every fault of a list-and-watch that needs no connection to show.

use std::collections::BTreeMap;

use switchyard_api::ObjectKey;

use super::*;
use crate::source::Change;

/// Drives a machine and keeps what a reader of its updates would hold.
struct Reader {
    machine: Machine,
    /// Names of services, and the port that tells versions of one apart.
    state: BTreeMap<String, u16>,
    updates: usize,
    malformed: Vec<String>,
    synced: usize,
}

impl Reader {
    fn new() -> Reader {
        Reader {
            machine: Machine::new(Kind::Service),
            state: BTreeMap::new(),
            updates: 0,
            malformed: Vec::new(),
            synced: 0,
        }
    }

    /// One that has listed `a` and `b` by a stream and watches after revision 10.
    fn watching() -> Reader {
        let mut reader = Reader::new();
        assert_eq!(reader.request(), Request::StreamedList { at_least: None });
        reader.lines(&[&event("ADDED", "a", 4, 80), &event("ADDED", "b", 9, 80), &end_of_list(10)]);
        assert_eq!(reader.request(), Request::Watch { after: Revision::Number(10) });
        reader
    }

    fn request(&mut self) -> Request {
        self.machine.next_request()
    }

    fn apply(&mut self, updates: Vec<Update>) {
        for update in updates {
            self.updates += 1;
            match update {
                Update::Service(Change::Set(service)) => {
                    self.state.insert(service.metadata.name.to_string(), service.spec.ports[0].port);
                }
                Update::Service(Change::Removed(key)) => {
                    assert!(self.state.remove(&*key.name).is_some(), "{key} was not there");
                }
                Update::Synced(Kind::Service) => self.synced += 1,
                Update::Malformed(malformed) => self.malformed.push(malformed.object.to_string()),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        let mut updates = Vec::new();
        let result = self.machine.line(line.as_bytes(), &mut updates);
        self.apply(updates);
        result
    }

    fn lines(&mut self, lines: &[&str]) {
        for line in lines {
            self.line(line).unwrap();
        }
    }

    fn page(&mut self, items: &[String], metadata: ListMetadata) {
        let mut updates = Vec::new();
        for item in items {
            self.machine.item(item.as_bytes(), &mut updates).unwrap();
        }
        self.machine.page_end(metadata, &mut updates);
        self.apply(updates);
    }

    fn fail(&mut self, failure: &Failure) {
        let mut updates = Vec::new();
        self.machine.failed(failure, &mut updates);
        self.apply(updates);
    }

    fn names(&self) -> String {
        self.state.iter().map(|(name, port)| format!("{name}:{port} ")).collect()
    }
}

fn object(name: &str, revision: u64, port: u16) -> String {
    format!(
        r#"{{"metadata":{{"namespace":"default","name":"{name}","uid":"u-{name}","resourceVersion":"{revision}"}},"spec":{{"ports":[{{"port":{port}}}]}}}}"#
    )
}

fn event(kind: &str, name: &str, revision: u64, port: u16) -> String {
    format!(r#"{{"type":"{kind}","object":{}}}"#, object(name, revision, port))
}

fn bookmark(revision: u64, annotations: &str) -> String {
    format!(
        r#"{{"type":"BOOKMARK","object":{{"metadata":{{"resourceVersion":"{revision}","annotations":{annotations}}}}}}}"#
    )
}

fn end_of_list(revision: u64) -> String {
    bookmark(revision, r#"{"k8s.io/initial-events-end":"true"}"#)
}

fn status(code: u16) -> Failure {
    Failure::Status { code, message: "no".to_owned() }
}

fn cut() -> Failure {
    Failure::Connection("cut".to_owned())
}

fn list_metadata(revision: u64, continue_token: &str) -> ListMetadata {
    let continue_token = (!continue_token.is_empty()).then(|| continue_token.to_owned());
    ListMetadata { resource_version: Revision::Number(revision), continue_token }
}

#[test]
fn a_cut_watch_goes_on_from_the_last_event_or_bookmark() {
    let mut reader = Reader::watching();
    reader.lines(&[&event("MODIFIED", "a", 12, 81)]);
    reader.fail(&cut());
    assert_eq!(reader.request(), Request::Watch { after: Revision::Number(12) });
    reader.lines(&[&bookmark(20, "null")]);
    reader.fail(&cut());
    assert_eq!(reader.request(), Request::Watch { after: Revision::Number(20) });
    assert_eq!((reader.names().as_str(), reader.synced), ("a:81 b:80 ", 1));
}

#[test]
fn a_stream_cut_while_listing_is_listed_anew_and_nothing_is_told_twice() {
    let mut reader = Reader::new();
    reader.request();
    reader.lines(&[&event("ADDED", "a", 4, 80)]);
    reader.fail(&cut());
    assert_eq!((reader.request(), reader.synced), (Request::StreamedList { at_least: None }, 0));
    reader.lines(&[&event("ADDED", "a", 4, 80), &event("ADDED", "b", 9, 80), &end_of_list(10)]);
    assert_eq!((reader.names().as_str(), reader.updates), ("a:80 b:80 ", 3), "two services and the end");
}

#[test]
fn deletions_missed_while_away_are_told_after_a_new_listing() {
    for expired in [true, false] {
        let mut reader = Reader::watching();
        if expired {
            reader.fail(&status(410));
        } else {
            let error =
                reader.line(r#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}"#);
            reader.fail(&error.unwrap_err());
        }
        assert_eq!(reader.request(), Request::StreamedList { at_least: None }, "the newest state");
        reader.lines(&[&event("ADDED", "b", 9, 80), &event("ADDED", "c", 30, 80), &end_of_list(31)]);
        assert_eq!((reader.names().as_str(), reader.synced), ("b:80 c:80 ", 1));
        assert_eq!(reader.request(), Request::Watch { after: Revision::Number(31) });
    }
}

#[test]
fn repeated_and_late_events_change_nothing() {
    let mut reader = Reader::watching();
    reader.lines(&[
        &event("MODIFIED", "a", 14, 82),
        &event("MODIFIED", "a", 14, 82),
        &event("MODIFIED", "a", 12, 81), // an older state of the same object
        &event("MODIFIED", "b", 13, 83), // late, yet the newest state of this one
        &event("DELETED", "b", 16, 83),
        &event("ADDED", "b", 13, 83), // from before its deletion
        &event("DELETED", "b", 16, 83),
        &event("DELETED", "a", 3, 80), // an older object of that name
    ]);
    assert_eq!((reader.names().as_str(), reader.updates), ("a:82 ", 6));
    reader.fail(&cut());
    assert_eq!(reader.request(), Request::Watch { after: Revision::Number(16) });
}

#[test]
fn a_server_without_streamed_lists_is_listed_page_by_page() {
    for refusal in [status(400), status(422), Failure::Silent] {
        let mut reader = Reader::new();
        reader.request();
        reader.fail(&refusal);
        let first = Request::ListPage { revision: Some(Revision::Number(0)), continue_token: None };
        assert_eq!(reader.request(), first);
        reader.page(&[object("a", 4, 80)], list_metadata(10, "more"));
        let further = Request::ListPage { revision: None, continue_token: Some("more".to_owned()) };
        assert_eq!((reader.request(), reader.synced), (further.clone(), 0));
        reader.fail(&cut());
        assert_eq!(reader.request(), further, "the same page again");
        reader.page(&[object("b", 9, 80)], list_metadata(10, ""));
        assert_eq!((reader.names().as_str(), reader.synced), ("a:80 b:80 ", 1));
        assert_eq!(reader.request(), Request::Watch { after: Revision::Number(10) });
    }
}

#[test]
fn a_page_that_expired_starts_the_list_again() {
    let mut reader = Reader::new();
    reader.request();
    reader.fail(&status(422));
    reader.request();
    reader.page(&[object("a", 4, 80), object("b", 5, 80)], list_metadata(10, "more"));
    reader.request();
    reader.fail(&status(410));
    assert_eq!(reader.request(), Request::ListPage { revision: None, continue_token: None });
    reader.page(&[object("b", 5, 80)], list_metadata(20, ""));
    assert_eq!(reader.names(), "b:80 ");
}

#[test]
fn an_unreadable_object_is_reported_once_and_keeps_its_last_state() {
    let mut reader = Reader::watching();
    let broken = event("MODIFIED", "a", 12, 80).replace(":80}", r#":"http"}"#);
    reader.lines(&[&broken, &broken, &event("ADDED", "c", 13, 80)]);
    assert_eq!(reader.names(), "a:80 b:80 c:80 ");
    assert_eq!(reader.malformed.len(), 1);
    assert!(reader.malformed[0].starts_with("Service default/a: invalid type"), "{:?}", reader.malformed);
    reader.lines(&[&event("MODIFIED", "a", 15, 90)]);
    assert_eq!(reader.names(), "a:90 b:80 c:80 ");
}

#[test]
fn an_object_without_a_name_is_reported_and_the_stream_goes_on() {
    let mut reader = Reader::watching();
    reader.lines(&[
        r#"{"type":"ADDED","object":{"metadata":{"name":17}}}"#,
        r#"{"type":"ADDED","object":{}}"#,
        r#"{"type":"NOVELTY","object":{}}"#,
        "  ",
        &event("ADDED", "c", 13, 80),
    ]);
    assert_eq!((reader.malformed.len(), reader.names().as_str()), (2, "a:80 b:80 c:80 "));
}

#[test]
fn a_line_that_is_no_json_ends_the_stream() {
    let mut reader = Reader::watching();
    let failure = reader.line(r#"{"type":"ADD"#).unwrap_err();
    assert!(matches!(failure, Failure::Unreadable(_)));
    reader.fail(&failure);
    assert_eq!(reader.request(), Request::Watch { after: Revision::Number(10) });
}

#[test]
fn an_absent_service_cidr_api_counts_as_empty() {
    for code in [403, 404] {
        let mut machine = Machine::new(Kind::ServiceCidr);
        let mut updates = Vec::new();
        for _ in 0..2 {
            machine.next_request();
            machine.failed(&status(code), &mut updates);
        }
        assert_eq!(updates, [Update::Synced(Kind::ServiceCidr)], "told once");
    }
    let mut reader = Reader::new();
    reader.request();
    reader.fail(&status(404));
    assert_eq!(reader.synced, 0, "but services have to be there");
}

#[test]
fn a_restored_server_is_believed_though_its_revisions_went_back() {
    let mut reader = Reader::watching();
    reader.fail(&status(504));
    reader.request();
    reader.lines(&[&event("ADDED", "a", 2, 70), &end_of_list(3)]);
    assert_eq!(reader.names(), "a:70 ");
    assert_eq!(reader.request(), Request::Watch { after: Revision::Number(3) });
    reader.lines(&[&event("MODIFIED", "a", 4, 71)]);
    assert_eq!(reader.names(), "a:71 ");
}

#[test]
fn the_uid_of_an_unreadable_object_is_passed_on() {
    let mut machine = Machine::new(Kind::Service);
    machine.next_request();
    let mut updates = Vec::new();
    machine.item(object("a", 1, 80).replace(":80}", ":-1}").as_bytes(), &mut updates).unwrap();
    let [Update::Malformed(malformed)] = updates.as_slice() else { panic!("{updates:?}") };
    assert_eq!(malformed.uid.as_deref(), Some("u-a"));
    assert_eq!(malformed.object.key, ObjectKey::new("default", "a"));
}
