//! The metrics of one process, in OpenMetrics text: counters of what was committed, and gauges of how things stand.
//!
//! A counter never counts what was only tried. Names, types and labels stand in `docs/reference.md`, and a test compares.
//! Labels are bounded by the configuration: topics, partitions, pipelines, rules, roles, kinds of reason. No tenant, no
//! series and nothing that a producer wrote is ever one. Nothing here is called for each record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::status::{PartitionStatus, PipelineStatus, RoleState};
use crate::model::pipeline::Micros;

mod process;

/// Before every name.
const PREFIX: &str = "maturion";
/// Seconds of a transaction: from a broker in the same rack to one that is hardly there.
const TRANSACTION_BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 12.0];
/// Seconds of a restore: five are the goal.
const RESTORE_BUCKETS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// What one transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Records read, by topic.
    pub read: BTreeMap<String, u64>,
    /// Records that became rows, by topic.
    pub decoded: BTreeMap<String, u64>,
    /// Records that were rejected, by the kind of reason.
    pub dead_letters: BTreeMap<&'static str, u64>,
    pub partial_messages: u64,
    pub partial_bytes: u64,
    /// Messages on the remediation topic, by pipeline, rule and change.
    pub detections: BTreeMap<(String, String, &'static str), u64>,
}

/// A gauge of each pipeline: its name, its help, and its value at this wall time, if it has one.
type PipelineGauge = (&'static str, &'static str, fn(&PipelineStatus, Micros) -> Option<f64>);

const PIPELINE_GAUGES: [PipelineGauge; 10] = [
    ("open_windows", "Windows open", |pipeline, _| Some(pipeline.open_windows as f64)),
    ("oldest_open_window_age_seconds", "Time since the start of the oldest open window", |pipeline, now| {
        pipeline.oldest_open_us.map(|start| seconds(now - start))
    }),
    ("closed_delay_seconds", "Time since the moment up to which every window is closed", |pipeline, now| {
        pipeline.closed_through_us.map(|end| seconds(now - end))
    }),
    ("open_series", "Series held, once for each window or pane", |pipeline, _| Some(pipeline.open_series as f64)),
    ("watched_series", "Series that rules remember something of", |pipeline, _| Some(pipeline.watched_series as f64)),
    ("versions", "Versions that run or are being finished", |pipeline, _| Some(pipeline.versions as f64)),
    ("closed_early", "Windows closed before their time", |pipeline, _| Some(pipeline.closed_early as f64)),
    ("late_rows", "Rows that came after their window had closed", |pipeline, _| Some(pipeline.late_rows as f64)),
    ("foreign_messages", "Messages of another version of the pipeline", |pipeline, _| {
        Some(pipeline.foreign_messages as f64)
    }),
    ("open_detections", "Detections that have not resolved", |pipeline, _| Some(pipeline.open_detections as f64)),
];

/// All metrics of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    records_read: Counters,
    rows_decoded: Counters,
    dead_letters: Counters,
    partial_bytes: Counters,
    partial_messages: Counters,
    transactions: Counters,
    transaction_duration: Histograms,
    detections: Counters,
    restore_duration: Histogram,
    stored_rows: Counters,
    store_commit_duration: Histograms,
    worker_restarts: Counters,
    audit_entries: Counters,
    incidents: Gauges,
    role_state: Gauges,
    lag: Gauges,
    watermark_delay: Gauges,
    pipelines: Vec<Gauges>,
    memory: Gauge<f64, AtomicU64>,
    cpu: Counter<f64, AtomicU64>,
    read_total: AtomicU64,
    rejected_total: AtomicU64,
    /// The gauges are filled for one reader at a time; the processor time that was counted last.
    scrape: Mutex<f64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let transactions: fn() -> Histogram = || Histogram::new(TRANSACTION_BUCKETS);
        let pipelines = PIPELINE_GAUGES.iter().map(|(name, help, _)| registered(&mut registry, name, help));
        let pipelines = pipelines.collect();
        let mut metrics = Self {
            records_read: registered(&mut registry, "records_read", "Records read from an input"),
            rows_decoded: registered(&mut registry, "rows_decoded", "Records that became rows"),
            dead_letters: registered(&mut registry, "dead_letters", "Records rejected"),
            partial_bytes: registered(&mut registry, "partial_bytes", "Bytes of partial states sent"),
            partial_messages: registered(&mut registry, "partial_messages", "Messages of partial states sent"),
            transactions: registered(&mut registry, "transactions", "Transactions ended"),
            transaction_duration: Family::new_with_constructor(transactions),
            detections: registered(&mut registry, "detections", "Messages about detections"),
            restore_duration: Histogram::new(RESTORE_BUCKETS),
            stored_rows: registered(&mut registry, "stored_rows", "Rows committed to the store"),
            store_commit_duration: Family::new_with_constructor(transactions),
            worker_restarts: registered(&mut registry, "worker_restarts", "Workers started again after an error"),
            audit_entries: registered(&mut registry, "audit_entries", "What was decided and done"),
            incidents: registered(&mut registry, "incidents", "Incidents that are known"),
            role_state: registered(&mut registry, "role_state", "1 for the state that the role is in"),
            lag: registered(&mut registry, "lag_records", "Records that are still to be read"),
            watermark_delay: registered(&mut registry, "watermark_delay_seconds", "Wall clock minus watermark"),
            pipelines,
            memory: Gauge::default(),
            cpu: Counter::default(),
            read_total: AtomicU64::default(),
            rejected_total: AtomicU64::default(),
            scrape: Mutex::new(0.0),
            registry,
        };
        let registry = &mut metrics.registry;
        registry.register("transaction_duration_seconds", "Time to commit", metrics.transaction_duration.clone());
        registry.register(
            "store_commit_duration_seconds",
            "Time to write and commit",
            metrics.store_commit_duration.clone(),
        );
        registry.register("restore_duration_seconds", "Time to restore state", metrics.restore_duration.clone());
        registry.register("process_resident_memory_bytes", "Memory in use", metrics.memory.clone());
        registry.register("process_cpu_seconds", "Processor time used", metrics.cpu.clone());
        metrics
    }
}

