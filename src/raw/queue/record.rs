//! Records: the header and state of a message in the ring.
//!
//! ```text
//! 0       8          16       24                 32
//! | state | position | length | room, attempts   | payload …                 | (up to a multiple of 32)
//! ```
//!
//! | state         | means                               | goes to                                                    |
//! |---------------|-------------------------------------|------------------------------------------------------------|
//! | RESERVED + id | a live producer fills it            | READY: commit; DONE: abort                                 |
//! | RESERVED dead | its producer is dead                | DONE: the owner of the consumer lock                       |
//! | READY         | it can be taken                     | LEASED + id: lease; DONE: get. Both hold the consumer lock |
//! | LEASED + id   | a live consumer reads it in place   | DONE: ack; READY: nack                                     |
//! | LEASED dead   | its consumer is dead                | READY: the owner of the consumer lock                      |
//! | DONE          | it is not needed any more           | (overwritten, once head has passed it)                     |
//! | PAD           | nothing until the position `length` | (overwritten, once head has passed it)                     |
//!
//! Each arrow is one compare-and-swap, or a single store under the consumer lock. The position distinguishes a record
//! from the bytes of an earlier lap. Every word is read once, and checked against what the ring can hold.

use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering};
use std::mem::MaybeUninit;

/// The size of the header before a payload, in bytes.
pub const RECORD_HEADER: u64 = size_of::<[u64; 4]>() as u64;
/// Records begin at multiples of this: a payload of doubles, or of vectors of four of them, is aligned.
pub const RECORD_ALIGN: u64 = 32;

const RESERVED: u64 = 1 << 31;
const LEASED: u64 = 1 << 30;
const READY: u64 = 1 << 29;
const DONE: u64 = READY | LEASED;
const PAD: u64 = READY | RESERVED;

const ATTEMPT_BITS: u32 = 16;
const MAX_ATTEMPTS: u64 = (1 << ATTEMPT_BITS) - 1;

/// The four words before a payload.
#[derive(Debug, Default)]
#[repr(C, align(32))]
pub struct Record {
    state: AtomicU64,
    position: AtomicU64,
    /// The length of the payload; of a PAD: the position of the next record.
    length: AtomicU64,
    /// How many bytes were reserved, and how often it was leased.
    room: AtomicU64,
}

// SAFETY: all fields are atomics. (Loom's atomics are never in mapped memory.)
unsafe impl crate::layout::Shared for Record {}

/// The state of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A producer fills it.
    Reserved(Id),
    /// It can be taken.
    Ready,
    /// A consumer reads it in place.
    Leased(Id),
    /// It is not needed any more.
    Done,
    /// It contains no message, and leads to the next record.
    Pad,
}

impl State {
    fn word(self) -> u64 {
        match self {
            State::Reserved(id) => RESERVED | id.bits(),
            State::Ready => READY,
            State::Leased(id) => LEASED | id.bits(),
            State::Done => DONE,
            State::Pad => PAD,
        }
    }

    fn of(word: u64) -> Option<State> {
        match (word & !Id::BITS, Id::of(word)) {
            (RESERVED, Some(id)) => Some(State::Reserved(id)),
            (LEASED, Some(id)) => Some(State::Leased(id)),
            (READY, None) => Some(State::Ready),
            (DONE, None) => Some(State::Done),
            (PAD, None) => Some(State::Pad),
            _ => None,
        }
    }
}

/// A record that was read and checked.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Its state.
    pub state: State,
    /// Its position.
    pub position: u64,
    /// The position of the next record.
    pub next: u64,
    /// How many bytes the message has.
    pub length: u64,
    /// How many bytes were reserved; the message may have fewer.
    pub room: u64,
    /// How often it was leased.
    pub attempts: u32,
}

