//! Who watches from this hub, and who has gone: the last of their streams ended some seconds ago.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hub_store::Holder;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a person may be without a stream before they have gone: a page that opens another terminal connects anew.
const GRACE: Duration = Duration::from_secs(5);

/// Who watches from this hub.
#[derive(Default)]
pub(super) struct People {
    inner: Mutex<Vec<Watching>>,
    went: Notify,
}

struct Watching {
    who: Holder,
    streams: usize,
    since: Option<Instant>,
}

/// Somebody watches as long as this lives.
pub struct Presence {
    people: Arc<People>,
    who: Holder,
}

impl Drop for Presence {
    fn drop(&mut self) {
        {
            let mut inner = self.people.lock();
            let Some(found) = inner.iter_mut().find(|w| w.who.is(&self.who)) else { return };
            found.streams = found.streams.saturating_sub(1);
            if found.streams > 0 {
                return;
            }
            found.since = Some(Instant::now());
        }
        self.people.went.notify_one();
    }
}

impl People {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Watching>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(people: &Arc<Self>, who: Holder) -> Presence {
        {
            let mut inner = people.lock();
            match inner.iter_mut().find(|w| w.who.is(&who)) {
                Some(found) => (found.streams, found.since) = (found.streams + 1, None),
                None => inner.push(Watching { who: who.clone(), streams: 1, since: None }),
            }
        }
        Presence { people: Arc::clone(people), who }
    }

    pub(super) async fn somebody_went(&self) {
        self.went.notified().await;
    }

    /// Those who are gone for long enough; they are told once.
    pub(super) fn take_gone(&self) -> Vec<Holder> {
        let mut gone = vec![];
        self.lock().retain(|w| {
            let over = w.streams == 0 && w.since.is_some_and(|since| since.elapsed() >= GRACE);
            if over {
                gone.push(w.who.clone());
            }
            !over
        });
        gone
    }

    /// How long until the next of them is gone.
    pub(super) fn next_leave(&self) -> Option<Duration> {
        let left = |since: Instant| GRACE.saturating_sub(since.elapsed());
        self.lock().iter().filter_map(|w| w.since).map(left).min()
    }
}

#[cfg(test)]
mod tests {
    use bus_schema::UserId;

    use super::*;

    fn ada() -> Holder {
        Holder { user: UserId::new("u_ada").unwrap(), name: "Ada".into(), token: None }
    }

    #[tokio::test(start_paused = true)]
    async fn who_connects_anew_at_once_has_not_gone() {
        let people = Arc::new(People::default());
        let (one, two) = (People::enter(&people, ada()), People::enter(&people, ada()));
        drop(one);
        assert_eq!(people.next_leave(), None);
        drop(two);
        people.somebody_went().await;
        assert_eq!(people.next_leave(), Some(GRACE));
        let again = People::enter(&people, ada());
        tokio::time::advance(GRACE).await;
        assert!(people.take_gone().is_empty());
        drop(again);
        tokio::time::advance(GRACE).await;
        assert_eq!(people.take_gone().len(), 1);
        assert!(people.take_gone().is_empty(), "once");
    }
}
