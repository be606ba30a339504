//! The bytes of a sketch: what lies in `maturion.partials` and between the phases of an aggregation.
//!
//! ```text
//! version: one byte, 1
//! per bucket, in ascending order:
//!   varint: (distance to the bucket before, or for the first its position) * 2 + (1 if it counts one value)
//!   varint: count                                                          only if it counts more than one
//! ```
//! A varint is LEB128: seven bits a byte, the lowest first. Equal multisets of values have equal bytes.

use super::bucket::Bucket;
use super::counts::MAX_COUNT;

/// The first byte of every encoded sketch.
pub const VERSION: u8 = 1;

/// Why bytes are not an encoded sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CorruptSketch {
    #[error(
        "a sketch begins with format version {VERSION}, but these bytes begin with {found:?}; they come from another version of Maturion or are no sketch"
    )]
    Version { found: Option<u8> },
    #[error("a sketch is cut off or holds a number that is too long")]
    Varint,
    #[error("a sketch names a bucket that does not exist or is out of order")]
    Bucket,
    #[error("a sketch counts {count} values in one bucket; 1 to {MAX_COUNT} are possible")]
    Count { count: u64 },
}

/// Appends the encoding of buckets, which are in ascending order and count at least one value each.
pub fn encode(buckets: &[(Bucket, u64)], bytes: &mut Vec<u8>) {
    bytes.push(VERSION);
    let mut before = 0;
    for &(bucket, count) in buckets {
        let distance = u64::from(bucket.position() - before);
        before = bucket.position();
        push_varint(distance * 2 + u64::from(count == 1), bytes);
        if count > 1 {
            push_varint(count, bytes);
        }
    }
}

fn push_varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// The buckets of an encoded sketch, in ascending order. After an error it ends.
#[derive(Clone)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    before: u32,
}

impl<'a> Decoder<'a> {
    /// Begins to read an encoded sketch.
    pub fn new(bytes: &'a [u8]) -> Result<Self, CorruptSketch> {
        match bytes.split_first() {
            Some((&VERSION, bytes)) => Ok(Self { bytes, before: 0 }),
            other => Err(CorruptSketch::Version { found: other.map(|(&first, _)| first) }),
        }
    }

    fn bucket(&mut self) -> Result<(Bucket, u64), CorruptSketch> {
        let head = self.varint()?;
        let distance = u32::try_from(head / 2).ok().filter(|&distance| distance > 0).ok_or(CorruptSketch::Bucket)?;
        let position = self.before.checked_add(distance).ok_or(CorruptSketch::Bucket)?;
        let bucket = Bucket::at(position).ok_or(CorruptSketch::Bucket)?;
        self.before = position;
        let count = if head % 2 == 1 { 1 } else { self.varint()? };
        if count == 0 || count > MAX_COUNT {
            return Err(CorruptSketch::Count { count });
        }
        Ok((bucket, count))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, CorruptSketch> {
        let mut number = 0;
        for shift in (0..u64::BITS - 7).step_by(7) {
            let (&byte, rest) = self.bytes.split_first().ok_or(CorruptSketch::Varint)?;
            self.bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(CorruptSketch::Varint)
    }
}

impl Iterator for Decoder<'_> {
    type Item = Result<(Bucket, u64), CorruptSketch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let item = self.bucket();
        if item.is_err() {
            self.bytes = &[];
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<Vec<(Bucket, u64)>, CorruptSketch> {
        Decoder::new(bytes)?.collect()
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            counts in prop::collection::btree_map(0u32..1 << Bucket::POSITION_BITS, 1..=MAX_COUNT, 0..50),
        ) {
            let buckets: Vec<_> = counts.into_iter().filter_map(|(at, count)| Some((Bucket::at(at)?, count))).collect();
            let mut bytes = Vec::new();
            encode(&buckets, &mut bytes);
            prop_assert_eq!(decode(&bytes), Ok(buckets));
        }

        #[test]
        fn any_bytes_are_refused_or_mean_the_same_when_encoded_again(mut bytes: Vec<u8>, versioned: bool) {
            if versioned {
                bytes.insert(0, VERSION);
            }
            if let Ok(buckets) = decode(&bytes) {
                prop_assert!(buckets.is_sorted_by_key(|&(bucket, _)| bucket));
                let mut again = Vec::new();
                encode(&buckets, &mut again);
                prop_assert_eq!(decode(&again), Ok(buckets));
            }
        }
    }

    #[test]
    fn one_value_takes_four_bytes_and_each_near_one_a_byte_more() {
        let buckets: Vec<_> = (0..10).filter_map(|i| Some((Bucket::of(1.0 + f64::from(i) / 10.0)?, 1))).collect();
        let mut bytes = Vec::new();
        encode(&buckets, &mut bytes);
        assert_eq!((buckets.len(), bytes.len()), (10, 4 + 9));
    }

    #[test]
    fn each_defect_has_its_own_error() {
        assert_eq!(decode(&[]), Err(CorruptSketch::Version { found: None }));
        assert_eq!(decode(&[9]), Err(CorruptSketch::Version { found: Some(9) }));
        assert_eq!(decode(&[VERSION, 0x80]), Err(CorruptSketch::Varint));
        assert_eq!(decode(&[[VERSION].as_slice(), &[0xff; 12]].concat()), Err(CorruptSketch::Varint));
        assert_eq!(decode(&[VERSION, 1]), Err(CorruptSketch::Bucket), "no distance");
        assert_eq!(decode(&[VERSION, 3]), Err(CorruptSketch::Bucket), "below negative infinity");
        let mut zero = vec![VERSION];
        push_varint(u64::from(Bucket::ZERO.position()) * 2, &mut zero);
        zero.push(0);
        assert_eq!(decode(&zero), Err(CorruptSketch::Count { count: 0 }));
    }
}
