//! Event times: RFC 3339 text, or a number taken by its magnitude. Exact; what is finer than a microsecond is cut off.

use chrono::{Datelike, NaiveDate};

use super::number::Decimal;
use crate::model::pipeline::Micros;

const SECOND: Micros = 1_000_000;
/// The accepted times: from 1970-01-01T00:00:00Z up to, not including, 2200-01-01T00:00:00Z. Anything else is a broken
/// clock or a wrong unit, and all of these fit into nanoseconds in 64 bits.
const YEAR_2200: Micros = 7_258_118_400 * SECOND;
/// The days from 0001-01-01, counted from 1, to 1970-01-01.
const EPOCH_DAY: i32 = 719_163;

/// Why a time cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeError {
    /// Not RFC 3339.
    Unreadable,
    /// Before 1970, or in 2200 or later.
    OutOfRange,
}

/// Reads RFC 3339: date, time, any number of decimals, and an offset, which is mandatory. `t`, `z` and a space instead of
/// `T` are accepted, and a leap second, which is the same instant as the second after it.
pub fn from_text(text: &str) -> Result<Micros, TimeError> {
    read_rfc3339(text.as_bytes()).ok_or(TimeError::Unreadable).and_then(in_range)
}

/// Reads a number as s below 10^11, else as ms below 10^14, as µs below 10^17, else as ns. Times
/// before March 1973 (10^11 ms) are therefore only readable in s.
pub fn from_number(number: &str) -> Result<Micros, TimeError> {
    match number.parse() {
        Ok(whole) => from_whole(whole),
        Err(_) => from_decimal(number),
    }
}

/// Nearly every number is whole, and exact without a [`Decimal`].
fn from_whole(number: u64) -> Result<Micros, TimeError> {
    let micros = match number {
        0..100_000_000_000 => number * 1_000_000,
        100_000_000_000..100_000_000_000_000 => number * 1_000,
        100_000_000_000_000..100_000_000_000_000_000 => number,
        _ => number / 1_000,
    };
    Micros::try_from(micros).map_err(|_| TimeError::OutOfRange).and_then(in_range)
}

fn from_decimal(number: &str) -> Result<Micros, TimeError> {
    let decimal = Decimal::read(number);
    let magnitude = decimal.scaled(0).ok_or(TimeError::OutOfRange)?;
    let power = match magnitude {
        0..100_000_000_000 => 6,
        100_000_000_000..100_000_000_000_000 => 3,
        100_000_000_000_000..100_000_000_000_000_000 => 0,
        _ => -3,
    };
    let time = decimal.scaled(power).ok_or(TimeError::OutOfRange)?;
    if decimal.is_negative() { Err(TimeError::OutOfRange) } else { in_range(time) }
}

/// Kafka's own timestamp, in ms; `None` outside the accepted range, for then it says nothing (-1: the record has none).
pub fn from_kafka(timestamp_ms: Option<i64>) -> Option<Micros> {
    timestamp_ms?.checked_mul(1000).and_then(|time| in_range(time).ok())
}

fn in_range(time: Micros) -> Result<Micros, TimeError> {
    if (0..YEAR_2200).contains(&time) { Ok(time) } else { Err(TimeError::OutOfRange) }
}

fn read_rfc3339(text: &[u8]) -> Option<Micros> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    let &[c, y, a, r, b'-', m, o, b'-', d, e, b'T' | b't' | b' ', h, i, b':', n, p, b':', s, t] = head else {
        return None;
    };
    let year = i32::try_from(pair(c, y)? * 100 + pair(a, r)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, pair(m, o)?, pair(d, e)?)?;
    let (hour, minute, second) = (pair(h, i)?, pair(n, p)?, pair(s, t)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, rest) = read_fraction(rest)?;
    let days = i64::from(date.num_days_from_ce() - EPOCH_DAY);
    let seconds = days * 86_400 + i64::from(hour * 3600 + minute * 60 + second) - read_offset(rest)?;
    Some(seconds * SECOND + micros)
}

/// The decimals of a second in µs, and what follows them.
fn read_fraction(text: &[u8]) -> Option<(Micros, &[u8])> {
    let Some((b'.', digits)) = text.split_first() else { return Some((0, text)) };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let (decimals, rest) = digits.split_at_checked(length)?;
    let digit = |at: usize| decimals.get(at).map_or(0, |digit| Micros::from(digit - b'0'));
    Some(((0..6).fold(0, |number, at| number * 10 + digit(at)), rest))
}

/// The offset from UTC, in seconds.
fn read_offset(text: &[u8]) -> Option<i64> {
    match *text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h, i, b':', m, n] => {
            let (hours, minutes) = (pair(h, i)?, pair(m, n)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = i64::from(hours * 3600 + minutes * 60);
            Some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// Two digits.
fn pair(tens: u8, ones: u8) -> Option<u32> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| u32::from(tens - b'0') * 10 + u32::from(ones - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_whole_number_is_the_time_that_its_decimal_is(number: u64, digits in 0..20_u32) {
            for number in [number, number / 10_u64.pow(digits), 10_u64.pow(digits), 10_u64.pow(digits) - 1] {
                prop_assert_eq!(from_whole(number), from_decimal(&number.to_string()), "{}", number);
            }
        }
    }
}
