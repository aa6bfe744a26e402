//! What a path and its parameters ask for: kubelet's paths, with the parameters of kubelet and of the API server.

use jiff::Timestamp;

use super::answer::Refusal;

/// A container of a pod of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// If it is named: another pod may have the name by now.
    pub(super) uid: Option<String>,
    /// Empty where the whole pod is meant.
    pub(super) container: String,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Health,
    Pods,
    Logs(Place, LogOptions),
    Exec(Place, Vec<String>, Streams),
    Attach(Place, Streams),
    PortForward(Place, Vec<u16>),
}

/// Which streams of a command are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Streams {
    pub(super) input: bool,
    pub(super) output: bool,
    pub(super) errors: bool,
    /// One terminal for all of them.
    pub(super) tty: bool,
}

/// Which part of a log is wanted, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LogOptions {
    /// Until the container ends.
    pub(super) follow: bool,
    /// Of the run before.
    pub(super) previous: bool,
    pub(super) timestamps: bool,
    pub(super) since: Option<Timestamp>,
    pub(super) tail_lines: Option<usize>,
    pub(super) limit_bytes: Option<usize>,
    /// `Stdout` or `Stderr`; both without.
    pub(super) stream: Option<String>,
}

/// # Errors
/// 404 for a path that is none of ours, 400 for a parameter that cannot be understood.
pub(super) fn route(path: &str, query: &str, now: Timestamp) -> Result<Route, Refusal> {
    let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let query = Query::parse(query);
    let place = |uid: Option<&&str>, namespace: &str, pod: &str, container: &str| Place {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        uid: uid.map(|uid| (*uid).to_owned()),
        container: container.to_owned(),
    };
    match parts.as_slice() {
        ["healthz"] => Ok(Route::Health),
        ["pods"] => Ok(Route::Pods),
        ["containerLogs", namespace, pod, container] => {
            Ok(Route::Logs(place(None, namespace, pod, container), log_options(&query, now)?))
        }
        ["exec", namespace, pod, rest @ .., container] if rest.len() <= 1 => {
            let place = place(rest.first(), namespace, pod, container);
            Ok(Route::Exec(place, query.all("command"), streams(&query)?))
        }
        ["attach", namespace, pod, rest @ .., container] if rest.len() <= 1 => {
            Ok(Route::Attach(place(rest.first(), namespace, pod, container), streams(&query)?))
        }
        ["portForward", namespace, pod, rest @ ..] if rest.len() <= 1 => {
            Ok(Route::PortForward(place(rest.first(), namespace, pod, ""), ports(&query)?))
        }
        _ => Err(Refusal::not_found(format!("there is nothing at {path}"))),
    }
}

fn log_options(query: &Query, now: Timestamp) -> Result<LogOptions, Refusal> {
    let since_seconds: Option<i64> = query.number("sinceSeconds")?;
    let since_time = match query.last("sinceTime") {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|_| bad("sinceTime", text))?),
    };
    let since =
        since_seconds.and_then(|seconds| now.checked_sub(jiff::SignedDuration::from_secs(seconds)).ok());
    Ok(LogOptions {
        follow: query.flag("follow")?,
        previous: query.flag("previous")?,
        timestamps: query.flag("timestamps")?,
        since: since.or(since_time),
        tail_lines: query.number("tailLines")?,
        limit_bytes: query.number("limitBytes")?,
        stream: query.last("stream").filter(|stream| !matches!(*stream, "" | "All")).map(str::to_owned),
    })
}

fn streams(query: &Query) -> Result<Streams, Refusal> {
    // The first names are kubelet's, the others those of the API server.
    let either = |one: &str, other: &str| Ok(query.flag(one)? || query.flag(other)?);
    Ok(Streams {
        input: either("input", "stdin")?,
        output: either("output", "stdout")?,
        errors: either("error", "stderr")?,
        tty: query.flag("tty")?,
    })
}

