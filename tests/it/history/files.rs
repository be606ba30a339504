//! Files: how they are packed, in how many they are, as lines or as Parquet, and with what cannot be read in them.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use maturion::backfill::{self, BackfillError, Files, History, Job, Settings};
use maturion::decode::{DecodeLimits, Decoder, Incoming, Table};
use maturion::evaluate::PipelineSet;
use maturion::model::pipeline::Source;
use maturion::model::schema::StoreTable;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::{Heard, backfill_of, backfill_with, compiled, write};
use crate::flow::shipped;
use crate::whole::{MINUTE, START, outage};

fn set() -> Arc<PipelineSet> {
    compiled(shipped().into_iter().filter(|pipeline| pipeline.source == Source::Logs).collect())
}

/// The records as a batch of the table `logs`.
fn decoded(records: &[Vec<u8>]) -> RecordBatch {
    let mut decoder = Decoder::new(Table::Logs, DecodeLimits::default());
    for value in records {
        let record = Incoming { value, kafka_timestamp_ms: None, partition: 0, offset: 0 };
        decoder.push(&record).unwrap_or_else(|rejection| panic!("{rejection}"));
    }
    decoder.finish().unwrap()
}

fn write_parquet(path: &Path, batch: &RecordBatch, rows_of_a_group: usize) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows_of_a_group)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

#[track_caller]
fn assert_same(one: &Heard, other: &Heard) {
    assert_eq!(one.report.rows, other.report.rows);
    assert_eq!(one.said(), other.said());
    assert_eq!(one.windows.len(), other.windows.len());
}

#[test]
fn plain_gzip_and_zstd_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let records = outage();
    let plain = backfill_of(&[write(folder.path(), "a.ndjson", &records)], &set());
    assert!(!plain.detections.is_empty());
    for name in ["a.ndjson.gz", "a.jsonl.zst"] {
        let packed = backfill_of(&[write(folder.path(), name, &records)], &set());
        assert_eq!(packed.windows, plain.windows, "{name}");
        assert_same(&packed, &plain);
    }
}

#[test]
fn a_folder_is_read_by_event_time_whatever_its_files_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let records = outage();
    let whole = backfill_of(&[write(folder.path(), "whole.ndjson", &records)], &set());
    let parts = folder.path().join("parts");
    std::fs::create_dir_all(parts.join("deeper")).unwrap();
    // Ten files of neighbouring times, the later ones first by their names, and each of a kind of its own.
    for (nth, part) in records.chunks(records.len() / 10).enumerate() {
        match nth % 3 {
            0 => drop(write(&parts, &format!("{}.ndjson", 99 - nth), part)),
            1 => drop(write(&parts, &format!("deeper/{}.ndjson.gz", 99 - nth), part)),
            _ => write_parquet(&parts.join(format!("{}.parquet", 99 - nth)), &decoded(part), 100),
        }
    }
    std::fs::write(parts.join("README.txt"), "not for us").unwrap();
    let settings = Settings { disorder: MINUTE, ..Settings::default() };
    let read = backfill_with(&[parts], &set(), &settings);
    assert_eq!(read.late(), 0);
    assert_same(&read, &whole);
}

/// Two files of the same hours: neither makes the other's rows late.
#[test]
fn files_of_the_same_time_are_read_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let records = outage();
    let whole = backfill_of(&[write(folder.path(), "whole.ndjson", &records)], &set());
    let half = |rest: usize| records.iter().skip(rest).step_by(2).cloned().collect::<Vec<_>>();
    let paths = [write(folder.path(), "a.ndjson", &half(0)), write(folder.path(), "b.ndjson", &half(1))];
    let read = backfill_with(&paths, &set(), &Settings { disorder: 0, ..Settings::default() });
    assert_eq!(read.late(), 0);
    assert_same(&read, &whole);
}

