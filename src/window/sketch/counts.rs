//! Counters of buckets, one per bucket and contiguous: the form of a sketch that has seen many values.

use super::bucket::Bucket;

/// How many adjacent buckets of one sign a sketch tells apart: 64 octaves, 19 decimal orders of magnitude.
///
/// Values further below the largest magnitude of their sign than this count as the smallest one kept, an absolute
/// error of less than 2^-63 of that largest magnitude. Raising it costs eight bytes per bucket and sketch.
pub const MAX_BUCKETS: u32 = 64 * 64;

/// The most one bucket counts (70 trillion); it stays there instead of overflowing.
pub const MAX_COUNT: u64 = (1 << (u64::BITS - Bucket::POSITION_BITS)) - 1;

/// Counters for every bucket of a sketch.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    positive: Run,
    negative: Run,
    zero: u64,
    positive_infinity: u64,
    negative_infinity: u64,
}

impl Counts {
    /// Counts into a bucket that already has its counter. False, and nothing is counted, if it has none.
    #[inline]
    pub fn count_existing(&mut self, bucket: Bucket) -> bool {
        let run = if bucket > Bucket::ZERO { &mut self.positive } else { &mut self.negative };
        match run.counter(bucket.magnitude()) {
            Some(counter) => {
                *counter = saturating_sum(*counter, 1);
                true
            }
            None => false,
        }
    }

    /// Counts `count` values of a bucket, making room for it if there is none.
    pub fn add(&mut self, bucket: Bucket, count: u64) {
        let counter = match bucket {
            Bucket::ZERO => &mut self.zero,
            Bucket::POSITIVE_INFINITY => &mut self.positive_infinity,
            Bucket::NEGATIVE_INFINITY => &mut self.negative_infinity,
            finite if finite > Bucket::ZERO => return self.positive.add(finite.magnitude(), count),
            finite => return self.negative.add(finite.magnitude(), count),
        };
        *counter = saturating_sum(*counter, count);
    }

    /// The buckets that hold values, in ascending order, with their counts.
    pub fn buckets(&self) -> Vec<(Bucket, u64)> {
        let mirrored = self.negative.buckets().rev().map(|(bucket, count)| (bucket.mirrored(), count));
        std::iter::once((Bucket::NEGATIVE_INFINITY, self.negative_infinity))
            .chain(mirrored)
            .chain([(Bucket::ZERO, self.zero)])
            .chain(self.positive.buckets())
            .chain([(Bucket::POSITIVE_INFINITY, self.positive_infinity)])
            .filter(|&(_, count)| count > 0)
            .collect()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        (self.positive.counters.capacity() + self.negative.counters.capacity()) * size_of::<u64>()
    }
}

/// Counters of adjacent buckets of one sign, by magnitude. The last one is never zero.
#[derive(Clone, Debug, Default)]
struct Run {
    first: u32,
    counters: Vec<u64>,
}

impl Run {
    #[inline]
    fn counter(&mut self, magnitude: u32) -> Option<&mut u64> {
        self.counters.get_mut(magnitude.wrapping_sub(self.first) as usize)
    }

    #[inline]
    fn add(&mut self, magnitude: u32, count: u64) {
        if let Some(counter) = self.counter(magnitude) {
            *counter = saturating_sum(*counter, count);
            return;
        }
        let kept = self.make_room(magnitude);
        if let Some(counter) = self.counter(kept) {
            *counter = saturating_sum(*counter, count);
        }
    }

    /// Makes sure that a magnitude has its counter, and returns the one it is counted at: its own, or the lowest kept.
    fn make_room(&mut self, magnitude: u32) -> u32 {
        if self.counters.is_empty() {
            self.first = magnitude;
        }
        let end = self.first + self.counters.len() as u32;
        if magnitude >= end {
            self.collapse_below((magnitude + 1).saturating_sub(MAX_BUCKETS));
            self.counters.resize((magnitude - self.first + 1) as usize, 0);
            return magnitude;
        }
        let lowest = magnitude.max(end.saturating_sub(MAX_BUCKETS));
        if lowest < self.first {
            let added = (self.first - lowest) as usize;
            self.counters.splice(..0, std::iter::repeat_n(0, added));
            self.first = lowest;
        }
        lowest.max(self.first)
    }

    /// Moves what is counted below a magnitude to it, so that the run begins there at the earliest.
    fn collapse_below(&mut self, lowest: u32) {
        if lowest <= self.first {
            return;
        }
        let below = self.counters.len().min((lowest - self.first) as usize);
        let collapsed = self.counters.drain(..below).fold(0, saturating_sum);
        self.first = lowest;
        match self.counters.first_mut() {
            Some(counter) => *counter = saturating_sum(*counter, collapsed),
            None => self.counters.push(collapsed),
        }
    }

    fn buckets(&self) -> impl DoubleEndedIterator<Item = (Bucket, u64)> {
        self.counters.iter().enumerate().map(|(i, &count)| (Bucket::positive(self.first + i as u32), count))
    }
}

/// The sum of two counts, at most [`MAX_COUNT`]. Commutative and associative, as merging must be.
#[inline]
pub fn saturating_sum(a: u64, b: u64) -> u64 {
    a.saturating_add(b).min(MAX_COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counted(magnitudes: &[u32]) -> Run {
        let mut run = Run::default();
        magnitudes.iter().for_each(|&magnitude| run.add(magnitude, 1));
        run
    }

    /// What the rule says, computed from all values at once.
    fn expected(magnitudes: &[u32]) -> Vec<(Bucket, u64)> {
        let lowest = magnitudes.iter().max().map_or(0, |max| (max + 1).saturating_sub(MAX_BUCKETS));
        let mut counts = std::collections::BTreeMap::new();
        for &magnitude in magnitudes {
            *counts.entry(Bucket::positive(magnitude.max(lowest))).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    proptest! {
        #[test]
        fn the_lowest_collapse_alike_in_any_order(magnitudes in prop::collection::vec(64u32..20_000, 0..60)) {
            let run = counted(&magnitudes);
            prop_assert!(run.counters.len() <= MAX_BUCKETS as usize);
            let held: Vec<_> = run.buckets().filter(|&(_, count)| count > 0).collect();
            prop_assert_eq!(held, expected(&magnitudes));
        }
    }

    #[test]
    fn a_full_counter_stays_full() {
        let mut counts = Counts::default();
        let bucket = Bucket::positive(64);
        counts.add(bucket, MAX_COUNT);
        counts.add(bucket, u64::MAX);
        assert!(counts.count_existing(bucket));
        assert_eq!(counts.buckets(), [(bucket, MAX_COUNT)]);
    }
}
