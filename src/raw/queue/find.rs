//! Finding the next message, and reclaiming what dead processes left. All functions require the consumer lock.

use super::cursor::CursorSnapshot;
use super::record::{Record, Ring, Seen, State};
use super::{AS_CLAIM, Held, QueueRef};
use crate::error::Result;
use crate::raw::{Liveness, WaitOptions};
use crate::sys::atomic::{Ordering, fence};

/// While something is leased, a scan for leases of dead processes begins once per this many messages … (D-052)
const LEASE_SCAN_INTERVAL: u64 = 64;
/// … and looks at this many records.
const LEASE_SCAN_BATCH: u64 = 512;

/// A message that can be taken.
pub(super) struct Found<'a> {
    pub record: &'a Record,
    pub seen: Seen,
    /// The value of claim if the message is at claim; `None` if it is before claim.
    pub claim: Option<CursorSnapshot>,
}

/// Why no message can be taken.
#[derive(Clone, Copy)]
pub(super) struct EmptyReason {
    pub claim: CursorSnapshot,
    /// The record at claim is reserved, and not committed yet.
    pub held_up: bool,
    /// How many reservations had been committed or aborted before the search began.
    pub resolved_reservations: u64,
    /// Something before claim is still leased by another process, and may come back.
    pub leased: bool,
    /// The queue was shut down while a live process held the producer lock, and that process may still put a message.
    pub putting: bool,
}

