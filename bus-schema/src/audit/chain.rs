//! Rows in a chain of hashes, and the hub's signature over its end. Byte for byte in `ops/docs/audit.md`.
//!
//! A hash covers every field that a row has, also those that this version does not know: so it is taken of the
//! value as it was written, never of the struct.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::AuditRow;
use super::canonical::{canonical, canonical_without};
use crate::envelope::{DecodeError, decode};
use crate::id::WorkspaceId;
use crate::time::Timestamp;

/// What stands for the hash of a row before the first.
pub const GENESIS: AuditHash = AuditHash([0; 32]);
/// Largest integer up to which a double holds every one.
const EXACT_MAX: u64 = 1 << 53;
/// Goes before a row in what is hashed.
const ROW_DOMAIN: &str = "mosaic-audit-v1\n";
/// Goes before a checkpoint in what is signed.
const CHECKPOINT_DOMAIN: &str = "mosaic-audit-checkpoint-v1\n";

/// SHA-256 of a row; written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuditHash([u8; 32]);

impl AuditHash {
    fn of_row(value: &Value) -> Self {
        let bare = canonical_without(value, "hash");
        let digest = Sha256::new().chain_update(ROW_DOMAIN).chain_update(bare).finalize();
        Self(digest.into())
    }
}

impl fmt::Display for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AuditHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A row with the text it was hashed from.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditLine {
    /// The row, as far as this version knows its fields.
    pub row: AuditRow,
    /// The whole row, `hash` included, as RFC 8785 writes it: one line of an export.
    pub text: String,
    /// Its hash, computed here. What the row itself claims is in `row.hash`.
    pub hash: AuditHash,
}

/// The hub's word for all rows up to one: its number and hash, signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// The number of the last row it covers. This field tells a checkpoint from a row.
    pub checkpoint: u64,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The hash of that row, 64 hex digits.
    pub hash: String,
    /// When it was signed.
    pub timestamp: Timestamp,
    /// Public key (nkey, `V…`) of who signed.
    pub key: String,
    /// Ed25519 signature over [`CheckpointLine::signed_bytes`], base64url without padding.
    #[serde(default)]
    pub signature: String,
}

/// A checkpoint with the text it was signed as.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointLine {
    /// What it says, as far as this version knows its fields.
    pub checkpoint: Checkpoint,
    /// The whole checkpoint, `signature` included, as RFC 8785 writes it: one line of an export.
    pub text: String,
    signed: String,
}

/// What can stand in the audit stream, and in a line of an export.
#[derive(Clone, Debug, PartialEq)]
pub enum AuditEntry {
    /// A row.
    Row(Box<AuditLine>),
    /// A checkpoint.
    Checkpoint(Box<CheckpointLine>),
}

impl AuditLine {
    /// A row behind another: with the other's hash, and its own.
    pub fn behind(prev: AuditHash, mut row: AuditRow) -> Self {
        row.prev = Some(prev.to_string());
        row.hash = None;
        exact(&mut row);
        let mut value = serde_json::to_value(&row).unwrap_or_default();
        let hash = AuditHash::of_row(&value);
        row.hash = Some(hash.to_string());
        value["hash"] = hash.to_string().into();
        Self { row, text: canonical(&value), hash }
    }

    /// A row as it stands. For rows of versions that had no hashes.
    pub fn of(row: AuditRow) -> Self {
        let value = serde_json::to_value(&row).unwrap_or_default();
        Self { row, text: canonical(&value), hash: AuditHash::of_row(&value) }
    }
}

/// Numbers in what is signed are integers that a double holds exactly; every other one becomes text. So nothing is
/// rounded, and no two languages write it differently.
fn exact(row: &mut AuditRow) {
    fn walk(value: &mut Value) {
        match value {
            Value::Number(n) => {
                let small = n.as_i64().is_some_and(|n| n.unsigned_abs() <= EXACT_MAX);
                if !small {
                    *value = Value::String(n.to_string());
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::Object(fields) => fields.values_mut().for_each(walk),
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
    row.metadata.values_mut().for_each(walk);
}

impl CheckpointLine {
    /// A checkpoint, signed by what `sign` does with the bytes.
    ///
    /// # Errors
    /// What `sign` answers.
    pub fn signed<E>(mut checkpoint: Checkpoint, sign: impl FnOnce(&[u8]) -> Result<String, E>) -> Result<Self, E> {
        checkpoint.signature = String::new();
        let unsigned = Self::of(&serde_json::to_value(&checkpoint).unwrap_or_default(), checkpoint.clone());
        checkpoint.signature = sign(&unsigned.signed_bytes())?;
        Ok(Self::of(&serde_json::to_value(&checkpoint).unwrap_or_default(), checkpoint))
    }

    fn of(value: &Value, checkpoint: Checkpoint) -> Self {
        Self { checkpoint, text: canonical(value), signed: canonical_without(value, "signature") }
    }

    /// What the signature covers: a domain, and every field but the signature.
    pub fn signed_bytes(&self) -> Vec<u8> {
        format!("{CHECKPOINT_DOMAIN}{}", self.signed).into_bytes()
    }
}

impl AuditEntry {
    /// Reads what stands in the audit stream.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_payload(payload: &[u8], schema: Option<&str>) -> Result<Self, DecodeError> {
        Self::from_value(decode(payload, schema)?)
    }

    /// Reads a line of an export.
    ///
    /// # Errors
    /// [`DecodeError::Read`].
    pub fn from_json(line: &str) -> Result<Self, DecodeError> {
        Self::from_value(serde_json::from_str(line).map_err(|e| DecodeError::Read(e.to_string()))?)
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let wrong = |e: serde_json::Error| DecodeError::Read(e.to_string());
        // Beyond it the canonical form writes another number than the one that was read.
        let exact = |number: u64| match number {
            0..=EXACT_MAX => Ok(()),
            _ => Err(DecodeError::Read(format!("no row has the number {number}"))),
        };
        if value.get("checkpoint").is_some() {
            let checkpoint = Checkpoint::deserialize(&value).map_err(wrong)?;
            exact(checkpoint.checkpoint)?;
            return Ok(Self::Checkpoint(Box::new(CheckpointLine::of(&value, checkpoint))));
        }
        let row = AuditRow::deserialize(&value).map_err(wrong)?;
        exact(row.n)?;
        let line = AuditLine { row, text: canonical(&value), hash: AuditHash::of_row(&value) };
        Ok(Self::Row(Box::new(line)))
    }
}
