//! When looks become a verdict: after so many of one kind in a row.

/// Counts looks.
#[derive(Debug, Clone)]
pub(super) struct Threshold {
    successes: u32,
    failures: u32,
    last: Option<bool>,
    streak: u32,
    verdict: Option<bool>,
}

impl Threshold {
    pub(super) fn new(successes: u32, failures: u32) -> Threshold {
        Threshold {
            successes: successes.max(1),
            failures: failures.max(1),
            last: None,
            streak: 0,
            verdict: None,
        }
    }

    /// A verdict that was reached before.
    pub(super) fn with_verdict(mut self, verdict: Option<bool>) -> Threshold {
        self.verdict = verdict;
        self
    }

    /// Takes one look into account, and gives the verdict if it is another one than before.
    pub(super) fn record(&mut self, succeeded: bool) -> Option<bool> {
        self.streak = if self.last == Some(succeeded) { self.streak.saturating_add(1) } else { 1 };
        self.last = Some(succeeded);
        let needed = if succeeded { self.successes } else { self.failures };
        if self.streak < needed || self.verdict == Some(succeeded) {
            return None;
        }
        self.verdict = Some(succeeded);
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_takes_looks_of_one_kind_in_a_row() {
        let mut threshold = Threshold::new(2, 3);
        let verdicts: Vec<Option<bool>> =
            [true, false, true, true, true, false, false, true, false, false, false, false]
                .into_iter()
                .map(|look| threshold.record(look))
                .collect();
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(verdicts, [None, None, None, yes, None, None, None, None, None, None, no, None]);
    }

    #[test]
    fn a_verdict_of_before_is_told_again_only_when_it_changes() {
        let mut threshold = Threshold::new(1, 1).with_verdict(Some(true));
        assert_eq!(threshold.record(true), None);
        assert_eq!(threshold.record(false), Some(false));
    }
}
