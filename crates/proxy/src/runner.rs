//! When to sync: on request, not too often, again soon after a failure, and at least once an hour.
//!
//! One runner a family, on a thread of its own: a sync blocks, and one family's slow kernel must not hold up the other.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The three intervals of a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Pause after a run, however much is requested meanwhile. The first request after a quiet time runs at once.
    pub min: Duration,
    /// Until the next run after a failed one.
    pub retry: Duration,
    /// Until the next run if nothing is requested.
    pub max: Duration,
}

/// When a runner may and must run next. No clock of its own.
#[derive(Debug)]
struct Schedule {
    intervals: Intervals,
    /// A run is due then, requested or not.
    deadline: Instant,
    /// No run before then.
    not_before: Instant,
}

impl Schedule {
    fn new(intervals: Intervals, now: Instant) -> Schedule {
        Schedule { intervals, deadline: now + intervals.max, not_before: now }
    }

    /// How long to wait; zero means run now.
    fn wait(&self, requested: bool, now: Instant) -> Duration {
        let due = if requested { self.not_before } else { self.deadline.max(self.not_before) };
        due.saturating_duration_since(now)
    }

    fn ran(&mut self, succeeded: bool, now: Instant) {
        let next = if succeeded { self.intervals.max } else { self.intervals.retry.min(self.intervals.max) };
        self.deadline = now + next;
        self.not_before = now + self.intervals.min;
    }
}

/// Asks a runner for a run. Requests that come while one is waiting collapse into it.
#[derive(Debug, Clone, Default)]
pub struct Request(Arc<(Mutex<Signals>, Condvar)>);

#[derive(Debug, Default)]
struct Signals {
    requested: bool,
    stopped: bool,
}

impl Request {
    pub fn poke(&self) {
        self.lock().requested = true;
        self.0.1.notify_one();
    }

    /// Ends the runner once the run under way, if any, is done.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.0.1.notify_one();
    }

    /// Waits until it is time to run; false once stopped.
    fn wait(&self, schedule: &Schedule) -> bool {
        let mut signals = self.lock();
        loop {
            if signals.stopped {
                return false;
            }
            let wait = schedule.wait(signals.requested, Instant::now());
            if wait.is_zero() {
                signals.requested = false;
                return true;
            }
            let woken = self.0.1.wait_timeout(signals, wait);
            signals = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Signals> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a thread that calls `work` whenever `request` and the intervals say so. `work` tells whether it succeeded.
pub fn spawn(
    name: String,
    intervals: Intervals,
    request: Request,
    mut work: impl FnMut() -> bool + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(move || {
        let mut schedule = Schedule::new(intervals, Instant::now());
        while request.wait(&schedule) {
            let succeeded = work();
            schedule.ran(succeeded, Instant::now());
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const INTERVALS: Intervals =
        Intervals { min: SECOND, retry: Duration::from_secs(30), max: Duration::from_secs(3600) };

    #[test]
    fn the_first_request_runs_at_once_and_the_next_after_the_minimum() {
        let start = Instant::now();
        let mut schedule = Schedule::new(INTERVALS, start);
        assert_eq!(schedule.wait(true, start), Duration::ZERO);
        schedule.ran(true, start + SECOND);
        assert_eq!(schedule.wait(true, start + SECOND), SECOND);
        assert_eq!(schedule.wait(true, start + 2 * SECOND), Duration::ZERO);
    }

    #[test]
    fn without_requests_it_runs_hourly_or_soon_after_a_failure() {
        let start = Instant::now();
        let mut schedule = Schedule::new(INTERVALS, start);
        assert_eq!(schedule.wait(false, start), 3600 * SECOND);
        schedule.ran(false, start);
        assert_eq!(schedule.wait(false, start), 30 * SECOND);
        schedule.ran(true, start + SECOND);
        assert_eq!(schedule.wait(false, start + SECOND), 3600 * SECOND);
    }

    #[test]
    fn requests_made_during_a_run_collapse_into_one_more() {
        let request = Request::default();
        let (started, starts) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let quick = Intervals { min: Duration::ZERO, retry: 3600 * SECOND, max: 3600 * SECOND };
        let runner = spawn("test".into(), quick, request.clone(), move || {
            started.send(()).unwrap();
            released.recv().is_ok()
        });
        let runner = runner.unwrap();
        request.poke();
        starts.recv().unwrap();
        (0..5).for_each(|_| request.poke());
        release.send(()).unwrap();
        starts.recv().unwrap();
        request.stop();
        release.send(()).unwrap();
        runner.join().unwrap();
        assert!(starts.try_recv().is_err());
    }
}
