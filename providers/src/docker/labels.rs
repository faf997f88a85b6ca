//! What a container's labels say of it as an agent (contract section 6). Pure.

use std::collections::BTreeMap;

use bus_schema::SessionId;
use serde::{Deserialize, Serialize};

use crate::profile::Protocol;

/// The label that makes a container an agent, with the value `true`.
pub(crate) const AGENT: &str = "dev.mosaic.agent";
/// Set on those that the mesh created: they may be removed.
pub(crate) const MANAGED: &str = "dev.mosaic.managed";
/// The session that a managed container was created for.
pub(crate) const SESSION: &str = "dev.mosaic.session-id";
pub(crate) const NAME: &str = "dev.mosaic.name";
pub(crate) const KIND: &str = "dev.mosaic.kind";
pub(crate) const PARENT: &str = "dev.mosaic.parent-id";
pub(crate) const PROTOCOL: &str = "dev.mosaic.protocol";
pub(crate) const INJECT: &str = "dev.mosaic.inject";
pub(crate) const STOP_TIMEOUT: &str = "dev.mosaic.stop-timeout";
pub(crate) const PROFILE: &str = "dev.mosaic.profile";
const TASK: &str = "dev.mosaic.task";
const TASK_SOURCE: &str = "dev.mosaic.task-source";
const MISSION: &str = "dev.mosaic.mission";
const EXEC_INJECT: &str = "dev.mosaic.exec-inject";

/// How long a container may take to end after it was asked to, unless it says otherwise: the engine's own default.
const DEFAULT_STOP_S: u64 = 10;
/// The longest that is believed.
const MAX_STOP_S: u64 = 600;

/// How operator messages reach an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Way {
    /// On its standard input.
    Stdin,
    /// On the standard input of this command within the container.
    Exec(Vec<String>),
    /// Not at all; why.
    None(String),
}

/// A container as an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Facts {
    pub title: Option<String>,
    pub agent_type: Option<String>,
    pub parent: Option<SessionId>,
    pub task: Option<String>,
    pub task_source: Option<String>,
    pub mission: Option<String>,
    pub profile: Option<String>,
    /// `lines` or `jsonl`: how its output is read.
    pub protocol: Protocol,
    pub way: Way,
    pub stop_seconds: u64,
    pub is_managed: bool,
    pub tty: bool,
    /// What in its labels was not understood.
    pub problems: Vec<String>,
}

/// What an inspection says of the container's standard streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams {
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
}

/// True for a container that is ours to look after.
pub(crate) fn is_agent(labels: &BTreeMap<String, String>) -> bool {
    labels.get(AGENT).is_some_and(|value| value == "true")
}

impl Facts {
    pub fn read(labels: &BTreeMap<String, String>, name: &str, streams: Streams) -> Self {
        let get = |label: &str| labels.get(label).map(|value| value.trim()).filter(|value| !value.is_empty());
        let text = |label: &str| get(label).map(str::to_owned);
        let mut problems = vec![];
        let parent = get(PARENT).and_then(|parent| match SessionId::new(parent) {
            Ok(parent) => Some(parent),
            Err(error) => {
                problems.push(format!("{PARENT}: {error}"));
                None
            }
        });
        let mut acp = false;
        let protocol = match get(PROTOCOL) {
            None | Some("lines" | "terminal" | "text") => Protocol::Lines,
            Some("jsonl") => Protocol::Jsonl,
            Some("acp") => {
                acp = true;
                Protocol::Lines
            }
            Some(other) => {
                problems.push(format!("{PROTOCOL} {other:?} is not known: its output is read as lines"));
                Protocol::Lines
            }
        };
        let way = if acp {
            let reason = "the protocol acp is not spoken to containers; start the agent with provider = \"acp\"";
            problems.push(format!("{PROTOCOL} acp: {reason}. Its output is read as lines"));
            Way::None(reason.into())
        } else {
            way(get(INJECT), get(EXEC_INJECT), streams)
        };
        let stop = get(STOP_TIMEOUT).map(str::parse::<u64>);
        if let Some(Err(error)) = &stop {
            problems.push(format!("{STOP_TIMEOUT}: {error}"));
        }
        Self {
            title: text(NAME).or_else(|| Some(name.to_owned()).filter(|name| !name.is_empty())),
            agent_type: text(KIND),
            parent,
            task: text(TASK),
            task_source: text(TASK_SOURCE),
            mission: text(MISSION),
            // What the mesh did not start has no profile, whatever it says.
            profile: text(PROFILE).filter(|_| get(MANAGED) == Some("true")),
            protocol,
            way,
            stop_seconds: stop.and_then(Result::ok).unwrap_or(DEFAULT_STOP_S).min(MAX_STOP_S),
            is_managed: get(MANAGED) == Some("true"),
            tty: streams.tty,
            problems,
        }
    }
}

