//! How long to wait before something that failed is tried again.

use jiff::{SignedDuration, Timestamp};

/// The waits between tries: each is twice as long as the one before. After twice the longest without another try all is
/// forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backoff {
    last: Option<Try>,
    /// In seconds.
    first: i64,
    longest: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Try {
    at: Timestamp,
    delay: SignedDuration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::CONTAINER
    }
}

impl Backoff {
    /// Kubelet's for containers that end, and for images that are not there.
    pub(super) const CONTAINER: Backoff = Backoff { last: None, first: 10, longest: 300 };
    /// For steps with a sandbox: what they wait for, such as a network plugin, often comes soon.
    pub(super) const SHORT: Backoff = Backoff { last: None, first: 1, longest: 60 };

    /// Until when to wait after a try that failed at `failed`; `None` if it may be tried at once.
    pub(super) fn wait(&self, failed: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let until = failed + self.last(failed)?.delay;
        (now < until).then_some(until)
    }

    /// To be called with each try.
    pub(super) fn tried(&mut self, now: Timestamp) {
        let longest = SignedDuration::from_secs(self.longest);
        let delay = self
            .last(now)
            .map_or(SignedDuration::from_secs(self.first), |last| (last.delay * 2).min(longest));
        self.last = Some(Try { at: now, delay });
    }

    /// What was not tried for long counts as new.
    fn last(&self, at: Timestamp) -> Option<Try> {
        self.last.filter(|last| at.duration_since(last.at).as_secs() <= 2 * self.longest)
    }

    pub(super) fn seconds(&self) -> i64 {
        self.last.map_or(0, |last| last.delay.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn waits_grow_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..9 {
            let until = backoff.wait(now, now).unwrap_or(now);
            waits.push(until.duration_since(now).as_secs());
            now = until;
            backoff.tried(now);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn the_wait_counts_from_the_failure() {
        let mut backoff = Backoff::default();
        backoff.tried(at(0));
        assert_eq!(backoff.wait(at(5), at(6)), Some(at(15)));
        assert_eq!(backoff.wait(at(5), at(15)), None);
    }

    #[test]
    fn what_ran_for_ten_minutes_starts_anew() {
        let mut backoff = Backoff::default();
        backoff.tried(at(0));
        backoff.tried(at(10));
        assert_eq!(backoff.wait(at(611), at(611)), None);
        backoff.tried(at(611));
        assert_eq!(backoff.wait(at(612), at(612)), Some(at(622)));
    }
}