fn registered<M>(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, M>
where
    Family<Labels, M>: prometheus_client::registry::Metric + Default + Clone,
{
    let family = Family::<Labels, M>::default();
    registry.register(name, help, family.clone());
    family
}

impl Metrics {
    /// A transaction of a role was committed, after so long.
    pub(super) fn committed(&self, role: &'static str, took: Duration, work: &Work) {
        self.transactions.get_or_create(&labels([("role", role), ("outcome", "committed")])).inc();
        self.transaction_duration.get_or_create(&labels([("role", role)])).observe(took.as_secs_f64());
        for (family, counts) in [(&self.records_read, &work.read), (&self.rows_decoded, &work.decoded)] {
            for (topic, count) in counts {
                family.get_or_create(&labels([("topic", topic.as_str())])).inc_by(*count);
            }
        }
        self.read_total.fetch_add(work.read.values().sum(), Ordering::Relaxed);
        self.rejected_total.fetch_add(work.dead_letters.values().sum(), Ordering::Relaxed);
        for (reason, count) in &work.dead_letters {
            self.dead_letters.get_or_create(&labels([("reason", *reason)])).inc_by(*count);
        }
        self.partial_bytes.get_or_create(&labels([("role", role)])).inc_by(work.partial_bytes);
        self.partial_messages.get_or_create(&labels([("role", role)])).inc_by(work.partial_messages);
        for ((pipeline, rule, change), count) in &work.detections {
            let labels = labels([("pipeline", pipeline.as_str()), ("rule", rule), ("change", change)]);
            self.detections.get_or_create(&labels).inc_by(*count);
        }
    }

    /// A transaction of a role was aborted.
    pub fn aborted(&self, role: &'static str) {
        self.transactions.get_or_create(&labels([("role", role), ("outcome", "aborted")])).inc();
    }

    /// Detect has its state back, after so long.
    pub fn restored(&self, took: Duration) {
        self.restore_duration.observe(took.as_secs_f64());
    }

    /// Rows of a table are in Delta, after so long.
    pub fn stored(&self, table: &'static str, rows: u64, took: Duration) {
        self.stored_rows.get_or_create(&labels([("table", table)])).inc_by(rows);
        self.store_commit_duration.get_or_create(&labels([("table", table)])).observe(took.as_secs_f64());
    }

    /// A worker was started again after an error.
    pub fn restarted(&self, role: &'static str) {
        self.worker_restarts.get_or_create(&labels([("role", role)])).inc();
    }

    /// Entries of these kinds were committed to the audit.
    pub fn audited(&self, kinds: &[&'static str]) {
        for kind in kinds {
            self.audit_entries.get_or_create(&labels([("kind", kind)])).inc();
        }
    }

    /// Records read so far, and those of them that were rejected.
    pub fn intake_totals(&self) -> (u64, u64) {
        (self.read_total.load(Ordering::Relaxed), self.rejected_total.load(Ordering::Relaxed))
    }

    /// OpenMetrics text at this wall time, given what this process owns.
    pub(super) fn text(
        &self,
        roles: &BTreeMap<&'static str, RoleState>,
        partitions: &[PartitionStatus],
        pipelines: &[PipelineStatus],
        phases: &BTreeMap<String, u64>,
        now: Micros,
    ) -> String {
        // A number cannot be left half written.
        let mut cpu_counted = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.fill_roles(roles);
        self.fill_partitions(partitions, now);
        self.incidents.clear();
        for (phase, count) in phases {
            self.incidents.get_or_create(&labels([("phase", phase.as_str())])).set(*count as f64);
        }
        for (gauges, (_, _, value)) in self.pipelines.iter().zip(PIPELINE_GAUGES) {
            gauges.clear();
            for pipeline in pipelines {
                if let Some(value) = value(pipeline, now) {
                    gauges.get_or_create(&labels([("pipeline", pipeline.pipeline.as_str())])).set(value);
                }
            }
        }
        self.memory.set(process::resident_bytes().unwrap_or(0.0));
        let cpu = process::cpu_seconds().unwrap_or(0.0).max(*cpu_counted);
        self.cpu.inc_by(cpu - *cpu_counted);
        *cpu_counted = cpu;
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    fn fill_roles(&self, roles: &BTreeMap<&'static str, RoleState>) {
        self.role_state.clear();
        for (role, state) in roles {
            for name in RoleState::NAMES {
                let value = f64::from(u8::from(state.name() == name));
                self.role_state.get_or_create(&labels([("role", *role), ("state", name)])).set(value);
            }
        }
    }

    fn fill_partitions(&self, partitions: &[PartitionStatus], now: Micros) {
        self.lag.clear();
        self.watermark_delay.clear();
        for row in partitions {
            let (stage, partition) = (row.stage.to_string(), row.partition.to_string());
            let labels = labels([("stage", stage.as_str()), ("topic", &row.topic), ("partition", &partition)]);
            self.lag.get_or_create(&labels).set(row.lag as f64);
            if let Some(watermark) = row.watermark_us {
                self.watermark_delay.get_or_create(&labels).set(seconds(now - watermark));
            }
        }
    }
}

fn labels<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    labels.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

fn seconds(length: Micros) -> f64 {
    length as f64 / 1e6
}
