//! One way to write a JSON value: RFC 8785 (JSON Canonicalization Scheme). What is hashed must be the same bytes for
//! whoever writes and whoever checks, in any language.

use serde_json::{Number, Value};

/// The value as RFC 8785 writes it: no spaces, keys in the order of their UTF-16 code units, numbers as ECMAScript
/// writes doubles, strings with the shortest escapes.
///
/// An integer beyond ±2^53 is written as the nearest double, as RFC 8785 has it.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

/// The same, of a map without one of its fields.
pub(super) fn canonical_without(value: &Value, left_out: &str) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) => write_fields(&mut text, fields.iter().filter(|(key, _)| *key != left_out)),
        other => write(&mut text, other),
    }
    text
}

fn write(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => text.push_str(&double(number)),
        Value::String(string) => quote(text, string),
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write(text, item);
            }
            text.push(']');
        }
        Value::Object(fields) => write_fields(text, fields.iter()),
    }
}

fn write_fields<'a>(text: &mut String, fields: impl Iterator<Item = (&'a String, &'a Value)>) {
    let mut sorted: Vec<_> = fields.collect();
    sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    text.push('{');
    for (i, (key, item)) in sorted.into_iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        quote(text, key);
        text.push(':');
        write(text, item);
    }
    text.push('}');
}

/// The escapes of RFC 8785, section 3.2.2.2: the seven short ones, other control characters as `\u00xx`.
fn quote(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            c if c < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
}

/// ECMAScript's `Number::toString`. Rust writes the same shortest digits; only the exponent looks different.
fn double(number: &Number) -> String {
    const EXACT: u64 = 1 << 53;
    if let Some(n) = number.as_i64().filter(|n| n.unsigned_abs() <= EXACT) {
        return n.to_string();
    }
    let v = number.as_f64().unwrap_or_default();
    if v == 0.0 {
        return "0".into();
    }
    if (1e-6..1e21).contains(&v.abs()) {
        return v.to_string();
    }
    let text = format!("{v:e}");
    if text.contains("e-") { text } else { text.replace('e', "e+") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_rfc_8785_has_it() {
        // After the sample of section 3.2.2, and the order of keys of section 3.2.3.
        let value = serde_json::json!({
            "numbers": [333_333_333.333_333_3, 1e30, 4.5, 2e-3, 1e-27],
            "string": "\u{20ac}$\u{f}\nA'B\"\\\\\"/", "literals": [null, true, false],
        });
        assert_eq!(
            canonical(&value),
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
        let keys = "{\"\u{20ac}\":1,\"\\r\":2,\"\u{fb33}\":3,\"1\":4,\"\u{1f600}\":5,\"\u{80}\":6,\"\u{f6}\":7}";
        let value: Value = serde_json::from_str(keys).unwrap();
        let found: String = canonical(&value).chars().filter(char::is_ascii_digit).collect();
        assert_eq!(found, "21467".to_owned() + "153", "digits of keys and values in order");
    }

    #[test]
    fn numbers_are_those_of_ecmascript() {
        for (given, wanted) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (1e21, "1e+21"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (0.000_001, "0.000001"),
            (0.000_000_1, "1e-7"),
            (-1.5e-9, "-1.5e-9"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(canonical(&Value::from(given)), wanted, "{given}");
        }
        for (given, wanted) in [(1_u64 << 53, "9007199254740992"), (u64::MAX, "18446744073709552000")] {
            assert_eq!(canonical(&Value::from(given)), wanted, "{given}");
        }
    }
}
