//! Maturion's topics: their names, how each must be configured, creating them, and saying what differs.
//!
//! `topics` never changes a topic that exists: it says what is wrong and what to do.

use std::collections::BTreeMap;

use super::{Log, LogError, TopicInfo};

/// The largest record of an input topic: Kafka's own default.
const INPUT_BYTES_MAX: &str = "1048588";
/// Above the inputs' maximum, so that every record that could be read can be rejected, with its reason and provenance.
const DEAD_LETTER_BYTES_MAX: &str = "2097152";
/// A message of aggregate state holds many series; raising this costs memory in the broker's and the readers' buffers.
const STATE_BYTES_MAX: &str = "8388608";
/// Compaction leaves a partition's newest segment alone, and a restart reads it from its start. With Kafka's default of 1 GB
/// a restart would read hours of overwritten state; smaller ones only make more files.
const STATE_SEGMENT_BYTES: &str = "16777216";
/// Compaction begins when so much of a partition is overwritten: a lower share makes the broker copy more often.
const STATE_DIRTY_RATIO: &str = "0.3";
const WEEK_MS: &str = "604800000";
const MONTH_MS: &str = "2592000000";
/// Deleted by nobody but [`Log::trim`].
const FOREVER_MS: &str = "-1";

/// How many partitions the topics have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitions {
    /// Of each input topic; more can be added at any time.
    pub inputs: i32,
    /// Of every topic keyed by series. It is fixed for the life of the topics: it decides where a series' state lies.
    pub series: i32,
}

impl Default for Partitions {
    fn default() -> Partitions {
        Partitions { inputs: 4, series: 4 }
    }
}

/// The full names of the topics, prefix included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

impl Topics {
    pub fn new(prefix: &str) -> Topics {
        Topics { prefix: prefix.to_owned() }
    }

