//! Values that are read when somebody scrapes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};
use prometheus::{Error, Registry};

use super::process;

/// A counter whose value `read` gives at each scrape; `None` leaves it out of the answer.
#[derive(Clone)]
pub(super) struct CounterOnScrape {
    desc: Desc,
    read: Arc<dyn Fn() -> Option<u64> + Send + Sync>,
}

impl CounterOnScrape {
    pub(super) fn new(
        name: &str,
        help: String,
        read: impl Fn() -> Option<u64> + Send + Sync + 'static,
    ) -> Result<CounterOnScrape, Error> {
        let desc = Desc::new(name.to_owned(), help, Vec::new(), HashMap::new())?;
        Ok(CounterOnScrape { desc, read: Arc::new(read) })
    }
}

impl fmt::Debug for CounterOnScrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CounterOnScrape").field(&self.desc.fq_name).finish()
    }
}

impl Collector for CounterOnScrape {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let value = (self.read)();
        value.map(|value| family(&self.desc, MetricType::COUNTER, value as f64)).into_iter().collect()
    }
}

/// The `process_*` metrics.
struct ProcessOnScrape(Vec<Desc>);

/// A value that `/proc` does not give is left out.
pub(super) fn register_process(registry: &Registry) -> Result<(), Error> {
    let descs = process::NAMES
        .iter()
        .map(|(name, _, help)| Desc::new((*name).to_owned(), (*help).to_owned(), Vec::new(), HashMap::new()))
        .collect::<Result<Vec<Desc>, Error>>()?;
    registry.register(Box::new(ProcessOnScrape(descs)))
}

impl Collector for ProcessOnScrape {
    fn desc(&self) -> Vec<&Desc> {
        self.0.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let values = process::read();
        let rows = self.0.iter().zip(process::NAMES).zip(values);
        rows.filter_map(|((desc, (_, kind, _)), value)| Some(family(desc, *kind, value?))).collect()
    }
}

fn family(desc: &Desc, kind: MetricType, value: f64) -> MetricFamily {
    let mut metric = Metric::default();
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(kind);
    family.set_metric(vec![metric]);
    family
}
