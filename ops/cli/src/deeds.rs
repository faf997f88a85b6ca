//! What is done at the folder of an identity is written down there first, for the audit log: a hub with this folder
//! brings it there.

use hub_identity::{Deed, Identity};

/// Longest reason that is kept.
const MOST_CHARS: usize = 400;

/// Does it between two marks in the folder: that it is about to be done, and what became of it.
pub(crate) fn done<T>(
    identity: &mut Identity,
    mut deed: Deed,
    work: impl FnOnce(&mut Identity) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    identity.keep_deed(&deed)?;
    let done = work(identity);
    match &done {
        Ok(_) => deed.result = "ok".into(),
        Err(error) => {
            deed.result = "failed".into();
            deed.detail = Some(format!("{error:#}").chars().take(MOST_CHARS).collect());
        }
    }
    // What cannot be written now is told as broken off later.
    if let Err(error) = identity.keep_deed(&deed) {
        crate::complain(&format!("what became of it is not written down: {error}"));
    }
    done
}

/// Who they say they are.
pub(crate) fn somebody() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    user.unwrap_or_else(|| "unknown user".into()).chars().take(64).collect()
}
