//! How long to wait before the server is asked again.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Delays grow by a factor of two from `first` to `longest`; each is stretched at random by up to its own length, so
/// that the nodes of a cluster do not come back all at once. After `reset` without a failure they start over.
#[derive(Debug, Clone, Copy)]
pub struct BackoffPolicy {
    pub first: Duration,
    pub longest: Duration,
    pub reset: Duration,
}

impl Default for BackoffPolicy {
    fn default() -> BackoffPolicy {
        BackoffPolicy {
            first: Duration::from_millis(800),
            longest: Duration::from_secs(30),
            reset: Duration::from_secs(120),
        }
    }
}

#[derive(Debug)]
pub(super) struct Backoff {
    policy: BackoffPolicy,
    next: Duration,
    last_failure: Option<Instant>,
}

impl Backoff {
    pub(super) fn new(policy: BackoffPolicy) -> Backoff {
        Backoff { policy, next: policy.first, last_failure: None }
    }

    /// The delay after a failure at `now`; `random` is in 0..1.
    pub(super) fn delay(&mut self, now: Instant, random: f64) -> Duration {
        if self.last_failure.is_some_and(|last| now.duration_since(last) >= self.policy.reset) {
            self.next = self.policy.first;
        }
        self.last_failure = Some(now);
        let delay = self.next.mul_f64(1.0 + random);
        self.next = (self.next * 2).min(self.policy.longest);
        delay
    }
}

/// A number in 0..1, good enough to spread requests: the standard library seeds each hasher differently.
pub(super) fn random() -> f64 {
    let bits = RandomState::new().hash_one(0u8) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_start_over_after_a_quiet_time() {
        let mut backoff = Backoff::new(BackoffPolicy::default());
        let start = Instant::now();
        let delays: Vec<u128> = (0..8).map(|_| backoff.delay(start, 0.0).as_millis()).collect();
        assert_eq!(delays, [800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff.delay(start, 0.5).as_secs(), 45);
        assert_eq!(backoff.delay(start + Duration::from_secs(120), 0.0).as_millis(), 800);
    }

    #[test]
    fn random_numbers_differ_and_stay_below_one() {
        let numbers: Vec<f64> = (0..100).map(|_| random()).collect();
        assert!(numbers.iter().all(|n| (0.0..1.0).contains(n)));
        assert!(numbers.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
