//! A terminal as it was: what the bus has kept of its output, as an asciicast, which players and the page's replay
//! read alike. <https://docs.asciinema.org/manual/asciicast/v2/>
//!
//! Laws:
//! 1. The clock is that of the session's node, the same as in messages: an event's time is seconds after the whole
//!    second in the head's `timestamp`.
//! 2. Each byte stands there once, in order. What is missing between two pieces is told by a marker, and where the
//!    beginning is missing the head says at which byte it begins.
//! 3. It is read from the bus as fast as it is taken, and held nowhere.

use std::fmt::Write as _;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bus_schema::{Session, SessionId, Subject, Terminal, TerminalSize, Timestamp, decode};
use futures::stream;
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::body::{InPath, Query};
use super::error::ApiError;
use crate::bus::{BusError, RangeReader, StreamName};

/// Pieces read from the stream at once.
const READ_BATCH: usize = 100;
/// The size of a terminal that never said one.
const SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

/// How much.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RecordingQuery {
    /// Only the last so many bytes of output; all that are kept if absent.
    last: Option<u64>,
}

/// The recording of a session's terminal, as an asciicast (version 2): a line of JSON for the head, then one for each
/// piece of output (`o`), change of size (`r`) and gap (`m`). The head's `mosaic` tells the session, the first byte of
/// output that is in it, and how many there were until now. It holds what the bus keeps: the last pieces of each
/// session, for some days.
#[utoipa::path(get, path = "/api/mission-control/sessions/{id}/terminal/recording", tag = "terminal",
    params(("id" = String, Path), RecordingQuery), responses(
        (status = 200, content_type = "application/x-asciicast", body = String),
        (status = 404, body = super::error::ErrorBody), (status = 503, body = super::error::ErrorBody)))]
pub(super) async fn get(
    State(app): State<Shared>,
    InPath(id): InPath,
    Query(query): Query<RecordingQuery>,
) -> Result<Response, ApiError> {
    let session = app.actions.session(&id).await?;
    let subject = Subject::Terminal(session.workspace.clone(), session.node.clone(), id.clone()).to_string();
    let last = app.bus.last_of(StreamName::Terminal, &subject).await?;
    let last = last.and_then(|l| decode::<Terminal>(&l.payload, l.schema.as_deref()).ok());
    let Some(last) = last else {
        return Err(ApiError::not_found(format!("nothing of the terminal of session {id} is kept")));
    };
    let end = last.offset + last.data.len() as u64;
    let bounds = app.bus.bounds(StreamName::Terminal).await?;
    let reader = app.bus.range(StreamName::Terminal, bounds.first, bounds.last, vec![subject]);
    let mut tape =
        Tape { app, reader, cast: Cast::new(&session, query.last.map_or(0, |last| end.saturating_sub(last)), end) };
    // The first part before the answer: what fails then has a status.
    let first = tape.part().await?;
    let rest = stream::unfold((first, Some(tape)), |(ready, tape)| async move {
        let mut tape = tape?;
        let part = match ready {
            Some(part) => Ok(Some(part)),
            None => tape.part().await,
        };
        match part {
            Ok(part) => Some((Ok(Bytes::from(part?)), (None, Some(tape)))),
            Err(error) => {
                tracing::warn!(session = %tape.cast.session, %error, "a recording broke off");
                Some((Err(std::io::Error::other(error)), (None, None)))
            }
        }
    });
    let mut response = Body::from_stream(rest).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-asciicast"));
    Ok(response)
}

/// A recording on its way to one reader.
struct Tape {
    app: Shared,
    reader: RangeReader,
    cast: Cast,
}

impl Tape {
    /// The next lines; none at the end.
    async fn part(&mut self) -> Result<Option<String>, BusError> {
        while !self.app.stop.is_cancelled() && !self.cast.is_over {
            let batch = self.reader.next_batch(READ_BATCH).await?;
            self.cast.is_over = batch.is_empty();
            let mut lines = String::new();
            for stored in batch {
                if let Ok(piece) = decode::<Terminal>(&stored.payload, stored.schema.as_deref()) {
                    self.cast.take(&mut lines, piece);
                }
            }
            if self.cast.is_over {
                self.cast.finish(&mut lines);
            }
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
        }
        Ok(None)
    }
}