fn way(inject: Option<&str>, exec: Option<&str>, streams: Streams) -> Way {
    match inject {
        // A container that has an input and says nothing takes messages on it.
        None if streams.open_stdin && !streams.stdin_once => Way::Stdin,
        None => {
            Way::None(format!("its container has no input to write to; start it with -i, or label it {INJECT}=exec"))
        }
        Some("none") => Way::None(format!("its container is labelled {INJECT}=none")),
        Some("stdin") if !streams.open_stdin => Way::None("its container's input is closed; start it with -i".into()),
        Some("stdin") if streams.stdin_once => {
            // Whoever leaves closes it, so writing would end the agent's input.
            Way::None("its container's input closes when a client leaves; start it with -d -i".into())
        }
        Some("stdin") => Way::Stdin,
        Some("exec") => match exec.map(serde_json::from_str::<Vec<String>>) {
            Some(Ok(argv)) if argv.first().is_some_and(|program| !program.is_empty()) => Way::Exec(argv),
            _ => Way::None(format!("{EXEC_INJECT} is not a JSON list of program and arguments")),
        },
        Some(other) => Way::None(format!("{INJECT}={other} is not known; one of stdin, exec, none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Streams = Streams { tty: false, open_stdin: true, stdin_once: false };
    const SHUT: Streams = Streams { tty: false, open_stdin: false, stdin_once: false };

    fn facts(labels: &[(&str, &str)], streams: Streams) -> Facts {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        Facts::read(&labels, "clever_name", streams)
    }

    #[test]
    fn a_container_is_an_agent_by_its_label_alone() {
        let labels = |value: &str| BTreeMap::from([(AGENT.to_owned(), value.to_owned())]);
        assert!(is_agent(&labels("true")));
        assert!(!is_agent(&labels("false")) && !is_agent(&labels("")) && !is_agent(&BTreeMap::new()));
    }

    #[test]
    fn every_label_is_a_fact() {
        let parent = "01J000000000000000000000A1";
        let facts = facts(
            &[
                (NAME, "reviewer"),
                (KIND, "codex"),
                (PARENT, parent),
                (TASK, "T-1"),
                (TASK_SOURCE, "external"),
                (MISSION, "M-1"),
                (PROTOCOL, "jsonl"),
                (INJECT, "exec"),
                (EXEC_INJECT, r#"["tell","--now"]"#),
                (STOP_TIMEOUT, "3"),
                (MANAGED, "true"),
            ],
            SHUT,
        );
        assert_eq!((facts.title.as_deref(), facts.agent_type.as_deref()), (Some("reviewer"), Some("codex")));
        assert_eq!(facts.parent.map(|id| id.to_string()).as_deref(), Some(parent));
        assert_eq!((facts.task.as_deref(), facts.task_source.as_deref()), (Some("T-1"), Some("external")));
        assert_eq!((facts.mission.as_deref(), facts.protocol, facts.stop_seconds), (Some("M-1"), Protocol::Jsonl, 3));
        assert_eq!(facts.way, Way::Exec(vec!["tell".into(), "--now".into()]));
        assert!(facts.is_managed && facts.problems.is_empty());
    }

    #[test]
    fn what_cannot_be_injected_says_why() {
        let once = Streams { stdin_once: true, ..OPEN };
        assert_eq!(facts(&[], OPEN).way, Way::Stdin);
        for (labels, streams, part) in [
            (&[][..], SHUT, "-i"),
            (&[(INJECT, "stdin")], SHUT, "-i"),
            (&[(INJECT, "stdin")], once, "-d -i"),
            (&[(INJECT, "none")], OPEN, "none"),
            (&[(INJECT, "exec")], OPEN, "JSON list"),
            (&[(INJECT, "exec"), (EXEC_INJECT, "[]")], OPEN, "JSON list"),
            (&[(INJECT, "telepathy")], OPEN, "telepathy"),
            (&[(PROTOCOL, "acp")], OPEN, "acp"),
        ] {
            match facts(labels, streams).way {
                Way::None(reason) => assert!(reason.contains(part), "{labels:?}: {reason}"),
                other => panic!("{labels:?} gives {other:?}"),
            }
        }
    }

    #[test]
    fn labels_that_make_no_sense_are_named_and_not_believed() {
        let facts = facts(&[(PARENT, "nobody"), (PROTOCOL, "morse"), (STOP_TIMEOUT, "soon")], OPEN);
        assert_eq!((facts.parent, facts.protocol, facts.stop_seconds), (None, Protocol::Lines, DEFAULT_STOP_S));
        assert_eq!(facts.problems.len(), 3);
    }
}
