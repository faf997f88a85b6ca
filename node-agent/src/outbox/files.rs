//! What writer and reader of an outbox share: its segments, its floor, and the node's total.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus_schema::SessionId;
use tokio::sync::watch;

use super::{Limits, OutboxError, RESERVE_BYTES, io};

/// Bytes of all outboxes together.
pub struct Meter {
    limits: Limits,
    total: AtomicU64,
    freed: watch::Sender<u64>,
}

impl Meter {
    /// A meter for these bounds.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, total: AtomicU64::new(0), freed: watch::Sender::new(0) })
    }

    /// Changes whenever space was freed in any outbox.
    pub fn freed(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }

    /// Bytes on disk in all outboxes.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// One segment. `last` and `bytes` grow while it is the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub first: u64,
    pub last: u64,
    pub bytes: u64,
}

/// The segments of one outbox.
pub struct Files {
    session_id: SessionId,
    dir: PathBuf,
    meter: Arc<Meter>,
    bytes: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    segments: VecDeque<Segment>,
    floor: u64,
    /// Nothing will be appended any more.
    is_closed: bool,
}

impl Drop for Files {
    fn drop(&mut self) {
        self.meter.total.fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.meter.freed.send_modify(|version| *version = version.wrapping_add(1));
    }
}

impl Files {
    pub(super) fn new(
        session_id: SessionId,
        dir: PathBuf,
        segments: Vec<Segment>,
        floor: u64,
        meter: Arc<Meter>,
    ) -> Self {
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        meter.total.fetch_add(bytes, Ordering::Relaxed);
        let inner = Inner { segments: segments.into(), floor, is_closed: false };
        Self { session_id, dir, meter, bytes: AtomicU64::new(bytes), inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session whose outbox it is.
    pub fn session_id(&self) -> &SessionId {
        &self.session_id
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Number of the last record; 0 before the first.
    pub fn last(&self) -> u64 {
        self.lock().segments.back().map_or(0, |segment| segment.last)
    }

    /// The last record that need not be sent again.
    pub fn floor(&self) -> u64 {
        self.lock().floor
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Says that nothing will be appended any more.
    pub fn close(&self) {
        self.lock().is_closed = true;
    }

    /// True if nothing will be appended any more.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// True if nothing need be sent any more.
    pub fn is_settled(&self) -> bool {
        let inner = self.lock();
        inner.segments.back().is_none_or(|last| last.last <= inner.floor)
    }

    pub(super) fn segment_bytes(&self) -> u64 {
        self.meter.limits.segment_bytes()
    }

    pub(super) fn is_full(&self, more: u64) -> bool {
        self.is_over(more, 0)
    }

    pub(super) fn is_reserve_full(&self, more: u64) -> bool {
        self.is_over(more, RESERVE_BYTES)
    }

    fn is_over(&self, more: u64, reserve: u64) -> bool {
        let Limits { session_bytes, total_bytes } = self.meter.limits;
        self.bytes() + more >= session_bytes + reserve || self.meter.total() + more >= total_bytes + reserve
    }

    pub(super) fn push_segment(&self, first: u64, bytes: u64) {
        self.lock().segments.push_back(Segment { first, last: first, bytes });
        self.add(bytes);
    }

    pub(super) fn written(&self, last: u64, bytes: u64) {
        if let Some(segment) = self.lock().segments.back_mut() {
            segment.last = last;
            segment.bytes += bytes;
        }
        self.add(bytes);
    }

    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.meter.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The segment that begins with record `first`, as it is now.
    pub(super) fn segment(&self, first: u64) -> Option<Segment> {
        self.lock().segments.iter().find(|segment| segment.first == first).copied()
    }

    /// The first segment that holds a record behind `number`, if any.
    pub(super) fn segment_behind(&self, number: u64) -> Option<Segment> {
        self.lock().segments.iter().find(|segment| segment.last > number).copied()
    }

    /// Forgets all up to `floor`: remembers it on disk, and deletes the segments that hold nothing else. The last
    /// segment stays.
    ///
    /// # Errors
    /// [`OutboxError::Io`]; what could not be deleted is tried again next time.
    pub fn trim(&self, floor: u64) -> Result<(), OutboxError> {
        if floor > self.floor() {
            write_floor(&self.dir, floor)?;
            self.lock().floor = floor;
        }
        while let Some(segment) = self.trimmable() {
            let path = segment_path(&self.dir, segment.first);
            std::fs::remove_file(&path).map_err(io("deleting", &path))?;
            self.lock().segments.pop_front();
            self.bytes.fetch_sub(segment.bytes, Ordering::Relaxed);
            self.meter.total.fetch_sub(segment.bytes, Ordering::Relaxed);
            self.meter.freed.send_modify(|version| *version = version.wrapping_add(1));
        }
        Ok(())
    }

    fn trimmable(&self) -> Option<Segment> {
        let inner = self.lock();
        inner.segments.front().filter(|first| inner.segments.len() > 1 && first.last <= inner.floor).copied()
    }
}

pub(super) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}

/// The first record numbers of the segments in `dir`, in order.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, OutboxError> {
    let mut firsts = vec![];
    for entry in std::fs::read_dir(dir).map_err(io("listing", dir))? {
        let name = entry.map_err(io("listing", dir))?.file_name();
        let first: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".seg")).and_then(|stem| stem.parse().ok());
        firsts.extend(first);
    }
    firsts.sort_unstable();
    Ok(firsts)
}

pub(super) fn read_floor(dir: &Path) -> Result<u64, OutboxError> {
    let path = dir.join("floor");
    match std::fs::read_to_string(&path) {
        // A floor that cannot be read only means that more is sent again.
        Ok(text) => Ok(text.trim().parse().unwrap_or(0)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(OutboxError::Io { doing: "reading", path, source }),
    }
}

fn write_floor(dir: &Path, floor: u64) -> Result<(), OutboxError> {
    let (path, new) = (dir.join("floor"), dir.join("floor.new"));
    std::fs::write(&new, floor.to_string()).map_err(io("writing", &new))?;
    std::fs::rename(&new, &path).map_err(io("writing", &path))
}
