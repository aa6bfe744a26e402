//! Whether the server lives, and whether it is ready: `/healthz`, `/livez`, `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Response, StatusCode};
use tokio_util::sync::CancellationToken;

use super::Query;
use super::response::{self, Body};
use crate::store::Cache;

/// How long the store may take to say where it is.
const STORE_LIMIT: Duration = Duration::from_secs(2);

/// What the checks look at.
#[derive(Debug)]
pub struct Health {
    cache: Arc<Cache>,
    stopping: CancellationToken,
    has_started: AtomicBool,
}

/// The name of the store's check is upstream's, whatever the store is.
const PING: &str = "ping";
const STORE: &str = "etcd";
const START: &str = "poststarthook/bootstrap-objects";
const SHUTDOWN: &str = "shutdown";

impl Health {
    pub fn new(cache: Arc<Cache>, stopping: CancellationToken) -> Health {
        Health { cache, stopping, has_started: AtomicBool::new(false) }
    }

    /// The objects that a cluster cannot be without are there.
    pub fn set_started(&self) {
        self.has_started.store(true, Ordering::Release);
    }

    /// The answer for a path; `None` if it is none of these.
    pub async fn answer(&self, path: &str, query: &Query) -> Option<Response<Body>> {
        let (kind, check) =
            path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        // A process that is on its way in or out is alive, but no place to send requests to.
        let checks: &[&'static str] = match kind {
            "readyz" => &[PING, STORE, START, SHUTDOWN],
            "healthz" => &[PING, STORE, START],
            "livez" => &[PING, STORE],
            _ => return None,
        };
        if !check.is_empty() {
            let check = checks.iter().find(|own| **own == check)?;
            return Some(match self.is_good(check).await {
                true => response::text(StatusCode::OK, "ok"),
                false => response::text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal server error: reason withheld\n",
                ),
            });
        }
        let excluded: Vec<&str> =
            query.0.iter().filter(|(key, _)| key == "exclude").map(|(_, name)| name.as_str()).collect();
        let mut lines = String::new();
        let mut is_good = true;
        for check in checks {
            let line = match (excluded.contains(check), self.is_good(check).await) {
                (true, _) => format!("[+]{check} excluded: ok\n"),
                (false, true) => format!("[+]{check} ok\n"),
                (false, false) => {
                    is_good = false;
                    format!("[-]{check} failed: reason withheld\n")
                }
            };
            lines.push_str(&line);
        }
        if is_good && query.given("verbose").is_none() {
            return Some(response::text(StatusCode::OK, "ok"));
        }
        let unknown: Vec<&str> = excluded.into_iter().filter(|name| !checks.contains(name)).collect();
        if !unknown.is_empty() {
            lines.push_str(&format!(
                "warn: some health checks cannot be excluded: no matches for {unknown:?}\n"
            ));
        }
        let (code, outcome) = match is_good {
            true => (StatusCode::OK, "passed"),
            false => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        lines.push_str(&format!("{kind} check {outcome}\n"));
        Some(response::text(code, lines))
    }

    async fn is_good(&self, check: &str) -> bool {
        match check {
            STORE => {
                matches!(tokio::time::timeout(STORE_LIMIT, self.cache.check()).await, Ok(Ok(())))
            }
            START => self.has_started.load(Ordering::Acquire),
            SHUTDOWN => !self.stopping.is_cancelled(),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::store::fake::Fake;
    use crate::store::{CacheSettings, Indexed};

    async fn get(health: &Health, target: &str) -> (u16, String) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let answer = health.answer(path, &Query::parse(query)).await.unwrap();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn health_is_told_as_upstream_tells_it() {
        let settings = CacheSettings { history: 10, watch_buffer: 10 };
        let cache =
            Cache::start(Arc::new(Fake::default()), |_, _| Indexed::default(), settings).await.unwrap();
        let stopping = CancellationToken::new();
        let health = Health::new(cache, stopping.clone());
        assert_eq!(get(&health, "/livez/ping").await, (200, "ok".to_owned()));
        let (code, body) = get(&health, "/readyz").await;
        assert_eq!(code, 500);
        assert_eq!(
            body,
            "[+]ping ok\n[+]etcd ok\n[-]poststarthook/bootstrap-objects failed: reason withheld\n[+]shutdown ok\nreadyz check failed\n"
        );
        assert_eq!(get(&health, &format!("/readyz?exclude={START}")).await, (200, "ok".to_owned()));
        health.set_started();
        assert_eq!(get(&health, "/healthz").await, (200, "ok".to_owned()));
        let (code, body) = get(&health, "/livez?verbose").await;
        assert_eq!((code, body.lines().last()), (200, Some("livez check passed")));
        stopping.cancel();
        assert_eq!((get(&health, "/readyz").await.0, get(&health, "/livez").await.0), (500, 200));
        assert!(health.answer("/readyz/nope", &Query::default()).await.is_none());
    }
}
