//! Waiting for conditions, never for a time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How often to look whether a condition holds.
const INTERVAL: Duration = Duration::from_millis(20);

/// Tries again until `check` succeeds.
///
/// # Errors
/// The last failure, once `limit` has passed.
pub fn eventually<T>(limit: Duration, check: impl FnMut() -> Result<T>) -> Result<T> {
    eventually_every(INTERVAL, limit, check)
}

/// The same, looking more or less often.
///
/// # Errors
/// The last failure, once `limit` has passed.
pub fn eventually_every<T>(
    interval: Duration,
    limit: Duration,
    mut check: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let result = check();
        if result.is_ok() || Instant::now() > deadline {
            return result.with_context(|| format!("not so within {limit:?}"));
        }
        thread::sleep(interval);
    }
}
