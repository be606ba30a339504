//! `sketch_quantile(bytes, q)`: one percentile of an encoded sketch; null of null.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::aggregate::corrupt;
use crate::window::sketch::Sketch;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct SketchQuantile {
    signature: Signature,
}

impl Default for SketchQuantile {
    fn default() -> Self {
        let arguments = vec![DataType::Binary, DataType::Float64];
        Self { signature: Signature::exact(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for SketchQuantile {
    fn name(&self) -> &str {
        "sketch_quantile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [sketches, quantiles] = arrays.as_slice() else {
            return exec_err!("sketch_quantile takes a sketch and a quantile, not {} arguments", arrays.len());
        };
        // The signature admits these two types only.
        let rows = sketches.as_binary::<i32>().iter().zip(quantiles.as_primitive::<Float64Type>());
        let read = rows.map(|(bytes, q)| match (bytes, q) {
            (Some(bytes), Some(q)) => Sketch::quantile_of_encoded(bytes, q).map_err(corrupt),
            _ => Ok(None),
        });
        let values: Float64Array = read.collect::<Result<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(values) as ArrayRef))
    }
}
