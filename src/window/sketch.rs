//! A percentile sketch: how many values lay in each of many narrow buckets, in place of the values.
//!
//! It promises, for any values in any order and split over any number of sketches:
//! - A quantile is within 1/128 (0.78 %) of the exact one, the value at rank `max(1, ceil(q * n))` of the `n` values
//!   in ascending order (SQL's `percentile_disc`). Zero is exact; subnormals count as zero.
//! - Merging is exact, commutative and associative: counts are integers, so equal multisets of values have equal bytes
//!   however they were gathered.
//! - Memory is bounded: 8 to 16 bytes per distinct bucket while they are few, and whatever the values at most
//!   [`MAX_BUCKETS`] counters for each sign: 64 KiB, twice that where doubling left room unused. Beyond that range the
//!   smallest magnitudes collapse into one bucket.
//!
//! NaN is no value and is skipped like null. Infinities count at the ends of the order and are reported as what they are.
//!
//! The layout is DDSketch's (Masson, Rim, Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
//! guarantees", VLDB 2019) with its "log-linear" mapping, which takes the bucket from the bits of the `f64`.
//! It never keeps a value, reads no clock and knows neither Arrow nor DataFusion.

mod bucket;
mod counts;
mod encoding;
mod groups;

pub use bucket::Bucket;
pub use counts::{MAX_BUCKETS, MAX_COUNT};
pub use encoding::{CorruptSketch, VERSION};
pub use groups::SketchGroups;

use counts::{Counts, saturating_sum};
use encoding::Decoder;

/// How many entries a log takes before it is first put in order: enough that a series with few values a window, of which
/// there may be hundreds of thousands, never pays for contiguous counters (64 entries are 512 bytes).
const LOG_ENTRIES: usize = 64;

/// The distribution of a set of numbers. See the module's head for what it promises.
#[derive(Clone, Debug)]
pub struct Sketch {
    form: Form,
}

/// Few values are a log, in order of arrival; many are contiguous counters.
#[derive(Clone, Debug)]
enum Form {
    Log(Vec<Entry>),
    Counts(Box<Counts>),
}

/// A bucket and a count in one word, which sorts by bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(u64);

impl Entry {
    const COUNT_BITS: u32 = u64::BITS - Bucket::POSITION_BITS;

    #[inline]
    fn new(bucket: Bucket, count: u64) -> Self {
        Self((u64::from(bucket.position()) << Self::COUNT_BITS) | count.min(MAX_COUNT))
    }

    fn position(self) -> u32 {
        (self.0 >> Self::COUNT_BITS) as u32
    }

    fn bucket(self) -> Bucket {
        // An entry is only ever made of a bucket, so its position is one.
        Bucket::at(self.position()).unwrap_or(Bucket::ZERO)
    }

    fn count(self) -> u64 {
        self.0 & MAX_COUNT
    }
}

impl Default for Sketch {
    fn default() -> Self {
        Self { form: Form::Log(Vec::new()) }
    }
}

impl Sketch {
    /// Counts one value; NaN is skipped.
    pub fn add(&mut self, value: f64) {
        if let Some(bucket) = Bucket::of(value) {
            self.count(bucket, 1);
        }
    }

    /// Whether no value was counted.
    pub fn is_empty(&self) -> bool {
        matches!(&self.form, Form::Log(entries) if entries.is_empty())
    }

