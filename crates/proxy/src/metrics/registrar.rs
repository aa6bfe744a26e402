//! Creates metrics and counts them by stability, as the component metrics ask for.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Promised stability of a metric, which its help text starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stability {
    Alpha,
    Beta,
}

impl Stability {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Stability::Alpha => "ALPHA",
            Stability::Beta => "BETA",
        }
    }
}

/// Makes and registers metrics of one stability. A vector has no sample until a label value is used.
#[derive(Debug)]
pub(super) struct Registrar<'a> {
    registry: &'a Registry,
    counts: BTreeMap<Stability, u64>,
    stability: Stability,
}

impl<'a> Registrar<'a> {
    pub(super) fn new(registry: &'a Registry) -> Registrar<'a> {
        Registrar { registry, counts: BTreeMap::new(), stability: Stability::Alpha }
    }

    /// What follows is of this stability.
    pub(super) fn stability(&mut self, stability: Stability) {
        self.stability = stability;
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (Stability, u64)> + '_ {
        self.counts.iter().map(|(stability, count)| (*stability, *count))
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter, Error> {
        let metric = IntCounter::with_opts(self.options(name, help))?;
        self.add(metric)
    }

    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, Error> {
        let metric = IntCounterVec::new(self.options(name, help), labels)?;
        self.add(metric)
    }

    pub(super) fn int_gauge(&mut self, name: &str, help: &str) -> Result<IntGauge, Error> {
        let metric = IntGauge::with_opts(self.options(name, help))?;
        self.add(metric)
    }

    pub(super) fn int_gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, Error> {
        let metric = IntGaugeVec::new(self.options(name, help), labels)?;
        self.add(metric)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Result<Gauge, Error> {
        let metric = Gauge::with_opts(self.options(name, help))?;
        self.add(metric)
    }

    pub(super) fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, Error> {
        let metric = GaugeVec::new(self.options(name, help), labels)?;
        self.add(metric)
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        let metric = Histogram::with_opts(self.histogram_options(name, help, buckets))?;
        self.add(metric)
    }

    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, Error> {
        let metric = HistogramVec::new(self.histogram_options(name, help, buckets), labels)?;
        self.add(metric)
    }

    /// Registers a metric that was made elsewhere; the caller has put the stability into its help.
    pub(super) fn add<C: Collector + Clone + 'static>(&mut self, metric: C) -> Result<C, Error> {
        self.registry.register(Box::new(metric.clone()))?;
        *self.counts.entry(self.stability).or_default() += 1;
        Ok(metric)
    }

    pub(super) fn help(&self, help: &str) -> String {
        format!("[{}] {help}", self.stability.as_str())
    }

    fn options(&self, name: &str, help: &str) -> Opts {
        Opts::new(name, self.help(help))
    }

    fn histogram_options(&self, name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
        HistogramOpts::new(name, self.help(help)).buckets(buckets.to_vec())
    }
}
