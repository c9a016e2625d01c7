//! Records: a message in the ring, and what becomes of it.
//!
//! ```text
//! 0       8          16       24                 32
//! | state | position | length | room, attempts   | payload …                 | (up to a multiple of 32)
//! ```
//!
//! | state         | means                               | goes to                                                    |
//! |---------------|-------------------------------------|------------------------------------------------------------|
//! | RESERVED + me | I am filling it                     | READY: commit; DONE: abort                                 |
//! | RESERVED dead | its producer is dead                | DONE: the owner of the consumer lock                       |
//! | READY         | it can be had                       | LEASED + me: lease; DONE: get. Both hold the consumer lock |
//! | LEASED + me   | I am reading it in place            | DONE: ack; READY: nack                                     |
//! | LEASED dead   | its reader is dead                  | READY: the owner of the consumer lock                      |
//! | DONE          | it is not needed any more           | (overwritten, once head has passed it)                     |
//! | PAD           | nothing until the position `length` | (likewise)                                                 |
//!
//! Each arrow is one compare-and-swap, or a single store under the consumer lock. The position tells a record from what
//! an earlier lap has left; everything is read once, and checked against what the ring can hold.

use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering};
use std::mem::MaybeUninit;

/// How many bytes the header before a payload has.
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
    /// Of the payload; of a PAD: where the next record stands.
    length: AtomicU64,
    /// How many bytes it was given, and how often it was leased.
    room: AtomicU64,
}

// SAFETY: nothing but atomics. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for Record {}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Somebody is filling it.
    Reserved(Id),
    /// It can be had.
    Ready,
    /// Somebody is reading it in place.
    Leased(Id),
    /// Nobody needs it.
    Done,
    /// Nothing.
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

/// What was found in a record, checked.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// What becomes of it.
    pub state: State,
    /// Where it stands.
    pub position: u64,
    /// Where the next one stands.
    pub next: u64,
    /// How many bytes the message has.
    pub length: u64,
    /// How many it was given: it may have been filled with fewer.
    pub room: u64,
    /// How often it was leased.
    pub attempts: u32,
}

/// The memory in which records stand, as one process has it.
pub trait Ring {
    /// Returns how many bytes it may have.
    fn capacity(&self) -> u64;
    /// Says whether the first `end` bytes are known to be there, without a look.
    fn has(&self, end: u64) -> bool;
    /// Returns the record at `offset`. `Corrupt`: there is no memory there.
    fn record(&self, offset: u64) -> Result<&Record>;
    /// Copies the record at `offset`, whether there is memory or not. `Corrupt`: the file ends before.
    fn copy(&self, offset: u64) -> Result<[u64; 4]>;
    /// Says whether the first `end` bytes can be touched. `Corrupt`: they cannot.
    fn reach(&self, end: u64) -> Result<()>;
    /// Writes bytes at `offset`, which must be within reach.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()>;
    /// Reads bytes from `offset`, which must be within reach.
    fn read(&self, offset: u64, bytes: &mut [MaybeUninit<u8>]) -> Result<()>;
    /// Has the cache line at `offset` fetched, to be written soon: a hint, wherever that is.
    fn prefetch(&self, offset: u64);
    /// Gets memory for the bytes `[from, to)`, of which those before `had` may have some. `NoSpace`: nothing has changed.
    fn grow(&self, from: u64, had: u64, to: u64) -> Result<()>;
    /// Gives the memory of the bytes `[from, to)` back.
    fn give_back(&self, from: u64, to: u64) -> Result<()>;
}

/// Returns how many bytes of the ring a message takes that was given `room` bytes.
#[inline(always)]
pub fn extent(room: u64) -> u64 {
    (RECORD_HEADER + room).next_multiple_of(RECORD_ALIGN)
}

/// How positions and offsets belong together: a position is a lap and an offset, and wraps around at 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Laps {
    capacity: u64,
    shift: u32,
}

