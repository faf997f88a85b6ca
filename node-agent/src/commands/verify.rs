//! Whether a command is to be obeyed: signature, addressee, time. Pure.
//!
//! Law: the subject that was signed is built from our own ids, never taken from the message: the server delivers what
//! others can make it deliver, under subjects of their choice.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus_schema::{Command, DecodeError, NodeId, Refusal, RefusalCode, Subject, Timestamp, WorkspaceId, signed_bytes};

use super::trust::Trust;

/// How far the clocks of hub and node may be apart.
pub const CLOCK_SKEW_MS: i64 = 30_000;
/// Longest validity of a command: so long its id is remembered.
pub const MAX_VALIDITY_MS: u64 = 3_600_000;

/// Checks commands to one node.
pub struct Verifier {
    workspace: WorkspaceId,
    node: NodeId,
}

/// The headers that matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signed<'a> {
    /// Public key of the signer.
    pub key: Option<&'a str>,
    /// The signature.
    pub signature: Option<&'a str>,
    /// Schema of the payload.
    pub schema: Option<&'a str>,
}

/// A command that is not obeyed.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// What it says, as far as that can be read. Nothing of it is proven.
    pub command: Option<Box<Command>>,
    /// Why not.
    pub refusal: Refusal,
}

impl Verifier {
    /// A verifier for this node.
    pub fn new(workspace: WorkspaceId, node: NodeId) -> Self {
        Self { workspace, node }
    }

    /// The subject of our commands.
    pub fn subject(&self) -> Subject {
        Subject::Command(self.workspace.clone(), self.node.clone())
    }

    /// The command, if it is to be obeyed. Whether it came before is not looked at here.
    ///
    /// # Errors
    /// [`Rejected`] with the refusal for the sender.
    pub fn verify(
        &self,
        trust: &Trust,
        signed: Signed<'_>,
        payload: &[u8],
        now: Timestamp,
    ) -> Result<Command, Rejected> {
        let read: Result<Command, DecodeError> = bus_schema::decode(payload, signed.schema);
        let said = read.as_ref().ok().cloned().map(Box::new);
        let reject = |code, text: String| Rejected { command: said.clone(), refusal: Refusal::new(code, text) };
        let bad = |text: &str| reject(RefusalCode::BadSignature, text.into());

        let (Some(key), Some(signature)) = (signed.key, signed.signature) else {
            return Err(bad("the command is not signed"));
        };
        let Some(key) = trust.key(key, now) else {
            return Err(bad("the command is signed with a key that this node does not trust"));
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| bad("the signature is not base64url"))?;
        let is_signed_for = |subject: &Subject| key.verify(&signed_bytes(subject, payload), &signature).is_ok();
        let not_for_me = |command: &Command| {
            let (workspace, node) = (&command.workspace, &command.node);
            reject(RefusalCode::NotForMe, format!("the command is for node {node} of workspace {workspace}"))
        };
        let is_ours = |command: &Command| command.workspace == self.workspace && command.node == self.node;
        if !is_signed_for(&self.subject()) {
            return Err(match &read {
                Ok(command)
                    if !is_ours(command)
                        && is_signed_for(&Subject::Command(command.workspace.clone(), command.node.clone())) =>
                {
                    not_for_me(command)
                }
                _ => bad("the signature does not fit the command"),
            });
        }
        let command = read.map_err(|error| reject(RefusalCode::Invalid, error.to_string()))?;
        if !is_ours(&command) {
            return Err(not_for_me(&command));
        }
        self.in_time(&command, now).map_err(|(code, text)| reject(code, text))?;
        Ok(command)
    }

    fn in_time(&self, command: &Command, now: Timestamp) -> Result<(), (RefusalCode, String)> {
        let Command { issued_at, expires_at, .. } = command;
        if expires_at < issued_at || expires_at.millis_since(*issued_at) > MAX_VALIDITY_MS {
            let text = "a command must be valid for no less than nothing and no more than an hour".to_owned();
            return Err((RefusalCode::Invalid, text));
        }
        if now > expires_at.plus_millis(CLOCK_SKEW_MS) {
            return Err((RefusalCode::Expired, format!("the command was valid until {expires_at}; it is {now} here")));
        }
        if issued_at.plus_millis(-CLOCK_SKEW_MS) > now {
            let text = format!("the command was written at {issued_at}; it is {now} here: the clocks differ too much");
            return Err((RefusalCode::Expired, text));
        }
        Ok(())
    }
}

/// Until when a command's id must be remembered: after that it is refused for its age.
pub fn keep_until(command: &Command) -> Timestamp {
    command.expires_at.plus_millis(2 * CLOCK_SKEW_MS)
}

#[cfg(test)]
mod tests {
    use bus_schema::{Action, CommandId, Operator, SessionId, UserId};
    use nkeys::KeyPair;

    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn command(change: impl Fn(&mut Command)) -> Command {
        let mut command = Command {
            command_id: CommandId::new("c1").unwrap(),
            workspace: WorkspaceId::new("w").unwrap(),
            node: NodeId::new("n1").unwrap(),
            action: Action::Pause,
            session_id: Some(SessionId::new("01JD8Z2V9Q0000000000000000").unwrap()),
            operator: Operator { id: UserId::new("u1").unwrap(), name: "Ada".into() },
            issued_at: Timestamp::from_millis(NOW),
            expires_at: Timestamp::from_millis(NOW + 10_000),
            spawn: None,
            message_id: None,
            content: None,
            mode: None,
            pause_first: false,
            data: None,
            size: None,
            answer: None,
        };
        change(&mut command);
        command
    }

