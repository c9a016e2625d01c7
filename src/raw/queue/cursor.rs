//! A ledger: a position, and how many messages and bytes lie before it, which change together by a single store.
//!
//! ```text
//! | position | entry 0: position, messages, bytes | entry 1: position, messages, bytes |
//! ```
//!
//! The entry that has the ledger's position is valid, the other one is being written. Who holds the lock writes it, and
//! then stores the position: that store is the commit. If it dies before, the position is the old one, and so is the
//! entry that belongs to it; half an entry has the position of neither.

use crate::error::{Error, Result};
use crate::sys::atomic::{AtomicU64, Ordering, fence};

/// How often a reader without the lock looks again while writers come between: more than that is a lie.
const MAX_READ_ATTEMPTS: u32 = if cfg!(loom) { 16 } else { 1 << 20 };

#[derive(Debug, Default)]
#[repr(C)]
struct Entry {
    position: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// Where something has got to, in shared memory.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Cursor {
    position: AtomicU64,
    entries: [Entry; 2],
}

/// What a ledger says: all three wrap around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorSnapshot {
    /// Where it has got to.
    pub position: u64,
    /// How many messages lie before that.
    pub messages: u64,
    /// How many bytes they have.
    pub bytes: u64,
}

impl CursorSnapshot {
    /// Returns the totals behind one more message.
    pub fn and(self, position: u64, bytes: u64) -> CursorSnapshot {
        CursorSnapshot {
            position,
            messages: self.messages.wrapping_add(1),
            bytes: self.bytes.wrapping_add(bytes),
        }
    }

    /// Returns the totals at a position before which there are no more messages.
    pub fn at(self, position: u64) -> CursorSnapshot {
        CursorSnapshot { position, ..self }
    }
}

impl Cursor {
    /// Makes it say `position`, and nothing before it: before anyone uses it.
    pub fn prepare(&self, position: u64) {
        for (entry, position) in self.entries.iter().zip([position, !position]) {
            entry.position.store(position, Ordering::Relaxed);
            entry.messages.store(0, Ordering::Relaxed);
            entry.bytes.store(0, Ordering::Relaxed);
        }
        self.position.store(position, Ordering::Relaxed);
    }

    /// Returns the position; what was done before it was committed is seen.
    #[inline(always)]
    pub fn position(&self) -> u64 {
        // PAIRS queue.commit: who reads a position sees the records before it, or that they are taken.
        self.position.load(Ordering::Acquire)
    }

    /// Returns what it says, to who holds the lock. `None`: neither entry belongs to the position.
    #[inline(always)]
    pub fn look(&self) -> Option<CursorSnapshot> {
        self.entry(self.position.load(Ordering::Relaxed))
    }

    /// As `look`. `Corrupt` instead of `None`.
    #[inline(always)]
    pub fn current(&self) -> Result<CursorSnapshot> {
        self.look().ok_or_else(corrupt)
    }

    #[inline(always)]
    fn entry(&self, position: u64) -> Option<CursorSnapshot> {
        let [first, second] = &self.entries;
        let says = |entry: &&Entry| entry.position.load(Ordering::Relaxed) == position;
        let entry = Some(first).filter(says).or(Some(second).filter(says))?;
        Some(CursorSnapshot {
            position,
            messages: entry.messages.load(Ordering::Relaxed),
            bytes: entry.bytes.load(Ordering::Relaxed),
        })
    }

    /// Makes it say `new`, at another position than before, by who holds the lock.
    #[inline(always)]
    pub fn commit(&self, new: CursorSnapshot) {
        let position = self.position.load(Ordering::Relaxed);
        let [first, second] = &self.entries;
        let spare = match first.position.load(Ordering::Relaxed) == position {
            true => second,
            false => first,
        };
        // PAIRS ledger.entry: who reads what is stored below finds, when it looks again, that the position has moved.
        fence(Ordering::Release);
        spare.position.store(new.position, Ordering::Relaxed);
        spare.messages.store(new.messages, Ordering::Relaxed);
        spare.bytes.store(new.bytes, Ordering::Relaxed);
        // PAIRS queue.commit
        self.position.store(new.position, Ordering::Release);
    }

    /// Returns what it says, to who does not hold the lock. `Corrupt`.
    pub fn read(&self) -> Result<CursorSnapshot> {
        for _ in 0..MAX_READ_ATTEMPTS {
            let position = self.position();
            let totals = self.entry(position);
            // PAIRS ledger.entry
            fence(Ordering::Acquire);
            if self.position.load(Ordering::Relaxed) == position {
                return totals.ok_or_else(corrupt);
            }
        }
        Err(corrupt())
    }
}

#[cold]
fn corrupt() -> Error {
    Error::Corrupt("the queue does not know how much is in it".into())
}