impl<'a> Found<'a> {
    /// A message at claim.
    pub fn at(claim: CursorSnapshot, (record, seen): (&'a Record, Seen)) -> Found<'a> {
        Found {
            record,
            seen,
            claim: Some(claim),
        }
    }

    /// A message before claim: it was leased before, and can be taken again.
    fn redelivered((record, seen): (&'a Record, Seen)) -> Found<'a> {
        Found {
            record,
            seen,
            claim: None,
        }
    }
}

/// What is at a position of claim.
pub(super) enum SlotState<'a> {
    /// Nothing: it is the end of what was put.
    End,
    /// A message that can be taken.
    Message((&'a Record, Seen)),
    /// A record that can never be taken: claim may move to this snapshot.
    Gap(CursorSnapshot),
    /// A record that a live process fills or reads.
    Obstacle,
}

pub(super) type Search<'a> = std::result::Result<Found<'a>, EmptyReason>;

impl<R: Ring, L: Liveness> QueueRef<'_, R, L> {
    /// Returns the last known tail. Reads tail anew if no record beyond claim is known.
    #[inline(always)]
    pub(super) fn known_tail(&self, claim: u64) -> u64 {
        let known = self.raw.known_tail.load(Ordering::Relaxed);
        if known != claim {
            return known;
        }
        let tail = self.raw.tail.position();
        self.raw.known_tail.store(tail, Ordering::Relaxed);
        tail
    }

    #[inline(always)]
    pub(super) fn record(&self, position: u64) -> Result<(&Record, Seen)> {
        let tail = self.raw.known_tail.load(Ordering::Relaxed);
        Record::find(self.ring, self.laps, position, tail)
    }

    /// Finds the first message that can be taken. Requires the consumer lock.
    pub(super) fn find(&self) -> Result<Search<'_>> {
        let raw = self.raw;
        // PAIRS queue.settled: a reader of the count sees the state that each counted record was left in.
        let resolved_reservations = raw.resolved_reservations.load(Ordering::Acquire);
        let claim = raw.claim.current()?;
        // PAIRS queue.returned: a lease returned before this is READY now, or has been taken since.
        let returned = raw.returned.load(Ordering::Relaxed) != 0
            && raw.returned.swap(0, Ordering::AcqRel) != 0;
        if raw.head.load(Ordering::Relaxed) != AS_CLAIM {
            self.advance_head(claim.position)?;
            let max_records = match returned {
                true => u64::MAX,
                false if claim.messages.is_multiple_of(LEASE_SCAN_INTERVAL) => LEASE_SCAN_BATCH,
                false => 0,
            };
            if let Some(message) = self.search(claim.position, max_records)?.0 {
                if returned {
                    raw.returned.store(1, Ordering::Relaxed); // there may be more
                }
                return Ok(Ok(Found::redelivered(message)));
            }
        }
        let (claim, state) = self.skip()?;
        if let SlotState::Message(message) = state {
            return Ok(Ok(Found::at(claim, message)));
        }
        // All records are searched before the caller may wait.
        let (found, leased) = self.search(claim.position, u64::MAX)?;
        Ok(match found {
            Some(message) => Ok(Found::redelivered(message)),
            None => Err(EmptyReason {
                claim,
                held_up: matches!(state, SlotState::Obstacle),
                resolved_reservations,
                leased,
                putting: false,
            }),
        })
    }

    /// Returns what is at `claim`, and reclaims what a dead process left there. Requires the consumer lock.
    #[inline(always)]
    pub(super) fn look_at(&self, claim: CursorSnapshot) -> Result<SlotState<'_>> {
        if self.known_tail(claim.position) == claim.position {
            return Ok(SlotState::End);
        }
        loop {
            let (record, seen) = self.record(claim.position)?;
            match seen.state {
                State::Ready => return Ok(SlotState::Message((record, seen))),
                State::Pad => return Ok(SlotState::Gap(claim.at(seen.next))),
                State::Done => {
                    self.raw.skipped.fetch_add(1, Ordering::Relaxed);
                    return Ok(SlotState::Gap(claim.and(seen.next, seen.room)));
                }
                State::Reserved(id) if self.liveness.is_dead(id, self.origin())? => {
                    record.change(seen.state, State::Done);
                }
                // Its reader died before claim had moved past the record.
                State::Leased(id) if self.liveness.is_dead(id, self.origin())? => {
                    record.change(seen.state, State::Ready);
                }
                State::Reserved(_) | State::Leased(_) => return Ok(SlotState::Obstacle),
            }
        }
    }

    /// Moves claim past records that can never be taken. Returns claim and what is there. Requires the consumer lock.
    pub(super) fn skip(&self) -> Result<(CursorSnapshot, SlotState<'_>)> {
        let mut claim = self.raw.claim.current()?;
        loop {
            let next = match self.look_at(claim)? {
                SlotState::Gap(next) => next,
                state => return Ok((claim, state)),
            };
            self.raw.claim.commit(next);
            if next.messages != claim.messages {
                self.notify_inside(&self.raw.room, u64::MAX)?;
            }
            claim = next;
        }
    }

    /// Searches up to `max_records` of the records between head and claim for a lease that was returned, or whose
    /// reader is dead. Returns it, and whether other live processes hold leases. Requires the consumer lock.
    fn search(&self, claim: u64, max_records: u64) -> Result<(Option<(&Record, Seen)>, bool)> {
        let raw = self.raw;
        let head = raw.head.load(Ordering::Relaxed);
        let mut leased = false;
        if head == AS_CLAIM || max_records == 0 {
            return Ok((None, leased));
        }
        // A partial search begins where the last one ended; that position is only a hint.
        let begin = raw.search.load(Ordering::Relaxed);
        let inside =
            (begin.wrapping_sub(head) as i64) >= 0 && (claim.wrapping_sub(begin) as i64) > 0;
        let mut position = if max_records < u64::MAX && inside {
            begin
        } else {
            head
        };
        for _ in 0..max_records {
            if position == claim {
                position = head;
                break;
            }
            let (record, seen) = self.record(position)?;
            match seen.state {
                State::Ready => return Ok((Some((record, seen)), leased)),
                State::Leased(id) if id == self.me => {}
                State::Leased(id) if self.liveness.is_dead(id, self.origin())? => {
                    record.change(seen.state, State::Ready);
                    return Ok((Some(self.record(position)?), leased));
                }
                State::Leased(_) => leased = true,
                State::Reserved(_) | State::Done | State::Pad => {}
            }
            position = seen.next;
        }
        raw.search.store(position, Ordering::Relaxed);
        Ok((None, leased))
    }

    /// Moves head past finished records, and returns it. Requires the consumer lock.
    pub(super) fn advance_head(&self, claim: u64) -> Result<u64> {
        let raw = self.raw;
        let mut head = raw.head.load(Ordering::Relaxed);
        if head == AS_CLAIM {
            return Ok(claim);
        }
        let before = head;
        loop {
            let stop = loop {
                if head == claim {
                    break true;
                }
                let (_, seen) = self.record(head)?;
                match seen.state {
                    State::Done | State::Pad => head = seen.next,
                    _ => break false,
                }
            };
            if stop {
                // PAIRS queue.head
                raw.head.store(AS_CLAIM, Ordering::Release);
                break;
            }
            if raw.head.load(Ordering::Relaxed) == head {
                break;
            }
            // PAIRS queue.head
            raw.head.store(head, Ordering::Release);
            // PAIRS queue.done: one more pass, because a process that finished a record meanwhile may have seen the old
            // head.
            fence(Ordering::SeqCst);
        }
        if head != before {
            self.notify_inside(&raw.room, u64::MAX)?;
            if raw.is_shut_down() {
                // Consumers that waited for leases to return: no message comes any more.
                self.notify_inside(&raw.messages, u64::MAX)?;
            }
        }
        Ok(head)
    }

    /// Reclaims what dead processes left; returns the first record that is still needed. Requires the consumer lock.
    pub(super) fn reclaim(&self, _held: &Held<'_, L>) -> Result<u64> {
        let (claim, _) = self.skip()?;
        self.advance_head(claim.position)
    }

    /// As `reclaim`, for a caller without the consumer lock. This waits for the lock's present owner, which may have passed
    /// the record already and would wake no waiter. If that fails, the next owner of the lock reclaims.
    pub(super) fn try_reclaim(&self) {
        let held = self.hold_consumer_lock(WaitOptions::NONBLOCKING);
        if held.is_ok_and(|held| self.reclaim(&held).is_ok()) {
            self.raw.room.notify(u64::MAX);
        }
    }
}
