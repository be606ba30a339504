//! Any interleaving of append, seal, commit, compact, crash, loss and query shows each row exactly once.

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
    /// The writer takes the oldest sealed chunk, and writes its files.
    Take,
    /// It commits what it took, and hears of it …
    Land,
    /// … or it does not: the answer was lost.
    LandUnheard,
    /// All files become one, perhaps by another process.
    Compact,
    /// This process looks at the newest version.
    Refresh,
    /// This process ends and begins anew. What it was writing may still land.
    Crash,
    /// An input goes to another process …
    Lose(usize),
    /// … and comes back: reading goes on from what is committed.
    Assign(usize),
    /// Another process commits rows of an input, be it a former owner that does not know it yet.
    Foreign(usize, i64),
}

const INPUTS: [&str; 2] = ["logs-0", "logs-1"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..INPUTS.len(), 0..5_i64).prop_map(|(input, rows)| Step::Read(input, rows)),
        2 => Just(Step::Seal),
        2 => Just(Step::Take),
        2 => Just(Step::Land),
        1 => Just(Step::LandUnheard),
        1 => Just(Step::Compact),
        1 => Just(Step::Refresh),
        1 => Just(Step::Crash),
        1 => (0..INPUTS.len()).prop_map(Step::Lose),
        2 => (0..INPUTS.len()).prop_map(Step::Assign),
        1 => (0..INPUTS.len(), 1..5_i64).prop_map(|(input, rows)| Step::Foreign(input, rows)),
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

    /// Rows that follow what is committed.
    fn extend(&mut self, place: usize, rows: i64) {
        let (name, start) = (input(place), self.offset(&input(place)));
        self.add((start..start + rows).map(|offset| (place, offset)).collect());
        self.newest.offsets.insert(name, start + rows);
    }

    fn compact(&mut self) {
        let files = std::mem::take(&mut self.newest.files);
        self.add(files.iter().flat_map(|file| self.rows[&file.path].clone()).collect());
    }
}

fn batch(input: usize, offsets: std::ops::Range<i64>) -> RecordBatch {
    let fields = ["input", "kafka_offset"].map(|name| Field::new(name, DataType::Int64, false));
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

/// A process, and the table that it shares with others.
struct World {
    disk: Disk,
    state: TableState,
    /// How far each input was read; `None` while it belongs to another process.
    read: [Option<i64>; INPUTS.len()],
    /// What the writer is about to commit.
    taken: Option<Arc<Chunk>>,
}

impl World {
    fn step(&mut self, step: Step) {
        match step {
            Step::Read(place, rows) => self.read(place, rows),
            Step::Seal => drop(self.state.seal()),
            Step::Take => self.taken = self.taken.take().or_else(|| self.state.oldest_sealed()),
            Step::Land => {
                self.land();
                self.adopt();
            }
            Step::LandUnheard => self.land(),
            Step::Compact => self.disk.compact(),
            Step::Refresh => self.adopt(),
            Step::Crash => {
                self.state = TableState::default();
                self.read = [None; INPUTS.len()];
                (0..INPUTS.len()).for_each(|place| self.assign(place));
            }
            Step::Lose(place) => {
                self.state.forget(&[input(place)]);
                self.read[place] = None;
            }
            Step::Assign(place) => self.assign(place),
            Step::Foreign(place, rows) => self.disk.extend(place, rows),
        }
    }

    fn read(&mut self, place: usize, rows: i64) {
        if let Some(start) = self.read[place] {
            let range = OffsetRange { start, end: start + rows };
            self.state.append(&input(place), range, batch(place, range.start..range.end)).unwrap();
            self.read[place] = Some(range.end);
        }
    }

    fn land(&mut self) {
        if let Some(chunk) = self.taken.take() {
            self.disk.commit(&chunk);
        }
    }

    fn adopt(&mut self) {
        self.state.adopt(Arc::new(self.disk.newest.clone()));
    }

    fn assign(&mut self, place: usize) {
        if self.read[place].is_none() {
            self.adopt();
            self.read[place] = Some(self.disk.offset(&input(place)));
        }
    }

    /// What is committed, and what was read beyond it, from the first row on.
    fn expected(&self, committed: &Committed) -> Vec<Row> {
        let end = |place: usize| {
            let committed = committed.offsets.get(&input(place)).copied().unwrap_or(0);
            self.read[place].map_or(committed, |read| read.max(committed))
        };
        (0..INPUTS.len()).flat_map(|place| (0..end(place)).map(move |offset| (place, offset))).collect()
    }
}

/// Runs the steps; after each, the view has exactly the rows that it should.
fn run(steps: &[Step]) {
    let (disk, state) = (Disk::default(), TableState::default());
    let mut world = World { disk, state, read: [Some(0); INPUTS.len()], taken: None };
    for step in steps {
        world.step(*step);
        let view = world.state.view();
        assert_eq!(visible(&world.disk, &view), world.expected(&view.committed), "after {step:?}");
        let bytes = view.hot.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
        assert_eq!(world.state.hot_bytes(), bytes, "after {step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_view_shows_each_row_exactly_once(steps in proptest::collection::vec(step(), 0..60)) {
        run(&steps);
    }
}

/// The commit of a partition that was lost landed after its offset was looked up again: its rows were there twice.
#[test]
fn a_commit_that_lands_after_its_input_came_back_shows_no_row_twice() {
    let before = [Step::Read(0, 5), Step::Seal, Step::Take, Step::Lose(0)];
    for after in [
        [Step::Assign(0), Step::Land, Step::Read(0, 7), Step::Seal],
        [Step::Assign(0), Step::Read(0, 3), Step::Land, Step::Read(0, 4)],
        [Step::Assign(0), Step::Read(0, 7), Step::Land, Step::Seal],
        [Step::Land, Step::Assign(0), Step::Read(0, 7), Step::Seal],
    ] {
        run(&[&before[..], &after[..], &[Step::Seal, Step::Take, Step::Land]].concat());
    }
}

#[test]
fn what_follows_a_commit_of_another_process_is_committed() {
    let (mut disk, mut state) = (Disk::default(), TableState::default());
    state.append(&input(0), OffsetRange { start: 0, end: 9 }, batch(0, 0..9)).unwrap();
    let refused = state.seal().unwrap();
    disk.extend(0, 4);
    disk.commit(&refused);
    assert_eq!(disk.offset(&input(0)), 4);
    state.adopt(Arc::new(disk.newest.clone()));
    disk.commit(&state.oldest_sealed().unwrap());
    state.adopt(Arc::new(disk.newest.clone()));
    assert_eq!(visible(&disk, &state.view()), (0..9).map(|offset| (0, offset)).collect::<Vec<_>>());
    assert_eq!(state.hot_bytes(), 0);
}

#[test]
fn an_older_version_is_not_adopted() {
    let mut state = TableState::default();
    state.adopt(Arc::new(Committed { version: 3, ..Committed::default() }));
    state.adopt(Arc::new(Committed { version: 2, ..Committed::default() }));
    assert_eq!(state.view().committed.version, 3);
}
