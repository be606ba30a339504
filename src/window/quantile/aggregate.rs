//! `sketch(column)`: the values of a group as one encoded sketch; null if there are none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Float64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};

use super::numeric;
use crate::window::sketch::{CorruptSketch, Sketch, SketchGroups};

/// The aggregate. Its state is what it returns: one nullable column of encoded sketches.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SketchAggregate {
    signature: Signature,
}

impl Default for SketchAggregate {
    fn default() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for SketchAggregate {
    fn name(&self) -> &str {
        "sketch"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        arg_fields.iter().try_for_each(numeric)?;
        Ok(Arc::new(Field::new(self.name(), DataType::Binary, true)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sketch"), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let mut groups = SketchGroups::default();
        groups.grow_to(1);
        Ok(Box::new(OneSketch(groups)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(SketchPerGroup::default()))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// An aggregation with GROUP BY.
#[derive(Default)]
struct SketchPerGroup {
    groups: SketchGroups,
}

impl GroupsAccumulator for SketchPerGroup {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.groups.grow_to(total_num_groups);
        let values = numbers(values)?;
        let rows = group_indices.iter().copied().zip(values.values().iter().copied());
        match counted(&values, opt_filter) {
            None => self.groups.update(rows),
            Some(counted) => self.groups.update(rows.zip(&counted).filter_map(|(row, counts)| counts.then_some(row))),
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.groups.grow_to(total_num_groups);
        let rows = group_indices.iter().zip(sketches(values)?);
        self.groups.merge(rows.filter_map(|(&group, bytes)| Some((group, bytes?)))).map_err(corrupt)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = match emit_to {
            EmitTo::All => self.groups.len(),
            EmitTo::First(groups) => groups,
        };
        Ok(encoded(&self.groups.take_first(groups)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = numbers(values)?;
        let counted = counted(&values, opt_filter);
        let mut states = BinaryBuilder::new();
        let mut bytes = Vec::new();
        for (row, &value) in values.values().iter().enumerate() {
            bytes.clear();
            let counts = counted.as_ref().is_none_or(|counted| counted.is_valid(row));
            let state = counts && Sketch::encode_value(value, &mut bytes);
            states.append_option(state.then_some(&bytes));
        }
        Ok(vec![Arc::new(states.finish())])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.memory_bytes()
    }
}

/// An aggregation without GROUP BY: one group, which exists even if there are no rows.
#[derive(Debug)]
struct OneSketch(SketchGroups);

impl Accumulator for OneSketch {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = numbers(values)?;
        self.0.update(values.iter().flatten().map(|value| (0, value)));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge(sketches(states)?.iter().flatten().map(|bytes| (0, bytes))).map_err(corrupt)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sketch = self.0.take_first(1);
        self.0.grow_to(1);
        ScalarValue::try_from_array(&encoded(&sketch), 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.0.memory_bytes()
    }
}

/// The aggregate's argument as 64-bit floats.
fn numbers(arguments: &[ArrayRef]) -> Result<Float64Array> {
    let [values] = arguments else { return exec_err!("sketch takes one column, not {}", arguments.len()) };
    Ok(cast(values, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

/// The state of other accumulators.
fn sketches(states: &[ArrayRef]) -> Result<&BinaryArray> {
    match states.first().and_then(|state| state.as_binary_opt()) {
        Some(sketches) => Ok(sketches),
        None => exec_err!("the state of sketch is one column of bytes"),
    }
}

/// Which rows count: not null, and the filter is true. None if all do.
fn counted(values: &Float64Array, filter: Option<&BooleanArray>) -> Option<NullBuffer> {
    let passed = filter.map(|filter| match filter.nulls() {
        Some(known) => NullBuffer::new(filter.values() & known.inner()),
        None => NullBuffer::new(filter.values().clone()),
    });
    NullBuffer::union(values.nulls(), passed.as_ref())
}

fn encoded(sketches: &[Sketch]) -> ArrayRef {
    let mut array = BinaryBuilder::with_capacity(sketches.len(), 0);
    let mut bytes = Vec::new();
    for sketch in sketches {
        bytes.clear();
        sketch.encode(&mut bytes);
        array.append_option((!sketch.is_empty()).then_some(&bytes));
    }
    Arc::new(array.finish())
}

/// Bytes that are no sketch, as DataFusion's error.
pub fn corrupt(error: CorruptSketch) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrays(values: &[Option<f64>]) -> Vec<ArrayRef> {
        vec![Arc::new(Float64Array::from(values.to_vec()))]
    }

    #[test]
    fn the_first_groups_leave_and_the_others_move_down() {
        let mut accumulator = SketchPerGroup::default();
        accumulator.update_batch(&arrays(&[Some(1.0), Some(2.0), Some(3.0)]), &[0, 1, 2], None, 3).unwrap();
        let full = accumulator.size();
        let first = accumulator.evaluate(EmitTo::First(2)).unwrap();
        accumulator.update_batch(&arrays(&[Some(4.0)]), &[1], None, 2).unwrap();
        let rest = accumulator.evaluate(EmitTo::All).unwrap();
        let states = SketchPerGroup::default()
            .convert_to_state(&arrays(&[Some(1.0), Some(2.0), Some(3.0), Some(4.0)]), None)
            .unwrap();
        assert_eq!(first.as_ref(), states[0].slice(0, 2).as_ref());
        assert_eq!(rest.as_ref(), states[0].slice(2, 2).as_ref());
        assert!(accumulator.size() < full);
    }

    #[test]
    fn filtered_and_null_rows_become_null_states() {
        let filter = BooleanArray::from(vec![Some(true), Some(false), None, Some(true), Some(true)]);
        let values = arrays(&[Some(1.0), Some(2.0), Some(3.0), None, Some(f64::NAN)]);
        let accumulator = SketchPerGroup::default();
        let states = accumulator.convert_to_state(&values, Some(&filter)).unwrap();
        let nulls: Vec<_> = (0..5).map(|row| states[0].is_null(row)).collect();
        assert_eq!(nulls, [false, true, true, true, true]);
        let mut grouped = SketchPerGroup::default();
        grouped.update_batch(&values, &[0, 1, 2, 3, 4], Some(&filter), 5).unwrap();
        assert_eq!(grouped.state(EmitTo::All).unwrap()[0].as_ref(), states[0].as_ref());
    }

    #[test]
    fn corrupt_state_is_an_error() {
        let mut accumulator = SketchPerGroup::default();
        let state: ArrayRef = Arc::new(BinaryArray::from(vec![b"no sketch".as_slice()]));
        assert!(accumulator.merge_batch(&[state], &[0], 1).unwrap_err().to_string().contains("format version"));
        assert!(accumulator.merge_batch(&arrays(&[Some(1.0)]), &[0], 1).is_err());
    }
}
