//! Finding messages by their words, without an index: what is kept is read from the newest session back, until there
//! is enough or the time is over. So searching costs nothing while nobody searches: ingestion writes no more than
//! before, what retention took away is gone here too, and nothing has to be built again after a crash.
//!
//! Why no full-text index: it makes a message cost five times the CPU of its insert and three to four times its disk
//! (measured with SurrealDB 3.3.5), for every message, for a question that is asked a few times a day. What a scan
//! reaches is printed by `cargo run -p hub-store --example scan`.
//!
//! Laws:
//! 1. Sessions that run come first, then those that have ended; the newest first, and in each its newest message
//!    first. A place in that order stays one, whatever is said meanwhile: nothing is left out. A session that ends
//!    between two pages may be told of twice.
//! 2. A page ends in time, and each is further on than the one before.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use bus_schema::{Message, SessionId, WorkspaceId};

use crate::db::Store;
use crate::error::StoreError;
use crate::messages::{message_of, range};
use crate::value::{Reader, Row, row, text};

/// Messages looked at in one statement.
const BLOCK: u64 = 500;
/// Sessions looked at in one statement.
const RANGES: usize = 64;

/// What is searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchFor {
    /// All of these are in the message, in lower case, anywhere.
    pub words: Vec<String>,
    /// Only in this session.
    pub session: Option<SessionId>,
}

/// How far a search has come: everything in the order of law 1 before it has been looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPlace {
    ended: bool,
    session: SessionId,
    /// The next message to look at lies before it.
    before: u64,
}

/// Some of what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchPage {
    /// The messages, in the order of law 1.
    pub hits: Vec<Message>,
    /// Where to go on; none if all that is kept has been looked at.
    pub next: Option<SearchPlace>,
    /// How many messages were looked at.
    pub looked_at: u64,
}

impl fmt::Display for SearchPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", if self.ended { "ended" } else { "active" }, self.session, self.before)
    }
}

/// A text that is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a search")]
pub struct NoPlace;

impl FromStr for SearchPlace {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let mut parts = text.split('.');
        let ended = match parts.next() {
            Some("active") => false,
            Some("ended") => true,
            Some(_) | None => return Err(NoPlace),
        };
        let session = parts.next().and_then(|id| SessionId::new(id).ok()).ok_or(NoPlace)?;
        let before = parts.next().and_then(|n| n.parse().ok()).ok_or(NoPlace)?;
        if parts.next().is_some() { Err(NoPlace) } else { Ok(Self { ended, session, before }) }
    }
}

/// Messages of a session that are still to be looked at.
struct Left {
    ended: bool,
    session: SessionId,
    first: u64,
    /// Up to here, included.
    last: u64,
}

impl Left {
    fn place(&self) -> SearchPlace {
        SearchPlace { ended: self.ended, session: self.session.clone(), before: self.last.saturating_add(1) }
    }
}

