//! Log lines as klog writes them, so that an operator's habits, greps and log collectors keep working.
//!
//! The proxy's own code uses [`klog_info!`](crate::klog_info), [`klog_warning!`](crate::klog_warning) and
//! [`klog_error!`](crate::klog_error); arguments are evaluated only if the line will be written. Libraries that speak
//! `tracing` are heard through [`Bridge`], which [`install`] sets up. Both end in one [`Logger`], whose verbosity can change at run time.
//! A line is written with one call; if that fails the line is lost, never the process.

mod bridge;
mod line;
mod logger;
mod value;

pub use bridge::Bridge;
pub use line::{Format, Record, Severity};
pub use logger::{Captured, FilePattern, Logger, Options, install, logger};
pub use value::{Value, error, json, text};

/// Writes an informational line: `klog_info!(v = 2, "Syncing iptables rules", ipFamily = family, fullSync = full)`.
/// Without `v` the line is always written. Keys are identifiers, or string literals where a key has a blank.
#[macro_export]
macro_rules! klog_info {
    (v = $v:literal, $message:expr $(, $key:tt = $value:expr)* $(,)?) => {
        $crate::klog_line!($crate::logging::Severity::Info, $v, $message $(, $key = $value)*)
    };
    ($message:expr $(, $key:tt = $value:expr)* $(,)?) => {
        $crate::klog_line!($crate::logging::Severity::Info, 0, $message $(, $key = $value)*)
    };
}

/// Writes a warning, whatever the verbosity: `klog_warning!("…", key = value)`.
#[macro_export]
macro_rules! klog_warning {
    ($message:expr $(, $key:tt = $value:expr)* $(,)?) => {
        $crate::klog_line!($crate::logging::Severity::Warning, 0, $message $(, $key = $value)*)
    };
}

/// Writes an error, whatever the verbosity. By custom the first key is `err`:
/// `klog_error!("Sync failed", err = logging::error(&error), ipFamily = family)`.
#[macro_export]
macro_rules! klog_error {
    ($message:expr $(, $key:tt = $value:expr)* $(,)?) => {
        $crate::klog_line!($crate::logging::Severity::Error, 0, $message $(, $key = $value)*)
    };
}

/// What the three macros above have in common; not for direct use.
#[doc(hidden)]
#[macro_export]
macro_rules! klog_line {
    ($severity:expr, $v:expr, $message:expr $(, $key:tt = $value:expr)*) => {{
        let logger = $crate::logging::logger();
        if logger.enabled($v, file!()) {
            logger.write(&$crate::logging::Record {
                severity: $severity,
                verbosity: $v,
                file: file!(),
                line: line!(),
                message: ::std::convert::AsRef::<str>::as_ref(&$message),
                fields: &[$((stringify!($key), $crate::logging::Value::from($value))),*],
            });
        }
    }};
}

#[cfg(test)]
mod tests;
