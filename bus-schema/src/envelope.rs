//! How a payload is written and read, which headers go with it, and what a command's signature covers.

use std::io::Cursor;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::{MAX_DEPTH, MAX_PAYLOAD_BYTES};
use crate::subject::Subject;

/// The schema this program writes. A reader refuses a larger one by name instead of guessing at it.
pub const SCHEMA_VERSION: u32 = 1;

/// Header names and their fixed values.
pub mod header {
    /// Always [`MSGPACK`].
    pub const CONTENT_TYPE: &str = "Content-Type";
    /// The one content type of the bus.
    pub const MSGPACK: &str = "application/msgpack";
    /// [`SCHEMA_VERSION`](super::SCHEMA_VERSION) of the writer, decimal. Absent means 1.
    pub const SCHEMA: &str = "Mosaic-Schema";
    /// Request id of the HTTP request that caused a command, for the logs of both sides.
    pub const REQUEST_ID: &str = "Mosaic-Request-Id";
    /// Public key (nkey, `V…`) that signed the command.
    pub const KEY: &str = "Mosaic-Key";
    /// How nodes come to trust that key, where it took another's place: see
    /// [`KeySuccession`](crate::KeySuccession).
    pub const KEY_CHAIN: &str = "Mosaic-Key-Chain";
    /// Ed25519 signature over [`signed_bytes`](super::signed_bytes), base64url without padding.
    pub const SIGNATURE: &str = "Mosaic-Signature";
}

/// A value cannot go onto the bus.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It cannot be written as MessagePack.
    #[error("cannot write the payload as MessagePack")]
    Write(#[source] rmp_serde::encode::Error),
    /// It is larger than a payload may be.
    #[error("payload of {bytes} bytes is over the limit of {MAX_PAYLOAD_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// A payload cannot be read. The payload is to be set aside and counted, never to stop its reader.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not MessagePack, or not the fields that were expected.
    #[error("payload is not the MessagePack map that belongs here: {0}")]
    Read(String),
    /// One whole value, and more bytes behind it.
    #[error("payload has {extra} bytes behind its one value")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// Larger than a payload may be.
    #[error("payload of {bytes} bytes is over the limit of {MAX_PAYLOAD_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Written by a newer program whose schema we do not know.
    #[error("payload has schema {theirs}, this program reads up to {SCHEMA_VERSION}: upgrade it")]
    NewerSchema {
        /// The schema of the writer.
        theirs: u32,
    },
    /// The schema header is not a number.
    #[error("header Mosaic-Schema is not a number: {0:?}")]
    SchemaHeader(String),
}

/// Writes one payload: a MessagePack map with named fields.
///
/// # Errors
/// [`EncodeError::TooLarge`] above [`MAX_PAYLOAD_BYTES`]; [`EncodeError::Write`] for values MessagePack cannot hold.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let bytes = rmp_serde::to_vec_named(value).map_err(EncodeError::Write)?;
    if bytes.len() > MAX_PAYLOAD_BYTES {
        return Err(EncodeError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Reads one payload. `schema` is the text of the header [`header::SCHEMA`], where there is one.
///
/// # Errors
/// [`DecodeError`], for any bytes whatsoever: never a panic, nor a stack that runs over.
pub fn decode<T: DeserializeOwned>(payload: &[u8], schema: Option<&str>) -> Result<T, DecodeError> {
    if let Some(text) = schema {
        let theirs: u32 =
            text.trim().parse().map_err(|_| DecodeError::SchemaHeader(text.chars().take(40).collect()))?;
        if theirs > SCHEMA_VERSION {
            return Err(DecodeError::NewerSchema { theirs });
        }
    }
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(DecodeError::TooLarge { bytes: payload.len() });
    }
    let mut reader = rmp_serde::Deserializer::new(Cursor::new(payload));
    reader.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut reader).map_err(|e| DecodeError::Read(e.to_string()))?;
    let read = usize::try_from(reader.position()).unwrap_or(usize::MAX);
    match payload.len().saturating_sub(read) {
        0 => Ok(value),
        extra => Err(DecodeError::Trailing { extra }),
    }
}

/// The bytes that the signature of a command covers: a domain, the subject it is sent to, and the payload as sent.
///
/// The subject is part of it so that a command for one node cannot be replayed to another.
pub fn signed_bytes(subject: &Subject, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("mosaic-command-v1\n{subject}\n").into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}
