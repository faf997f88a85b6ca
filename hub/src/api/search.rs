//! Searching what was said: all messages of the workspace that are still kept, from the newest session back.
//!
//! It is a scan, bounded in time; whoever wants more goes on where it ended. See `hub_store`'s `search`.

use std::time::{Duration, Instant};

use axum::Json as Reply;
use axum::extract::State;
use bus_schema::{Message, MessageId, MessageKind, Role, SessionId, Timestamp};
use hub_store::{SearchFor, SearchPlace};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::Shared;
use super::body::Query;
use super::error::ApiError;
use crate::limits::Limited;

/// Longest question, in bytes.
const QUERY_MAX: usize = 256;
/// Most words of a question.
const WORDS_MAX: usize = 8;
/// Hits of a page, if the request does not say, and most of them.
const PAGE_DEFAULT: usize = 50;
const PAGE_MAX: usize = 200;
/// How long one page is looked for; what was not reached is looked at by the next one.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a search waits for its turn.
const TURN: Duration = Duration::from_secs(3);
/// Searches at once: they read as fast as they can, beside ingestion.
static SEARCHES: Semaphore = Semaphore::const_new(2);
/// Characters of a message before and behind the first match.
const BEFORE_CHARS: usize = 60;
const BEHIND_CHARS: usize = 180;

/// What is searched.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SearchQuery {
    /// Words that are all in the message, anywhere and in whatever case; "in quotes" they stand together. At most 8,
    /// and 256 bytes.
    q: String,
    /// How many hits; 50 if absent, at most 200.
    limit: Option<usize>,
    /// Where to go on: `next` of the page before.
    cursor: Option<String>,
    /// Only in this session.
    session: Option<String>,
}

/// What was found.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SearchResults {
    /// Sessions that run come first, then those that have ended; the newest first, and in each its newest message
    /// first. A session that ended between two pages may be told of twice.
    hits: Vec<SearchHit>,
    /// True if not all that is kept was looked at.
    has_more: bool,
    /// Where to go on; absent if all was looked at. A page may be empty and still have one: the time was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// How many messages were looked at for this page.
    looked_at: u64,
}

/// A message in which the words are.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SearchHit {
    /// Its session.
    session_id: SessionId,
    /// Its number there.
    seq: u64,
    /// Its id.
    message_id: MessageId,
    /// Who said it.
    role: Role,
    /// What it is.
    kind: MessageKind,
    /// When.
    timestamp: Timestamp,
    /// What stands around the first match, in one line.
    snippet: String,
}

/// Search the messages of the workspace.
#[utoipa::path(get, path = "/api/search", tag = "search", params(SearchQuery), responses(
    (status = 200, body = SearchResults), (status = 422, body = super::error::ErrorBody),
    (status = 429, body = super::error::ErrorBody)))]
pub(super) async fn search(
    State(app): State<Shared>,
    Query(query): Query<SearchQuery>,
) -> Result<Reply<SearchResults>, ApiError> {
    if query.q.len() > QUERY_MAX {
        return Err(ApiError::invalid(format!("q must be at most {QUERY_MAX} bytes")));
    }
    let words = words(&query.q);
    if !(1..=WORDS_MAX).contains(&words.len()) {
        return Err(ApiError::invalid(format!("q must be 1 to {WORDS_MAX} words")));
    }
    let limit = query.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::invalid(format!("limit must be 1 to {PAGE_MAX}")));
    }
    let place = query.cursor.as_deref().map(str::parse::<SearchPlace>).transpose();
    let place = place.map_err(|e| ApiError::invalid(format!("cursor: {e}")))?;
    let session = query.session.map(SessionId::new).transpose().map_err(|e| ApiError::invalid(e.to_string()))?;
    let Ok(Ok(_turn)) = tokio::time::timeout(TURN, SEARCHES.acquire()).await else {
        app.limits.count("searches");
        return Err(Limited { of: "searches", retry_after_s: 1 }.into());
    };
    let what = SearchFor { words, session };
    let until = Instant::now() + PATIENCE;
    let page = app.store.search(app.bus.workspace(), &what, place.as_ref(), limit, until).await?;
    let hits = page.hits.into_iter().map(|message| hit(message, &what.words)).collect();
    let next = page.next.map(|place| place.to_string());
    Ok(Reply(SearchResults { hits, has_more: next.is_some(), next, looked_at: page.looked_at }))
}

/// The words of a question, in lower case; what is in quotes is one.
fn words(question: &str) -> Vec<String> {
    let parts = question.split('"').enumerate().flat_map(|(n, part)| {
        let quoted = n % 2 == 1;
        let one = quoted.then(|| part.trim());
        one.into_iter().chain(part.split_whitespace().filter(move |_| !quoted))
    });
    let mut words: Vec<String> = parts.filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    words.dedup();
    words
}

fn hit(message: Message, words: &[String]) -> SearchHit {
    SearchHit {
        snippet: snippet(&message.content, words),
        session_id: message.session_id,
        seq: message.seq,
        message_id: message.message_id,
        role: message.role,
        kind: message.kind,
        timestamp: message.timestamp,
    }
}

/// What stands around the first match. Lower case may have other lengths, so the place is counted in what was written.
fn snippet(content: &str, words: &[String]) -> String {
    let (mut lower, mut places) = (String::with_capacity(content.len()), vec![]);
    for (at, c) in content.char_indices() {
        for small in c.to_lowercase() {
            places.extend(std::iter::repeat_n(at, small.len_utf8()));
            lower.push(small);
        }
    }
    let first = words.iter().filter_map(|word| lower.find(word.as_str())).min();
    let at = first.and_then(|at| places.get(at).copied()).unwrap_or(0);
    let (before, behind) = content.split_at(at);
    let from = before.char_indices().rev().nth(BEFORE_CHARS).map_or(0, |(from, c)| from + c.len_utf8());
    let to = behind.char_indices().nth(BEHIND_CHARS).map_or(content.len(), |(to, _)| at + to);
    let cut = content[from..to].split(|c: char| c.is_whitespace() || c.is_control()).filter(|part| !part.is_empty());
    let cut = cut.collect::<Vec<_>>().join(" ");
    let (head, tail) = (if from > 0 { "…" } else { "" }, if to < content.len() { "…" } else { "" });
    format!("{head}{cut}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_words_and_what_is_quoted_is_one() {
        assert_eq!(words(r#" The  "Big Sweep" waits "#), ["the", "big sweep", "waits"]);
        assert_eq!(words(r#""open end"#), ["open end"]);
        assert_eq!(words(r#"  "" " " "#), Vec::<String>::new());
        assert_eq!(words("ÄRGER"), ["ärger"]);
    }

    #[test]
    fn a_snippet_is_one_line_around_the_first_match() {
        let of = |content: &str, word: &str| snippet(content, &[word.to_owned()]);
        assert_eq!(of("The\tSweep\n\nwaits", "sweep"), "The Sweep waits");
        let long = format!("{} NEEDLE {}", "a".repeat(1_000), "b".repeat(1_000));
        let cut = of(&long, "needle");
        assert!(cut.starts_with("…aaa") && cut.ends_with("bbb…") && cut.contains(" NEEDLE "), "{cut}");
        assert!(cut.chars().count() <= BEFORE_CHARS + BEHIND_CHARS + 2);
        // Letters whose lower case is longer or shorter than they are.
        assert!(of(&format!("{}needle", "İK".repeat(100)), "needle").ends_with("needle"));
        assert_eq!(of("", "x"), "");
    }
}
