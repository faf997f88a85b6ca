//! Reads TOML into a struct and tells *everything* that is wrong with it, each with file, line and key.
//!
//! The reader stops at the first mistake, so it is called again without the entry that was wrong until there is none.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

/// One thing that is wrong with the configuration, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In which file and line; `None` for the environment and for what is missing everywhere.
    pub place: Option<(PathBuf, usize)>,
    /// Which key or variable.
    pub key: String,
    /// What is wrong and what to do. Never a value that may be a secret.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((path, line)) = &self.place {
            write!(f, "{}:{line}: ", path.display())?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Reads `text` as far as it can be read, and says what could not.
pub(super) fn read<T: DeserializeOwned + Default>(path: &Path, text: &str, problems: &mut Vec<Problem>) -> T {
    let place = |at: usize| {
        let before = text.get(..at).unwrap_or(text);
        Some((path.to_owned(), before.matches('\n').count() + 1))
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        problems.push(Problem { place: place(at), key: String::new(), text: error.message().to_owned() });
    }
    let span = table.span();
    let mut table = table.into_inner();
    loop {
        let error = match T::deserialize(Deserializer::from(Spanned::new(span.clone(), table.clone()))) {
            Ok(value) => return value,
            Err(error) => error,
        };
        let mut key = vec![];
        let found = error.span().filter(|span| remove(&mut table, span, &mut key));
        let (place, key) = (found.clone().and_then(|span| place(span.start)), key.join("."));
        let is_secret = key.split('.').any(|part| part == "env");
        let text = if is_secret { "must be a text in quotes".to_owned() } else { error.message().to_owned() };
        problems.push(Problem { place, key, text });
        if found.is_none() {
            return T::default();
        }
    }
}

/// Takes away the innermost entry that `span` lies in. False if there is none.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>, key: &mut Vec<String>) -> bool {
    let mut found = None;
    for (name, value) in table.iter_mut() {
        let text = name.get_ref().to_string();
        if holds(&name.span(), span) {
            found = Some((name.clone(), text));
            break;
        }
        if !covers(value, span) {
            continue;
        }
        key.push(text.clone());
        if descend(value.get_mut(), span, key) {
            return true;
        }
        key.pop();
        found = Some((name.clone(), text));
        break;
    }
    let Some((name, text)) = found else { return false };
    key.push(text);
    table.remove(&name).is_some()
}

fn descend(value: &mut DeValue<'_>, span: &Range<usize>, key: &mut Vec<String>) -> bool {
    match value {
        DeValue::Table(table) => remove(table, span, key),
        DeValue::Array(array) => {
            let at = array.iter().position(|value| covers(value, span));
            let Some(at) = at else { return false };
            let is_inside = array.get_mut(at).is_some_and(|value| descend(value.get_mut(), span, key));
            if is_inside {
                return true;
            }
            // A whole element is wrong, such as one that lacks a field.
            let rest = array.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, value)| value.clone());
            let rest: Vec<_> = rest.collect();
            *array = Default::default();
            rest.into_iter().for_each(|value| array.push(value));
            true
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            false
        }
    }
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// True if `span` lies in the value. A table that is written under a header of its own has only the header as its span.
fn covers(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    holds(&value.span(), span)
        || match value.get_ref() {
            DeValue::Table(table) => table.iter().any(|(key, value)| holds(&key.span(), span) || covers(value, span)),
            DeValue::Array(array) => array.iter().any(|value| covers(value, span)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => false,
        }
}
