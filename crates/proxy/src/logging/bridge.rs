//! Lines of libraries that log through `tracing`, brought into the same stream.

use std::borrow::Cow;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::line::{Record, Severity};
use super::logger::Logger;
use super::value::Value;

/// A layer for `tracing_subscriber::registry().with(Bridge::new(logger()))`.
#[derive(Debug)]
pub struct Bridge {
    logger: &'static Logger,
}

impl Bridge {
    pub fn new(logger: &'static Logger) -> Bridge {
        Bridge { logger }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && self.logger.enabled(verbosity(metadata), metadata.file().unwrap_or(metadata.target()))
    }
}

/// The klog level of a `tracing` event. Our own crates' details start at 4, where kube-proxy shows single commands; other
/// people's need more, as client-go's do. The Kubernetes client tells each failed request at error level, and so do we, in
/// the words of whoever asked: its line is for those who want details.
fn verbosity(metadata: &Metadata<'_>) -> u32 {
    let own = metadata.target().starts_with("switchyard");
    let client = metadata.target().starts_with("kube_client");
    match (*metadata.level(), own) {
        (Level::ERROR | Level::WARN, _) => {
            if client {
                4
            } else {
                0
            }
        }
        (Level::INFO, true) => 0,
        (Level::INFO, false) | (Level::DEBUG, true) => 4,
        (Level::TRACE, true) => 6,
        (Level::DEBUG, false) => 8,
        (Level::TRACE, false) => 10,
    }
}

impl<S: Subscriber> Layer<S> for Bridge {
    // Call sites remember the answer, so a disabled one costs a load; a change of the verbosity asks anew.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        self.logger.write(&Record {
            severity: match *metadata.level() {
                Level::ERROR => Severity::Error,
                Level::WARN => Severity::Warning,
                _ => Severity::Info,
            },
            verbosity: verbosity(metadata),
            file: metadata.file().unwrap_or(metadata.target()),
            line: metadata.line().unwrap_or_default(),
            message: &fields.message,
            fields: &fields.values,
        });
    }
}

/// The message and the other fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    values: Vec<(&'static str, Value<'static>)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value<'static>) {
        self.values.push((field.name(), value));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.add(field, Value::Text(Cow::Owned(value.to_owned())));
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, super::error(value));
    }

    // Both `?value` and `%value` arrive here; text in quotes is right for either.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
