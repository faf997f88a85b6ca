//! Every limit of the protocol, each beside its reason.

/// Largest payload on the bus, in bytes. The default `max_payload` of nats-server, which we do not raise:
/// larger payloads hold up everything behind them on the same connection.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// Largest `content` of one message, in bytes of UTF-8 (contract section 4). Longer content is cut at a
/// character border, with `metadata.truncated` and `metadata.fullSizeBytes` set.
pub const MAX_CONTENT_BYTES: usize = 256 * 1024;

/// Largest `metadata` of a message or session, in bytes as JSON. Leaves room for the content within the payload
/// even where every byte of it needs escaping.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;

/// Largest partial text carried by one delta, in bytes: a delta repeats the text so far, and nobody reads more
/// than this in an unfinished message.
pub const MAX_DELTA_BYTES: usize = 16 * 1024;

/// Largest piece of terminal output in one payload, in bytes.
pub const MAX_TERMINAL_CHUNK_BYTES: usize = 64 * 1024;

/// Longest token of a subject: workspace, node and session ids (contract section 2).
pub const MAX_TOKEN_LEN: usize = 64;

/// Deepest nesting of a payload. Our own payloads need 5; agents' metadata may be deeper.
pub const MAX_DEPTH: usize = 64;

/// Longest title, reason or error text of a session, in bytes: it is repeated in every snapshot.
pub const MAX_LINE_BYTES: usize = 4 * 1024;