fn ports(query: &Query) -> Result<Vec<u16>, Refusal> {
    let named = query.all("port").into_iter().chain(query.all("ports"));
    let texts: Vec<String> =
        named.flat_map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>()).collect();
    let port = |text: &String| match text.parse() {
        Ok(0) | Err(_) => Err(bad("ports", text)),
        Ok(port) => Ok(port),
    };
    texts.iter().filter(|text| !text.is_empty()).map(port).collect()
}

fn bad(name: &str, text: &str) -> Refusal {
    Refusal::bad_request(format!("parameter {name}={text:?} cannot be understood"))
}

/// The parameters of a request, in their order.
#[derive(Debug)]
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")))
        };
        Query(pairs.map(pair).collect())
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    }

    fn last(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.last(name) {
            None | Some("" | "0" | "false" | "f" | "F" | "FALSE" | "False") => Ok(false),
            Some("1" | "true" | "t" | "T" | "TRUE" | "True") => Ok(true),
            Some(other) => Err(bad(name, other)),
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        match self.last(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| bad(name, text)),
        }
    }
}

/// Without its percent signs. What is no escape stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escape = (*byte == b'%').then(|| after.get(..2)).flatten();
        let value = escape
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path_and_query: &str) -> Result<Route, Refusal> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        route(path, query, Timestamp::from_second(1000).unwrap())
    }

    fn place(uid: Option<&str>, container: &str) -> Place {
        Place {
            namespace: "default".to_owned(),
            pod: "web".to_owned(),
            uid: uid.map(str::to_owned),
            container: container.to_owned(),
        }
    }

    #[test]
    fn logs_are_asked_for_by_container() {
        let route = at(
            "/containerLogs/default/web/a?follow=true&tailLines=5&timestamps=1&sinceSeconds=60&limitBytes=9",
        );
        let options = LogOptions {
            follow: true,
            timestamps: true,
            tail_lines: Some(5),
            limit_bytes: Some(9),
            since: Some(Timestamp::from_second(940).unwrap()),
            ..LogOptions::default()
        };
        assert_eq!(route, Ok(Route::Logs(place(None, "a"), options)));
        let Ok(Route::Logs(_, options)) =
            at("/containerLogs/default/web/a?sinceTime=1970-01-01T00:00:07Z&stream=Stderr")
        else {
            panic!()
        };
        assert_eq!((options.since.unwrap().as_second(), options.stream.as_deref()), (7, Some("Stderr")));
    }

    #[test]
    fn commands_are_taken_word_by_word_in_both_dialects() {
        let streams = Streams { input: true, output: true, errors: false, tty: true };
        let command = vec!["sh".to_owned(), "-c".to_owned(), "echo a&b +1".to_owned()];
        let words = "command=sh&command=-c&command=echo+a%26b%20%2B1";
        for (path, uid) in [("/exec/default/web/a", None), ("/exec/default/web/uid-1/a", Some("uid-1"))] {
            for names in ["input=1&output=1&tty=1", "stdin=true&stdout=true&stderr=false&tty=true"] {
                let expected = Route::Exec(place(uid, "a"), command.clone(), streams);
                assert_eq!(at(&format!("{path}?{words}&{names}")), Ok(expected), "{path} {names}");
            }
        }
    }

    #[test]
    fn ports_may_be_named_in_several_ways() {
        assert_eq!(at("/portForward/default/web"), Ok(Route::PortForward(place(None, ""), vec![])));
        let two = Ok(Route::PortForward(place(Some("uid-1"), ""), vec![80, 443]));
        assert_eq!(at("/portForward/default/web/uid-1?port=80&port=443"), two);
        assert_eq!(at("/portForward/default/web/uid-1?ports=80,443"), two);
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_name() {
        for (path, part) in [
            ("/nope", "/nope"),
            ("/exec/default/web", "/exec/default/web"),
            ("/containerLogs/default/web/a?tailLines=-1", "tailLines"),
            ("/containerLogs/default/web/a?follow=maybe", "follow"),
            ("/containerLogs/default/web/a?sinceTime=now", "sinceTime"),
            ("/portForward/default/web?port=0", "ports"),
        ] {
            let refusal = at(path).unwrap_err();
            assert!(refusal.message.contains(part), "{refusal:?}");
        }
    }
}
