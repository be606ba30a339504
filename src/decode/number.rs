//! Exact decimal numbers, because a time in nanoseconds or an identifier of 18 digits does not fit into a float.

/// A JSON number as `digits × 10^exponent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decimal {
    negative: bool,
    digits: u128,
    exponent: i32,
    /// Digits beyond the 36th were not all zero.
    cut: bool,
}

/// What is left of a number as an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    Integer(i64),
    /// It has a fraction.
    Fraction,
    /// It does not fit into 64 bits.
    TooLarge,
}

/// Room for one more digit in 128 bits: 36 digits are kept.
const DIGITS_LIMIT: u128 = 10_u128.pow(36);

impl Decimal {
    /// Reads a number whose grammar the scanner has checked.
    pub fn read(number: &str) -> Self {
        let mut decimal = Decimal { negative: false, digits: 0, exponent: 0, cut: false };
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let mut fraction = false;
        for byte in mantissa.bytes() {
            match byte {
                b'-' => decimal.negative = true,
                b'.' => fraction = true,
                _ => decimal.push(byte.wrapping_sub(b'0'), fraction),
            }
        }
        let out_of_range = if exponent.starts_with('-') { i32::MIN } else { i32::MAX };
        decimal.exponent = decimal.exponent.saturating_add(exponent.parse().unwrap_or(out_of_range));
        decimal
    }

    fn push(&mut self, digit: u8, fraction: bool) {
        if self.digits < DIGITS_LIMIT / 10 {
            self.digits = self.digits * 10 + u128::from(digit);
            self.exponent = self.exponent.saturating_sub(i32::from(fraction));
        } else {
            self.cut |= digit != 0;
            self.exponent = self.exponent.saturating_add(i32::from(!fraction));
        }
    }

    /// True below zero; `-0` is not.
    pub fn is_negative(&self) -> bool {
        self.negative && self.digits != 0
    }

    /// The number without its sign, times ten to the power, rounded down; `None` above 2^63.
    pub fn scaled(&self, power: i32) -> Option<i64> {
        self.divide(power).and_then(|(quotient, _)| i64::try_from(quotient).ok())
    }

    /// The number as an integer, if it is one: `200`, `200.0` and `2e2` are the same.
    pub fn whole(&self) -> Whole {
        match self.divide(0) {
            Some((quotient, cut)) => {
                let quotient = i128::try_from(quotient).unwrap_or(i128::MAX);
                match i64::try_from(if self.negative { -quotient } else { quotient }) {
                    Ok(_) if cut => Whole::Fraction,
                    Ok(integer) => Whole::Integer(integer),
                    Err(_) => Whole::TooLarge,
                }
            }
            None => Whole::TooLarge,
        }
    }

    /// The magnitude times ten to the power, rounded down, and whether something was cut off.
    fn divide(&self, power: i32) -> Option<(u128, bool)> {
        if self.digits == 0 {
            return Some((0, false));
        }
        let shift = self.exponent.saturating_add(power);
        let factor = 10_u128.checked_pow(shift.unsigned_abs());
        if shift >= 0 {
            return Some((self.digits.checked_mul(factor?)?, self.cut));
        }
        let Some(factor) = factor else { return Some((0, true)) };
        Some((self.digits / factor, self.cut || !self.digits.is_multiple_of(factor)))
    }
}