/// Makes lines of an asciicast out of pieces of output.
struct Cast {
    session: SessionId,
    title: String,
    /// Pieces that end before are left out.
    from: u64,
    /// Bytes of output that there were when the recording was asked for.
    end: u64,
    /// Bytes up to here are on the tape; none before the first piece.
    next: Option<u64>,
    size: TerminalSize,
    /// What the times of events count from.
    base: Timestamp,
    /// Time of the last event in milliseconds after the base: players want times that do not go back.
    at_ms: u64,
    /// The beginning of a character whose end is in the next piece.
    carry: Vec<u8>,
    is_over: bool,
}

impl Cast {
    fn new(session: &Session, from: u64, end: u64) -> Self {
        let title = session.title.clone().unwrap_or_else(|| session.session_id.to_string());
        Self {
            session: session.session_id.clone(),
            title,
            from,
            end,
            next: None,
            size: SIZE,
            base: Timestamp::from_millis(0),
            at_ms: 0,
            carry: vec![],
            is_over: false,
        }
    }

    /// Takes a piece; they may be repeated and overlap.
    fn take(&mut self, lines: &mut String, piece: Terminal) {
        let end = piece.offset + piece.data.len() as u64;
        let resized = piece.size.filter(|size| *size != self.size);
        self.size = resized.unwrap_or(self.size);
        let skipped = self.next.is_none() && end <= self.from && end < self.end;
        if skipped || self.next.is_some_and(|next| end <= next && resized.is_none()) {
            return;
        }
        let have = match self.next {
            None => {
                self.head(lines, &piece);
                0
            }
            Some(next) => {
                self.at_ms = self.at_ms.max(piece.timestamp.millis_since(self.base));
                if piece.offset > next {
                    self.finish(lines);
                    self.event(lines, 'm', &format!("bytes {next} to {} are not kept", piece.offset));
                }
                if resized.is_some() {
                    self.event(lines, 'r', &format!("{}x{}", self.size.cols, self.size.rows));
                }
                next.saturating_sub(piece.offset)
            }
        };
        let have = usize::try_from(have).unwrap_or(usize::MAX).min(piece.data.len());
        self.next = Some(self.next.unwrap_or(0).max(end));
        let text = self.text(&piece.data[have..]);
        if !text.is_empty() {
            self.event(lines, 'o', &text);
        }
    }

    fn head(&mut self, lines: &mut String, first: &Terminal) {
        let seconds = first.timestamp.as_millis().div_euclid(1_000);
        self.base = Timestamp::from_millis(seconds * 1_000);
        self.at_ms = first.timestamp.millis_since(self.base);
        let head = json!({
            "version": 2, "width": self.size.cols, "height": self.size.rows, "timestamp": seconds,
            "title": self.title, "env": {"TERM": "xterm-256color"},
            "mosaic": {"sessionId": self.session, "fromOffset": first.offset, "toOffset": self.end},
        });
        let _infallible = writeln!(lines, "{head}");
    }

    /// What came of a character that was not finished.
    fn finish(&mut self, lines: &mut String) {
        if !std::mem::take(&mut self.carry).is_empty() {
            self.event(lines, 'o', "\u{fffd}");
        }
    }

    fn event(&self, lines: &mut String, kind: char, text: &str) {
        let text = serde_json::Value::from(text);
        let _infallible = writeln!(lines, "[{}.{:03},\"{kind}\",{text}]", self.at_ms / 1_000, self.at_ms % 1_000);
    }

    /// Bytes as text: a character cut in two waits for its end, and what is none is replaced.
    fn text(&mut self, data: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.carry);
        bytes.extend_from_slice(data);
        let mut text = String::with_capacity(bytes.len());
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let unfinished = chunks.peek().is_none() && is_beginning(invalid);
            if unfinished {
                self.carry = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }
}