impl Store {
    /// Messages of a workspace in which all words are, at most `limit`, from `place` on; ends soon after `until`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn search(
        &self,
        workspace: &WorkspaceId,
        what: &SearchFor,
        place: Option<&SearchPlace>,
        limit: usize,
        until: Instant,
    ) -> Result<SearchPage, StoreError> {
        let mut left = self.left(workspace, what, place).await?;
        // The next one is at the end.
        left.reverse();
        let mut page = SearchPage { hits: vec![], next: None, looked_at: 0 };
        while !left.is_empty() {
            let block = cut(&mut left);
            let looked_at: u64 = block.iter().map(|of| of.last - of.first + 1).sum();
            page.hits.extend(self.found_in(&block, &what.words).await?);
            page.looked_at += looked_at;
            if page.hits.len() >= limit {
                page.hits.truncate(limit);
                page.next = page.hits.last().and_then(|hit| {
                    let ended = block.iter().find(|of| of.session == hit.session_id)?.ended;
                    Some(SearchPlace { ended, session: hit.session_id.clone(), before: hit.seq })
                });
                return Ok(page);
            }
            if Instant::now() >= until {
                page.next = left.last().map(Left::place);
                return Ok(page);
            }
        }
        Ok(page)
    }

    /// Every session with messages that are to be looked at, in the order of law 1.
    async fn left(
        &self,
        workspace: &WorkspaceId,
        what: &SearchFor,
        place: Option<&SearchPlace>,
    ) -> Result<Vec<Left>, StoreError> {
        let sql = "SELECT id, first_seq, last_seq FROM head WHERE workspace = $w AND first_seq <= last_seq; \
                   SELECT id FROM session WHERE workspace = $w AND active = true";
        let vars = row([("w", text(workspace.as_str()))]);
        let mut answers = self.read("reading which sessions to search", sql, vars).await?.into_iter();
        let heads = answers.next().unwrap_or_default();
        let active = answers.next().unwrap_or_default().into_iter().map(|found| Reader::new("session", found).key());
        let active = active.collect::<Result<BTreeSet<_>, _>>()?;
        let left = heads.into_iter().map(|found| {
            let mut reader = Reader::new("head", found);
            let key = reader.key()?;
            let session =
                SessionId::new(&key).map_err(|e| StoreError::Form { table: "head", detail: e.to_string() })?;
            let ended = !active.contains(session.as_str());
            Ok(Left { ended, session, first: reader.number("first_seq")?, last: reader.number("last_seq")? })
        });
        let mut left = left.collect::<Result<Vec<_>, StoreError>>()?;
        left.retain(|of| what.session.as_ref().is_none_or(|only| *only == of.session));
        left.sort_by(|a, b| (a.ended, &b.session).cmp(&(b.ended, &a.session)));
        if let Some(place) = place {
            left.retain(|of| (of.ended, &place.session) >= (place.ended, &of.session));
            for of in left.iter_mut().filter(|of| of.session == place.session && of.ended == place.ended) {
                of.last = of.last.min(place.before.saturating_sub(1));
            }
            left.retain(|of| of.first <= of.last);
        }
        Ok(left)
    }

    /// One statement over all parts of a block: what stands in it, in the block's order, each part from its end.
    async fn found_in(&self, block: &[Left], words: &[String]) -> Result<Vec<Message>, StoreError> {
        let (mut vars, mut tables, mut tests) = (Row::new(), vec![], vec![]);
        for (n, of) in block.iter().enumerate() {
            vars.insert(format!("r{n}"), range(&of.session, of.first, of.last));
            tables.push(format!("$r{n}"));
        }
        for (n, word) in words.iter().enumerate() {
            vars.insert(format!("w{n}"), text(word));
            tests.push(format!("string::contains(string::lowercase(content), $w{n})"));
        }
        let sql = format!("SELECT * FROM {} WHERE {}", tables.join(", "), tests.join(" AND "));
        let rows = self.read("searching messages", &sql, vars).await?;
        let found = rows.into_iter().flatten().map(message_of);
        let mut found = found.collect::<Result<Vec<_>, _>>()?;
        let rank = |id: &SessionId| block.iter().position(|of| of.session == *id);
        found.sort_by_key(|hit| (rank(&hit.session_id), std::cmp::Reverse(hit.seq)));
        Ok(found)
    }
}

/// Takes the next messages to look at: of a long session its last ones, of short ones several.
fn cut(left: &mut Vec<Left>) -> Vec<Left> {
    let (mut block, mut room) = (vec![], BLOCK);
    while room > 0
        && block.len() < RANGES
        && let Some(mut of) = left.pop()
    {
        let (from, to) = (of.first.max(of.last.saturating_add(1).saturating_sub(room)), of.last);
        room -= (to - from + 1).min(room);
        let part = Left { ended: of.ended, session: of.session.clone(), first: from, last: to };
        if from > of.first {
            of.last = from - 1;
            left.push(of);
        }
        block.push(part);
    }
    block
}
