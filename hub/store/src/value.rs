//! Between our types and the database's values, exactly.

use std::ops::Bound;

use bus_schema::{Metadata, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use surrealdb::types::{Array, Number, Object, RecordId, RecordIdKey, RecordIdKeyRange, SurrealValue, Value};

use crate::error::StoreError;

/// A row read from, or written to, the database.
pub(crate) type Row = Object;

/// Builds a row field by field.
pub(crate) fn row<const N: usize>(fields: [(&str, Value); N]) -> Row {
    let mut row = Object::new();
    for (name, value) in fields {
        row.insert(name, value);
    }
    row
}

pub(crate) fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

pub(crate) fn optional(text: Option<&str>) -> Value {
    text.map_or(Value::None, self::text)
}

/// Our numbers stay far below 2^63; one that does not is held at it, never wrapped around.
pub(crate) fn number(n: u64) -> Value {
    Value::Number(Number::Int(i64::try_from(n).unwrap_or(i64::MAX)))
}

pub(crate) fn time(at: Timestamp) -> Value {
    Value::Number(Number::Int(at.as_millis()))
}

pub(crate) fn id1(table: &str, key: &str) -> Value {
    Value::RecordId(RecordId::new(table, RecordIdKey::String(key.to_owned())))
}

pub(crate) fn id2(table: &str, first: &str, second: Value) -> Value {
    Value::RecordId(RecordId::new(table, RecordIdKey::Array(Array::from(vec![text(first), second]))))
}

/// All rows with ids between two array keys, both included.
pub(crate) fn id_range(table: &str, from: Vec<Value>, to: Vec<Value>) -> Value {
    let key = |parts| Bound::Included(RecordIdKey::Array(Array::from(parts)));
    let range = RecordIdKeyRange { start: key(from), end: key(to) };
    Value::RecordId(RecordId::new(table, RecordIdKey::Range(Box::new(range))))
}

pub(crate) fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(Array::from(values.into_iter().collect::<Vec<_>>()))
}

/// JSON as the database's own values, so that people can query it; as text where the database would change it
/// (numbers above 2^63, which become floats).
pub(crate) fn json(value: serde_json::Value) -> Value {
    if is_exact(&value) { value.into_value() } else { Value::String(value.to_string()) }
}

fn is_exact(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(n) => n.is_i64() || n.is_f64(),
        serde_json::Value::Array(items) => items.iter().all(is_exact),
        serde_json::Value::Object(fields) => fields.values().all(is_exact),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::String(_) => true,
    }
}

/// Any of our types as a row's object.
pub(crate) fn document<T: Serialize>(value: &T) -> Value {
    json(serde_json::to_value(value).unwrap_or_default())
}

/// Reads rows field by field, with the table's name in every error.
pub(crate) struct Reader {
    table: &'static str,
    row: Row,
}

impl Reader {
    pub(crate) fn new(table: &'static str, row: Row) -> Self {
        Self { table, row }
    }

    fn wrong(&self, field: &str, found: &Value) -> StoreError {
        let found = format!("{found:?}").chars().take(120).collect::<String>();
        StoreError::Form { table: self.table, detail: format!("field {field} is {found}") }
    }

    fn take(&mut self, field: &str) -> Value {
        self.row.remove(field).unwrap_or(Value::None)
    }

    pub(crate) fn text(&mut self, field: &str) -> Result<String, StoreError> {
        match self.take(field) {
            Value::String(text) => Ok(text),
            other => Err(self.wrong(field, &other)),
        }
    }

    pub(crate) fn number(&mut self, field: &str) -> Result<u64, StoreError> {
        match self.take(field) {
            Value::Number(Number::Int(n)) if n >= 0 => Ok(n.unsigned_abs()),
            other => Err(self.wrong(field, &other)),
        }
    }

    pub(crate) fn flag(&mut self, field: &str) -> Result<bool, StoreError> {
        match self.take(field) {
            Value::Bool(flag) => Ok(flag),
            other => Err(self.wrong(field, &other)),
        }
    }

    pub(crate) fn time(&mut self, field: &str) -> Result<Timestamp, StoreError> {
        match self.take(field) {
            Value::Number(Number::Int(n)) => Ok(Timestamp::from_millis(n)),
            other => Err(self.wrong(field, &other)),
        }
    }

    /// An identifier or another type that is made from text and checked.
    pub(crate) fn parsed<T: std::str::FromStr>(&mut self, field: &str) -> Result<T, StoreError> {
        let text = self.text(field)?;
        text.parse().map_err(|_| self.wrong(field, &Value::String(text)))
    }

    pub(crate) fn metadata(&mut self, field: &str) -> Result<Metadata, StoreError> {
        match self.take(field) {
            Value::None | Value::Null => Ok(Metadata::new()),
            value => self.decode(field, value),
        }
    }

    /// One of our own types, written by [`document`].
    pub(crate) fn document<T: DeserializeOwned>(&mut self, field: &str) -> Result<T, StoreError> {
        let value = self.take(field);
        self.decode(field, value)
    }

    fn decode<T: DeserializeOwned>(&self, field: &str, value: Value) -> Result<T, StoreError> {
        let read = match value {
            Value::String(text) => serde_json::from_str(&text),
            other => serde_json::from_value(other.into_json_value()),
        };
        read.map_err(|e| StoreError::Form { table: self.table, detail: format!("field {field}: {e}") })
    }

    /// The last part of an array id, or the whole of a text id.
    pub(crate) fn key(&mut self) -> Result<String, StoreError> {
        let last = match self.take("id") {
            Value::RecordId(id) => match id.key {
                RecordIdKey::String(text) => Some(text),
                RecordIdKey::Array(parts) => match parts.into_iter().next_back() {
                    Some(Value::String(text)) => Some(text),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        last.ok_or_else(|| StoreError::Form { table: self.table, detail: "an id of another form".into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_back_exactly() {
        for text in [
            r#"{"a":null,"b":[true,{"c":"\u0000 ü"}],"d":-9223372036854775808,"e":1.5,"f":{}}"#,
            r#"{"big":18446744073709551615}"#,
            r#"{"empty":[]}"#,
        ] {
            let metadata: Metadata = serde_json::from_str(text).unwrap();
            let mut reader = Reader::new("t", row([("m", json(metadata.clone().into()))]));
            assert_eq!(reader.metadata("m").unwrap(), metadata, "{text}");
        }
    }
}
