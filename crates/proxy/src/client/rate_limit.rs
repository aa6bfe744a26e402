//! The client's own limit on requests, as `clientConnection.qps` and `burst` set it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What client-go takes for 0.
const DEFAULT_QPS: f32 = 5.0;
const DEFAULT_BURST: u32 = 10;

/// A token bucket: `burst` requests at once, then `qps` each second. A negative rate is no limit.
#[derive(Debug)]
pub(super) struct RateLimiter {
    qps: f64,
    burst: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Below zero by as much as is promised to requests that wait.
    tokens: f64,
    filled: Instant,
}

impl RateLimiter {
    pub(super) fn new(qps: f32, burst: u32) -> RateLimiter {
        let qps = if qps == 0.0 { DEFAULT_QPS } else { qps };
        let burst = f64::from(if burst == 0 { DEFAULT_BURST } else { burst });
        let bucket = Bucket { tokens: burst, filled: Instant::now() };
        RateLimiter { qps: f64::from(qps), burst, bucket: Mutex::new(bucket) }
    }

    /// Waits until a request may be sent; returns for how long.
    pub(super) async fn acquire(&self) -> Duration {
        let wait = self.reserve(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        wait
    }

    fn reserve(&self, now: Instant) -> Duration {
        if self.qps < 0.0 {
            return Duration::ZERO;
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let refill = now.duration_since(bucket.filled).as_secs_f64() * self.qps;
        bucket.tokens = (bucket.tokens + refill).min(self.burst) - 1.0;
        bucket.filled = now;
        Duration::from_secs_f64((-bucket.tokens / self.qps).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_then_requests_are_spaced() {
        let limiter = RateLimiter::new(2.0, 3);
        let start = Instant::now();
        let waits: Vec<u128> = (0..5).map(|_| limiter.reserve(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 500, 1000]);
        let later = start + Duration::from_secs(60);
        let waits: Vec<u128> = (0..4).map(|_| limiter.reserve(later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 500], "an idle minute saves no more than one burst");
    }

    #[tokio::test]
    async fn a_negative_rate_is_no_limit() {
        let limiter = RateLimiter::new(-1.0, 1);
        assert!((0..100).all(|_| limiter.reserve(Instant::now()).is_zero()));
    }
}