/// The memory that contains the records, as one process has it mapped.
pub trait Ring {
    /// Returns its size in bytes, with the part that has no memory.
    fn capacity(&self) -> u64;
    /// Returns whether the first `end` bytes are known to have memory, without a system call.
    fn has(&self, end: u64) -> bool;
    /// Returns the record at `offset`. Fails with `Corrupt` if there is no memory.
    fn record(&self, offset: u64) -> Result<&Record>;
    /// Copies the record at `offset`, whether it has memory or not. Fails with `Corrupt` if the file ends before.
    fn copy(&self, offset: u64) -> Result<[u64; 4]>;
    /// Checks that the first `end` bytes can be touched. Fails with `Corrupt` if they cannot.
    fn reach(&self, end: u64) -> Result<()>;
    /// Writes bytes at `offset`, which `reach` must have covered.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()>;
    /// Reads bytes from `offset`, which `reach` must have covered.
    fn read(&self, offset: u64, bytes: &mut [MaybeUninit<u8>]) -> Result<()>;
    /// Prefetches the cache line at `offset`, to be written soon. It is a hint, and any offset is allowed.
    fn prefetch(&self, offset: u64);
    /// Gets memory for the bytes `[from, to)`, of which those before `had` may have some. If it fails with `NoSpace`,
    /// nothing has changed.
    fn grow(&self, from: u64, had: u64, to: u64) -> Result<()>;
    /// Releases the memory of the bytes `[from, to)`.
    fn release_memory(&self, from: u64, to: u64) -> Result<()>;
}

/// Returns how many bytes of the ring a message with `room` reserved bytes takes.
#[inline(always)]
pub fn extent(room: u64) -> u64 {
    (RECORD_HEADER + room).next_multiple_of(RECORD_ALIGN)
}

/// How positions map to offsets: a position is a lap and an offset, and wraps around at 2^64 (D-049).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Laps {
    capacity: u64,
    shift: u32,
}

impl Laps {
    /// Returns the laps of a ring of `capacity` bytes.
    pub const fn new(capacity: u64) -> Laps {
        Laps {
            capacity,
            shift: capacity.next_power_of_two().trailing_zeros(),
        }
    }

    /// Returns the size of the ring in bytes.
    #[inline(always)]
    pub fn capacity(self) -> u64 {
        self.capacity
    }

    /// Returns the first position of a new queue: a few laps before positions wrap around, so that every test passes
    /// there.
    pub fn first(self) -> u64 {
        const LAPS_BEFORE_THE_END: u64 = 3;
        (LAPS_BEFORE_THE_END << self.shift).wrapping_neg()
    }

    /// Returns the offset in the ring.
    #[inline(always)]
    pub fn offset(self, position: u64) -> u64 {
        position & ((1 << self.shift) - 1)
    }

    /// Returns the number of laps from `earlier` to `later`, modulo the number of laps that positions can count.
    #[inline(always)]
    pub fn between(self, earlier: u64, later: u64) -> u64 {
        (later >> self.shift).wrapping_sub(earlier >> self.shift) & (u64::MAX >> self.shift)
    }

    /// Returns the position at `offset` of the same lap, or the beginning of the next lap if `offset` is the lap's
    /// length.
    #[inline(always)]
    pub fn at(self, position: u64, offset: u64) -> u64 {
        (position - self.offset(position)).wrapping_add(offset)
    }

    /// Returns the position at which the next lap begins.
    pub fn next(self, position: u64) -> u64 {
        self.at(position, 0).wrapping_add(1 << self.shift)
    }

    /// Returns whether `later` is not before `earlier`, within the distance that two positions of one queue can have.
    #[inline(always)]
    pub fn in_order(self, earlier: u64, later: u64) -> bool {
        later.wrapping_sub(earlier) <= 2 << self.shift
    }
}

impl Record {
    /// Returns a record with these words.
    pub fn of([state, position, length, room]: [u64; 4]) -> Record {
        Record {
            state: AtomicU64::new(state),
            position: AtomicU64::new(position),
            length: AtomicU64::new(length),
            room: AtomicU64::new(room),
        }
    }

    /// Returns its words.
    #[cfg(loom)]
    pub fn raw(&self) -> [u64; 4] {
        [
            self.state.load(Ordering::Acquire),
            self.position.load(Ordering::Relaxed),
            self.length.load(Ordering::Relaxed),
            self.room.load(Ordering::Relaxed),
        ]
    }

