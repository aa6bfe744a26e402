//! Figures as the benches print them, with what they may be at most.
#![allow(clippy::print_stdout)] // the figures are a bench's output

use anyhow::Result;

use crate::process::Usage;

/// The value that so many percent of all values do not exceed; 0 without values.
#[must_use]
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

/// Prints a time.
pub fn report(what: &str, seconds: f64, most: Option<f64>) {
    let against = most.map(|most| format!("    at most {most:.2} s: {}", verdict(seconds <= most)));
    println!("  {what:<52}{seconds:>8.3} s{}", against.unwrap_or_default());
}

/// Prints the memory of a process; the budgets are in MB.
///
/// # Errors
/// When there is no such process.
pub fn report_memory(pid: u32, when: &str, resident: Option<u64>, peak: Option<u64>) -> Result<()> {
    let usage = Usage::of(pid)?;
    report_size(&format!("memory {when}: resident"), usage.resident_kib, resident);
    report_size("  of it anonymous", usage.anonymous_kib, None);
    report_size("  peak", usage.peak_kib, peak);
    Ok(())
}

fn report_size(what: &str, kib: u64, most: Option<u64>) {
    report_megabytes(what, kib as f64 * 1024.0 / 1e6, most.map(|most| most as f64));
}

/// Prints a size, in megabytes of a million bytes as the budgets count.
pub fn report_megabytes(what: &str, megabytes: f64, most: Option<f64>) {
    let against = most.map(|most| format!("   at most {most} MB: {}", verdict(megabytes <= most)));
    println!("  {what:<52}{megabytes:>8.1} MB{}", against.unwrap_or_default());
}

fn verdict(kept: bool) -> &'static str {
    if kept { "ok" } else { "over" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values = [3.0, 1.0, 2.0, 4.0];
        assert_eq!([50, 99, 100].map(|percent| percentile(&values, percent)), [2.0, 4.0, 4.0]);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
