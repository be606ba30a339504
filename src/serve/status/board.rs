//! Where roles write and the status is read.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::health::{judge, wedged};
use super::{
    Bulletin, OpenIncident, PartitionStatus, PipelineReport, PipelineStatus, Progress, Remediation, RoleState,
    RoleStatus, ShardStatus, Stage, Status,
};
use crate::log::Partition;
use crate::model::pipeline::Micros;
use crate::serve::metrics::{Metrics, Work};

/// Open incidents listed by partition; the counts include all.
const OPEN_LISTED_MAX: usize = 50;
/// Other processes whose bulletins are kept; beyond it the one that was silent for longest is forgotten.
const INSTANCES_MAX: usize = 1_000;
/// The end of a partition whose owner has said nothing for this long is asked for by everyone: its lag grows, and
/// nobody else would say so.
const SILENT_AFTER: Duration = Duration::from_secs(5);

/// A stage's partition of a topic.
type Place = (Stage, String, i32);

/// The status of this process and what it heard of others, and the counters of [`Metrics`]. Every method is a short
/// critical section; no method fails. Nothing here is called for each record.
#[derive(Debug)]
pub struct StatusBoard {
    log: String,
    instance: String,
    process: String,
    metrics: Metrics,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    roles: BTreeMap<&'static str, RoleState>,
    /// When each worker last turned.
    turns: BTreeMap<&'static str, Instant>,
    partitions: BTreeMap<Place, Said>,
    shards: BTreeMap<i32, ShardStatus>,
    dead_letters: BTreeMap<String, u64>,
    remediation: Option<Remediation>,
    /// Ends that the stage itself did not say.
    ends: BTreeMap<Partition, i64>,
    /// By instance.
    others: BTreeMap<String, Bulletin>,
}

/// What a stage of this process said of a partition.
#[derive(Debug)]
struct Said {
    progress: Progress,
    oldest_open: Option<Micros>,
    at: Instant,
}

/// The moment for which a picture is made: of this process's clock, and of everyone's.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) wall: Micros,
}

impl Now {
    fn new() -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { instant: Instant::now(), wall: Micros::try_from(since_epoch.as_micros()).unwrap_or(Micros::MAX) }
    }
}

impl StatusBoard {
    /// An empty board of a process on this log (as [`crate::log::Log::describe_self`] names it).
    pub fn new(log: impl Into<String>) -> StatusBoard {
        let process = format!("{}-{}", std::process::id(), Now::new().wall);
        let (metrics, entries) = (Metrics::default(), Mutex::default());
        StatusBoard { log: log.into(), instance: String::new(), process, metrics, entries }
    }

    /// The board of the process of this name.
    pub fn of(self, instance: impl Into<String>) -> StatusBoard {
        StatusBoard { instance: instance.into(), ..self }
    }

    /// A role starts, restores, runs or ended.
    pub fn role(&self, role: &'static str, state: RoleState) {
        let mut entries = self.entries();
        if matches!(state, RoleState::Failed(_)) {
            entries.turns.remove(role);
        }
        entries.roles.insert(role, state);
    }

    /// A worker goes round: it waits for nothing but the log, and that for no longer than it may.
    pub fn turned(&self, role: &'static str) {
        self.entries().turns.insert(role, Instant::now());
    }

    /// A worker ended in order: it turns no more, and need not.
    pub fn ended(&self, role: &'static str) {
        self.entries().turns.remove(role);
    }

    /// Intake's place in an input partition, after a commit or a heartbeat.
    pub fn intake(&self, topic: &str, partition: i32, progress: Progress) {
        let said = Said { progress, oldest_open: None, at: Instant::now() };
        self.entries().partitions.insert((Stage::Intake, topic.to_owned(), partition), said);
    }

    /// The store's place in an input partition, after a look at the log.
    pub fn store(&self, topic: &str, partition: i32, progress: Progress) {
        let said = Said { progress, oldest_open: None, at: Instant::now() };
        self.entries().partitions.insert((Stage::Store, topic.to_owned(), partition), said);
    }

