//! A family of metrics by label values, with an upper bound on how many.
//!
//! `prometheus` has such a type of its own. It has no bound, and it tells label sets apart by a hash of the
//! joined values, so that (`a`, `bc`) and (`ab`, `c`) are one series. Here whole values are compared.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::{Collector, Desc, Metric};
use prometheus::proto::{LabelPair, MetricFamily, MetricType};

use super::Family;

/// The most labels of a family.
const MAX_LABELS: usize = 16;
/// A longer value, in bytes, counts as `other`.
const MAX_VALUE: usize = 200;
/// The label set of everything beyond the bound.
const OTHER: [&str; MAX_LABELS] = ["other"; MAX_LABELS];

/// Metrics by label values. Cheap to clone.
pub struct Bounded<M> {
    inner: Arc<Inner<M>>,
}

struct Inner<M> {
    desc: Desc,
    labels: Box<[String]>,
    max_series: usize,
    make: Box<dyn Fn() -> prometheus::Result<M> + Send + Sync>,
    series: RwLock<HashMap<Key, M, foldhash::fast::RandomState>>,
    /// Handed out should `make` fail, which it does not once it has succeeded.
    spare: M,
}

impl<M: Metric> Bounded<M> {
    /// Checks the declaration by making one metric, without registering it.
    pub(super) fn new(
        family: &Family<'_>,
        make: impl Fn() -> prometheus::Result<M> + Send + Sync + 'static,
    ) -> prometheus::Result<Self> {
        let labels: Vec<String> = family.labels.iter().map(|&label| label.to_owned()).collect();
        if labels.len() > MAX_LABELS {
            return Err(prometheus::Error::Msg(format!("more than {MAX_LABELS} labels")));
        }
        let desc = Desc::new(family.name.into(), family.help.into(), labels.clone(), HashMap::new())?;
        let inner = Inner {
            desc,
            labels: labels.into(),
            max_series: family.max_series,
            spare: make()?,
            make: Box::new(make),
            series: RwLock::default(),
        };
        Ok(Bounded { inner: Arc::new(inner) })
    }

    /// The metric of these label values, in the order the labels were declared. A known one costs a read
    /// lock and a hash, and no allocation. Values over 200 bytes, and new ones once the family is full,
    /// get the one whose labels are all `other`. A missing value counts as empty, one too many as absent.
    pub fn with(&self, values: &[&str]) -> M {
        let inner = &*self.inner;
        debug_assert_eq!(values.len(), inner.labels.len(), "label values of {}", inner.desc.fq_name);
        let other = &OTHER[..inner.labels.len()];
        let values = if values.iter().any(|value| value.len() > MAX_VALUE) { other } else { values };
        {
            let series = inner.series.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(metric) = series.get(&values as &dyn Values) {
                return metric.clone();
            }
            if series.len() >= inner.max_series
                && let Some(metric) = series.get(&other as &dyn Values)
            {
                return metric.clone();
            }
        }
        self.insert(values, other)
    }

    fn insert(&self, values: &[&str], other: &[&str]) -> M {
        let inner = &*self.inner;
        let mut series = inner.series.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = series.get(&values as &dyn Values) {
            return metric.clone();
        }
        let values = if series.len() >= inner.max_series { other } else { values };
        let make = || (inner.make)().unwrap_or_else(|_| inner.spare.clone());
        series.entry(Key::new(values, inner.labels.len())).or_insert_with(make).clone()
    }

    fn metric(&self, key: &Key, metric: &M) -> prometheus::proto::Metric {
        let mut shown = metric.metric();
        let pairs = self.inner.labels.iter().zip(&key.0).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.clone());
            pair.set_value(value.to_string());
            pair
        });
        shown.set_label(pairs.collect());
        shown
    }
}

impl<M> Clone for Bounded<M> {
    fn clone(&self) -> Self {
        Bounded { inner: Arc::clone(&self.inner) }
    }
}

impl<M> fmt::Debug for Bounded<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bounded").field(&self.inner.desc.fq_name).finish()
    }
}

impl<M: Metric + Kind> Collector for Bounded<M> {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.inner.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let series = self.inner.series.read().unwrap_or_else(PoisonError::into_inner);
        let mut family = MetricFamily::default();
        family.set_name(self.inner.desc.fq_name.clone());
        family.set_help(self.inner.desc.help.clone());
        family.set_field_type(M::KIND);
        family.set_metric(series.iter().map(|(key, metric)| self.metric(key, metric)).collect());
        vec![family]
    }
}

/// What a metric is in the exposition.
pub trait Kind {
    /// Its `# TYPE`.
    const KIND: MetricType;
}

impl Kind for prometheus::IntCounter {
    const KIND: MetricType = MetricType::COUNTER;
}

impl Kind for prometheus::Gauge {
    const KIND: MetricType = MetricType::GAUGE;
}

impl Kind for prometheus::Histogram {
    const KIND: MetricType = MetricType::HISTOGRAM;
}

/// Label values that are kept.
struct Key(Box<[Box<str>]>);

impl Key {
    fn new(values: &[&str], count: usize) -> Self {
        let values = values.iter().copied().chain(std::iter::repeat(""));
        Key(values.take(count).map(Box::from).collect())
    }
}

/// Label values, kept or borrowed: what lets a map keyed by owned text be asked with borrowed text.
trait Values {
    fn count(&self) -> usize;
    fn at(&self, index: usize) -> &str;
}

impl Values for Key {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn at(&self, index: usize) -> &str {
        &self.0[index]
    }
}

impl Values for &[&str] {
    fn count(&self) -> usize {
        self.len()
    }

    fn at(&self, index: usize) -> &str {
        self[index]
    }
}

impl<'a> Borrow<dyn Values + 'a> for Key {
    fn borrow(&self) -> &(dyn Values + 'a) {
        self
    }
}

impl Hash for dyn Values + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (0..self.count()).for_each(|index| self.at(index).hash(state));
    }
}

impl PartialEq for dyn Values + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.count() == other.count() && (0..self.count()).all(|index| self.at(index) == other.at(index))
    }
}

impl Eq for dyn Values + '_ {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self as &dyn Values).hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Key {}
