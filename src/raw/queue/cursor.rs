//! A cursor: a position, and how many messages and bytes are before it. All three change by a single store (D-047).
//!
//! ```text
//! | position | entry 0: position, messages, bytes | entry 1: position, messages, bytes |
//! ```
//!
//! The entry that has the cursor's position is valid, the other one is being written. The owner of the lock writes the
//! spare entry, and then stores the position: that store is the commit. If the owner dies before the store, the old
//! position and its entry remain valid, and a half-written entry matches neither position.
//!
//! Readers without the lock read the entry, and then the position once more. This is a seqlock over two buffers, as the
//! kernel's seqcount_latch_t (docs.kernel.org/locking/seqlock.html), with the position as the sequence number.

use crate::error::{Error, Result};
use crate::sys::atomic::{AtomicU64, Ordering, fence};

/// How often a reader without the lock retries because the position has moved; after that the words are corrupt.
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

/// The values of a cursor at one moment; all three wrap around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorSnapshot {
    /// The position.
    pub position: u64,
    /// How many messages are before the position.
    pub messages: u64,
    /// How many bytes those have.
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
    /// Sets the cursor to `position`, with nothing before it. Must precede the first use.
    pub fn prepare(&self, position: u64) {
        for (entry, position) in self.entries.iter().zip([position, !position]) {
            entry.position.store(position, Ordering::Relaxed);
            entry.messages.store(0, Ordering::Relaxed);
            entry.bytes.store(0, Ordering::Relaxed);
        }
        self.position.store(position, Ordering::Relaxed);
    }

    /// Returns the position; everything before its commit is visible to the caller.
    #[inline(always)]
    pub fn position(&self) -> u64 {
        // PAIRS queue.commit: a reader of a position sees the records before it, or that they are taken.
        self.position.load(Ordering::Acquire)
    }

    /// Returns the values, or `None` if neither entry matches the position. Requires the lock.
    #[inline(always)]
    pub fn look(&self) -> Option<CursorSnapshot> {
        self.entry(self.position.load(Ordering::Relaxed))
    }

    /// As `look`, but fails with `Corrupt` if neither entry matches.
    #[inline(always)]
    pub fn current(&self) -> Result<CursorSnapshot> {
        self.look().ok_or_else(corrupt)
    }

    #[inline(always)]
    fn entry(&self, position: u64) -> Option<CursorSnapshot> {
        let [first, second] = &self.entries;
        let matches = |entry: &&Entry| entry.position.load(Ordering::Relaxed) == position;
        let entry = Some(first)
            .filter(matches)
            .or(Some(second).filter(matches))?;
        Some(CursorSnapshot {
            position,
            messages: entry.messages.load(Ordering::Relaxed),
            bytes: entry.bytes.load(Ordering::Relaxed),
        })
    }

    /// Sets the cursor to `new`, which must have another position. Requires the lock.
    #[inline(always)]
    pub fn commit(&self, new: CursorSnapshot) {
        let position = self.position.load(Ordering::Relaxed);
        let [first, second] = &self.entries;
        let spare = match first.position.load(Ordering::Relaxed) == position {
            true => second,
            false => first,
        };
        // PAIRS ledger.entry: a reader of the stores below sees, when it reads the position again, that the position
        // moved.
        fence(Ordering::Release);
        spare.position.store(new.position, Ordering::Relaxed);
        spare.messages.store(new.messages, Ordering::Relaxed);
        spare.bytes.store(new.bytes, Ordering::Relaxed);
        // PAIRS queue.commit
        self.position.store(new.position, Ordering::Release);
    }

    /// Returns the values, without the lock. Fails with `Corrupt` if the words match at no attempt.
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
    Error::Corrupt("the counts of the queue do not match its position; recreate the queue".into())
}