    fn name(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The consumer group of a role.
    pub fn group(&self, role: &str) -> String {
        self.name(&format!("maturion.{role}"))
    }

    /// The transactional id of an instance's worker, and its name in the group. Installations that share a Kafka have
    /// prefixes of their own, and so never fence each other, whatever their instances are called.
    pub fn transactional_id(&self, instance: &str, role: &str) -> String {
        self.name(&format!("{instance}-{role}"))
    }

    /// Input: log records.
    pub fn logs(&self) -> String {
        self.name("telemetry.logs")
    }

    /// Input: metric records.
    pub fn metrics(&self) -> String {
        self.name("telemetry.metrics")
    }

    /// Internal: partial aggregates and heartbeats, from intake to detect.
    pub fn partials(&self) -> String {
        self.name("maturion.partials")
    }

    /// Internal: snapshots of panes that stay open for long.
    pub fn panes(&self) -> String {
        self.name("maturion.panes")
    }

    /// Output: closed windows.
    pub fn windows(&self) -> String {
        self.name("maturion.windows")
    }

    /// Output: detections.
    pub fn remediation(&self) -> String {
        self.name("maturion.remediation")
    }

    /// Output: the state of each incident.
    pub fn incidents(&self) -> String {
        self.name("maturion.incidents")
    }

    /// Internal: baselines and the rules' states.
    pub fn baselines(&self) -> String {
        self.name("maturion.baselines")
    }

    /// Internal: how far detect has come in each partition.
    pub fn progress(&self) -> String {
        self.name("maturion.progress")
    }

    /// Output: the audit chain.
    pub fn audit(&self) -> String {
        self.name("maturion.audit")
    }

    /// Internal: decisions to act.
    pub fn intents(&self) -> String {
        self.name("maturion.intents")
    }

    /// Output: rejected records.
    pub fn dead_letter(&self) -> String {
        self.name("maturion.dead-letter")
    }

    /// The topics whose partitions must be as many as each other, because a series has the same number in all of them.
    fn by_series(&self) -> [String; 6] {
        [self.partials(), self.panes(), self.windows(), self.remediation(), self.baselines(), self.progress()]
    }

    /// Every topic as `maturion topics` creates it.
    pub fn specification(&self, partitions: Partitions) -> Vec<TopicInfo> {
        let Partitions { inputs, series } = partitions;
        let delete = |retention_ms| vec![("cleanup.policy", "delete"), ("retention.ms", retention_ms)];
        let with = |mut config: Vec<_>, more: &[(&'static str, &'static str)]| {
            config.extend_from_slice(more);
            config
        };
        // Replayed old data must not expire at once, so what is internal counts its age from when it was written.
        let append_time = ("message.timestamp.type", "LogAppendTime");
        let state = vec![
            ("cleanup.policy", "compact"),
            append_time,
            ("max.message.bytes", STATE_BYTES_MAX),
            ("segment.bytes", STATE_SEGMENT_BYTES),
            ("min.cleanable.dirty.ratio", STATE_DIRTY_RATIO),
        ];
        let input = with(delete(WEEK_MS), &[("max.message.bytes", INPUT_BYTES_MAX)]);
        vec![
            topic(self.logs(), inputs, &input),
            topic(self.metrics(), inputs, &input),
            topic(
                self.partials(),
                series,
                &with(delete(FOREVER_MS), &[append_time, ("max.message.bytes", STATE_BYTES_MAX)]),
            ),
            topic(self.panes(), series, &state),
            topic(self.windows(), series, &delete(WEEK_MS)),
            topic(self.remediation(), series, &delete(MONTH_MS)),
            topic(self.incidents(), inputs, &[("cleanup.policy", "compact")]),
            topic(self.baselines(), series, &state),
            topic(self.progress(), series, &state),
            topic(self.audit(), 1, &delete(FOREVER_MS)),
            topic(self.intents(), 1, &with(delete(MONTH_MS), &[append_time])),
            topic(
                self.dead_letter(),
                inputs,
                &with(delete(MONTH_MS), &[append_time, ("max.message.bytes", DEAD_LETTER_BYTES_MAX)]),
            ),
        ]
    }

    /// Creates what is missing; returns the names of what was created. Several processes may do so at once.
    pub fn ensure(&self, log: &dyn Log, partitions: Partitions) -> Result<Vec<String>, LogError> {
        let wanted = self.specification(partitions);
        let existing = describe(log, &wanted)?;
        let missing = wanted.into_iter().filter(|topic| !existing.contains_key(&topic.name));
        let mut created = Vec::new();
        for topic in missing {
            match log.create(&topic) {
                Ok(()) => created.push(topic.name),
                // Another process may have been faster.
                Err(error) if log.describe(std::slice::from_ref(&topic.name))?.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(created)
    }

    /// What keeps the topics from being used, each as a sentence that says what to do; empty if all is well.
    /// `longest_ms` is the longest window with its lateness: inputs must be kept for longer.
    pub fn check(&self, log: &dyn Log, partitions: Partitions, longest_ms: i64) -> Result<Vec<String>, LogError> {
        let wanted = self.specification(partitions);
        let existing = describe(log, &wanted)?;
        let mut faults = Vec::new();
        for topic in &wanted {
            match existing.get(&topic.name) {
                None => faults.push(format!("topic `{}` does not exist; create it with `maturion topics`", topic.name)),
                Some(found) => self.compare(topic, found, &mut faults),
            }
        }
        for input in [self.logs(), self.metrics()] {
            faults.extend(existing.get(&input).and_then(|found| short_retention(found, longest_ms)));
        }
        faults.extend(self.small_dead_letters(&existing));
        Ok(faults)
    }

    fn compare(&self, wanted: &TopicInfo, found: &TopicInfo, faults: &mut Vec<String>) {
        let name = &wanted.name;
        let is_fixed = self.by_series().contains(name) || wanted.partitions == 1;
        if is_fixed && wanted.partitions != found.partitions {
            faults.push(format!(
                "topic `{name}` has {} partitions and not {}, so the state of its series would not be found; \
                 set kafka.partitions back, or start afresh with another kafka.topic_prefix",
                found.partitions, wanted.partitions
            ));
        }
        for key in ["cleanup.policy", "message.timestamp.type"] {
            let (Some(wanted), Some(found)) = (wanted.config.get(key), found.config.get(key)) else { continue };
            if wanted != found {
                faults.push(format!("topic `{name}` has {key}={found}; set it to {wanted}"));
            }
        }
    }

    fn small_dead_letters(&self, existing: &BTreeMap<String, TopicInfo>) -> Option<String> {
        let largest = |topic: &String| number(existing.get(topic)?, "max.message.bytes");
        let input = [self.logs(), self.metrics()].iter().filter_map(largest).max()?;
        let dead_letter = largest(&self.dead_letter())?;
        (dead_letter <= input).then(|| {
            format!(
                "topic `{}` takes records of up to {dead_letter} bytes, so the largest input of {input} bytes could \
                 not be rejected; raise its max.message.bytes above the inputs'",
                self.dead_letter()
            )
        })
    }
}

fn topic(name: String, partitions: i32, config: &[(&str, &str)]) -> TopicInfo {
    let config = config.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    TopicInfo { name, partitions, config }
}

fn describe(log: &dyn Log, wanted: &[TopicInfo]) -> Result<BTreeMap<String, TopicInfo>, LogError> {
    let names: Vec<String> = wanted.iter().map(|topic| topic.name.clone()).collect();
    Ok(log.describe(&names)?.into_iter().map(|found| (found.name.clone(), found)).collect())
}

fn number(topic: &TopicInfo, key: &str) -> Option<i64> {
    topic.config.get(key)?.parse().ok()
}

fn short_retention(topic: &TopicInfo, longest_ms: i64) -> Option<String> {
    let kept_ms = number(topic, "retention.ms").filter(|kept_ms| *kept_ms >= 0 && *kept_ms < longest_ms)?;
    Some(format!(
        "topic `{}` keeps records for {} s, less than the longest window with its lateness of {} s; \
         raise its retention.ms above {longest_ms}",
        topic.name,
        kept_ms / 1000,
        longest_ms / 1000
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::embedded::{EmbeddedLog, EmbeddedSettings};

    const LONGEST_MS: i64 = 3_600_000;

    /// What `check` says after all topics were created but for one, which is changed.
    fn check_with(change: impl Fn(&Topics, &mut TopicInfo)) -> Vec<String> {
        let log = EmbeddedLog::new(EmbeddedSettings::default());
        let topics = Topics::new("test.");
        for mut topic in topics.specification(Partitions::default()) {
            change(&topics, &mut topic);
            log.create(&topic).unwrap();
        }
        topics.check(&log, Partitions::default(), LONGEST_MS).unwrap()
    }

    #[test]
    fn what_ensure_creates_passes_the_check() {
        let log = EmbeddedLog::new(EmbeddedSettings::default());
        let topics = Topics::new("test.");
        assert_eq!(topics.check(&log, Partitions::default(), LONGEST_MS).unwrap().len(), 12);
        assert_eq!(topics.ensure(&log, Partitions::default()).unwrap().len(), 12);
        assert_eq!(topics.ensure(&log, Partitions::default()).unwrap().len(), 0);
        assert_eq!(topics.check(&log, Partitions::default(), LONGEST_MS).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_changed_number_of_state_partitions_is_refused_with_the_way_out() {
        let faults = check_with(|topics, topic| topic.partitions += i32::from(topic.name == topics.baselines()));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("5 partitions and not 4") && faults[0].contains("kafka.topic_prefix"), "{faults:?}");
    }

    #[test]
    fn inputs_may_have_any_number_of_partitions() {
        let faults = check_with(|topics, topic| topic.partitions += i32::from(topic.name == topics.logs()));
        assert_eq!(faults, Vec::<String>::new());
    }

    #[test]
    fn each_unusable_setting_is_one_sentence() {
        let cases = [
            ("test.telemetry.logs", "retention.ms", "60000"),
            ("test.maturion.dead-letter", "max.message.bytes", INPUT_BYTES_MAX),
            ("test.maturion.progress", "cleanup.policy", "delete"),
            ("test.maturion.partials", "message.timestamp.type", "CreateTime"),
        ];
        for (name, key, value) in cases {
            let faults = check_with(|_, topic| {
                if topic.name == name {
                    topic.config.insert(key.into(), value.into());
                }
            });
            assert_eq!(faults.len(), 1, "{key}: {faults:?}");
            assert!(faults[0].contains(key), "{faults:?}");
        }
    }
}