    /// Detect's place in a partition of `topic` (the partials), and each pipeline's totals there.
    pub fn detect(&self, topic: &str, partition: i32, progress: Progress, pipelines: &[PipelineReport<'_>]) {
        let oldest_open = pipelines.iter().filter_map(|report| report.oldest_open).min();
        let said = Said { progress, oldest_open, at: Instant::now() };
        let mut entries = self.entries();
        entries.partitions.insert((Stage::Detect, topic.to_owned(), partition), said);
        let shard = entries.shards.entry(partition).or_insert_with(|| ShardStatus { partition, ..Default::default() });
        shard.pipelines = pipelines.iter().map(PipelineStatus::from).collect();
    }

    /// The detections open in a partition of detect, worst first, when they change. Only the first fifty are kept.
    pub fn open(&self, partition: i32, mut incidents: Vec<OpenIncident>) {
        incidents.truncate(OPEN_LISTED_MAX);
        let mut entries = self.entries();
        let shard = entries.shards.entry(partition).or_insert_with(|| ShardStatus { partition, ..Default::default() });
        shard.open_incidents = incidents;
    }

    /// What is done about incidents, while this process has the actor.
    pub fn remediation(&self, remediation: Option<Remediation>) {
        self.entries().remediation = remediation;
    }

    /// A partition that this process no longer owns.
    pub fn released(&self, stage: Stage, topic: &str, partition: i32) {
        let mut entries = self.entries();
        entries.partitions.remove(&(stage, topic.to_owned(), partition));
        if stage == Stage::Detect {
            entries.shards.remove(&partition);
        }
    }

    /// A transaction of a role was committed, after so long, and this is what it did.
    pub fn committed(&self, role: &'static str, took: Duration, work: &Work) {
        self.metrics.committed(role, took, work);
        if !work.dead_letters.is_empty() {
            let mut entries = self.entries();
            for (reason, count) in &work.dead_letters {
                *entries.dead_letters.entry((*reason).to_owned()).or_default() += count;
            }
        }
    }

    /// What is counted besides transactions.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The picture now, of every process.
    pub fn snapshot(&self) -> Status {
        self.snapshot_at(Now::new())
    }

    pub(super) fn snapshot_at(&self, now: Now) -> Status {
        let entries = self.entries();
        let own = entries.own(&self.instance, now);
        let (health, problems) = judge(&entries.roles, &own.values().cloned().collect::<Vec<_>>());
        let rows = entries.everyone(own, now);
        let shards = entries.shards_of(&rows);
        let mut dead_letters = entries.dead_letters.clone();
        for (reason, count) in entries.others.values().flat_map(|bulletin| &bulletin.dead_letters) {
            *dead_letters.entry(reason.clone()).or_default() += count;
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.instance.clone(),
            health,
            problems,
            log: self.log.clone(),
            roles: entries.roles.iter().map(|(role, state)| RoleStatus::new(role, state)).collect(),
            pipelines: summed(shards.iter().flat_map(|shard| &shard.pipelines)),
            open_incidents: shards.iter().flat_map(|shard| &shard.open_incidents).cloned().collect(),
            partitions: rows.into_values().collect(),
            dead_letters,
            remediation: entries.remediation(),
        }
    }

    /// What this process tells the others.
    pub fn bulletin(&self) -> Bulletin {
        self.bulletin_at(Now::new())
    }

    pub(super) fn bulletin_at(&self, now: Now) -> Bulletin {
        let entries = self.entries();
        Bulletin {
            instance: self.instance.clone(),
            process: self.process.clone(),
            wall_us: now.wall,
            partitions: entries.own(&self.instance, now).into_values().collect(),
            shards: entries.shards.values().cloned().collect(),
            dead_letters: entries.dead_letters.clone(),
            remediation: entries.remediation.clone(),
        }
    }

    /// What another process told. Its own words come back to a process too, and change nothing.
    pub fn heard(&self, bulletin: Bulletin) {
        if bulletin.process == self.process {
            return;
        }
        let mut entries = self.entries();
        entries.others.insert(bulletin.instance.clone(), bulletin);
        if entries.others.len() > INSTANCES_MAX {
            let silent = entries.others.values().min_by_key(|bulletin| bulletin.wall_us);
            let silent = silent.map(|bulletin| bulletin.instance.clone());
            silent.and_then(|instance| entries.others.remove(&instance));
        }
    }

    /// Partitions whose end the picture lacks: of those it owns, detect does not ask for it, and of those whose owner is
    /// silent nobody does.
    pub fn wanted_ends(&self) -> Vec<Partition> {
        let now = Now::new();
        let entries = self.entries();
        let own = entries.own(&self.instance, now);
        let is_own = |place: &Place| entries.partitions.contains_key(place);
        let wanted = |(place, row): &(Place, PartitionStatus)| {
            if is_own(place) { row.stage == Stage::Detect } else { Duration::from_millis(row.age_ms) > SILENT_AFTER }
        };
        let rows = entries.everyone(own, now).into_iter().filter(wanted);
        rows.map(|((_, topic, number), _)| Partition { topic: topic.into(), number }).collect()
    }

    /// The ends of partitions; those of others are forgotten.
    pub fn ends(&self, ends: impl IntoIterator<Item = (Partition, i64)>) {
        self.entries().ends = ends.into_iter().collect();
    }

    /// Whether the process should go on: a sentence about a worker that hangs, if one does.
    pub fn wedged(&self) -> Option<String> {
        self.wedged_at(Instant::now())
    }

    pub(super) fn wedged_at(&self, now: Instant) -> Option<String> {
        wedged(&self.entries().turns, now)
    }

    /// The metrics of this process, as OpenMetrics text.
    pub fn exposition(&self) -> String {
        let (now, bulletin) = (Now::new(), self.bulletin());
        let (roles, remediation) = {
            let entries = self.entries();
            (entries.roles.clone(), entries.remediation.clone().unwrap_or_default())
        };
        let pipelines = summed(bulletin.shards.iter().flat_map(|shard| &shard.pipelines));
        self.metrics.text(&roles, &bulletin.partitions, &pipelines, &remediation.phases, now.wall)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Entries are whole at every step, so a panic elsewhere while the lock was held left nothing half written.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// This process's word, or that of whoever spoke last.
    fn remediation(&self) -> Option<Remediation> {
        let others = self.others.values().filter(|bulletin| bulletin.remediation.is_some());
        let newest = others.max_by_key(|bulletin| bulletin.wall_us);
        self.remediation.clone().or_else(|| newest.and_then(|bulletin| bulletin.remediation.clone()))
    }

    /// The partitions of this process.
    fn own(&self, instance: &str, now: Now) -> BTreeMap<Place, PartitionStatus> {
        let status = |(place, said): (&Place, &Said)| {
            let (stage, topic, partition) = place.clone();
            let row = PartitionStatus {
                stage,
                topic,
                partition,
                owner: instance.to_owned(),
                position: said.progress.position,
                end_offset: said.progress.end_offset,
                lag: 0,
                watermark_us: said.progress.watermark,
                oldest_open_us: said.oldest_open,
                age_ms: millis(now.instant.saturating_duration_since(said.at)),
            };
            (place.clone(), self.with_end(row))
        };
        self.partitions.iter().map(status).collect()
    }

    /// With the partitions of others: of several that speak of one, whoever did so last.
    fn everyone(&self, own: BTreeMap<Place, PartitionStatus>, now: Now) -> BTreeMap<Place, PartitionStatus> {
        let mut rows = own;
        for bulletin in self.others.values() {
            let passed_ms = u64::try_from(now.wall.saturating_sub(bulletin.wall_us) / 1_000).unwrap_or(0);
            for row in &bulletin.partitions {
                let place = (row.stage, row.topic.clone(), row.partition);
                if self.partitions.contains_key(&place) {
                    continue;
                }
                let row =
                    self.with_end(PartitionStatus { age_ms: row.age_ms.saturating_add(passed_ms), ..row.clone() });
                match rows.entry(place) {
                    Entry::Occupied(mut known) if row.age_ms < known.get().age_ms => drop(known.insert(row)),
                    Entry::Occupied(_) => {}
                    Entry::Vacant(free) => drop(free.insert(row)),
                }
            }
        }
        rows
    }

    fn with_end(&self, mut row: PartitionStatus) -> PartitionStatus {
        let partition = Partition { topic: row.topic.as_str().into(), number: row.partition };
        row.end_offset = row.end_offset.max(self.ends.get(&partition).copied().unwrap_or(i64::MIN));
        row.lag = row.end_offset.saturating_sub(row.position).max(0);
        row
    }

    /// Each partition of detect as the process sees it that the row names.
    fn shards_of(&self, rows: &BTreeMap<Place, PartitionStatus>) -> Vec<&ShardStatus> {
        let detect = rows.iter().filter(|((stage, _, _), _)| *stage == Stage::Detect);
        let shard = |(place, row): (&Place, &PartitionStatus)| {
            if self.partitions.contains_key(place) {
                return self.shards.get(&row.partition);
            }
            self.others.get(&row.owner)?.shards.iter().find(|shard| shard.partition == row.partition)
        };
        detect.filter_map(shard).collect()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Each pipeline over its partitions, by name.
fn summed<'a>(pipelines: impl Iterator<Item = &'a PipelineStatus>) -> Vec<PipelineStatus> {
    let mut sums = BTreeMap::<&str, PipelineStatus>::new();
    for status in pipelines {
        match sums.entry(&status.pipeline) {
            Entry::Occupied(mut sum) => sum.get_mut().add(status),
            Entry::Vacant(free) => drop(free.insert(status.clone())),
        }
    }
    sums.into_values().collect()
}
