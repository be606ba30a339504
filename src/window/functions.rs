//! `tumble(ts, size)` and `hop(ts, slide, size)`: the window functions of pipeline SQL.
//!
//! Windows are aligned to the Unix epoch. `tumble` is an ordinary scalar function, so the same statement runs as a
//! batch; `hop` puts a row into several windows, which no scalar function can, so only a pipeline's plan gives it meaning.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::model::pipeline::Micros;
use crate::model::schema::timestamp_type;

/// `tumble` and `hop`, to be registered in a session.
pub fn window_functions() -> [Arc<ScalarUDF>; 2] {
    [Arc::new(ScalarUDF::from(Tumble::new())), Arc::new(ScalarUDF::from(Hop::new()))]
}

/// The start of the aligned window of length `size` that contains `time`. `size` is positive.
pub fn window_start(time: Micros, size: Micros) -> Micros {
    time.saturating_sub(time.rem_euclid(size))
}

/// The start of each row's window; nulls stay null.
pub fn window_starts(times: &TimestampMicrosecondArray, size: Micros) -> ArrayRef {
    let starts: TimestampMicrosecondArray = times.unary(|time| window_start(time, size));
    Arc::new(starts.with_data_type(timestamp_type()))
}

/// An interval literal as a length of event time; months have none.
pub fn interval_micros(interval: &ScalarValue) -> Result<Micros> {
    let micros = match interval {
        ScalarValue::IntervalMonthDayNano(Some(value)) if value.months == 0 => i64::from(value.days)
            .checked_mul(86_400_000_000)
            .and_then(|days| days.checked_add(value.nanoseconds / 1_000)),
        ScalarValue::IntervalDayTime(Some(value)) => i64::from(value.days)
            .checked_mul(86_400_000_000)
            .and_then(|days| days.checked_add(i64::from(value.milliseconds) * 1_000)),
        _ => None,
    };
    match micros {
        Some(micros) if micros > 0 => Ok(micros),
        _ => plan_err!(
            "a window's length must be a positive constant interval of days or less, such as INTERVAL '1 minute'"
        ),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Tumble {
    signature: Signature,
}

impl Tumble {
    fn new() -> Self {
        Self { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Tumble {
    fn name(&self) -> &str {
        "tumble"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        require_timestamp("tumble", arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [times, ColumnarValue::Scalar(size)] = args.args.as_slice() else {
            return plan_err!("tumble(ts, size) takes a timestamp and a constant interval");
        };
        let times = cast(&times.to_array(args.number_rows)?, &timestamp_type())?;
        let starts = window_starts(times.as_primitive::<TimestampMicrosecondType>(), interval_micros(size)?);
        Ok(ColumnarValue::Array(starts))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Hop {
    signature: Signature,
}

impl Hop {
    fn new() -> Self {
        Self { signature: Signature::any(3, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Hop {
    fn name(&self) -> &str {
        "hop"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        require_timestamp("hop", arg_types)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("hop(ts, slide, size) is only known in the GROUP BY of a pipeline's statement")
    }
}

fn require_timestamp(name: &str, arg_types: &[DataType]) -> Result<DataType, DataFusionError> {
    match arg_types.first() {
        Some(DataType::Timestamp(_, _)) => Ok(timestamp_type()),
        _ => plan_err!("the first argument of {name} must be a timestamp"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_before_the_epoch_start_below_their_rows() {
        assert_eq!(window_start(-1, 60), -60);
        assert_eq!(window_start(-60, 60), -60);
        assert_eq!(window_start(59, 60), 0);
    }

    #[test]
    fn months_have_no_length() {
        assert!(interval_micros(&ScalarValue::new_interval_mdn(1, 0, 0)).is_err());
        assert!(interval_micros(&ScalarValue::new_interval_mdn(0, 0, -5_000)).is_err());
        assert_eq!(interval_micros(&ScalarValue::new_interval_mdn(0, 1, 5_000)).unwrap(), 86_400_000_005);
    }
}
