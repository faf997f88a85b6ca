//! Sign-in with a service of others: OpenID Connect, code flow with PKCE.
//!
//! ```text
//! begin: a secret into the browser's cookie; state, nonce and verifier are made from it ─► the service's page
//! finish: state against the cookie ─► code and verifier for tokens ─► id token checked: signature, issuer, audience,
//!         time, nonce ─► who they are there ─► who they are here
//! ```
//!
//! Laws:
//! 1. Nothing is kept between the two: whichever hub a browser comes back to can finish.
//! 2. Somebody is who the service says by its subject; by an email only where the service has verified it, and of a
//!    domain that is let in.
//! 3. A service lets people into one workspace, and gives nobody a role in another.
//! 4. Who was taken out of that workspace, or is kept out, is not let in again by a service.
//!
//! Sources: OpenID Connect Core 1.0 sections 3.1.2 and 3.1.3.7, Discovery 1.0 section 4, RFC 7636.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus_schema::{Secret, WorkspaceId};
use hub_store::{RecordBody, User};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::people::{address, named, new_user};
use super::sign_ins::From;
use super::{Authn, AuthnError, SignedIn, new_token};
use crate::policy::Role;

/// How long a service may take to answer.
const WITHIN: Duration = Duration::from_secs(10);
/// Largest answer of a service, in bytes.
const ANSWER_MAX: usize = 256 * 1024;
/// How long what a service says of itself is believed.
const KNOWN_FOR: Duration = Duration::from_secs(3600);
/// A key we do not know is asked for no more often than this.
const KEYS_EVERY: Duration = Duration::from_secs(10);
/// How far its clock and ours may lie apart, in seconds.
const LEEWAY_S: u64 = 60;
/// Signatures that are taken: none that is made with a shared secret.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// A service that people sign in with.
#[derive(Clone, Debug)]
pub struct OidcConfig {
    /// In the addresses and on the page.
    pub name: String,
    /// The workspace that it lets people into.
    pub workspace: WorkspaceId,
    /// Its issuer, exactly as it says itself.
    pub issuer: String,
    /// What it knows this hub as.
    pub client_id: String,
    /// The secret of that, where it has one.
    pub client_secret: Option<Secret>,
    /// Role of somebody who is not known yet; none: nobody new is let in.
    pub default_role: Option<Role>,
    /// Claim that says what somebody is there.
    pub role_claim: Option<String>,
    /// What it says there, and the role that is here.
    pub roles: BTreeMap<String, Role>,
    /// Domains of emails that are let in; all if empty.
    pub domains: Vec<String>,
}

/// A sign-in elsewhere did not work.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// There is no such service here.
    #[error("there is no sign-in service {0:?} here")]
    Unknown(String),
    /// What the browser brings back is not what it was sent away with.
    #[error("this sign-in was not begun in this browser, or too long ago; begin again")]
    State,
    /// The service said no.
    #[error("the sign-in service refused: {0}")]
    Refused(String),
    /// What it answered cannot be trusted.
    #[error("what the sign-in service answered does not hold: {0}")]
    Untrusted(String),
    /// It does not let us know whom to let in.
    #[error("{0}")]
    NotLetIn(String),
    /// It cannot be reached, or answers what it should not.
    #[error("the sign-in service is away: {0}")]
    Away(String),
}

/// A sign-in that has begun.
pub struct Begun {
    /// For the browser's cookie.
    pub secret: Secret,
    /// Where the browser goes.
    pub url: String,
}

/// Who somebody is there.
pub(super) struct Profile {
    identity: String,
    email: Option<String>,
    name: Option<String>,
    role: Option<Role>,
    default_role: Option<Role>,
}

/// The services that people sign in with.
pub struct Oidc {
    services: Vec<Service>,
    public_url: String,
    http: reqwest::Client,
}

struct Service {
    config: OidcConfig,
    known: Mutex<Option<(Instant, Known)>>,
}

#[derive(Clone)]
struct Known {
    metadata: Metadata,
    keys: JwkSet,
}

#[derive(Clone, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

/// What both sides make out of the secret in the cookie.
struct Made {
    state: String,
    nonce: String,
    verifier: String,
}

impl Made {
    fn of(secret: &str, service: &str) -> Self {
        let make = |what: &str| URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{what} {service} {secret}")));
        Self { state: make("state"), nonce: make("nonce"), verifier: make("verifier") }
    }

    fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(&self.verifier))
    }
}