#[test]
fn parquet_gives_what_lines_give() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = outage();
    let lines = backfill_of(&[write(folder.path(), "a.ndjson", &records)], &set());
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &decoded(&records), 700);
    let columns = backfill_of(std::slice::from_ref(&path), &set());
    assert_same(&columns, &lines);
    // Sorted by something else: the statistics of the row groups tell when a window may close.
    records.sort_by_key(|record| record.len());
    records.reverse();
    write_parquet(&path, &decoded(&records), 700);
    let unordered = backfill_with(&[path], &set(), &Settings { disorder: 0, ..Settings::default() });
    assert_eq!(unordered.late(), 0);
    assert_same(&unordered, &lines);
}

#[test]
fn parquet_of_others_is_read_as_far_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theirs.parquet");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("shard", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("event", Arc::new(StringArray::from(vec!["http_request"; 3]))),
        ("status_code", Arc::new(Int64Array::from(vec![500, 200, 200]))),
        ("timestamp", Arc::new(TimestampMillisecondArray::from(vec![Some(START / 1_000), Some(START / 1_000), None]))),
    ];
    write_parquet(&path, &RecordBatch::try_from_iter(columns).unwrap(), 100);
    let sets = [set()];
    let files = Files::open(std::slice::from_ref(&path), None, &backfill::needed(&sets)).unwrap();
    assert_eq!(files.notes.len(), 1, "{:?}", files.notes);
    assert!(files.notes[0].ends_with("columns that no table has are ignored: shard"), "{:?}", files.notes);
    let heard = backfill_of(&[path], &sets[0]);
    assert_eq!(heard.report.rows, 2);
    assert_eq!(heard.rejected.len(), 1);
    assert_eq!(heard.rejected[0].kind, "no_time");
    assert!(String::from_utf8_lossy(&heard.rejected[0].bytes).contains("\"status_code\":200"));
    let window = heard.windows.iter().find(|window| window["pipeline"] == "api_errors").unwrap();
    assert_eq!((window["requests"].as_u64(), window["errors"].as_u64()), (Some(2), Some(1)));
}

#[test]
fn what_cannot_be_read_is_counted_and_handed_out_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = outage();
    let bad: [&[u8]; 5] = [b"not JSON", b"[1]", b"\xff\xfe", b"{\"timestamp\":\"yesterday\"}", b"{\"module\":\"a\"}"];
    for (nth, bytes) in bad.iter().enumerate() {
        records.insert(1_000 * (nth + 1), bytes.to_vec());
    }
    let path = write(folder.path(), "a.ndjson", &records);
    let heard = backfill_of(std::slice::from_ref(&path), &set());
    assert_eq!(heard.report.rows as usize, records.len() - bad.len());
    assert_eq!(heard.rejected.iter().map(|it| it.bytes.as_slice()).collect::<Vec<_>>(), bad);
    for (nth, rejected) in heard.rejected.iter().enumerate() {
        assert_eq!(rejected.position, format!("{}:{}", path.display(), 1_000 * (nth + 1) + 1));
    }
    let kinds = heard.report.rejected.iter().map(|(kind, (count, _))| (*kind, *count)).collect::<Vec<_>>();
    assert_eq!(kinds, [("no_time", 1), ("not_an_object", 2), ("not_utf8", 1), ("unreadable_time", 1)]);
}

#[test]
fn a_range_leaves_out_what_is_before_it_and_from_its_end_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.ndjson", &outage());
    let settings = Settings { from: START + 5 * MINUTE, to: START + 7 * MINUTE, ..Settings::default() };
    let heard = backfill_with(&[path], &set(), &settings);
    assert_eq!((heard.report.rows, heard.report.outside), (2 * 400, 28 * 400));
    let starts = heard.windows.iter().map(|window| window["window_start"].as_str().unwrap().to_owned());
    let starts = starts.collect::<std::collections::BTreeSet<_>>();
    assert_eq!(starts.into_iter().collect::<Vec<_>>(), ["2025-12-03T10:05:00Z", "2025-12-03T10:06:00Z"]);
}

