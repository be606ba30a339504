//! The percentile sketch over 1,000 groups: update, merge, encode. `cargo bench --bench sketch`
//!
//! The values are latencies: lognormal, median 100 ms, three decades wide. Elements per second are values per second for
//! `update` and sketches per second for the others.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use maturion::window::sketch::SketchGroups;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const GROUPS: usize = 1_000;
const BATCH: usize = 8_192;

/// Rows of a group and a value, repeatable.
fn rows(count: usize) -> Vec<(usize, f64)> {
    let mut random = StdRng::seed_from_u64(7);
    let mut row = || {
        let normal: f64 = (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
        (random.random_range(0..GROUPS), 100.0 * normal.exp())
    };
    (0..count).map(|_| row()).collect()
}

fn groups_of(rows: &[(usize, f64)]) -> SketchGroups {
    let mut groups = SketchGroups::default();
    groups.grow_to(GROUPS);
    groups.update(rows.iter().copied());
    groups
}

fn encoded(rows: &[(usize, f64)]) -> Vec<Vec<u8>> {
    let sketches = groups_of(rows).take_first(GROUPS);
    sketches
        .iter()
        .map(|sketch| {
            let mut bytes = Vec::new();
            sketch.encode(&mut bytes);
            bytes
        })
        .collect()
}

fn update(criterion: &mut Criterion) {
    let rows = rows(1 << 20);
    let mut bench = criterion.benchmark_group("update");
    bench.throughput(Throughput::Elements(rows.len() as u64));
    let mut warm = groups_of(&rows);
    bench.bench_function("groups that have seen 1,000 values each", |b| b.iter(|| warm.update(rows.iter().copied())));
    bench.bench_function("new groups, 1,000 values each", |b| b.iter(|| groups_of(&rows)));
    bench.bench_function("new groups for every 8,192 rows", |b| {
        b.iter(|| rows.chunks(BATCH).map(|batch| groups_of(batch).memory_bytes()).sum::<usize>())
    });
    bench.finish();
}

fn merge_and_encode(criterion: &mut Criterion) {
    for values in [8, 50, 1_000] {
        let rows = rows(GROUPS * values);
        let encoded = encoded(&rows);
        let bytes: usize = encoded.iter().map(Vec::len).sum();
        let mut bench = criterion.benchmark_group(format!("{values} values, {} bytes", bytes / GROUPS));
        bench.throughput(Throughput::Elements(GROUPS as u64));
        bench.bench_function("merge", |b| {
            b.iter_batched_ref(
                || groups_of(&rows),
                |groups| groups.merge(encoded.iter().map(Vec::as_slice).enumerate()),
                BatchSize::LargeInput,
            )
        });
        let sketches = groups_of(&rows).take_first(GROUPS);
        let mut buffer = Vec::with_capacity(bytes);
        bench.bench_function("encode", |b| {
            b.iter(|| {
                buffer.clear();
                sketches.iter().for_each(|sketch| sketch.encode(&mut buffer));
                buffer.len()
            })
        });
        bench.finish();
    }
}

criterion_group!(benches, update, merge_and_encode);
criterion_main!(benches);