/// True for bytes that could still become a character.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(from: u64, end: u64) -> Cast {
        let session: Session = serde_json::from_value(json!({
            "sessionId": "01JD8Z2V9Q0000000000000001", "workspace": "default", "node": "n1", "provider": "pty",
            "status": "running", "statusSource": "process", "title": "a \"title\"",
            "statusSince": "2026-11-22T20:00:00Z", "spawnedAt": "2026-11-22T20:00:00Z",
        }))
        .unwrap();
        Cast::new(&session, from, end)
    }

    fn piece(offset: u64, at_ms: i64, data: &[u8], size: Option<(u16, u16)>) -> Terminal {
        Terminal {
            session_id: SessionId::new("01JD8Z2V9Q0000000000000001").unwrap(),
            offset,
            data: data.to_vec(),
            timestamp: Timestamp::from_millis(1_795_380_000_000 + at_ms),
            size: size.map(|(cols, rows)| TerminalSize { cols, rows }),
        }
    }

    /// The head, and the events as they stand there.
    fn lines(mut cast: Cast, pieces: Vec<Terminal>) -> (serde_json::Value, Vec<String>) {
        let mut text = String::new();
        pieces.into_iter().for_each(|piece| cast.take(&mut text, piece));
        cast.finish(&mut text);
        let mut lines = text.lines().map(str::to_owned);
        (serde_json::from_str(&lines.next().unwrap()).unwrap(), lines.collect())
    }

    #[test]
    fn each_byte_stands_there_once_on_the_clock_of_the_messages() {
        let pieces = vec![
            piece(0, 250, b"one\r\n", Some((100, 30))),
            piece(0, 260, b"one\r\n", None),
            piece(3, 1_500, b"\r\ntwo\x1b[0m", None),
            piece(12, 1_400, b"!", None),
            piece(13, 2_000, b"", Some((90, 20))),
            piece(20, 3_000, b"late", None),
        ];
        let (head, events) = lines(cast(0, 24), pieces);
        assert_eq!(head["version"], 2);
        assert_eq!(
            (&head["width"], &head["height"], &head["timestamp"]),
            (&json!(100), &json!(30), &json!(1_795_380_000))
        );
        assert_eq!((&head["title"], &head["mosaic"]["fromOffset"]), (&json!("a \"title\""), &json!(0)));
        assert_eq!(
            events,
            [
                r#"[0.250,"o","one\r\n"]"#,
                r#"[1.500,"o","two\u001b[0m"]"#,
                r#"[1.500,"o","!"]"#,
                r#"[2.000,"r","90x20"]"#,
                r#"[3.000,"m","bytes 13 to 20 are not kept"]"#,
                r#"[3.000,"o","late"]"#,
            ]
        );
    }

    #[test]
    fn characters_cut_in_two_are_whole_again_and_what_is_none_is_told() {
        let euro = "€".as_bytes();
        let pieces = vec![
            piece(0, 0, &euro[..1], None),
            piece(1, 1, &euro[1..2], None),
            piece(2, 2, &[euro[2], 0xff, b'a'], None),
            piece(5, 3, &euro[..2], None),
        ];
        let (_, events) = lines(cast(0, 7), pieces);
        assert_eq!(
            events,
            [r#"[0.002,"o","€\ufffda"]"#.replace("\\ufffd", "\u{fffd}"), "[0.003,\"o\",\"\u{fffd}\"]".into()]
        );
    }

    #[test]
    fn of_a_long_one_only_the_end_with_the_size_it_had() {
        let pieces = vec![
            piece(0, 0, &[b'a'; 10], Some((120, 40))),
            piece(10, 5_000, b"bb", None),
            piece(12, 5_001, b"c", None),
        ];
        let (head, events) = lines(cast(11, 13), pieces);
        assert_eq!((&head["width"], &head["mosaic"]["fromOffset"]), (&json!(120), &json!(10)));
        assert_eq!(events, [r#"[0.000,"o","bb"]"#, r#"[0.001,"o","c"]"#]);
    }
}
