//! `date_trunc` of times in UTC, as fast as of times without a zone.
//!
//! DataFusion's own function reads hours and more of a time with a zone from a calendar of that zone, row by row, in UTC
//! too, where each is plain arithmetic. Here the zone is taken off, DataFusion's function truncates, and the zone is put on
//! again: the same answers and the same types. Times in any other zone, and constants, are left to it as they are.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, make_array};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::functions::datetime;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// What UTC is called in the type of a column.
const UTC: [&str; 2] = ["UTC", "+00:00"];

/// To be registered in a session, in place of DataFusion's own.
pub(super) fn date_trunc() -> ScalarUDF {
    ScalarUDF::from(DateTrunc { own: datetime::date_trunc() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc {
    /// DataFusion's.
    own: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.own.name()
    }

    fn aliases(&self) -> &[String] {
        self.own.aliases()
    }

    fn signature(&self) -> &Signature {
        self.own.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.own.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.own.return_field_from_args(args)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.own.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.own.documentation()
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [_, ColumnarValue::Array(times)] = args.args.as_mut_slice() else {
            return self.own.invoke_with_args(args);
        };
        let with_zone = times.data_type().clone();
        let Some(without) = without_utc(&with_zone) else { return self.own.invoke_with_args(args) };
        *times = retyped(times, without.clone())?;
        for field in args.arg_fields.iter_mut().skip(1).chain([&mut args.return_field]) {
            *field = Arc::new(field.as_ref().clone().with_data_type(without.clone()));
        }
        let rows = args.number_rows;
        let truncated = self.own.invoke_with_args(args)?.into_array(rows)?;
        Ok(ColumnarValue::Array(retyped(&truncated, with_zone)?))
    }
}

/// The type of times in UTC without their zone; `None` of any other.
fn without_utc(with_zone: &DataType) -> Option<DataType> {
    match with_zone {
        DataType::Timestamp(unit, Some(zone)) if UTC.contains(&zone.as_ref()) => Some(DataType::Timestamp(*unit, None)),
        _ => None,
    }
}

/// The same numbers as times of another type of the same unit. Not a cast: that would ask the calendar of each row.
fn retyped(times: &dyn Array, data_type: DataType) -> Result<ArrayRef> {
    Ok(make_array(times.to_data().into_builder().data_type(data_type).build()?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, TimestampMicrosecondArray};
    use arrow::compute::cast;
    use arrow::datatypes::{Field, Int64Type, TimeUnit};
    use datafusion::common::ScalarValue;
    use datafusion::config::ConfigOptions;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    const SEED: u64 = 20_261_123;
    const GRANULARITIES: [&str; 10] =
        ["microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "YEAR"];
    const UNITS: [(TimeUnit, i64); 4] = [
        (TimeUnit::Second, 1),
        (TimeUnit::Millisecond, 1_000),
        (TimeUnit::Microsecond, 1_000_000),
        (TimeUnit::Nanosecond, 1_000_000_000),
    ];
    const ZONES: [Option<&str>; 5] = [None, Some("UTC"), Some("+00:00"), Some("+05:30"), Some("Europe/Berlin")];

    fn call(function: &ScalarUDF, granularity: &str, times: ColumnarValue) -> Result<ColumnarValue> {
        let rows = if let ColumnarValue::Array(times) = &times { times.len() } else { 1 };
        let granularity = ScalarValue::from(granularity);
        let field = |name, data_type| Arc::new(Field::new(name, data_type, true));
        let arg_fields = vec![field("precision", DataType::Utf8), field("time", times.data_type())];
        let scalar_arguments = [Some(&granularity), None];
        let args = ReturnFieldArgs { arg_fields: &arg_fields, scalar_arguments: &scalar_arguments };
        let return_field = function.return_field_from_args(args)?;
        function.invoke_with_args(ScalarFunctionArgs {
            args: vec![ColumnarValue::Scalar(granularity), times],
            arg_fields,
            number_rows: rows,
            return_field,
            config_options: Arc::new(ConfigOptions::default()),
        })
    }

    /// From 1690 to 2250, many of them on both sides of a midnight or of an hour, and some null.
    fn times(chance: &mut StdRng, per_second: i64) -> Vec<Option<i64>> {
        let time = |chance: &mut StdRng| {
            let seconds = match chance.random_range(0..4) {
                0 => chance.random_range(-8_800_000_000..8_800_000_000),
                1 => chance.random_range(-100_000..100_000) * 86_400,
                2 => chance.random_range(-1_000_000..1_000_000) * 3_600,
                _ => chance.random_range(-100_000..100_000),
            };
            let beside = chance.random_range(-1..=1);
            let inside = if chance.random() { chance.random_range(0..per_second) } else { 0 };
            chance.random_bool(0.95).then_some(seconds * per_second + inside + beside)
        };
        (0..2_000).map(|_| time(chance)).collect()
    }

    #[test]
    fn it_answers_as_the_function_that_it_stands_for() {
        println!("seed {SEED}");
        let mut chance = StdRng::seed_from_u64(SEED);
        let (ours, own) = (date_trunc(), datetime::date_trunc());
        for ((unit, per_second), zone) in UNITS.into_iter().flat_map(|unit| ZONES.map(|zone| (unit, zone))) {
            let values: ArrayRef = Arc::new(arrow::array::Int64Array::from(times(&mut chance, per_second)));
            let times = retyped(&values, DataType::Timestamp(unit, zone.map(Arc::from))).unwrap();
            for granularity in GRANULARITIES {
                let answer = |function: &ScalarUDF, times: &ArrayRef| {
                    let answer = call(function, granularity, ColumnarValue::Array(Arc::clone(times))).unwrap();
                    answer.into_array(times.len()).unwrap()
                };
                // A slice has an offset into its buffers.
                for times in [Arc::clone(&times), times.slice(7, 100), times.slice(0, 0)] {
                    assert_eq!(&answer(&ours, &times), &answer(&own, &times), "{granularity} {unit:?} {zone:?}");
                }
                for row in 0..50 {
                    let time = ColumnarValue::Scalar(ScalarValue::try_from_array(&times, row).unwrap());
                    let [ours, own] = [&ours, own.as_ref()].map(|function| call(function, granularity, time.clone()));
                    let (ours, own) = (ours.unwrap(), own.unwrap());
                    assert!(matches!(ours, ColumnarValue::Scalar(_)));
                    let (ours, own) = (ours.into_array(1).unwrap(), own.into_array(1).unwrap());
                    assert_eq!(&ours, &own, "{granularity} {time:?}");
                }
            }
        }
    }

    #[test]
    fn a_time_before_1970_goes_back_to_the_start_of_its_hour() {
        let times = TimestampMicrosecondArray::from(vec![Some(-1), Some(-3_600_000_000), None, Some(3_599_999_999)]);
        let times = ColumnarValue::Array(Arc::new(times.with_timezone("UTC")));
        let hours = call(&date_trunc(), "hour", times).unwrap().into_array(4).unwrap();
        assert_eq!(hours.data_type(), &crate::model::schema::timestamp_type());
        let hours = cast(&hours, &DataType::Int64).unwrap();
        let hours = hours.as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
        assert_eq!(hours, [Some(-3_600_000_000), Some(-3_600_000_000), None, Some(0)]);
    }

    #[test]
    fn what_is_no_granularity_is_said() {
        let times = ColumnarValue::Array(Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC")));
        let error = call(&date_trunc(), "fortnight", times).unwrap_err().to_string();
        assert!(error.contains("Unsupported date_trunc granularity: 'fortnight'"), "{error}");
    }
}
