//! Finding what can be had, and finishing what the dead have left: all of it requires the consumer lock.

use super::cursor::CursorSnapshot;
use super::record::{Record, Ring, Seen, State};
use super::{AS_CLAIM, Held, QueueRef};
use crate::error::Result;
use crate::raw::{Liveness, WaitOptions};
use crate::sys::atomic::{Ordering, fence};

/// While something is leased, every so manieth message begins a scan for leases of the dead …
const LEASE_SCAN_INTERVAL: u64 = 64;
/// … of so many records.
const LEASE_SCAN_BATCH: u64 = 512;

/// A message that can be had.
pub(super) struct Found<'a> {
    pub record: &'a Record,
    pub seen: Seen,
    /// What claim says, if the message stands there and not before it.
    pub claim: Option<CursorSnapshot>,
}

/// Why no message can be had.
#[derive(Clone, Copy)]
pub(super) struct EmptyReason {
    pub claim: CursorSnapshot,
    /// The record at claim is reserved, and not committed yet.
    pub held_up: bool,
    /// How many reservations had been committed or given up before that was found.
    pub resolved_reservations: u64,
    /// Something before claim is still leased by another process, and may come back.
    pub leased: bool,
    /// The queue was shut while a live process held the producer lock, which may still put a message.
    pub putting: bool,
}

impl<'a> Found<'a> {
    /// At claim.
    pub fn at(claim: CursorSnapshot, (record, seen): (&'a Record, Seen)) -> Found<'a> {
        Found {
            record,
            seen,
            claim: Some(claim),
        }
    }

    /// Before claim: it was leased before, and can be had again.
    fn redelivered((record, seen): (&'a Record, Seen)) -> Found<'a> {
        Found {
            record,
            seen,
            claim: None,
        }
    }
}

/// What is found at a position of claim.
pub(super) enum SlotState<'a> {
    /// The end of what was put.
    End,
    /// What can be had.
    Message((&'a Record, Seen)),
    /// Nothing that can ever be had: claim may go on to there.
    Gap(CursorSnapshot),
    /// A record that a live process fills or reads.
    Obstacle,
}

pub(super) type Search<'a> = std::result::Result<Found<'a>, EmptyReason>;

impl<R: Ring, L: Liveness> QueueRef<'_, R, L> {
    /// Returns tail as far as it is known, and looks where it is now if nothing is known beyond claim.
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

    /// Finds the first message that can be had; requires the consumer lock.
    pub(super) fn find(&self) -> Result<Search<'_>> {
        let raw = self.raw;
        // PAIRS queue.settled: who has counted it sees what has become of the record.
        let resolved_reservations = raw.resolved_reservations.load(Ordering::Acquire);
        let claim = raw.claim.current()?;
        // PAIRS queue.returned: what was given back before is READY now, or has been taken since.
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
        // Before anybody waits all is looked at.
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

    /// Looks at what is at `claim`, and finishes what the dead have left there; requires the consumer lock.
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
                State::Reserved(id) if self.liveness.is_dead(id)? => {
                    record.change(seen.state, State::Done);
                }
                // Its lessee died before claim had got over it.
                State::Leased(id) if self.liveness.is_dead(id)? => {
                    record.change(seen.state, State::Ready);
                }
                State::Reserved(_) | State::Leased(_) => return Ok(SlotState::Obstacle),
            }
        }
    }

    /// Moves claim past what can never be had; returns it and what is there then; requires the consumer lock.
    pub(super) fn skip(&self) -> Result<(CursorSnapshot, SlotState<'_>)> {
        let mut claim = self.raw.claim.current()?;
        loop {
            let next = match self.look_at(claim)? {
                SlotState::Gap(next) => next,
                state => return Ok((claim, state)),
            };
            self.raw.claim.commit(next);
            if next.messages != claim.messages {
                self.raw.room.notify(u64::MAX);
            }
            claim = next;
        }
    }

    /// Searches up to `max_records` of the records between head and claim for one that was given back, or whose lessee is
    /// dead. Returns also whether other processes lease some; requires the consumer lock.
    fn search(&self, claim: u64, max_records: u64) -> Result<(Option<(&Record, Seen)>, bool)> {
        let raw = self.raw;
        let head = raw.head.load(Ordering::Relaxed);
        let mut leased = false;
        if head == AS_CLAIM || max_records == 0 {
            return Ok((None, leased));
        }
        // A part of them begins where the last one ended, which is a hint.
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
                State::Leased(id) if self.liveness.is_dead(id)? => {
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

    /// Moves head past what is done; returns where it is; requires the consumer lock.
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
            // PAIRS queue.done: once more, because who has done with it meanwhile may have seen the old head.
            fence(Ordering::SeqCst);
        }
        if head != before {
            raw.room.notify(u64::MAX);
            if raw.is_shut_down() {
                // Who waits for what was still leased: nothing comes any more.
                raw.messages.notify(u64::MAX);
            }
        }
        Ok(head)
    }

    /// Finishes what the dead have left; returns the first record that is still needed; requires the consumer lock.
    pub(super) fn reclaim(&self, _held: &Held<'_>) -> Result<u64> {
        let (claim, _) = self.skip()?;
        self.advance_head(claim.position)
    }

    /// As `reclaim`, without the lock, as far as possible: the next owner of the consumer lock does the rest. The
    /// present owner may have looked already, and would wake no waiter.
    pub(super) fn try_reclaim(&self) {
        let held = self.hold_consumer_lock(WaitOptions::NONBLOCKING);
        if held.is_ok_and(|held| self.reclaim(&held).is_ok()) {
            self.raw.room.notify(u64::MAX);
        }
    }
}
