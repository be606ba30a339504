//! The sketch against exact quantiles.

use super::*;
use proptest::prelude::*;

fn sketch(values: &[f64]) -> Sketch {
    let mut sketch = Sketch::default();
    values.iter().for_each(|&value| sketch.add(value));
    sketch
}

fn bytes(sketch: &Sketch) -> Vec<u8> {
    let mut bytes = Vec::new();
    sketch.encode(&mut bytes);
    bytes
}

/// The value at rank `max(1, ceil(q * n))`.
fn exact(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

const QUANTILES: [f64; 9] = [0.0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0];

/// Every quantile is within 1/128 of the exact one, from the sketch and from its bytes.
fn check(values: &[f64]) {
    let sketch = sketch(values);
    let bytes = bytes(&sketch);
    for q in QUANTILES {
        let (close, exact) = (sketch.quantile(q), exact(values, q));
        assert_eq!(Sketch::quantile_of_encoded(&bytes, q), Ok(close));
        match (close, exact) {
            (Some(close), Some(exact)) if exact.is_finite() && exact != 0.0 => {
                assert!(((close - exact) / exact).abs() <= 1.0 / 128.0, "q {q}: {close}, but exactly {exact}");
            }
            (close, exact) => assert_eq!(close, exact, "q {q}"),
        }
    }
}

/// Latencies, and other things one measures: uniform, lognormal, constant, signed, sparse, over ten decades.
fn any_values() -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        (0.0..10_000.0).boxed(),
        (-6.0..12.0f64).prop_map(f64::exp).boxed(),
        (-5i32..5).prop_map(f64::from).boxed(),
        Just(250.0).boxed(),
        (-1e5..1e5).boxed(),
        prop::sample::select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-5, 1e5]).boxed(),
    ];
    prop_oneof![
        prop::collection::vec(value, 0..2_000),
        prop::collection::vec(1.0..2.0, 0..2_000),
        prop::collection::vec(Just(7.0), 0..200),
    ]
}

proptest! {
    #[test]
    fn quantiles_are_within_the_bound(values in any_values()) {
        // Values nearer to zero than 64 octaves below the largest are the business of another test.
        let near_zero = |value: f64| value != 0.0 && value.abs() < 1e-6;
        let values: Vec<f64> = values.into_iter().filter(|value| !near_zero(*value)).collect();
        check(&values);
    }

    #[test]
    fn merging_any_split_in_any_order_gives_the_bytes_of_the_whole(
        parts in prop::collection::vec(prop::collection::vec(any::<f64>(), 0..300), 0..8),
    ) {
        let whole = bytes(&sketch(&parts.concat()));
        let mut forward = Sketch::default();
        let mut backward = Sketch::default();
        for part in &parts {
            forward.merge_encoded(&bytes(&sketch(part))).unwrap();
        }
        for part in parts.iter().rev() {
            backward.merge_encoded(&bytes(&sketch(part))).unwrap();
        }
        prop_assert_eq!(&bytes(&forward), &whole);
        prop_assert_eq!(&bytes(&backward), &whole);
    }

    #[test]
    fn corrupt_bytes_are_an_error_and_change_nothing(values: Vec<f64>, at: prop::sample::Index, flip: u8) {
        let mut corrupt = bytes(&sketch(&values));
        let at = at.index(corrupt.len());
        corrupt[at] ^= flip;
        let mut merged = sketch(&[1.0]);
        if merged.merge_encoded(&corrupt).is_err() {
            prop_assert_eq!(bytes(&merged), bytes(&sketch(&[1.0])));
            prop_assert!(Sketch::quantile_of_encoded(&corrupt, 0.5).is_err());
        }
    }
}

#[test]
fn the_largest_of_a_huge_range_are_within_the_bound_and_the_smallest_negligible() {
    let values: Vec<f64> = (-300..=300).map(|exponent| 10f64.powi(exponent)).collect();
    let sketch = sketch(&values);
    let p99 = sketch.quantile(0.99).unwrap();
    assert!((p99 / exact(&values, 0.99).unwrap() - 1.0).abs() <= 0.01);
    assert!(sketch.quantile(0.0).unwrap() < 1e300 * 2f64.powi(-62));
    assert!(sketch.heap_bytes() < 70 * 1024, "{}", sketch.heap_bytes());
}

#[test]
fn an_infinity_takes_nothing_from_the_finite_values() {
    check(&[f64::NEG_INFINITY, 1e-9, 1e9, -1e-9, -1e9, f64::INFINITY]);
    let many: Vec<f64> = (1..1_000).map(f64::from).chain([f64::INFINITY, f64::NEG_INFINITY]).collect();
    check(&many);
}

#[test]
fn nothing_counted_has_no_quantile() {
    assert!(sketch(&[f64::NAN]).is_empty());
    assert_eq!(sketch(&[]).quantile(0.5), None);
    assert_eq!(Sketch::quantile_of_encoded(&bytes(&sketch(&[])), 0.5), Ok(None));
}

#[test]
fn many_values_take_counters_and_not_a_longer_log() {
    let values: Vec<f64> = (0..100_000).map(|i| 1.0 + f64::from(i % 5_000)).collect();
    assert!(sketch(&values).heap_bytes() < 16 * 1024);
    check(&values);
}
