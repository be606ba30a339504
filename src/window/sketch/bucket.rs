//! The buckets: intervals of `f64` cut so that one value can stand for all others in its bucket.
//!
//! A bucket is the sign, the exponent and the first six bits of the fraction of an `f64`, so 64 buckets lie in each
//! octave and finding a value's bucket is a shift. A bucket `[2^e (1 + i/64), 2^e (1 + (i+1)/64))` is represented by
//! its middle, which is at most `2^e / 128` from any value in it, and every such value is at least `2^e`: the relative
//! error is at most 1/128 = 0.78 %.

/// How many bits of the fraction are not part of a bucket: 52 less the six that are.
const DROPPED_BITS: u32 = 46;
/// Positions below this many from zero belong to zero and the subnormals.
const SUBNORMALS: u32 = 64;
/// The distance of the infinities from zero.
const INFINITY: u32 = 2047 * 64;

/// A bucket's position in the order of the values: negative infinity first, zero in the middle, infinity last.
///
/// Zeros and subnormals (magnitudes below 2.3e-308) share one bucket, represented by exactly 0. Each infinity is a bucket
/// of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u32);

impl Bucket {
    /// How many bits a position takes.
    pub const POSITION_BITS: u32 = 18;
    /// The bucket of zero.
    pub const ZERO: Self = Self(1 << 17);
    /// The bucket of negative infinity, the lowest.
    pub const NEGATIVE_INFINITY: Self = Self(Self::ZERO.0 - INFINITY);
    /// The bucket of infinity, the highest.
    pub const POSITIVE_INFINITY: Self = Self(Self::ZERO.0 + INFINITY);

    /// The bucket of a value; none for NaN, which has no place in the order.
    #[inline]
    pub fn of(value: f64) -> Option<Self> {
        let magnitude = (value.abs().to_bits() >> DROPPED_BITS) as u32;
        if magnitude < SUBNORMALS {
            Some(Self::ZERO)
        } else if value > 0.0 {
            Some(Self(Self::ZERO.0 + magnitude))
        } else if value < 0.0 {
            Some(Self(Self::ZERO.0 - magnitude))
        } else {
            None
        }
    }

    /// The value that stands for the whole bucket.
    pub fn representative(self) -> f64 {
        let magnitude = self.magnitude();
        let size = match magnitude {
            0 => 0.0,
            INFINITY => f64::INFINITY,
            finite => f64::from_bits((u64::from(finite) << DROPPED_BITS) | (1 << (DROPPED_BITS - 1))),
        };
        if self < Self::ZERO { -size } else { size }
    }

    /// The bucket at a position; none where no value can be.
    pub fn at(position: u32) -> Option<Self> {
        let magnitude = position.abs_diff(Self::ZERO.0);
        (magnitude == 0 || (SUBNORMALS..=INFINITY).contains(&magnitude)).then_some(Self(position))
    }

    /// The position in the order of the buckets.
    #[inline]
    pub fn position(self) -> u32 {
        self.0
    }

    /// The distance from zero, in buckets.
    #[inline]
    pub fn magnitude(self) -> u32 {
        self.0.abs_diff(Self::ZERO.0)
    }

    /// The bucket of the same magnitude on the other side of zero.
    pub fn mirrored(self) -> Self {
        Self(2 * Self::ZERO.0 - self.0)
    }

    /// The bucket of positive values at a distance from zero that came from [`Bucket::magnitude`].
    pub fn positive(magnitude: u32) -> Self {
        Self(Self::ZERO.0 + magnitude)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_representative_is_within_one_128th_of_every_value_in_its_bucket(value in proptest::num::f64::NORMAL) {
            let close = Bucket::of(value).map(Bucket::representative).unwrap();
            prop_assert!(((close - value) / value).abs() <= 1.0 / 128.0, "{value} became {close}");
        }

        #[test]
        fn buckets_keep_the_order_of_values(a in proptest::num::f64::NORMAL, b in proptest::num::f64::NORMAL) {
            prop_assert_eq!(Bucket::of(a).cmp(&Bucket::of(b)).is_gt(), a > b && Bucket::of(a) != Bucket::of(b));
        }

        #[test]
        fn a_representative_lies_in_its_own_bucket(position in 0u32..1 << Bucket::POSITION_BITS) {
            if let Some(bucket) = Bucket::at(position) {
                prop_assert_eq!(Bucket::of(bucket.representative()), Some(bucket));
            }
        }
    }

    #[test]
    fn zeros_and_subnormals_are_exactly_zero() {
        for value in [0.0, -0.0, f64::MIN_POSITIVE / 2.0, -f64::MIN_POSITIVE / 2.0] {
            assert_eq!(Bucket::of(value), Some(Bucket::ZERO));
        }
        assert_eq!(Bucket::ZERO.representative(), 0.0);
    }

    #[test]
    fn infinities_are_the_outermost_buckets_and_nan_has_none() {
        assert_eq!(Bucket::of(f64::INFINITY), Some(Bucket::POSITIVE_INFINITY));
        assert_eq!(Bucket::of(f64::NEG_INFINITY), Some(Bucket::NEGATIVE_INFINITY));
        assert!(Bucket::of(f64::MAX) < Some(Bucket::POSITIVE_INFINITY));
        assert_eq!(Bucket::of(f64::NAN), None);
        assert_eq!(Bucket::of(-f64::NAN), None);
    }
}
