//! What the sessions hand to the publisher, and what they learn of the bus.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus_schema::SessionId;
use tokio::sync::{Notify, watch};

use super::live::Live;
use crate::outbox::Files;

/// Shared between all sessions and the publisher.
pub struct Outgoing {
    inner: Mutex<Inner>,
    news: Notify,
    is_taking: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    outlets: BTreeMap<SessionId, Outlet>,
    /// Sessions that have something new.
    fresh: BTreeSet<SessionId>,
    /// True if outlets came or went.
    is_changed: bool,
}

/// All that one session publishes.
#[derive(Clone)]
pub struct Outlet {
    /// What must arrive.
    pub files: Arc<Files>,
    /// What may be lost.
    pub live: Arc<Live>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { inner: Mutex::default(), news: Notify::new(), is_taking: watch::Sender::new(false) }
    }
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the session published, from where its outbox says. Replaces what it had before.
    pub fn open(&self, outlet: Outlet) {
        let mut inner = self.lock();
        inner.fresh.insert(outlet.files.session_id().clone());
        inner.outlets.insert(outlet.files.session_id().clone(), outlet);
        inner.is_changed = true;
        drop(inner);
        self.news.notify_one();
    }

    /// The session is not published any more.
    pub fn close(&self, session: &SessionId) {
        let mut inner = self.lock();
        inner.outlets.remove(session);
        inner.is_changed = true;
        drop(inner);
        self.news.notify_one();
    }

    /// Tells that a session has something new.
    pub fn wake(&self, session: &SessionId) {
        if self.lock().fresh.insert(session.clone()) {
            self.news.notify_one();
        }
    }

    /// Whether the bus takes what it is given. While it does not, a full outbox drops messages instead of waiting.
    pub fn taking(&self) -> watch::Receiver<bool> {
        self.is_taking.subscribe()
    }

    pub(super) fn set_taking(&self, is_taking: bool) {
        self.is_taking.send_if_modified(|now| std::mem::replace(now, is_taking) != is_taking);
    }

    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Sessions with something new, and all outlets if any came or went.
    pub(super) fn take(&self) -> (BTreeSet<SessionId>, Option<BTreeMap<SessionId, Outlet>>) {
        let mut inner = self.lock();
        let is_changed = std::mem::take(&mut inner.is_changed);
        (std::mem::take(&mut inner.fresh), is_changed.then(|| inner.outlets.clone()))
    }

    /// All outlets, for a publisher that begins.
    pub(super) fn all(&self) -> BTreeMap<SessionId, Outlet> {
        let mut inner = self.lock();
        inner.is_changed = false;
        inner.outlets.clone()
    }
}
