//! MessagePack as JSON text that is safe to show.
//!
//! Laws: one line; order and repetition of keys as they came; byte strings as base64; nothing unsafe unescaped; no
//! memory but for the text, whatever lengths the payload claims.
//!
//! Source of the form: the MessagePack specification (msgpack.org, `spec.md`).

use std::fmt::Write;

use bus_schema::limits::MAX_DEPTH;
use data_encoding::BASE64;

use crate::escape::is_unsafe;

/// The JSON of the one value that `payload` is, or why it is not one.
pub(crate) fn transcode(payload: &[u8]) -> Result<String, String> {
    let mut reader =
        Reader { rest: payload, out: String::with_capacity(payload.len().saturating_mul(2)), is_in_key: false };
    match reader.value(0) {
        Ok(()) if reader.rest.is_empty() => Ok(reader.out),
        Ok(()) => Err(format!("not MessagePack: {} bytes behind the first value", reader.rest.len())),
        Err(problem) => {
            let at = payload.len().saturating_sub(reader.rest.len());
            Err(format!("not MessagePack: {problem} at byte {at}"))
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    out: String,
    /// Within a list or a map that is the key of a map.
    is_in_key: bool,
}

/// What stopped the reading.
type Problem = &'static str;

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<(), Problem> {
        if depth > MAX_DEPTH {
            return Err("nested too deep");
        }
        let [marker] = self.array()?;
        match marker {
            0x00..=0x7f => append(&mut self.out, marker),
            0x80..=0x8f => self.map(usize::from(marker & 0x0f), depth)?,
            0x90..=0x9f => self.list(usize::from(marker & 0x0f), depth)?,
            0xa0..=0xbf => self.text(usize::from(marker & 0x1f))?,
            0xc0 => self.out.push_str("null"),
            0xc1 => return Err("the byte that is never used"),
            0xc2 => self.out.push_str("false"),
            0xc3 => self.out.push_str("true"),
            0xc4..=0xc6 => {
                let length = self.length(marker - 0xc4)?;
                self.bytes(length)?;
            }
            0xc7..=0xc9 => {
                let length = self.length(marker - 0xc7)?;
                self.extension(length)?;
            }
            0xca => {
                let number = f32::from_be_bytes(self.array()?);
                self.float(f64::from(number));
            }
            0xcb => {
                let number = f64::from_be_bytes(self.array()?);
                self.float(number);
            }
            0xcc => {
                let number = u8::from_be_bytes(self.array()?);
                append(&mut self.out, number);
            }
            0xcd => {
                let number = u16::from_be_bytes(self.array()?);
                append(&mut self.out, number);
            }
            0xce => {
                let number = u32::from_be_bytes(self.array()?);
                append(&mut self.out, number);
            }
            0xcf => {
                let number = u64::from_be_bytes(self.array()?);
                append(&mut self.out, number);
            }
            0xd0 => {
                let number = i8::from_be_bytes(self.array()?);
                append(&mut self.out, number);
            }
            0xd1 => {
                let number = i16::from_be_bytes(self.array()?);
                append(&mut self.out, number);
            }
            0xd2 => {
                let number = i32::from_be_bytes(self.array()?);
                append(&mut self.out, number);
            }
            0xd3 => {
                let number = i64::from_be_bytes(self.array()?);
                append(&mut self.out, number);
            }
            0xd4..=0xd8 => self.extension(1 << (marker - 0xd4))?,
            0xd9..=0xdb => {
                let length = self.length(marker - 0xd9)?;
                self.text(length)?;
            }
            0xdc | 0xdd => {
                let length = self.length(marker - 0xdc + 1)?;
                self.list(length, depth)?;
            }
            0xde | 0xdf => {
                let length = self.length(marker - 0xde + 1)?;
                self.map(length, depth)?;
            }
            0xe0..=0xff => append(&mut self.out, marker.cast_signed()),
        }
        Ok(())
    }
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Problem> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("it ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        self.take(N)?.try_into().map_err(|_| "it ends too early")
    }

    /// A length in 1, 2 or 4 bytes, for `size` 0, 1, 2.
    fn length(&mut self, size: u8) -> Result<usize, Problem> {
        let bytes = self.take(1 << size)?;
        Ok(bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)))
    }

    fn list(&mut self, length: usize, depth: usize) -> Result<(), Problem> {
        self.out.push('[');
        for n in 0..length {
            if n > 0 {
                self.out.push(',');
            }
            self.value(depth + 1)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, length: usize, depth: usize) -> Result<(), Problem> {
        self.out.push('{');
        for n in 0..length {
            if n > 0 {
                self.out.push(',');
            }
            let begin = self.out.len();
            // Each string within a string doubles its escapes: keys of keys would grow without bound.
            let is_nested = matches!(self.rest, [0x80..=0x9f | 0xdc..=0xdf, ..]);
            if is_nested && self.is_in_key {
                return Err("a list or a map as a key within a key");
            }
            let outer = self.is_in_key;
            self.is_in_key |= is_nested;
            self.value(depth + 1)?;
            self.is_in_key = outer;
            // JSON knows only strings as keys: any other is written as the JSON of itself, in a string.
            if self.out.as_bytes().get(begin) != Some(&b'"') {
                let key = self.out.split_off(begin);
                string(&mut self.out, &key);
            }
            self.out.push(':');
            self.value(depth + 1)?;
        }
        self.out.push('}');
        Ok(())
    }

    /// A text that is not UTF-8 keeps its place, with U+FFFD for what cannot be read.
    fn text(&mut self, length: usize) -> Result<(), Problem> {
        let text = self.take(length)?;
        string(&mut self.out, &String::from_utf8_lossy(text));
        Ok(())
    }

    fn bytes(&mut self, length: usize) -> Result<(), Problem> {
        let bytes = self.take(length)?;
        string(&mut self.out, &BASE64.encode(bytes));
        Ok(())
    }

    fn extension(&mut self, length: usize) -> Result<(), Problem> {
        let kind = i8::from_be_bytes(self.array()?);
        self.out.push_str("{\"ext\":");
        append(&mut self.out, kind);
        self.out.push_str(",\"data\":");
        self.bytes(length)?;
        self.out.push('}');
        Ok(())
    }

    /// Numbers that JSON does not have are strings.
    fn float(&mut self, number: f64) {
        match serde_json::Number::from_f64(number) {
            Some(number) => append(&mut self.out, number),
            None => append(&mut self.out, format_args!("\"{number}\"")),
        }
    }
}

