//! The memory of the ring: it grows when there is no room below, and shrinks when little is queued (D-057).
//!
//! | word              | means                                  | goes to                                          |
//! |-------------------|----------------------------------------|--------------------------------------------------|
//! | `usable`          | bytes from the start that can be used  | more, after they get it; less, before it goes    |
//! | `committed_bytes` | bytes from the start that may have it  | more, before they get it; less, after it is gone |
//! | `idle_laps`       | laps in a row that have used little    | one more, or 0, at the end of a lap              |
//!
//! All three change under the producer lock. If its owner dies in between, `committed_bytes` is beyond `usable`: too
//! much memory is kept, and no byte without memory is used.

use super::cursor::CursorSnapshot;
use super::record::{RECORD_HEADER, Ring};
use super::{AS_CLAIM, QueueRef};
use crate::error::{Error, Result};
use crate::raw::Liveness;
use crate::sys::atomic::Ordering;
use crate::sys::thread::SignalGuard;

/// The least and the most memory that is set aside at a time, and the fraction of `usable` by which the ring grows.
const MIN_GROWTH_BYTES: u64 = 64 << 10;
const MAX_GROWTH_BYTES: u64 = 64 << 20;
const GROWTH_DIVISOR: u64 = 4;
const PAGE: u64 = 4096;
/// How much memory an idle queue keeps, and how much is released at a time: some 5 ms of work for the kernel.
const IDLE_MEMORY_BYTES: u64 = 1 << 20;
const MAX_TRIM_BYTES: u64 = 64 << 20;
/// How many laps in a row must use little before memory is released. A sleeping consumer checks this often within a
/// second. Memory that is released between two large messages would cost more than the messages (D-057).
const IDLE_LAPS_BEFORE_TRIM: u64 = 64;

impl<R: Ring, L: Liveness> QueueRef<'_, R, L> {
    /// Gets memory for the first `end` bytes of the ring and some more. Returns false if only a part was set aside,
    /// because much takes time. Requires the producer lock.
    pub(super) fn grow(&self, end: u64) -> Result<bool> {
        let raw = self.raw;
        let usable = raw.usable.load(Ordering::Relaxed);
        let capacity = self.ring.capacity();
        let more = (usable / GROWTH_DIVISOR).clamp(MIN_GROWTH_BYTES, MAX_GROWTH_BYTES);
        let part = |to: u64| {
            to.next_multiple_of(PAGE)
                .min(usable + MAX_GROWTH_BYTES)
                .min(capacity)
        };
        let set_aside = |to: u64| {
            // Stored before the memory is there, so that it is released if this process dies here. The free memory is
            // compared once.
            let committed_bytes = raw.committed_bytes.fetch_max(to, Ordering::Relaxed);
            let grown = self.ring.grow(usable, committed_bytes, to);
            // The parent goes on to grow.
            self.origin().check()?;
            if let Err(error) = grown {
                // The memory is not there: the next attempt compares the free memory anew.
                raw.committed_bytes
                    .store(committed_bytes, Ordering::Relaxed);
                return Err(error);
            }
            raw.usable.store(to, Ordering::Relaxed);
            Ok(to >= end)
        };
        match set_aside(part(end + more)) {
            Err(Error::NoSpace(_)) => set_aside(part(end)),
            other => other,
        }
    }

    /// Releases some memory if little of it was used for a while. Requires the producer lock, and that nothing beyond
    /// `used` is in use.
    ///
    /// `Forked`: this is a child that was forked meanwhile.
    pub(super) fn trim(&self, used: u64) -> Result<()> {
        let raw = self.raw;
        let needed = (2 * used).max(IDLE_MEMORY_BYTES).next_multiple_of(PAGE);
        // The bytes behind the ring belong to other objects.
        let committed_bytes = raw.committed_bytes.load(Ordering::Relaxed);
        let committed_bytes = committed_bytes.min(self.ring.capacity());
        let idle_laps = match committed_bytes <= needed.saturating_mul(2) {
            true => 0,
            false => raw.idle_laps.load(Ordering::Relaxed).saturating_add(1),
        };
        raw.idle_laps.store(idle_laps, Ordering::Relaxed);
        if idle_laps < IDLE_LAPS_BEFORE_TRIM {
            return Ok(());
        }
        // First no process uses the memory, then it is released. If the owner dies in between, too much memory is kept.
        let usable = raw.usable.load(Ordering::Relaxed).min(needed);
        raw.usable.store(usable, Ordering::Relaxed);
        raw.checked_until
            .store(raw.tail.position(), Ordering::Relaxed);
        let from = committed_bytes.saturating_sub(MAX_TRIM_BYTES).max(needed);
        // Memory that cannot be released now may be released later.
        // A handler that forks in between would make the child free memory that its parent uses by then.
        let _signals = SignalGuard::new();
        self.origin().check()?;
        if self.ring.release_memory(from, committed_bytes).is_ok() {
            raw.committed_bytes.store(from, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Ends the lap if the queue is empty and has much memory, so that memory can be released. Requires the consumer
    /// lock, and that there is nothing to take.
    pub(super) fn end_idle_lap(&self, claim: CursorSnapshot) -> Result<()> {
        let raw = self.raw;
        let idle = raw.committed_bytes.load(Ordering::Relaxed) > 2 * IDLE_MEMORY_BYTES
            && raw.head.load(Ordering::Relaxed) == AS_CLAIM
            && raw.tail.position() == claim.position;
        // No deadlock with a producer: this caller holds the consumer lock, and only tries the producer lock.
        if !idle {
            return Ok(());
        }
        let Some(_held) = self.hold_uncontended(&raw.producer_lock) else {
            return Ok(());
        };
        let (laps, now) = (self.laps, raw.tail.current()?);
        if now.position != claim.position {
            return Ok(());
        }
        let used = laps.offset(now.position) + RECORD_HEADER;
        // The PAD ends the lap here, so that the next message goes to the beginning. No consumer needs the PAD.
        if used > IDLE_MEMORY_BYTES / 2 {
            let next = laps.next(now.position);
            self.ring
                .record(laps.offset(now.position))?
                .write_pad(now.position, next);
            raw.checked_until.store(now.position, Ordering::Relaxed);
            raw.wrap_position.store(now.position, Ordering::Relaxed);
            raw.tail.commit(now.at(next));
            // Claim never goes beyond the known tail. If this process dies after this, the next consumer skips the PAD.
            raw.known_tail.store(next, Ordering::Relaxed);
            raw.claim.commit(claim.at(next));
        }
        self.trim(used)
    }
}
