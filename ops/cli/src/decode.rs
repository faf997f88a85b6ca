//! `mosaic decode`: one payload in, one line of JSON out, whatever comes.

use std::io::{Read, Write};
use std::process::ExitCode;

use bus_schema::limits::MAX_PAYLOAD_BYTES;
use data_encoding::BASE64;

use crate::json;

/// How much of a payload that cannot be read is shown.
const SHOWN_BYTES: usize = 96;

/// Reads stdin, writes stdout. Always succeeds: `nats --translate` would show an error instead of the payload.
pub(crate) fn run() -> ExitCode {
    let mut payload = vec![];
    // One byte more than a payload may have, so that a larger one is told as such.
    let limit = u64::try_from(MAX_PAYLOAD_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let read = std::io::stdin().lock().take(limit).read_to_end(&mut payload);
    let mut line = match read {
        Ok(_) => line(&payload),
        Err(error) => undecodable(&format!("cannot read stdin: {error}"), &payload),
    };
    line.push('\n');
    // The reader has gone: nothing left to do.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
    ExitCode::SUCCESS
}

/// One line of JSON, without its end.
pub(crate) fn line(payload: &[u8]) -> String {
    let said = if payload.is_empty() {
        Err("empty".to_owned())
    } else if payload.len() > MAX_PAYLOAD_BYTES {
        Err(format!("over the limit of {MAX_PAYLOAD_BYTES} bytes"))
    } else {
        json::transcode(payload)
    };
    said.unwrap_or_else(|reason| undecodable(&reason, payload))
}

fn undecodable(reason: &str, payload: &[u8]) -> String {
    let mut out = String::from("{\"undecodable\":{\"reason\":");
    json::string(&mut out, reason);
    let shown = payload.get(..SHOWN_BYTES).unwrap_or(payload);
    out.push_str(&format!(",\"bytes\":{},\"base64\":\"{}\"}}}}", payload.len(), BASE64.encode(shown)));
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_with_its_beginning() {
        assert_eq!(line(b""), r#"{"undecodable":{"reason":"empty","bytes":0,"base64":""}}"#);
        let text = line(b"\x1b[31m hello");
        assert!(text.contains("bytes behind the first value") && text.contains("\"base64\":\"G1sz"), "{text}");
        // Announces four billion elements.
        assert!(line(b"\xdd\xff\xff\xff\xff").contains("undecodable"));
        assert!(line(&[0x91; 100_000]).contains("undecodable"), "too deep");
        // Maps in the keys of maps: written out, twice as long with each.
        assert!(line(&[0x81; 60]).contains("a list or a map as a key within a key"));
        assert!(line(&vec![0xc0; MAX_PAYLOAD_BYTES + 1]).contains("over the limit"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_safe_line_of_json(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = line(&bytes);
            prop_assert!(!text.chars().any(crate::escape::is_unsafe), "{text:?}");
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        }

        #[test]
        fn any_text_survives(text in any::<String>()) {
            let bytes = bus_schema::encode(&serde_json::json!({"content": text})).unwrap();
            let back: serde_json::Value = serde_json::from_str(&line(&bytes)).unwrap();
            prop_assert_eq!(back["content"].as_str(), Some(text.as_str()));
        }
    }
}
