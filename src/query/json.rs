//! `->` and `->>`: members of the JSON texts that columns such as `attributes` hold.
//!
//! `attributes -> 'a'` is the member as JSON text, `attributes ->> 'a'` as plain text; a number takes an element of an
//! array, from 0, or from the end if negative. Nested members are reached one after the other: `attributes -> 'a' ->> 'b'`.
//! What is not there, is null, or is not JSON, is null: a record may hold anything, and one bad row must not end a query.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, plan_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::BinaryOperator;
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Makes the operators known to a session, and the functions `json_member` and `json_text` that they stand for.
pub(super) fn register(context: &SessionContext) -> Result<()> {
    let [member, text] = [false, true].map(|as_text| Arc::new(ScalarUDF::from(Access::new(as_text))));
    context.register_udf(member.as_ref().clone());
    context.register_udf(text.as_ref().clone());
    context.state_ref().write().register_expr_planner(Arc::new(Operators { member, text }))
}

#[derive(Debug)]
struct Operators {
    member: Arc<ScalarUDF>,
    text: Arc<ScalarUDF>,
}

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, written: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let function = match written.op {
            BinaryOperator::Arrow => &self.member,
            BinaryOperator::LongArrow => &self.text,
            _ => return Ok(PlannerResult::Original(written)),
        };
        Ok(PlannerResult::Planned(function.call(vec![written.left, written.right])))
    }
}

/// `json_member(json, key)` and `json_text(json, key)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Access {
    as_text: bool,
    signature: Signature,
}

impl Access {
    fn new(as_text: bool) -> Access {
        Access { as_text, signature: Signature::any(2, Volatility::Immutable) }
    }

    fn of(&self, json: &str, step: &Step) -> Option<String> {
        let found = step.of(json)?;
        if !self.as_text {
            return Some(found.get().to_owned());
        }
        match found.get().as_bytes().first() {
            Some(b'"') => serde_json::from_str(found.get()).ok(),
            Some(b'n') => None,
            _ => Some(found.get().to_owned()),
        }
    }
}

impl ScalarUDFImpl for Access {
    fn name(&self) -> &str {
        if self.as_text { "json_text" } else { "json_member" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let is_text = |data_type: &DataType| data_type.is_string() || data_type.is_null();
        match types {
            [json, key] if is_text(json) && (is_text(key) || key.is_integer()) => Ok(DataType::Utf8),
            _ => plan_err!("-> and ->> take a text of JSON and the constant name of a member or number of an element"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [json, ColumnarValue::Scalar(key)] = args.args.as_slice() else {
            return exec_err!("the name after -> or ->> must be a constant");
        };
        let json = cast(&json.to_array(args.number_rows)?, &DataType::Utf8)?;
        let json = json.as_string::<i32>();
        let step = Step::new(key)?;
        let mut found = StringBuilder::new();
        for json in json {
            let member = json.zip(step.as_ref()).and_then(|(json, step)| self.of(json, step));
            found.append_option(member);
        }
        Ok(ColumnarValue::Array(Arc::new(found.finish()) as ArrayRef))
    }
}

/// One step into a JSON text.
enum Step {
    Member(String),
    Element(i64),
}

impl Step {
    /// `None` for a null.
    fn new(key: &ScalarValue) -> Result<Option<Step>> {
        if key.is_null() {
            return Ok(None);
        }
        if let Some(name) = key.try_as_str().flatten() {
            return Ok(Some(Step::Member(name.to_owned())));
        }
        match key.cast_to(&DataType::Int64)? {
            ScalarValue::Int64(Some(place)) => Ok(Some(Step::Element(place))),
            _ => exec_err!("after -> or ->> stands the name of a member or the number of an element"),
        }
    }

    /// The member or element of a text, unchanged. `None` also if the text is not JSON from its start to its end.
    fn of<'a>(&self, json: &'a str) -> Option<&'a RawValue> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let found = match self {
            Step::Member(name) => reader.deserialize_map(Member(name)).ok()?,
            Step::Element(place) => {
                let elements = reader.deserialize_seq(Elements(*place)).ok()?;
                if *place >= 0 { elements.into_iter().next() } else { self.counted_back(elements, *place) }
            }
        };
        reader.end().ok()?;
        found
    }

    fn counted_back<'a>(&self, elements: Vec<&'a RawValue>, place: i64) -> Option<&'a RawValue> {
        let back = usize::try_from(place.unsigned_abs()).ok()?;
        elements.len().checked_sub(back).and_then(|place| elements.get(place).copied())
    }
}

/// Reads an object and keeps one member; of several with one name the last.
struct Member<'n>(&'n str);

impl<'a> Visitor<'a> for Member<'_> {
    type Value = Option<&'a RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Cow<'a, str>>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Reads an array and keeps the element at a place, or all of them if the place counts from the end.
struct Elements(i64);

impl<'a> Visitor<'a> for Elements {
    type Value = Vec<&'a RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let (mut kept, mut place) = (vec![], 0);
        while let Some(element) = elements.next_element::<&'a RawValue>()? {
            if self.0 < 0 || place == self.0 {
                kept.push(element);
            }
            place += 1;
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str, step: Step) -> Option<String> {
        Access::new(true).of(json, &step)
    }

    fn member(json: &str, name: &str) -> Option<String> {
        Access::new(false).of(json, &Step::Member(name.to_owned()))
    }

    #[test]
    fn a_member_is_taken_as_it_is_written() {
        assert_eq!(member(r#"{"a": {"b" : 1.10}}"#, "a").as_deref(), Some(r#"{"b" : 1.10}"#));
        assert_eq!(member(r#"{"a": "x"}"#, "a").as_deref(), Some(r#""x""#));
        assert_eq!(member(r#"{"a": null}"#, "a").as_deref(), Some("null"));
        assert_eq!(member(r#"{"a":1,"a":2}"#, "a").as_deref(), Some("2"));
        assert_eq!(member(r#"{"é\n": 1}"#, "é\n").as_deref(), Some("1"));
    }

    #[test]
    fn a_text_has_no_quotes_and_a_null_is_null() {
        let name = || Step::Member("a".to_owned());
        assert_eq!(text(r#"{"a":"x\ny \ud83d\ude00"}"#, name()).as_deref(), Some("x\ny 😀"));
        assert_eq!(text(r#"{"a":12345678901234567890123}"#, name()).as_deref(), Some("12345678901234567890123"));
        assert_eq!(text(r#"{"a":true}"#, name()).as_deref(), Some("true"));
        assert_eq!(text(r#"{"a":null}"#, name()), None);
    }

    #[test]
    fn elements_count_from_both_ends() {
        let at = |place| text("[10,20,30]", Step::Element(place));
        assert_eq!([at(0), at(2), at(-1), at(-3)].map(Option::unwrap_or_default), ["10", "30", "30", "10"]);
        assert_eq!([at(3), at(-4), at(i64::MIN), at(i64::MAX)], [None, None, None, None]);
    }

    #[test]
    fn what_is_not_there_or_not_json_is_null() {
        for json in ["", "{", "[1]", "1", "null", r#"{"b":1}"#, r#"{"a":1} x"#, r#"{"a":1"#, r#"{"a":}"#, "\"a\""] {
            assert_eq!(member(json, "a"), None, "{json}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(member(&deep, "b"), None, "a deep text ends a query or the process");
    }
}