    /// Makes this a record at `position` with `room` bytes. Must precede the move of tail past it.
    #[inline(always)]
    pub fn write(&self, position: u64, state: State, room: u64) {
        self.position.store(position, Ordering::Relaxed);
        self.length.store(room, Ordering::Relaxed);
        self.room.store(room << ATTEMPT_BITS, Ordering::Relaxed);
        self.state.store(state.word(), Ordering::Relaxed);
    }

    /// Makes this a PAD from `position` to `next`. Must precede the move of tail past it.
    pub fn write_pad(&self, position: u64, next: u64) {
        self.write(position, State::Pad, 0);
        self.length.store(next, Ordering::Relaxed);
    }

    /// Reads the record at `position`, which must be before tail. Fails with `Corrupt` if there is none.
    #[inline(always)]
    pub fn find(ring: &impl Ring, laps: Laps, position: u64, tail: u64) -> Result<(&Record, Seen)> {
        let offset = laps.offset(position);
        let record = ring.record(offset)?;
        match record.look(laps, position, tail) {
            Some(seen) if seen.state == State::Pad => Ok((record, seen)),
            Some(seen) => {
                ring.reach(offset + extent(seen.room))?;
                Ok((record, seen))
            }
            None => Err(corrupt(position)),
        }
    }

    /// Reads this as the record at `position`, or returns `None` if it is not that record.
    #[inline(always)]
    pub fn look(&self, laps: Laps, position: u64, tail: u64) -> Option<Seen> {
        // PAIRS record.ready: a reader of READY sees the payload that the producer wrote, and the length it stored.
        let state = State::of(self.state.load(Ordering::Acquire))?;
        let length = self.length.load(Ordering::Relaxed);
        let room = self.room.load(Ordering::Relaxed);
        let attempts = (room & MAX_ATTEMPTS) as u32;
        let room = room >> ATTEMPT_BITS;
        let left = tail.wrapping_sub(position);
        let offset = laps.offset(position);
        let (length, next) = match state {
            State::Pad => (0, length),
            _ if room <= laps.capacity && length <= room => {
                (length, position.wrapping_add(extent(room)))
            }
            _ => return None,
        };
        let whole = match state {
            // A PAD leads to the next lap, or further up in this one.
            State::Pad => {
                next.is_multiple_of(RECORD_ALIGN)
                    && laps.offset(next) < laps.capacity
                    && (next == laps.next(position) || laps.between(position, next) == 0)
            }
            _ => offset + extent(room) <= laps.capacity,
        };
        let step = next.wrapping_sub(position);
        let fits = self.position.load(Ordering::Relaxed) == position
            && whole
            && (RECORD_ALIGN..=left).contains(&step)
            && laps.in_order(position, tail);
        fits.then_some(Seen {
            state,
            position,
            next,
            length,
            room,
            attempts,
        })
    }

    /// Changes the state; returns false if the record is in another state than `from`.
    pub fn change(&self, from: State, to: State) -> bool {
        // PAIRS record.ready; and record.done: a process that finds DONE does not reuse the record before this one has
        // read it.
        self.state
            .compare_exchange(from.word(), to.word(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Marks the record as not needed any more. Requires the consumer lock.
    pub fn finish(&self) {
        // PAIRS record.done
        self.state.store(State::Done.word(), Ordering::Release);
    }

    /// Stores that the producer filled fewer bytes than it reserved. Must precede READY.
    pub fn set_length(&self, length: u64) {
        self.length.store(length, Ordering::Relaxed);
    }

    /// Counts one more lease, and returns the new count. Requires the consumer lock.
    pub fn count_attempt(&self, seen: &Seen) -> u32 {
        let attempts = (u64::from(seen.attempts) + 1).min(MAX_ATTEMPTS);
        let room = seen.room << ATTEMPT_BITS | attempts;
        self.room.store(room, Ordering::Relaxed);
        attempts as u32
    }
}

#[cold]
pub(super) fn corrupt(position: u64) -> Error {
    Error::Corrupt(
        format!("the queue has no valid record at position {position:#x}; recreate the queue")
            .into(),
    )
}
