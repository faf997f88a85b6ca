//! Telling running servers of changed accounts: what revokes a node takes effect by this.

use std::path::Path;
use std::time::Duration;

use hub_identity::{ACCOUNT_UPDATE_SUBJECT, AccountUpdate};
use serde::Deserialize;

use super::{BusError, options};
use crate::config::NatsConfig;

/// How long all of it may take: a connection, and an answer to each account.
const WITHIN: Duration = Duration::from_secs(10);

/// What a server answers to an account.
#[derive(Deserialize)]
struct Answer {
    data: Option<Said>,
    error: Option<Said>,
}

#[derive(Deserialize)]
struct Said {
    code: u16,
    #[serde(default)]
    message: String,
    #[serde(default)]
    description: String,
}

/// Gives accounts to the servers, by a connection of its own in the system account, which is open no longer than that.
///
/// # Errors
/// [`BusError::Credentials`]; [`BusError::Away`]; [`BusError::Refused`] if a server does not take one.
pub async fn push_accounts(config: &NatsConfig, sys_creds: &Path, updates: &[AccountUpdate]) -> Result<(), BusError> {
    let doing = || "telling the servers of changed accounts".to_owned();
    let push = async {
        let options = options(config, sys_creds).await?.name("mosaic-hub accounts");
        let options = options.custom_inbox_prefix(bus_schema::inbox_prefix("sys"));
        let away = |_| BusError::Away { doing: doing() };
        let client = options.connect(config.servers().as_slice()).await.map_err(away)?;
        let refused = |detail: String| BusError::Refused { doing: doing(), detail };
        for update in updates {
            let answer = client.request(ACCOUNT_UPDATE_SUBJECT, update.jwt.clone().into()).await;
            let answer = answer.map_err(|_| BusError::Away { doing: doing() })?;
            let answer: Answer = serde_json::from_slice(&answer.payload).map_err(|e| refused(e.to_string()))?;
            match (answer.data, answer.error) {
                (Some(Said { code: 200, .. }), None) => {}
                (Some(said), _) | (None, Some(said)) => {
                    return Err(refused(format!("{} {}{}", said.code, said.message, said.description)));
                }
                (None, None) => return Err(refused("an answer without content".into())),
            }
        }
        if let Err(error) = client.drain().await {
            tracing::debug!(%error, "the connection for accounts is gone already");
        }
        Ok(())
    };
    tokio::time::timeout(WITHIN, push).await.map_err(|_| BusError::Away { doing: doing() })?
}