    /// The quantile `q` in `[0, 1]` of the values counted: within 1/128 of the one at rank `max(1, ceil(q * n))`.
    /// None if no value was counted.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        nearest_rank(self.buckets().into_iter(), q)
    }

    /// The same from an encoded sketch, without building it.
    pub fn quantile_of_encoded(bytes: &[u8], q: f64) -> Result<Option<f64>, CorruptSketch> {
        let decoder = Decoder::new(bytes)?;
        decoder.clone().try_for_each(|bucket| bucket.map(|_| ()))?;
        Ok(nearest_rank(decoder.flatten(), q))
    }

    /// Appends the sketch's bytes. Sketches of equal multisets of values have equal bytes.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        encoding::encode(&self.buckets(), bytes);
    }

    /// Appends the bytes of the sketch of one value, and says whether it is one; NaN is none.
    pub fn encode_value(value: f64, bytes: &mut Vec<u8>) -> bool {
        let bucket = Bucket::of(value);
        if let Some(bucket) = bucket {
            encoding::encode(&[(bucket, 1)], bytes);
        }
        bucket.is_some()
    }

    /// Adds what an encoded sketch counted. Bytes that are no sketch are an error and change nothing.
    pub fn merge_encoded(&mut self, bytes: &[u8]) -> Result<(), CorruptSketch> {
        let decoder = Decoder::new(bytes)?;
        decoder.clone().try_for_each(|bucket| bucket.map(|_| ()))?;
        decoder.flatten().for_each(|(bucket, count)| self.count(bucket, count));
        Ok(())
    }

    /// Bytes on the heap, without the sketch's own few.
    pub fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Log(entries) => entries.capacity() * size_of::<Entry>(),
            Form::Counts(counts) => size_of::<Counts>() + counts.heap_bytes(),
        }
    }

    /// Counts one value where that takes no memory. False, and nothing is counted, where it would.
    #[inline]
    fn count_in_place(&mut self, bucket: Bucket) -> bool {
        match &mut self.form {
            Form::Counts(counts) => counts.count_existing(bucket),
            Form::Log(entries) if entries.len() < entries.capacity() => {
                entries.push(Entry::new(bucket, 1));
                true
            }
            Form::Log(_) => false,
        }
    }

    fn count(&mut self, bucket: Bucket, count: u64) {
        if let Form::Log(entries) = &mut self.form
            && entries.len() == entries.capacity()
            && entries.len() >= LOG_ENTRIES
        {
            self.tidy();
        }
        match &mut self.form {
            Form::Log(entries) => entries.push(Entry::new(bucket, count)),
            Form::Counts(counts) => counts.add(bucket, count),
        }
    }

    /// Makes room in a full log: adds up equal buckets, then turns it into counters if those are not much larger, or
    /// doubles it if it is still half full.
    fn tidy(&mut self) {
        let Form::Log(entries) = &mut self.form else { return };
        let full = entries.len();
        add_up(entries);
        if counters_needed(entries) <= 2 * full {
            let mut counts = Box::<Counts>::default();
            entries.iter().for_each(|entry| counts.add(entry.bucket(), entry.count()));
            self.form = Form::Counts(counts);
        } else if entries.len() > full / 2 {
            entries.reserve_exact(2 * full - entries.len());
        }
    }

    /// The buckets that hold values, in ascending order, with their counts: a function of the values alone.
    fn buckets(&self) -> Vec<(Bucket, u64)> {
        let entries = match &self.form {
            Form::Counts(counts) => return counts.buckets(),
            Form::Log(entries) => entries,
        };
        let mut entries = entries.clone();
        add_up(&mut entries);
        if sides(&entries).into_iter().all(|width| width <= MAX_BUCKETS) {
            return entries.iter().map(|entry| (entry.bucket(), entry.count())).collect();
        }
        let mut counts = Counts::default();
        entries.iter().for_each(|entry| counts.add(entry.bucket(), entry.count()));
        counts.buckets()
    }
}

/// Puts entries in order and adds up those of one bucket.
fn add_up(entries: &mut Vec<Entry>) {
    entries.sort_unstable();
    entries.dedup_by(|later, kept| {
        let same = later.position() == kept.position();
        if same {
            *kept = Entry::new(kept.bucket(), saturating_sum(kept.count(), later.count()));
        }
        same
    });
}

/// How many adjacent buckets ordered entries span on each side of zero, infinities apart.
fn sides(ordered: &[Entry]) -> [u32; 2] {
    let zero = ordered.partition_point(|entry| entry.position() < Bucket::ZERO.position());
    let (negative, rest) = ordered.split_at(zero);
    let finite = |entry: &&Entry| {
        ![Bucket::NEGATIVE_INFINITY, Bucket::ZERO, Bucket::POSITIVE_INFINITY].contains(&entry.bucket())
    };
    [negative, rest].map(|side| match (side.iter().find(finite), side.iter().rfind(finite)) {
        (Some(first), Some(last)) => last.position() - first.position() + 1,
        _ => 0,
    })
}

/// How many counters ordered entries would take.
fn counters_needed(ordered: &[Entry]) -> usize {
    sides(ordered).into_iter().map(|width| width.min(MAX_BUCKETS) as usize).sum()
}

/// The representative of the bucket that holds rank `max(1, ceil(q * n))`, of buckets in ascending order.
fn nearest_rank(buckets: impl Iterator<Item = (Bucket, u64)> + Clone, q: f64) -> Option<f64> {
    // There are fewer than 2^18 buckets of fewer than 2^46 values each, so no sum overflows.
    let total: u64 = buckets.clone().map(|(_, count)| count).sum();
    let rank = ((q * total as f64).ceil() as u64).clamp(1, total.max(1));
    let mut reached = 0;
    buckets.into_iter().find_map(|(bucket, count)| {
        reached += count;
        (reached >= rank).then(|| bucket.representative())
    })
}

#[cfg(test)]
mod tests;
