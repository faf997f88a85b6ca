//! The answer to a request for leave or to a question.
//!
//! A gateway wants the answers to all questions of one request at once: each is written down as it is given, and the
//! last one takes them all along.

use bus_schema::{Answer, Capability, MessageId, Operator};
use serde_json::{Map, Value, json};

use super::gateway_of;
use crate::openclaw::core::Core;
use crate::openclaw::gateway::CALL_WITHIN;
use crate::openclaw::link::LinkError;
use crate::openclaw::record::{Request, RequestKind};
use crate::openclaw::session::Session;
use crate::provider::ProviderError;

/// Answers a request, once.
pub(in crate::openclaw) async fn answer(
    core: &Core,
    session: &Session,
    id: &MessageId,
    answer: &Answer,
    by: &Operator,
) -> Result<(), ProviderError> {
    let open = session.request(id).ok_or_else(|| ProviderError::Invalid(format!("no request {id} here")))?;
    let choice = choice(&open, answer)?;
    match &open.decided {
        Some(decided) if *decided == choice => return Ok(()),
        Some(decided) => {
            let reason = format!("the request was answered already: {decided}");
            return Err(ProviderError::WrongState { status: session.status(), reason });
        }
        None => {}
    }
    let gateway = gateway_of(core, session)?;
    let link = gateway.link().await?;
    if !link.hello.may("operator.approvals") {
        return Err(ProviderError::NotCapable {
            capability: Capability::Approve,
            reason: "the gateway did not grant operator.approvals to this node".into(),
        });
    }
    session.answering(id, by);
    let question = open.question.as_deref();
    let (method, params) = match open.kind {
        RequestKind::Exec => ("exec.approval.resolve", json!({"id": open.approval, "decision": choice})),
        RequestKind::Plugin => ("plugin.approval.resolve", json!({"id": open.approval, "decision": choice})),
        RequestKind::Question => match all_answers(session, &open, &choice) {
            Some(answers) => ("question.resolve", json!({"id": open.approval, "answers": {"answers": answers}})),
            None => {
                session.take_decision(&open.approval, question, &choice);
                return Ok(());
            }
        },
    };
    match link.call(method, params, CALL_WITHIN).await {
        Ok(_) => {
            session.take_decision(&open.approval, question, &choice);
            Ok(())
        }
        Err(LinkError::Refused { detail, message, .. }) if detail == "QUESTION_INVALID_ANSWER" => {
            Err(ProviderError::Invalid(message))
        }
        Err(LinkError::Refused { detail, message, .. })
            if detail.starts_with("APPROVAL_") || detail.starts_with("QUESTION_") =>
        {
            session.take_decision(&open.approval, None, "closed without us");
            Err(ProviderError::WrongState { status: session.status(), reason: message })
        }
        Err(error) => Err(gateway.failed("answering a request", error)),
    }
}

/// The option that was chosen, or the words where words are taken.
fn choice(open: &Request, answer: &Answer) -> Result<String, ProviderError> {
    let offered: Vec<_> = open.options.iter().map(|option| option.option_id.as_str()).collect();
    let words = answer.text.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let wrong = |what: String| Err(ProviderError::Invalid(what));
    match (&answer.option_id, words) {
        (Some(choice), _) if offered.contains(&choice.as_str()) => Ok(choice.clone()),
        (Some(choice), _) => wrong(format!("it offers {}, not {choice:?}", offered.join(", "))),
        (None, Some(words)) if open.takes_text => Ok(words.to_owned()),
        (None, _) if offered.is_empty() && !open.takes_text => {
            wrong("this question asks for a secret; answer it at the gateway".into())
        }
        (None, None) if open.takes_text => wrong("an answer has an option, or words".into()),
        (None, _) => wrong("this request is answered by one of its options, not in words".into()),
    }
}

/// The answers to all questions that came with this one; `None` while another is open.
fn all_answers(session: &Session, open: &Request, choice: &str) -> Option<Map<String, Value>> {
    let all = session.asked_with(open).into_iter().map(|asked| {
        let said = if asked.question == open.question { Some(choice.to_owned()) } else { asked.decided };
        Some((asked.question?, json!([said?])))
    });
    all.collect()
}
