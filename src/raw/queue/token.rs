//! What a process holds in the ring, a reservation or a lease, and how it lets go of it: by the token that it was given.
//!
//! ```text
//! token: | position (59 bits) | attempt (5 bits) |
//! ```
//!
//! Each end is one exchange of the record's state, and nothing after it can fail.

use super::QueueRef;
use super::record::{RECORD_ALIGN, RECORD_HEADER, Record, Ring, Seen, State};
use crate::error::{Error, Result};
use crate::raw::Liveness;
use crate::sys::atomic::{Ordering, fence};

/// The bits of a token that no position has: they say at which attempt it was leased, so that it is not taken for the next.
const ATTEMPTS: u64 = RECORD_ALIGN - 1;

/// Returns the token of the record at `position`, leased for the `attempts`-th time; 0: reserved.
pub(super) fn of(position: u64, attempts: u32) -> u64 {
    position | u64::from(attempts) & ATTEMPTS
}

impl<R: Ring, L: Liveness> QueueRef<'_, R, L> {
    /// Puts what was reserved into the queue, with the first `length` bytes of its room.
    ///
    /// `NotOwner`: it has been committed or aborted, or another process has reserved it. `Invalid`: more bytes than it has.
    pub fn commit(&self, token: u64, length: u64) -> Result<()> {
        let mine = State::Reserved(self.me);
        let (record, seen) = self.held(token, mine)?;
        if length > seen.room {
            let text = format!(
                "{length} bytes are more than the {} that were reserved",
                seen.room
            );
            return Err(Error::Invalid(text.into()));
        }
        if length < seen.room {
            record.set_length(length);
        }
        // From here on it is in the queue.
        if !record.change(mine, State::Ready) {
            return Err(not_held());
        }
        // PAIRS queue.settled
        self.raw
            .resolved_reservations
            .fetch_add(1, Ordering::Release);
        self.raw.messages.notify_after_exchange(1);
        if length < seen.room && self.bounds.bytes > 0 {
            // Fewer bytes than who waits for room has counted.
            self.raw.room.notify(1);
        }
        Ok(())
    }

    /// Gives up what was reserved. `NotOwner`: as of `commit`.
    pub fn abort(&self, token: u64) -> Result<()> {
        let mine = State::Reserved(self.me);
        let (record, _) = self.held(token, mine)?;
        if !record.change(mine, State::Done) {
            return Err(not_held());
        }
        // PAIRS queue.settled
        self.raw
            .resolved_reservations
            .fetch_add(1, Ordering::Release);
        self.raw.messages.notify(1);
        self.try_reclaim();
        Ok(())
    }

    /// Says that a lease is done with: nobody gets the message any more.
    ///
    /// `NotOwner`: it has been acknowledged or given back, or another process has it.
    pub fn ack(&self, token: u64) -> Result<()> {
        let mine = State::Leased(self.me);
        let (record, seen) = self.held(token, mine)?;
        // From here on it is taken.
        if !record.change(mine, State::Done) {
            return Err(not_held());
        }
        // PAIRS queue.done: either who moves head to this record sees that it is done, or we see head there.
        fence(Ordering::SeqCst);
        if self.raw.head.load(Ordering::Acquire) == seen.position {
            self.try_reclaim();
        }
        Ok(())
    }

    /// Gives a lease back: the message is the first that somebody gets. `NotOwner`: as of `ack`.
    pub fn nack(&self, token: u64) -> Result<()> {
        let mine = State::Leased(self.me);
        let (record, _) = self.held(token, mine)?;
        if !record.change(mine, State::Ready) {
            return Err(not_held());
        }
        // PAIRS queue.returned
        self.raw.returned.store(1, Ordering::Release);
        self.raw.messages.notify(1);
        Ok(())
    }

    /// Returns the record that this process has in the state `mine`. `NotOwner`.
    fn held(&self, token: u64, mine: State) -> Result<(&Record, Seen)> {
        let laps = self.laps;
        let position = token & !ATTEMPTS;
        let (head, tail) = (self.raw.head(), self.raw.tail.position());
        let inside = laps.in_order(head, position)
            && (tail.wrapping_sub(position) as i64) > 0
            && laps.offset(position) + RECORD_HEADER <= laps.capacity();
        if !inside {
            return Err(not_held());
        }
        match Record::find(self.ring, laps, position, tail) {
            Ok((record, seen)) if seen.state == mine && of(position, seen.attempts) == token => {
                Ok((record, seen))
            }
            // What is no record now may have been one.
            Ok(_) | Err(Error::Corrupt(_)) => Err(not_held()),
            Err(error) => Err(error),
        }
    }
}

#[cold]
fn not_held() -> Error {
    Error::NotOwner("this process does not hold that message, or no more".into())
}