    struct Case {
        key: KeyPair,
        verifier: Verifier,
        trust: Trust,
    }

    impl Case {
        fn new() -> Self {
            let key = KeyPair::new_service();
            let (workspace, node) = (WorkspaceId::new("w").unwrap(), NodeId::new("n1").unwrap());
            let folder = tempfile::tempdir().unwrap();
            let trust = Trust::open(&folder.path().join("trusted-keys"), &[key.public_key()]).unwrap();
            Self { verifier: Verifier::new(workspace, node), key, trust }
        }

        fn sign(&self, subject: &Subject, payload: &[u8]) -> String {
            URL_SAFE_NO_PAD.encode(self.key.sign(&signed_bytes(subject, payload)).unwrap())
        }

        /// The refusal for a command that is signed as it should be, for its own addressee.
        fn verify(&self, command: &Command, now: i64) -> Result<Command, RefusalCode> {
            let payload = bus_schema::encode(command).unwrap();
            let subject = Subject::Command(command.workspace.clone(), command.node.clone());
            let (key, signature) = (self.key.public_key(), self.sign(&subject, &payload));
            let signed = Signed { key: Some(&key), signature: Some(&signature), schema: None };
            self.verifier.verify(&self.trust, signed, &payload, Timestamp::from_millis(now)).map_err(|r| r.refusal.code)
        }
    }

    #[test]
    fn a_good_command_is_obeyed() {
        let (case, command) = (Case::new(), command(|_| {}));
        assert_eq!(case.verify(&command, NOW + 5_000), Ok(command));
    }

    #[test]
    fn only_trusted_signatures_over_these_bytes_count() {
        let (case, payload) = (Case::new(), bus_schema::encode(&command(|_| {})).unwrap());
        let (key, other) = (case.key.public_key(), KeyPair::new_service().public_key());
        let signature = case.sign(&case.verifier.subject(), &payload);
        let mut altered = payload.clone();
        *altered.last_mut().unwrap() ^= 1;
        for (key, signature, payload) in [
            (None, None, &payload),
            (Some(key.as_str()), None, &payload),
            (Some(other.as_str()), Some(signature.as_str()), &payload),
            (Some(key.as_str()), Some("not base64!"), &payload),
            (Some(key.as_str()), Some("c2hvcnQ"), &payload),
            (Some(key.as_str()), Some(signature.as_str()), &altered),
        ] {
            let signed = Signed { key, signature, schema: None };
            let rejected = case.verifier.verify(&case.trust, signed, payload, Timestamp::from_millis(NOW)).unwrap_err();
            assert_eq!(rejected.refusal.code, RefusalCode::BadSignature, "{:?}", rejected.refusal);
        }
    }

    #[test]
    fn a_command_for_another_is_refused_even_where_it_is_signed_for_us() {
        let case = Case::new();
        let foreign = command(|c| c.node = NodeId::new("n2").unwrap());
        assert_eq!(case.verify(&foreign, NOW), Err(RefusalCode::NotForMe));
        let payload = bus_schema::encode(&foreign).unwrap();
        let (key, signature) = (case.key.public_key(), case.sign(&case.verifier.subject(), &payload));
        let signed = Signed { key: Some(&key), signature: Some(&signature), schema: None };
        let rejected = case.verifier.verify(&case.trust, signed, &payload, Timestamp::from_millis(NOW)).unwrap_err();
        assert_eq!(rejected.refusal.code, RefusalCode::NotForMe);
        assert_eq!(rejected.command.unwrap().command_id, CommandId::new("c1").unwrap());
    }

    #[test]
    fn time_is_checked_on_both_sides() {
        let (case, good) = (Case::new(), command(|_| {}));
        assert_eq!(case.verify(&good, NOW + 10_000 + CLOCK_SKEW_MS + 1), Err(RefusalCode::Expired));
        assert_eq!(case.verify(&good, NOW - CLOCK_SKEW_MS - 1), Err(RefusalCode::Expired));
        assert!(case.verify(&good, NOW + 10_000 + CLOCK_SKEW_MS).is_ok());
        assert!(keep_until(&good) > Timestamp::from_millis(NOW + 10_000 + CLOCK_SKEW_MS));
        let long = command(|c| c.expires_at = Timestamp::from_millis(NOW + 3_600_001));
        assert_eq!(case.verify(&long, NOW), Err(RefusalCode::Invalid));
        let backwards = command(|c| c.expires_at = Timestamp::from_millis(NOW - 1));
        assert_eq!(case.verify(&backwards, NOW), Err(RefusalCode::Invalid));
    }

    #[test]
    fn what_cannot_be_read_is_invalid_where_it_is_signed() {
        let case = Case::new();
        for payload in [&b"\xc1garbage"[..], b"", b"{\"json\": true}"] {
            let (key, signature) = (case.key.public_key(), case.sign(&case.verifier.subject(), payload));
            let signed = Signed { key: Some(&key), signature: Some(&signature), schema: None };
            let rejected = case.verifier.verify(&case.trust, signed, payload, Timestamp::from_millis(NOW)).unwrap_err();
            assert_eq!((rejected.refusal.code, rejected.command), (RefusalCode::Invalid, None));
        }
    }
}