impl Oidc {
    /// These services, for the hub at that address.
    ///
    /// # Errors
    /// [`OidcError::Away`] if no HTTP client can be made.
    pub fn new(services: Vec<OidcConfig>, public_url: Option<String>) -> Result<Self, OidcError> {
        let http = reqwest::Client::builder().timeout(WITHIN).redirect(reqwest::redirect::Policy::none()).build();
        let services = services.into_iter().map(|config| Service { config, known: Mutex::default() }).collect();
        Ok(Self { services, public_url: public_url.unwrap_or_default(), http: http.map_err(away)? })
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|service| service.config.name.as_str())
    }

    /// The workspace that a service lets people into.
    ///
    /// # Errors
    /// [`OidcError::Unknown`].
    pub fn workspace(&self, name: &str) -> Result<&WorkspaceId, OidcError> {
        Ok(&self.service(name)?.config.workspace)
    }

    fn service(&self, name: &str) -> Result<&Service, OidcError> {
        self.services.iter().find(|s| s.config.name == name).ok_or_else(|| OidcError::Unknown(name.into()))
    }

    fn back(&self, name: &str) -> String {
        format!("{}/api/auth/oidc/{name}/callback", self.public_url)
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// [`OidcError`].
    pub async fn begin(&self, name: &str) -> Result<Begun, OidcError> {
        let service = self.service(name)?;
        let known = self.known(service, None).await?;
        let secret = new_token().map_err(away)?;
        let made = Made::of(&secret, name);
        let mut url = reqwest::Url::parse(&known.metadata.authorization_endpoint).map_err(away)?;
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &service.config.client_id),
            ("redirect_uri", &self.back(name)),
            ("scope", "openid email profile"),
            ("state", &made.state),
            ("nonce", &made.nonce),
            ("code_challenge", &made.challenge()),
            ("code_challenge_method", "S256"),
        ]);
        Ok(Begun { secret: Secret::new(secret), url: url.into() })
    }

    /// Finishes a sign-in: who they are there.
    pub(super) async fn finish(&self, name: &str, secret: &str, state: &str, code: &str) -> Result<Profile, OidcError> {
        let service = self.service(name)?;
        let config = &service.config;
        let made = Made::of(secret, name);
        // Both are hashes of 256 random bits: how long comparing takes says nothing.
        if secret.is_empty() || made.state != state {
            return Err(OidcError::State);
        }
        let known = self.known(service, None).await?;
        let tokens = self.tokens(config, &known.metadata, code, &made.verifier).await?;
        let mut claims = self.checked(service, &tokens.id_token, &made.nonce).await?;
        let subject = text(&claims, "sub").ok_or_else(|| OidcError::Untrusted("no subject".into()))?;
        let wanted = config.role_claim.as_deref().into_iter().chain(["email"]);
        let missing = wanted.into_iter().any(|claim| !claims.contains_key(claim));
        if let (true, Some(at), Some(token)) = (missing, &known.metadata.userinfo_endpoint, &tokens.access_token) {
            let more: Map<String, Value> = self.ask(self.http.get(at).bearer_auth(token)).await?;
            if text(&more, "sub").as_ref() != Some(&subject) {
                return Err(OidcError::Untrusted("the user info is of somebody else".into()));
            }
            for (claim, value) in more {
                claims.entry(claim).or_insert(value);
            }
        }
        profile(config, &claims, &subject)
    }

    async fn tokens(
        &self,
        config: &OidcConfig,
        metadata: &Metadata,
        code: &str,
        verifier: &str,
    ) -> Result<Tokens, OidcError> {
        let back = self.back(&config.name);
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &back),
            ("code_verifier", verifier),
        ];
        let mut request = self.http.post(&metadata.token_endpoint);
        let methods = &metadata.token_endpoint_auth_methods_supported;
        let in_body = !methods.is_empty() && !methods.iter().any(|m| m == "client_secret_basic");
        match &config.client_secret {
            Some(secret) if !in_body => {
                // RFC 6749 section 2.3.1: both are form-encoded first.
                request = request.basic_auth(form_encoded(&config.client_id), Some(form_encoded(secret.expose())));
            }
            Some(secret) => form.extend([("client_id", config.client_id.as_str()), ("client_secret", secret.expose())]),
            None => form.push(("client_id", &config.client_id)),
        }
        self.ask(request.form(&form)).await
    }

    /// The claims of an id token that holds.
    async fn checked(&self, service: &Service, token: &str, nonce: &str) -> Result<Map<String, Value>, OidcError> {
        let config = &service.config;
        let untrusted = |e: &dyn std::fmt::Display| OidcError::Untrusted(e.to_string());
        let header = jsonwebtoken::decode_header(token).map_err(|e| untrusted(&e))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(untrusted(&format!("a signature of the kind {:?}", header.alg)));
        }
        let mut known = self.known(service, None).await?;
        if find_key(&known.keys, header.kid.as_deref()).is_none() {
            known = self.known(service, Some(KEYS_EVERY)).await?;
        }
        let key = find_key(&known.keys, header.kid.as_deref()).ok_or_else(|| untrusted(&"no key of that name"))?;
        let key = DecodingKey::from_jwk(key).map_err(|e| untrusted(&e))?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_S;
        validation.set_audience(&[&config.client_id]);
        validation.set_issuer(&[&config.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation);
        let claims = decoded.map_err(|e| untrusted(&e))?.claims;
        if text(&claims, "nonce").as_deref() != Some(nonce) {
            return Err(untrusted(&"it was made for another sign-in"));
        }
        let several = claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
        match text(&claims, "azp") {
            Some(azp) if azp != config.client_id => Err(untrusted(&"it was made for another program")),
            None if several => Err(untrusted(&"it does not say for which program it was made")),
            Some(_) | None => Ok(claims),
        }
    }

    /// What a service says of itself, asked again when it is older than that.
    async fn known(&self, service: &Service, no_older: Option<Duration>) -> Result<Known, OidcError> {
        {
            let known = service.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((since, known)) = known.as_ref()
                && since.elapsed() < no_older.unwrap_or(KNOWN_FOR)
            {
                return Ok(known.clone());
            }
        }
        let issuer = &service.config.issuer;
        let at = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let metadata: Metadata = self.ask(self.http.get(at)).await?;
        if metadata.issuer != *issuer {
            let text = format!("its issuer is {:?}, configured is {issuer:?}", metadata.issuer);
            return Err(OidcError::Untrusted(text));
        }
        let keys: JwkSet = self.ask(self.http.get(&metadata.jwks_uri)).await?;
        let found = Known { metadata, keys };
        let mut known = service.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    /// The JSON a service answers with.
    async fn ask<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, OidcError> {
        let mut answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let mut body = vec![];
        while let Some(chunk) = answer.chunk().await.map_err(away)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_MAX {
                return Err(OidcError::Away(format!("an answer of more than {ANSWER_MAX} bytes")));
            }
        }
        if !status.is_success() {
            let said = serde_json::from_slice::<Map<String, Value>>(&body).unwrap_or_default();
            let said = text(&said, "error").filter(|word| word.len() < 100).unwrap_or_default();
            let text = format!("{status} {said}");
            return Err(if status.is_client_error() { OidcError::Refused(text) } else { OidcError::Away(text) });
        }
        serde_json::from_slice(&body).map_err(|e| OidcError::Away(format!("an answer that cannot be read: {e}")))
    }
}

