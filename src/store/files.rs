//! Live files of a Delta table, and which of them a statement need not open.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate};
use deltalake_core::kernel::LogicalFileView;
use object_store::path::Path;
use serde_json::Value;

use crate::model::pipeline::Micros;

/// The partition column of the day of event time, UTC.
pub const DAY: &str = "day";
/// The partition column of how many days the rows are kept.
pub const KEPT_DAYS: &str = "kept_days";

/// Statistics of times are cut to milliseconds.
const TIME_CUT: Micros = 999;

/// One Parquet file of a version.
#[derive(Clone, Debug)]
pub struct FileEntry {
    /// Below the table's folder.
    pub path: Path,
    pub bytes: u64,
    pub rows: u64,
    pub day: NaiveDate,
    pub kept_days: i64,
    /// Least and largest event time; `None` if the file does not say.
    pub times: Option<(Micros, Micros)>,
    /// Least and largest organisation, and whether rows without one are among them; `None` if the file does not say.
    pub organisations: Option<(String, String, bool)>,
}

impl FileEntry {
    /// Reads what the log says about a file; `None` if it is none of a store's.
    pub fn read(file: &LogicalFileView, time_column: &str) -> Option<Arc<FileEntry>> {
        let partition = file.partition_values_map();
        let value = |name: &str| partition.get(name)?.clone();
        let stats = file.stats().and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or_default();
        Some(Arc::new(FileEntry {
            path: file.object_store_path(),
            bytes: u64::try_from(file.size()).ok()?,
            rows: stats["numRecords"].as_u64().unwrap_or_default(),
            day: value(DAY)?.parse().ok()?,
            kept_days: value(KEPT_DAYS)?.parse().ok()?,
            times: times(&stats, time_column),
            organisations: organisations(&stats),
        }))
    }

    /// True if no row can be of this time and organisation.
    pub fn is_outside(&self, bounds: &Bounds) -> bool {
        let too_early = |(_, last): (Micros, Micros)| bounds.from.is_some_and(|from| last < from);
        let too_late = |(first, _): (Micros, Micros)| bounds.to.is_some_and(|to| first > to);
        let of_others = |organisation: &String| match &self.organisations {
            Some((least, largest, _)) => organisation < least || organisation > largest,
            None => false,
        };
        self.times.is_some_and(|times| too_early(times) || too_late(times))
            || bounds.organisation.as_ref().is_some_and(of_others)
    }
}

/// What is known of the rows that a statement wants; everything, unless something else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub from: Option<Micros>,
    pub to: Option<Micros>,
    pub organisation: Option<String>,
}

fn times(stats: &Value, column: &str) -> Option<(Micros, Micros)> {
    let time = |which: &str| {
        let text = stats[which][column].as_str()?;
        Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros())
    };
    Some((time("minValues")?, time("maxValues")?.saturating_add(TIME_CUT)))
}

fn organisations(stats: &Value) -> Option<(String, String, bool)> {
    let text = |which: &str| stats[which]["organisation_id"].as_str().map(str::to_owned);
    let nulls = stats["nullCount"]["organisation_id"].as_u64()?;
    Some((text("minValues")?, text("maxValues")?, nulls > 0))
}
