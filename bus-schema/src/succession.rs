//! How a command key gives way to the next: a statement of the old key, which travels with every command of the new one.
//!
//! ```text
//! Mosaic-Key-Chain: v1.OLD.NEW.AT.UNTIL.SIGNATURE[,…]      oldest first; times in milliseconds since 1970
//! ```
//!
//! Laws:
//! 1. A statement is signed when the key is changed, and kept: nobody needs the old seed afterwards, and a node that
//!    was away for a year still learns the new key from it.
//! 2. Until `until` both keys count, afterwards only the new one.
//! 3. A node believes the first statement of a key, and no other one of the same key.

use std::fmt;
use std::str::FromStr;

use crate::time::Timestamp;

/// Most statements in one header. A node that has missed more changes of the key has to join again.
pub const MAX_CHAIN: usize = 8;

/// The statement of a command key that another one takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySuccession {
    /// Public key that ends (nkey, `V…`).
    pub old: String,
    /// Public key that takes its place.
    pub new: String,
    /// When it was signed.
    pub at: Timestamp,
    /// Until when the old key counts too.
    pub until: Timestamp,
    /// Signature of the old key over [`signed_bytes`](Self::signed_bytes), base64url without padding.
    pub signature: String,
}

/// A text is not a statement of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form v1.OLD.NEW.AT.UNTIL.SIGNATURE, or more than {MAX_CHAIN} of them")]
pub struct SuccessionError;

impl KeySuccession {
    /// What the old key signs.
    pub fn signed_bytes(&self) -> Vec<u8> {
        format!("mosaic-key-succession-{}", self.body()).into_bytes()
    }

    fn body(&self) -> String {
        let Self { old, new, at, until, .. } = self;
        format!("v1.{old}.{new}.{}.{}", at.as_millis(), until.as_millis())
    }

    /// A chain as it stands in a header.
    pub fn chain_text(chain: &[Self]) -> String {
        chain.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// Reads a chain from a header.
    ///
    /// # Errors
    /// [`SuccessionError`].
    pub fn parse_chain(text: &str) -> Result<Vec<Self>, SuccessionError> {
        if text.is_empty() {
            return Ok(vec![]);
        }
        let chain: Vec<_> = text.split(',').take(MAX_CHAIN + 1).map(str::parse).collect::<Result<_, _>>()?;
        if chain.len() > MAX_CHAIN { Err(SuccessionError) } else { Ok(chain) }
    }

    /// Of all statements, those that lead to `key`, oldest first; at most [`MAX_CHAIN`].
    pub fn leading_to(all: &[Self], key: &str) -> Vec<Self> {
        let (mut chain, mut key) = (vec![], key);
        while chain.len() < MAX_CHAIN
            && let Some(last) = all.iter().find(|statement| statement.new == key)
        {
            chain.push(last.clone());
            key = &last.old;
        }
        chain.reverse();
        chain
    }
}

impl fmt::Display for KeySuccession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.body(), self.signature)
    }
}

impl FromStr for KeySuccession {
    type Err = SuccessionError;

    fn from_str(text: &str) -> Result<Self, SuccessionError> {
        let parts: Vec<_> = text.split('.').collect();
        let [version, old, new, at, until, signature] = *parts else { return Err(SuccessionError) };
        let is_token = |text: &str| {
            (1..=128).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if version != "v1" || ![old, new, signature].into_iter().all(is_token) {
            return Err(SuccessionError);
        }
        let time = |text: &str| text.parse().map(Timestamp::from_millis).map_err(|_| SuccessionError);
        let (at, until) = (time(at)?, time(until)?);
        Ok(Self { old: old.into(), new: new.into(), at, until, signature: signature.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(old: &str, new: &str) -> KeySuccession {
        let (at, until) = (Timestamp::from_millis(5), Timestamp::from_millis(90));
        KeySuccession { old: old.into(), new: new.into(), at, until, signature: "c2ln".into() }
    }

    #[test]
    fn a_chain_is_read_back() {
        let chain = vec![statement("VA", "VB"), statement("VB", "VC")];
        let text = KeySuccession::chain_text(&chain);
        assert_eq!(text, "v1.VA.VB.5.90.c2ln,v1.VB.VC.5.90.c2ln");
        assert_eq!(KeySuccession::parse_chain(&text).unwrap(), chain);
        assert_eq!(KeySuccession::parse_chain("").unwrap(), []);
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in
            ["x", "v2.VA.VB.5.90.s", "v1.VA.VB.5.s", "v1..VB.5.90.s", "v1.VA.VB.x.90.s", "v1.VA.V B.5.90.s", ","]
        {
            assert!(KeySuccession::parse_chain(text).is_err(), "{text}");
        }
        let long = KeySuccession::chain_text(&vec![statement("VA", "VB"); MAX_CHAIN + 1]);
        assert!(KeySuccession::parse_chain(&long).is_err());
    }

    #[test]
    fn only_statements_that_lead_to_the_key_are_told() {
        let all = [statement("VA", "VB"), statement("VB", "VLOST"), statement("VB", "VC"), statement("VX", "VY")];
        assert_eq!(KeySuccession::leading_to(&all, "VC"), [statement("VA", "VB"), statement("VB", "VC")]);
        assert_eq!(KeySuccession::leading_to(&all, "VA"), []);
        let circle = [statement("VA", "VB"), statement("VB", "VA")];
        assert_eq!(KeySuccession::leading_to(&circle, "VA").len(), MAX_CHAIN);
    }
}