fn profile(config: &OidcConfig, claims: &Map<String, Value>, subject: &str) -> Result<Profile, OidcError> {
    let verified = match claims.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        Some(Value::String(word)) => word == "true",
        Some(_) | None => false,
    };
    let email = text(claims, "email").filter(|_| verified).and_then(|email| address(&email).ok());
    if !config.domains.is_empty() {
        let domain = email.as_ref().and_then(|email| email.split_once('@')).map(|(_, domain)| domain);
        if !domain.is_some_and(|domain| config.domains.iter().any(|d| d == domain)) {
            let text = format!("{:?} lets in verified emails of {} only", config.name, config.domains.join(", "));
            return Err(OidcError::NotLetIn(text));
        }
    }
    let said: Vec<&str> = match config.role_claim.as_ref().and_then(|claim| claims.get(claim)) {
        Some(Value::String(word)) => vec![word],
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        Some(_) | None => vec![],
    };
    Ok(Profile {
        identity: format!("{} {subject}", config.issuer),
        email,
        name: text(claims, "name").and_then(|name| named(&name).ok()),
        role: said.into_iter().filter_map(|word| config.roles.get(word).copied()).max(),
        default_role: config.default_role,
    })
}

fn text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    claims.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn find_key<'a>(keys: &'a JwkSet, id: Option<&str>) -> Option<&'a jsonwebtoken::jwk::Jwk> {
    match id {
        Some(id) => keys.find(id),
        // Without a name it is certain only where there is one.
        None => keys.keys.first().filter(|_| keys.keys.len() == 1),
    }
}

fn form_encoded(text: &str) -> String {
    let mut url = reqwest::Url::parse("x:x").ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().append_key_only(text);
    }
    url.as_ref().and_then(reqwest::Url::query).unwrap_or_default().to_owned()
}

fn away(error: impl std::fmt::Display) -> OidcError {
    OidcError::Away(error.to_string())
}

