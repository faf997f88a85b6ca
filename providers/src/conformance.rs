//! The suite that every provider passes, ours and a third party's: the laws in the header of `provider.rs`, asked of a
//! live provider with real agents.
//!
//! ```no_run
//! # async fn check(bench: providers::conformance::Bench) {
//! let report = providers::conformance::run(&bench).await;
//! assert!(report.breaches.is_empty(), "{report}");
//! # }
//! ```
//!
//! The suite starts its own sessions from the profiles it is given, and ends and forgets them. It never panics: what
//! it finds is in the [`Report`].

mod checks;
mod probe;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::profile::Profile;
use crate::provider::AgentProvider;

/// Makes the provider anew over what it left behind, as a node agent does that was killed.
pub type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn AgentProvider>> + Send + Sync>;

/// What the suite needs to examine a provider.
pub struct Bench {
    /// The provider.
    pub provider: Arc<dyn AgentProvider>,
    /// Starts an agent that says every line it is given, and goes on.
    pub talker: Profile,
    /// Starts an agent that says so many messages as fast as it can, and goes on or ends.
    pub flood: (Profile, usize),
    /// Makes the provider anew, where its sessions outlive it.
    pub reopen: Option<Reopen>,
    /// Longest time that one call, or one awaited event, may take.
    pub deadline: Duration,
}

/// A law of the trait, by its number in the header of `provider.rs`; the rest by what they are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    /// 1: one ordered sequence, the same ones every time.
    Positions,
    /// 2: a silent subscriber hurts nobody else, and loses nothing.
    Wait,
    /// 3: what cannot be done is refused with a reason.
    Refuse,
    /// 4: pause and kill are proven.
    Proof,
    /// 5: a message is handed over once.
    Once,
    /// 6: every call returns in time.
    Deadlines,
    /// Sessions are known from their start until they are forgotten, and no others are.
    Sessions,
    /// The end is told once, as the last event.
    End,
}

/// One way in which a provider breaks a law.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{law:?}, {check}: {what}")]
pub struct Breach {
    /// Which law.
    pub law: Law,
    /// The check that found it.
    pub check: &'static str,
    /// What was expected and what was seen.
    pub what: String,
}

/// What the suite found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Names of the checks that were passed.
    pub passed: Vec<&'static str>,
    /// Names of the checks that do not apply, with the reason.
    pub not_applicable: Vec<(&'static str, String)>,
    /// Every law that was broken.
    pub breaches: Vec<Breach>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} passed, {} broken", self.passed.len(), self.breaches.len())?;
        self.not_applicable.iter().try_for_each(|(check, why)| writeln!(f, "not applicable: {check}: {why}"))?;
        self.breaches.iter().try_for_each(|breach| writeln!(f, "{breach}"))
    }
}

/// What one check came to, where it was not passed.
enum Short {
    /// The provider cannot do what is asked here, and says so.
    NotApplicable(String),
    /// A law was broken.
    Broken(Law, String),
}

/// Examines a provider, one check after the other.
pub async fn run(bench: &Bench) -> Report {
    let mut report = Report::default();
    for (check, examine) in checks::ALL {
        match examine(bench).await {
            Ok(()) => report.passed.push(check),
            Err(Short::NotApplicable(why)) => report.not_applicable.push((check, why)),
            Err(Short::Broken(law, what)) => report.breaches.push(Breach { law, check, what }),
        }
    }
    report
}
