//! A text that must not be seen.

use std::fmt;

/// A text that must not be seen: it has no `Display`, no `Serialize`, and `Debug` shows that it is there and no more.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into keeping.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Every call is a place to look at when asking where secrets go.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_not_shown() {
        let secret = Secret::new("SUAXYZ");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("SUA").count(), 0);
        assert_eq!(secret.expose(), "SUAXYZ");
    }
}