impl Laps {
    /// Lays laps over a ring of `capacity` bytes.
    pub const fn new(capacity: u64) -> Laps {
        Laps {
            capacity,
            shift: capacity.next_power_of_two().trailing_zeros(),
        }
    }

    /// Returns the number of bytes of the ring.
    #[inline(always)]
    pub fn capacity(self) -> u64 {
        self.capacity
    }

    /// Returns the position at which a new queue begins: a few laps before they wrap around, so that each does.
    pub fn first(self) -> u64 {
        const LAPS_BEFORE_THE_END: u64 = 3;
        (LAPS_BEFORE_THE_END << self.shift).wrapping_neg()
    }

    /// Returns the place in the ring.
    #[inline(always)]
    pub fn offset(self, position: u64) -> u64 {
        position & ((1 << self.shift) - 1)
    }

    /// Returns the number of laps from `earlier` to `later`, modulo as many as there are.
    #[inline(always)]
    pub fn between(self, earlier: u64, later: u64) -> u64 {
        (later >> self.shift).wrapping_sub(earlier >> self.shift) & (u64::MAX >> self.shift)
    }

    /// Returns the position at `offset` of the same lap, or where the next one begins if the ring ends there.
    #[inline(always)]
    pub fn at(self, position: u64, offset: u64) -> u64 {
        (position - self.offset(position)).wrapping_add(offset)
    }

    /// Returns where the next lap begins.
    pub fn next(self, position: u64) -> u64 {
        self.at(position, 0).wrapping_add(1 << self.shift)
    }

    /// Says whether `later` is not before `earlier`, as far as two positions of one queue can be apart.
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

    /// Makes it a message at `position` that has `room` bytes: before tail has passed it.
    #[inline(always)]
    pub fn write(&self, position: u64, state: State, room: u64) {
        self.position.store(position, Ordering::Relaxed);
        self.length.store(room, Ordering::Relaxed);
        self.room.store(room << ATTEMPT_BITS, Ordering::Relaxed);
        self.state.store(state.word(), Ordering::Relaxed);
    }

    /// Makes it nothing from `position` to `next`: before tail has passed it.
    pub fn write_pad(&self, position: u64, next: u64) {
        self.write(position, State::Pad, 0);
        self.length.store(next, Ordering::Relaxed);
    }

    /// Reads the record at `position`, of which tail says that it is there. `Corrupt`.
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

    /// Reads it as the record at `position`. `None`: it is none.
    #[inline(always)]
    pub fn look(&self, laps: Laps, position: u64, tail: u64) -> Option<Seen> {
        // PAIRS record.ready: who reads READY sees what its maker has filled in, and the length it has said.
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
            // To the next lap, or further on in this one.
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

    /// Takes it from one state to another; false: it is in a third one by now.
    pub fn change(&self, from: State, to: State) -> bool {
        // PAIRS record.ready; and record.done: who finds it done does not reuse it before we have read it.
        self.state
            .compare_exchange(from.word(), to.word(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Marks it as not needed any more; requires the consumer lock.
    pub fn finish(&self) {
        // PAIRS record.done
        self.state.store(State::Done.word(), Ordering::Release);
    }

    /// Says that who reserved it has filled fewer bytes than it was given: before it is READY.
    pub fn set_length(&self, length: u64) {
        self.length.store(length, Ordering::Relaxed);
    }

    /// Counts one more lease; returns how many there were with it; requires the consumer lock.
    pub fn count_attempt(&self, seen: &Seen) -> u32 {
        let attempts = (u64::from(seen.attempts) + 1).min(MAX_ATTEMPTS);
        let room = seen.room << ATTEMPT_BITS | attempts;
        self.room.store(room, Ordering::Relaxed);
        attempts as u32
    }
}

#[cold]
pub(super) fn corrupt(position: u64) -> Error {
    Error::Corrupt(format!("no record stands in the queue at {position:#x}").into())
}
