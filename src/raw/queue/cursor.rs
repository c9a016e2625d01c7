//! A cursor: a position, and how many messages and bytes lie before it, which change together by a single store.
//!
//! ```text
//! | position | entry 0: position, messages, bytes | entry 1: position, messages, bytes |
//! ```
//!
//! The entry that has the cursor's position is valid, the other one is being written. The owner of the lock writes it,
//! and then stores the position: that store is the commit. If the owner dies before, the position is the old one, and
//! so is the entry that belongs to it; a half written entry has the position of neither.
//!
//! Readers without the lock read the entry, and then the position once more: a seqlock over two buffers, as the
//! kernel's seqcount_latch_t (docs.kernel.org/locking/seqlock.html), with the position as the sequence number.

use crate::error::{Error, Result};
use crate::sys::atomic::{AtomicU64, Ordering, fence};

/// How often a reader without the lock tries again while writers come between; after that the words are corrupt.
const MAX_READ_ATTEMPTS: u32 = if cfg!(loom) { 16 } else { 1 << 20 };

#[derive(Debug, Default)]
#[repr(C)]
struct Entry {
    position: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// A position in the ring, in shared memory.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Cursor {
    position: AtomicU64,
    entries: [Entry; 2],
}

/// The values of a cursor at one moment: all three wrap around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorSnapshot {
    /// The position.
    pub position: u64,
    /// How many messages lie before that.
    pub messages: u64,
    /// How many bytes they have.
    pub bytes: u64,
}

impl CursorSnapshot {
    /// Returns the snapshot after one more message.
    pub fn and(self, position: u64, bytes: u64) -> CursorSnapshot {
        CursorSnapshot {
            position,
            messages: self.messages.wrapping_add(1),
            bytes: self.bytes.wrapping_add(bytes),
        }
    }

    /// Returns the snapshot at a later position, with no more messages before it.
    pub fn at(self, position: u64) -> CursorSnapshot {
        CursorSnapshot { position, ..self }
    }
}

impl Cursor {
    /// Sets it to `position`, with nothing before it: before its first use.
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

    /// Returns its values; requires the lock. `None`: neither entry belongs to the position.
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

    /// Sets it to `new`, which is at another position; requires the lock.
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

    /// Returns its values, without the lock. `Corrupt`.
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
