//! Keys that wait for their turn: each once, however often it is asked for, and later after each failure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;

/// After the first failure of a key; twice as long after each further one.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// A queue that is filled by what happens and emptied by one [`work`] loop.
#[derive(Debug)]
pub(super) struct Queue<K> {
    state: Arc<Mutex<State<K>>>,
    changed: Arc<Notify>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Queue<K> {
        Queue { state: self.state.clone(), changed: self.changed.clone() }
    }
}

#[derive(Debug)]
struct State<K> {
    /// By the time from which on a key may be taken.
    waiting: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
    working: HashSet<K>,
    failures: HashMap<K, u32>,
}

impl<K: Clone + Ord + Hash> Default for Queue<K> {
    fn default() -> Queue<K> {
        let state = State {
            waiting: BTreeSet::new(),
            due: HashMap::new(),
            working: HashSet::new(),
            failures: HashMap::new(),
        };
        Queue { state: Arc::new(Mutex::new(state)), changed: Arc::default() }
    }
}

impl<K: Clone + Ord + Hash> Queue<K> {
    pub(super) fn add(&self, key: K) {
        self.add_after(key, Duration::ZERO);
    }

    /// A key that waits already keeps the earlier of both times.
    pub(super) fn add_after(&self, key: K, delay: Duration) {
        let at = Instant::now() + delay;
        let mut state = self.state();
        match state.due.get(&key).copied() {
            Some(due) if due <= at => return,
            Some(due) => drop(state.waiting.remove(&(due, key.clone()))),
            None => {}
        }
        state.due.insert(key.clone(), at);
        state.waiting.insert((at, key));
        drop(state);
        self.changed.notify_one();
    }

    /// The next key whose time has come and that nobody works on.
    async fn next(&self) -> K {
        loop {
            let changed = self.changed.notified();
            let next = {
                let mut state = self.state();
                let ready = state.waiting.iter().find(|(_, key)| !state.working.contains(key)).cloned();
                match ready {
                    Some((at, key)) if at <= Instant::now() => {
                        state.waiting.remove(&(at, key.clone()));
                        state.due.remove(&key);
                        state.working.insert(key.clone());
                        return key;
                    }
                    later => later.map(|(at, _)| at),
                }
            };
            match next {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    fn finish(&self, key: K, succeeded: bool) {
        let mut state = self.state();
        state.working.remove(&key);
        if succeeded {
            state.failures.remove(&key);
            drop(state);
            self.changed.notify_one();
            return;
        }
        let failures = state.failures.entry(key.clone()).or_default();
        let delay = FIRST_RETRY.saturating_mul(1 << (*failures).min(16)).min(LAST_RETRY);
        *failures += 1;
        drop(state);
        self.add_after(key, delay);
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works on keys for ever, at most `workers` at a time and never two times on one. A key whose work fails comes again.
pub(super) async fn work<K, F, E>(queue: Queue<K>, workers: usize, name: &'static str, sync: impl Fn(K) -> F)
where
    K: Clone + Ord + Hash + std::fmt::Debug,
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            key = queue.next(), if running.len() < workers => {
                let working = sync(key.clone());
                running.push(async move { (key, working.await) });
            }
            Some((key, result)) = running.next(), if !running.is_empty() => {
                if let Err(error) = &result {
                    tracing::warn!(controller = name, ?key, %error, "will be tried again");
                }
                queue.finish(key, result.is_ok());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_asked_for_twice_comes_once() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("a");
        queue.add_after("b", Duration::from_secs(5));
        assert_eq!(queue.next().await, "a");
        let begun = Instant::now();
        assert_eq!(queue.next().await, "b");
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_not_worked_on_twice_at_a_time() {
        let queue = Queue::default();
        queue.add("a");
        let taken = queue.next().await;
        queue.add("a");
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
        queue.finish(taken, true);
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_later_and_later() {
        let queue = Queue::default();
        queue.add(1);
        let tries = AtomicUsize::new(0);
        let begun = Instant::now();
        let working = work(queue, 2, "test", |_| async {
            match tries.fetch_add(1, Ordering::SeqCst) {
                0..3 => Err("not yet"),
                _ => std::future::pending::<Result<(), &str>>().await,
            }
        });
        tokio::select! {
            () = working => {}
            () = async { while tries.load(Ordering::SeqCst) < 4 { tokio::task::yield_now().await; tokio::time::advance(Duration::from_millis(1)).await } } => {}
        }
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_millis(350) && waited < Duration::from_millis(400), "{waited:?}");
    }
}
