//! What a container engine tells, for the fuzz targets of `ops/fuzz`. See [`crate::fuzzing`].

use std::collections::BTreeMap;

use super::cursor::Cursor;
use super::labels::{Facts, Streams, is_agent};
use super::logs::Pieces;
use super::moment;

/// An engine's log: `terminal portion bytes…`. The same pieces however it is cut, and none of them is lost.
pub fn engine_log(data: &[u8]) {
    let [tty, cut, bytes @ ..] = data else { return };
    let tty = tty % 2 == 1;
    let read = |portion: usize| {
        let mut pieces = Pieces::new(tty);
        let mut found = vec![];
        for part in bytes.chunks(portion.max(1)) {
            match pieces.push(part) {
                Ok(more) => found.extend(more),
                Err(_) => return (found, false),
            }
        }
        match pieces.finish() {
            Ok(last) => found.extend(last),
            Err(_) => return (found, false),
        }
        (found, true)
    };
    let (whole, is_whole) = read(bytes.len());
    let (parts, is_sound) = read(usize::from(*cut) + 1);
    assert_eq!(is_whole, is_sound, "refused or not, however it is cut");
    if is_whole {
        assert_eq!(whole, parts, "the same pieces however the log is cut");
    }
    let mut cursor = Cursor::new(whole.first().map(|piece| piece.nanos));
    let (wrote, again) = parts.split_at(parts.len() / 2);
    wrote.iter().for_each(|piece| cursor.wrote(piece.stream, piece.nanos));
    let mut catch_up = cursor.catch_up();
    for piece in again {
        let _ = catch_up.judge(piece.stream, piece.nanos);
    }
    let _ = (cursor.latest(), cursor.since_seconds());
    let _ = moment::nanos(bytes);
}

/// What is asked of a container by its labels: `streams`, then JSON.
pub fn container(data: &[u8]) {
    let [streams, json @ ..] = data else { return };
    let Ok(labels) = serde_json::from_slice::<BTreeMap<String, String>>(json) else { return };
    let streams = Streams { tty: streams & 1 > 0, open_stdin: streams & 2 > 0, stdin_once: streams & 4 > 0 };
    let facts = Facts::read(&labels, "name", streams);
    assert!(facts.stop_seconds <= 24 * 3600, "a container is not waited for without end");
    let _ = is_agent(&labels);
}