#[test]
fn rows_may_come_from_elsewhere_than_files() {
    let folder = tempfile::tempdir().unwrap();
    let records = outage();
    let lines = backfill_of(&[write(folder.path(), "a.ndjson", &records)], &set());
    let batches = records.chunks(500).map(|part| Ok((StoreTable::Logs, decoded(part)))).collect::<Vec<_>>();
    let run = |history| {
        let mut heard = Heard::default();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let report = backfill::run(history, &[set()], &Settings::default(), &mut heard, &stop);
        report.map(|report| Heard { report, ..heard })
    };
    let read =
        run(History::of_batches(vec![Box::new(batches.into_iter())], 0)).unwrap_or_else(|error| panic!("{error}"));
    assert_same(&read, &lines);
    let of_detections = (StoreTable::Detections, RecordBatch::new_empty(StoreTable::Detections.schema()));
    let refused = run(History::of_batches(vec![Box::new([Ok(of_detections)].into_iter())], 0));
    assert!(matches!(refused, Err(BackfillError::Unusable(_))));
    let broken = run(History::of_batches(vec![Box::new([Err("the store is away".to_owned())].into_iter())], 0));
    assert!(matches!(broken, Err(BackfillError::Rows(reason)) if reason == "the store is away"));
}

#[test]
fn what_was_said_becomes_rows_for_the_store_and_the_job_has_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.ndjson", &outage());
    let sets = [set()];
    let files = || Files::open(std::slice::from_ref(&path), None, &backfill::needed(&sets)).unwrap();
    let recorded = || {
        struct Recording(backfill::Recorder, Vec<(StoreTable, RecordBatch)>);
        impl backfill::Sink for Recording {
            fn say(&mut self, _: usize, outputs: &maturion::evaluate::shard::Outputs) -> Result<(), BackfillError> {
                let batches = &mut self.1;
                self.0.take(outputs, &mut |table, rows| {
                    batches.push((table, rows));
                    Ok(())
                })
            }
            fn reject(&mut self, _: &backfill::Rejected) -> Result<(), BackfillError> {
                Ok(())
            }
            fn progress(&mut self, _: &backfill::Progress) {}
        }
        let mut sink = Recording(backfill::Recorder::new(&sets[0], &[]), Vec::new());
        let stop = std::sync::atomic::AtomicBool::new(false);
        backfill::run(History::of_files(files()), &sets, &Settings::default(), &mut sink, &stop).unwrap();
        let Recording(mut recorder, mut batches) = sink;
        recorder
            .finish(&mut |table, rows| {
                batches.push((table, rows));
                Ok(())
            })
            .unwrap();
        batches
    };
    let rows = recorded();
    let heard = backfill_of(std::slice::from_ref(&path), &sets[0]);
    let count = |table| rows.iter().filter(|(of, _)| *of == table).map(|(_, rows)| rows.num_rows()).sum::<usize>();
    assert_eq!(count(StoreTable::Windows), heard.windows.len());
    assert_eq!(count(StoreTable::Detections), heard.detections.len());
    assert_eq!(rows, recorded(), "the same rows once more");
}

/// A job is what it computes: neither names nor places of files count, nor how many cores there are.
#[test]
fn a_job_is_known_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.ndjson", &outage());
    let sets = [set()];
    let of = |path: &Path, names: &[String], settings: &Settings| {
        let files = Files::open(&[path.to_owned()], None, &backfill::needed(&sets)).unwrap();
        Job::new(&files.digests().unwrap(), &sets[0], names, settings)
    };
    let all = of(&path, &[], &Settings::default());
    assert_eq!(all, of(&path, &[], &Settings { workers: 7, ..Settings::default() }));
    assert_ne!(all.id, of(&path, &[], &Settings { to: START, ..Settings::default() }).id);
    assert_ne!(all.id, of(&path, &["api_errors".to_owned()], &Settings::default()).id);
    let copy = write(folder.path(), "elsewhere.ndjson", &outage());
    assert_eq!(all, of(&copy, &[], &Settings::default()));
    // As long as before, and other content.
    let mut records = outage();
    records.swap(0, 1);
    write(folder.path(), "a.ndjson", &records);
    assert_ne!(all.id, of(&path, &[], &Settings::default()).id);
}