/// Appends a JSON string.
pub(crate) fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    append(out, format_args!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn append(out: &mut String, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmpv::Value;

    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut bytes = vec![];
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        bytes
    }

    #[test]
    fn every_kind_of_value_has_its_form() {
        let value = Value::Map(vec![
            ("text".into(), "a\u{1b}\u{9b}\u{2028}\"\\\u{e0041}".into()),
            ("bytes".into(), Value::Binary(vec![0, 255])),
            ("big".into(), u64::MAX.into()),
            ("small".into(), i64::MIN.into()),
            ("half".into(), 0.5.into()),
            ("third".into(), Value::F32(0.25)),
            ("nan".into(), f64::NAN.into()),
            (Value::from(7), Value::Nil),
            (Value::Array(vec![true.into()]), Value::Ext(-1, vec![1])),
            ("text".into(), false.into()),
        ]);
        let text = transcode(&bytes(&value)).unwrap();
        let wanted = r#"{"text":"a\u001b\u009b\u2028\"\\\udb40\udc41","bytes":"AP8=","big":18446744073709551615,"#
            .to_owned()
            + r#""small":-9223372036854775808,"half":0.5,"third":0.25,"nan":"NaN","7":null,"#
            + r#""[true]":{"ext":-1,"data":"AQ=="},"text":false}"#;
        assert_eq!(text, wanted);
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn what_is_not_messagepack_is_told() {
        for (payload, part) in [
            (&b""[..], "ends too early at byte 0"),
            (b"\xc1", "never used at byte 1"),
            (b"\xa5abc", "ends too early"),
            (b"\xdd\xff\xff\xff\xff", "ends too early"),
            (b"\x01\x02", "1 bytes behind"),
            (&[0x91; 1000], "too deep"),
        ] {
            let problem = transcode(payload).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-200i64..200).prop_map(Value::from),
            // Such as the reader of JSON in this test gives back exactly.
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
            any::<String>().prop_map(Value::from),
            "[a-z]{30,300}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::Array),
                proptest::collection::btree_map(any::<String>(), inner, 0..20)
                    .prop_map(|map| Value::Map(map.into_iter().map(|(k, v)| (k.into(), v)).collect())),
            ]
        })
    }

    proptest! {
        /// The same as a reader that others wrote makes of it.
        #[test]
        fn says_what_was_written(value in any_value()) {
            let text = transcode(&bytes(&value)).unwrap();
            let said: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(said, serde_json::to_value(&value).unwrap());
        }
    }
}
