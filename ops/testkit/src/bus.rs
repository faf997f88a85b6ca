//! A client of the bus that remembers what the server told it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use async_nats::{Client, ConnectOptions};

/// Events remembered; older ones go. No test looks at more.
const MAX_EVENTS: usize = 1_000;

/// A connection to a server under test.
#[derive(Clone, Debug)]
pub struct Bus {
    /// The client.
    pub client: Client,
    events: Arc<Mutex<VecDeque<String>>>,
}

impl Bus {
    /// Connects with a credentials file; `name` is that of the client in it, of which its inbox is made.
    ///
    /// # Errors
    /// The file cannot be read; the server does not answer or refuses.
    pub async fn connect(url: &str, creds: &Path, name: &str) -> anyhow::Result<Self> {
        Self::connect_tls(url, creds, name, None).await
    }

    /// The same with TLS, if there is an authority to trust.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_tls(url: &str, creds: &Path, name: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        // Several are built in, and the client asks for the one of the process; whoever came first has chosen.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let events = Arc::new(Mutex::new(VecDeque::new()));
        let remember = Arc::clone(&events);
        let options =
            ConnectOptions::with_credentials_file(creds).await.with_context(|| format!("read {}", creds.display()))?;
        let options = match ca {
            Some(ca) => options.add_root_certificates(ca.to_owned()).require_tls(true),
            None => options,
        };
        let client = options
            .name(name)
            .custom_inbox_prefix(bus_schema::inbox_prefix(name))
            .connection_timeout(Duration::from_secs(10))
            .request_timeout(Some(Duration::from_secs(10)))
            .event_callback(move |event| {
                let remember = Arc::clone(&remember);
                async move {
                    if let Ok(mut events) = remember.lock() {
                        if events.len() == MAX_EVENTS {
                            events.pop_front();
                        }
                        events.push_back(event.to_string());
                    }
                }
            })
            .connect(url)
            .await
            .with_context(|| format!("connect to {url} as {name}"))?;
        Ok(Self { client, events })
    }

    /// What the server and the client told so far: permissions violated, disconnects …
    pub fn events(&self) -> Vec<String> {
        self.events.lock().map(|events| events.iter().cloned().collect()).unwrap_or_default()
    }

    /// True if the server has refused to let this client publish or subscribe `subject`.
    pub fn was_refused(&self, subject: &str) -> bool {
        let quoted = format!("\"{subject}\"");
        self.events()
            .iter()
            .any(|event| event.to_lowercase().contains("permissions violation") && event.contains(&quoted))
    }
}
