//! Any interleaving of append, seal, commit, compact, crash and query shows each row exactly once.

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use chrono::NaiveDate;
use object_store::path::Path;
use proptest::prelude::*;

use super::*;

/// What may happen, with the input that it happens to.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many rows are read from Kafka.
    Read(usize, i64),
    Seal,
    /// The oldest sealed chunk is committed, and the writer hears of it …
    Commit,
    /// … or it does not: the answer was lost.
    CommitUnheard,
    /// All files become one, perhaps by another process.
    Compact,
    /// This process looks at the newest version.
    Refresh,
    /// This process ends and begins anew.
    Crash,
    /// An input goes to another process, and comes back.
    Lose(usize),
}

const INPUTS: [&str; 2] = ["logs-0", "logs-1"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..INPUTS.len(), 0..5_i64).prop_map(|(input, rows)| Step::Read(input, rows)),
        2 => Just(Step::Seal),
        2 => Just(Step::Commit),
        1 => Just(Step::CommitUnheard),
        1 => Just(Step::Compact),
        1 => Just(Step::Refresh),
        1 => Just(Step::Crash),
        1 => (0..INPUTS.len()).prop_map(Step::Lose),
    ]
}

/// A row: its input and its offset.
type Row = (usize, i64);

/// A Delta table as far as it matters: versions of files that hold rows, with offsets.
#[derive(Default)]
struct Disk {
    newest: Committed,
    rows: BTreeMap<Path, Vec<Row>>,
}

impl Disk {
    fn add(&mut self, rows: Vec<Row>) {
        let path = Path::from(format!("{}.parquet", self.rows.len()));
        let file = FileEntry {
            path: path.clone(),
            bytes: 1,
            rows: rows.len() as u64,
            day: NaiveDate::default(),
            kept_days: 30,
            times: None,
            organisations: None,
        };
        self.rows.insert(path, rows);
        self.newest.files.push(Arc::new(file));
        self.newest.version += 1;
    }

    fn offset(&self, input: &Input) -> i64 {
        self.newest.offsets.get(input).copied().unwrap_or(0)
    }

    /// What does not follow the committed offsets is refused.
    fn commit(&mut self, chunk: &Chunk) {
        if chunk.parts.iter().all(|(input, part)| self.offset(input) == part.range.start) {
            self.add(chunk.batches().flat_map(rows_of).collect());
            self.newest.offsets.extend(chunk.parts.iter().map(|(input, part)| (Arc::clone(input), part.range.end)));
        }
    }

    fn compact(&mut self) {
        let files = std::mem::take(&mut self.newest.files);
        self.add(files.iter().flat_map(|file| self.rows[&file.path].clone()).collect());
    }
}

fn batch(input: usize, offsets: std::ops::Range<i64>) -> RecordBatch {
    let fields = ["input", "offset"].map(|name| Field::new(name, DataType::Int64, false));
    let inputs = Int64Array::from_iter_values(offsets.clone().map(|_| input as i64));
    let offsets = Int64Array::from_iter_values(offsets);
    RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), vec![Arc::new(inputs), Arc::new(offsets)]).unwrap()
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let column = |place: usize| batch.column(place).as_primitive::<Int64Type>().values().to_vec();
    column(0).into_iter().map(|input| input as usize).zip(column(1)).collect()
}

fn visible(disk: &Disk, view: &TableView) -> Vec<Row> {
    let cold = view.committed.files.iter().flat_map(|file| disk.rows[&file.path].clone());
    let mut rows = cold.chain(view.hot.iter().flat_map(rows_of)).collect::<Vec<_>>();
    rows.sort_unstable();
    rows
}

fn input(place: usize) -> Input {
    INPUTS[place].into()
}

/// Runs the steps; after each, the view has exactly the rows that were read, from the first on.
fn run(steps: &[Step]) {
    let (mut disk, mut state, mut read) = (Disk::default(), TableState::default(), [0_i64; INPUTS.len()]);
    for step in steps {
        match *step {
            Step::Read(place, rows) => {
                let range = OffsetRange { start: read[place], end: read[place] + rows };
                state.append(&input(place), range, batch(place, range.start..range.end)).unwrap();
                read[place] = range.end;
            }
            Step::Seal => drop(state.seal()),
            Step::Commit | Step::CommitUnheard => {
                if let Some(chunk) = state.oldest_sealed() {
                    disk.commit(&chunk);
                }
                if matches!(step, Step::Commit) {
                    state.adopt(Arc::new(disk.newest.clone()));
                }
            }
            Step::Compact => disk.compact(),
            Step::Refresh => state.adopt(Arc::new(disk.newest.clone())),
            Step::Crash => {
                state = TableState::default();
                state.adopt(Arc::new(disk.newest.clone()));
                read = [0, 1].map(|place| disk.offset(&input(place)));
            }
            Step::Lose(place) => {
                state.forget(&[input(place)]);
                state.adopt(Arc::new(disk.newest.clone()));
                read[place] = disk.offset(&input(place));
            }
        }
        let expected = read.iter().enumerate().flat_map(|(place, next)| (0..*next).map(move |offset| (place, offset)));
        assert_eq!(visible(&disk, &state.view()), expected.collect::<Vec<_>>(), "after {step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_view_shows_each_row_exactly_once(steps in proptest::collection::vec(step(), 0..60)) {
        run(&steps);
    }
}

#[test]
fn an_older_version_is_not_adopted() {
    let mut state = TableState::default();
    state.adopt(Arc::new(Committed { version: 3, ..Committed::default() }));
    state.adopt(Arc::new(Committed { version: 2, ..Committed::default() }));
    assert_eq!(state.view().committed.version, 3);
}