impl Authn {
    /// Finishes a sign-in with a service and signs them in here.
    ///
    /// # Errors
    /// [`AuthnError::Oidc`], [`AuthnError::NoRole`], [`AuthnError::Disabled`].
    pub async fn sign_in_with(
        &self,
        oidc: &Oidc,
        name: &str,
        secret: &str,
        answer: (&str, &str),
        from: &From,
    ) -> Result<SignedIn, AuthnError> {
        self.limits.sign_in(None, from.address)?;
        let (state, code) = answer;
        let profile = oidc.finish(name, secret, state, code).await.inspect_err(|error| {
            if !matches!(error, OidcError::Away(_)) {
                self.limits.sign_in_failed(None, from.address);
            }
        })?;
        let user = self.person(&profile).await?;
        self.signed_in(user, from).await
    }

    /// Who somebody is here: by their identity there, or by their verified email, or somebody new.
    async fn person(&self, profile: &Profile) -> Result<User, AuthnError> {
        let mut user = match self.store.user_by_identity(&profile.identity).await? {
            Some(user) => user,
            None => {
                let Some(email) = &profile.email else {
                    let text = "the sign-in service tells no verified email, and does not know you here yet";
                    return Err(OidcError::NotLetIn(text.into()).into());
                };
                match self.store.user_by_email(email).await? {
                    Some((user, _)) => user,
                    None => {
                        if profile.role.or(profile.default_role).is_none() {
                            return Err(AuthnError::NoRole(email.clone()));
                        }
                        let new = new_user(email)?;
                        User { name: profile.name.clone().unwrap_or(new.name.clone()), ..new }
                    }
                }
            }
        };
        let here = self.store.members(&self.workspace).await?.into_iter().find(|row| row.body.user == user.id);
        if here.as_ref().is_some_and(|row| row.deleted) {
            return Err(AuthnError::NoRole(user.email));
        }
        if here.as_ref().is_some_and(|row| row.body.disabled) {
            return Err(AuthnError::Disabled(user.email));
        }
        let now = here.and_then(|row| Role::parse(&row.body.role));
        let role =
            profile.role.or(now).or(profile.default_role).ok_or_else(|| AuthnError::NoRole(user.email.clone()))?;
        if !user.identities.contains(&profile.identity) {
            user.identities.push(profile.identity.clone());
            self.journal.put(RecordBody::User(user.clone()), false).await?;
        }
        if now != Some(role) {
            let written = self.put_role(&user.id, |now| {
                let disabled = now.is_some_and(|now| now.disabled);
                Ok((hub_store::Membership { disabled, ..self.role_of(&user.id, role.as_str()) }, false))
            });
            match written.await {
                // The last admin stays one, whatever the service says, or nobody could mend it.
                Err(AuthnError::LastAdmin) => tracing::warn!(user = %user.id, "the last admin keeps the role"),
                written => written?,
            }
        }
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> OidcConfig {
        OidcConfig {
            name: "office".into(),
            workspace: WorkspaceId::new("default").unwrap(),
            issuer: "https://id.example".into(),
            client_id: "mesh".into(),
            client_secret: None,
            default_role: Some(Role::Observer),
            role_claim: Some("groups".into()),
            roles: [("ops".to_owned(), Role::Operator), ("root".to_owned(), Role::Admin)].into(),
            domains: vec!["example.org".into()],
        }
    }

    #[test]
    fn only_a_verified_email_of_a_domain_that_is_let_in_counts() {
        let profile = |claims: Value| profile(&config(), claims.as_object().unwrap(), "7");
        let ada = json!({"email": "Ada@Example.org", "email_verified": true, "groups": ["x", "ops", "root"]});
        let ada = profile(ada).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((ada.email.as_deref(), ada.role), (Some("ada@example.org"), Some(Role::Admin)));
        assert_eq!(ada.identity, "https://id.example 7");
        for no in [
            json!({"email": "ada@example.org"}),
            json!({"email": "ada@example.org", "email_verified": false}),
            json!({"email": "ada@example.org.evil", "email_verified": true}),
            json!({"email": "ada@evil@example.org", "email_verified": true}),
            json!({"email_verified": true}),
        ] {
            assert!(matches!(profile(no.clone()), Err(OidcError::NotLetIn(_))), "{no}");
        }
    }

    #[test]
    fn what_is_made_of_a_secret_is_apart_for_each_service() {
        let (one, two) = (Made::of("s", "a"), Made::of("s", "b"));
        assert!(one.state != two.state && one.nonce != one.state && one.verifier.len() == 43);
        // RFC 7636 appendix B.
        let made = Made { verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into(), ..one };
        assert_eq!(made.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert_eq!(form_encoded("a b&c=ü"), "a+b%26c%3D%C3%BC");
    }
}
