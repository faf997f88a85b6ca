//! Server-sent events, as a browser would read them.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use serde_json::Value;

/// How long an expected event may take.
const WITHIN: Duration = Duration::from_secs(60);

type Body = std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>;

/// An open stream of events.
pub struct Events {
    body: Body,
    text: Vec<u8>,
    /// The last id seen: where to resume.
    pub last_id: Option<String>,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its data, as JSON; null if it is none.
    pub data: Value,
    /// Its id, where it has one.
    pub id: Option<String>,
}

impl Events {
    /// The events of an answer that is a stream of them.
    pub fn of(answer: reqwest::Response) -> Self {
        Self { body: Box::pin(answer.bytes_stream()), text: vec![], last_id: None }
    }

    /// The next event; none when the stream ends or breaks.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                match parse(&String::from_utf8_lossy(&block)) {
                    Some(event) => {
                        if event.id.is_some() {
                            self.last_id.clone_from(&event.id);
                        }
                        return Some(event);
                    }
                    None => continue,
                }
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.text.extend_from_slice(&bytes),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next event of that name.
    ///
    /// # Errors
    /// It does not come in time, or the stream ends.
    pub async fn expect(&mut self, name: &str) -> anyhow::Result<Event> {
        self.expect_where(name, |_| true).await
    }

    /// The next event of that name for whose data `is_it` says yes.
    ///
    /// # Errors
    /// As [`expect`](Self::expect).
    pub async fn expect_where(&mut self, name: &str, is_it: impl Fn(&Value) -> bool) -> anyhow::Result<Event> {
        let mut last = None;
        let next = async {
            loop {
                match self.next().await {
                    Some(event) if event.name == name && is_it(&event.data) => return Ok(event),
                    Some(event) => last = Some(event),
                    None => bail!("the stream ended before {name}"),
                }
            }
        };
        tokio::time::timeout(WITHIN, next).await.with_context(|| format!("no event {name}; seen last: {last:?}"))?
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let lines = block.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        lines.map(|l| l.strip_prefix(' ').unwrap_or(l)).next()
    };
    let data = serde_json::from_str(field("data").unwrap_or_default()).unwrap_or_default();
    Some(Event { name: field("event")?.to_owned(), data, id: field("id").map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_an_event_and_a_comment_is_none() {
        let event = parse("event: message\nid: 7\ndata: {\"a\":1}\n\n").unwrap();
        assert_eq!((event.name.as_str(), event.id.as_deref()), ("message", Some("7")));
        assert_eq!(event.data, serde_json::json!({"a": 1}));
        assert_eq!(parse(": keep-alive\n\n"), None);
    }
}
