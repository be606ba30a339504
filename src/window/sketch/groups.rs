//! One sketch per group, updated a batch at a time: what an aggregation holds.

use super::{Bucket, CorruptSketch, Sketch};

/// The sketches of groups 0, 1, 2 …, and how much memory they take.
#[derive(Debug, Default)]
pub struct SketchGroups {
    sketches: Vec<Sketch>,
    heap_bytes: usize,
}

impl SketchGroups {
    /// Makes sure that groups `0..groups` exist; new ones are empty.
    pub fn grow_to(&mut self, groups: usize) {
        if groups > self.sketches.len() {
            self.sketches.resize_with(groups, Sketch::default);
        }
    }

    /// Counts each value in its group's sketch; NaN is skipped, and so is a row whose group does not exist.
    pub fn update(&mut self, rows: impl Iterator<Item = (usize, f64)>) {
        for (group, value) in rows {
            let Some(bucket) = Bucket::of(value) else { continue };
            let Some(sketch) = self.sketches.get_mut(group) else { continue };
            if !sketch.count_in_place(bucket) {
                let before = sketch.heap_bytes();
                sketch.count(bucket, 1);
                self.heap_bytes = self.heap_bytes + sketch.heap_bytes() - before;
            }
        }
    }

    /// Merges each encoded sketch into its group's. At bytes that are no sketch it stops with an error; the rows before
    /// are merged.
    pub fn merge<'a>(&mut self, rows: impl Iterator<Item = (usize, &'a [u8])>) -> Result<(), CorruptSketch> {
        for (group, bytes) in rows {
            let Some(sketch) = self.sketches.get_mut(group) else { continue };
            let before = sketch.heap_bytes();
            sketch.merge_encoded(bytes)?;
            self.heap_bytes = self.heap_bytes + sketch.heap_bytes() - before;
        }
        Ok(())
    }

    /// Removes and returns the sketches of the first groups (all, if there are no more); the others move down.
    pub fn take_first(&mut self, groups: usize) -> Vec<Sketch> {
        let rest = self.sketches.split_off(groups.min(self.sketches.len()));
        let taken = std::mem::replace(&mut self.sketches, rest);
        self.heap_bytes -= taken.iter().map(Sketch::heap_bytes).sum::<usize>();
        taken
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.sketches.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.sketches.is_empty()
    }

    /// Bytes that the sketches take.
    pub fn memory_bytes(&self) -> usize {
        self.heap_bytes + self.sketches.capacity() * size_of::<Sketch>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(sketch: &Sketch) -> Vec<u8> {
        let mut bytes = Vec::new();
        sketch.encode(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn groups_are_sketches_of_their_own(rows in prop::collection::vec((0usize..5, any::<f64>()), 0..1_000)) {
            let mut groups = SketchGroups::default();
            let mut alone = vec![Sketch::default(); 5];
            groups.grow_to(5);
            groups.update(rows.iter().copied());
            rows.iter().for_each(|&(group, value)| alone[group].add(value));
            let held: usize = groups.sketches.iter().map(Sketch::heap_bytes).sum();
            prop_assert_eq!(groups.heap_bytes, held);
            let first = groups.take_first(2);
            let rest = groups.take_first(9);
            prop_assert_eq!(groups.heap_bytes, 0);
            let taken: Vec<_> = first.iter().chain(&rest).map(bytes).collect();
            prop_assert_eq!(taken, alone.iter().map(bytes).collect::<Vec<_>>());
        }
    }

    #[test]
    fn merging_counts_its_memory_and_stops_at_corrupt_bytes() {
        let mut groups = SketchGroups::default();
        groups.grow_to(2);
        let mut one = Vec::new();
        assert!(Sketch::encode_value(1.0, &mut one));
        assert_eq!(groups.merge([(0, one.as_slice()), (1, &one), (0, &one)].into_iter()), Ok(()));
        assert_eq!(groups.heap_bytes, groups.sketches.iter().map(Sketch::heap_bytes).sum::<usize>());
        assert!(groups.merge([(0, [0].as_slice())].into_iter()).is_err());
    }

    #[test]
    fn hundreds_of_thousands_of_small_groups_fit() {
        let mut groups = SketchGroups::default();
        let count = 2_000;
        groups.grow_to(count);
        let latency = |i: usize| 1.0 + (i * 7_919 % 5_000) as f64;
        groups.update((0..count * 50).map(|i| (i % count, latency(i / count + i))));
        assert!(groups.memory_bytes() / count < 600, "{} bytes a group", groups.memory_bytes() / count);
    }
}
