//! Participants: the processes that are attached to a managed segment, and which of them are alive.
//!
//! ```text
//! table:  | next ticket | slot 0 | slot 1 | …          slot: | ticket | described | pid | start | namespace | since | comm |
//! ```
//!
//! | slot's ticket | means                                        | goes to                            |
//! |---------------|----------------------------------------------|------------------------------------|
//! | 0             | free                                         | t: the process with ticket t swaps |
//! | t             | the process that holds the byte of t         | 0, when that process detaches      |
//! | t             | the byte of t is not held: its owner is dead | u: the process with ticket u swaps |
//!
//! A ticket is drawn once and never again. Its byte in the segment's file is locked (`F_OFD_SETLK`) before anybody can
//! read the ticket, and the kernel unlocks it when the process ends, however it ends: so *unlocked* means *dead*, and
//! nothing else does. `docs/liveness.md` has the whole argument.
//!
//! If a process dies inside
//!   claim:  before the compare-and-swap no other process knows of it; after it the slot has a dead ticket;
//!   detach: the slot has a dead ticket, or 0.

use crate::error::{Error, Result};
use crate::layout::{CacheLine, Shared};
use crate::sys::fork::{ForkLocal, ForkLock, ForkLocked, free_fork_local, new_fork_local};
use crate::sys::lockfile::{byte_of, hold, is_held};
use crate::sys::map::LockMapping;
use crate::sys::{clock, process, shm};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering, fence};

/// How many slots a table may have.
pub const MAX_PARTICIPANTS: u32 = 4096;
/// How many it has unless asked otherwise.
pub const DEFAULT_PARTICIPANTS: u32 = 128;

/// Tickets have so many bits: at a million a second they last nine years.
const TICKET_BITS: u32 = 48;
const LAST_TICKET: u64 = (1 << TICKET_BITS) - 1;

/// Who holds something: slot and ticket of a participant in one word, as lock words have it.
///
/// ```text
/// | ticket 16..48 | 31 30 29 | ticket 0..16 | slot + 1 (13 bits) |
///  63           32             28         13 12                 0
/// ```
///
/// Bits 29 to 31 are 0 here; lock words keep their marks in them. The lower half is what a futex sleeps on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(u64);

const SLOT_BITS: u32 = 13;
const LOW_TICKET_BITS: u32 = 16;

impl Id {
    /// The bits that an id may have.
    pub const BITS: u64 = !(0b111 << 29);

    fn new(slot: usize, ticket: u64) -> Id {
        let low = ticket & ((1 << LOW_TICKET_BITS) - 1);
        Id((slot as u64 + 1) | low << SLOT_BITS | ticket >> LOW_TICKET_BITS << 32)
    }

    /// Reads what stands in a shared word: `None` for nobody. Any bits are taken; what no process has is dead.
    pub fn of(word: u64) -> Option<Id> {
        match word & Id::BITS {
            0 => None,
            bits => Some(Id(bits)),
        }
    }

    /// Returns an id of which only the ticket is known, as cells have it; `None` for ticket 0, which nobody has.
    pub fn of_ticket(ticket: u64) -> Option<Id> {
        let ticket = ticket & LAST_TICKET;
        let low = ticket & ((1 << LOW_TICKET_BITS) - 1);
        Id::of(low << SLOT_BITS | ticket >> LOW_TICKET_BITS << 32)
    }

    /// Returns the word.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Returns the number of the participant, which no other one of this segment ever had or will have.
    pub fn ticket(self) -> u64 {
        (self.0 >> SLOT_BITS & ((1 << LOW_TICKET_BITS) - 1)) | (self.0 >> 32) << LOW_TICKET_BITS
    }

    /// Returns its place in the table; a lie may lie outside.
    pub fn slot(self) -> Option<usize> {
        ((self.0 & ((1 << SLOT_BITS) - 1)) as usize).checked_sub(1)
    }
}

/// One place in the table.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    ticket: AtomicU64,
    /// The ticket whose owner the rest describes: it comes later than the claim, and for people alone.
    described: AtomicU64,
    pid: AtomicU64,
    start: AtomicU64,
    namespace: AtomicU64,
    since: AtomicU64,
    comm: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Slot>() == 64);

// SAFETY: nothing but atomics.
unsafe impl Shared for Slot {}

/// The last ticket that was drawn, in a line of its own.
#[derive(Debug)]
#[repr(C)]
pub struct Tickets(CacheLine<AtomicU64>);

// SAFETY: one atomic, and padding that nobody looks at.
unsafe impl Shared for Tickets {}

/// The table of participants of a segment.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    /// The last ticket.
    pub tickets: &'a Tickets,
    /// The slots.
    pub slots: &'a [Slot],
}

/// What is known of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its ticket.
    pub ticket: u64,
    /// Its process, numbered in that process' own PID namespace.
    pub pid: u32,
    /// When the process started, in clock ticks since the machine's start.
    pub start: u64,
    /// Its PID namespace, as the inode of /proc/PID/ns/pid.
    pub namespace: u64,
    /// When it became a participant, in nanoseconds since 1970.
    pub since: u64,
    /// The name of the process, ended by a NUL.
    pub comm: [u8; 16],
}

impl Slot {
    fn describe(&self, ticket: u64) {
        let process::Identity {
            pid,
            start,
            namespace,
            comm,
        } = process::identity();
        // PAIRS participant.undescribed: who reads one of the words below reads this 0 when it looks again.
        self.described.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        self.pid.store(pid.into(), Ordering::Relaxed);
        self.start.store(start, Ordering::Relaxed);
        self.namespace.store(namespace, Ordering::Relaxed);
        self.since.store(clock::realtime(), Ordering::Relaxed);
        for (word, bytes) in self.comm.iter().zip(comm.as_chunks::<8>().0) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        // PAIRS participant.described: who reads this ticket reads what was stored before.
        self.described.store(ticket, Ordering::Release);
    }

    fn process_info(&self, ticket: u64) -> Option<ProcessInfo> {
        // PAIRS participant.described
        if self.described.load(Ordering::Acquire) != ticket {
            return None;
        }
        let mut comm = [0; 16];
        for (bytes, word) in comm.as_chunks_mut::<8>().0.iter_mut().zip(&self.comm) {
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        comm[15] = 0;
        let process_info = ProcessInfo {
            ticket,
            pid: self.pid.load(Ordering::Relaxed) as u32,
            start: self.start.load(Ordering::Relaxed),
            namespace: self.namespace.load(Ordering::Relaxed),
            since: self.since.load(Ordering::Relaxed),
            comm,
        };
        // PAIRS participant.undescribed
        fence(Ordering::Acquire);
        (self.described.load(Ordering::Relaxed) == ticket).then_some(process_info)
    }
}

impl Table<'_> {
    /// Returns what is known of the participant with this id; `None` where its slot has another owner by now.
    pub fn process_info(&self, id: Id) -> Option<ProcessInfo> {
        self.slots.get(id.slot()?)?.process_info(id.ticket())
    }

    /// Says whether anybody can have had this id: there is such a place, and such a ticket was drawn.
    pub fn has_had(&self, id: Id) -> bool {
        let drawn = self.tickets.0.0.load(Ordering::Relaxed);
        id.slot().is_some_and(|slot| slot < self.slots.len()) && (1..=drawn).contains(&id.ticket())
    }
}

/// How to ask the kernel for locks: the descriptors and the name by which this process knows a segment's file.
pub struct LivenessProbe {
    device: u64,
    inode: u64,
    /// The number of the segment's own descriptor. It may have been closed, and stand for anything by now.
    fd: i32,
    /// Opened later, by the name; -1: not yet. Its number may have gone too.
    spare: AtomicI32,
    path: Option<CString>,
}

impl LivenessProbe {
    /// Asks through `fd`, or through what stands at `path`, as long as it is the file `(device, inode)`.
    pub fn new(fd: i32, path: Option<&CStr>, device: u64, inode: u64) -> LivenessProbe {
        LivenessProbe {
            device,
            inode,
            fd,
            spare: AtomicI32::new(-1),
            path: path.map(CStr::to_owned),
        }
    }

    fn numbers(&self) -> [i32; 2] {
        [self.fd, self.spare.load(Ordering::Relaxed)]
    }

    fn open(&self) -> Result<OwnedFd> {
        let path = self.path.as_deref();
        shm::find_again(&self.numbers(), path, self.device, self.inode)
    }

    /// Says whether the process that drew `ticket` has ended; `mine` is a ticket of this process, which lives.
    ///
    /// `LivenessUnknown` where nobody can be asked: then nobody is dead.
    pub fn is_dead(&self, ticket: u64, mine: u64) -> Result<bool> {
        let numbers = self.numbers();
        for fd in numbers {
            if let Some(verdict) = self.ask(fd, ticket, mine) {
                return Ok(verdict);
            }
        }
        let spare = self.open()?;
        let verdict = self.ask(spare.as_raw_fd(), ticket, mine).ok_or_else(|| {
            Error::LivenessUnknown("the segment's file does not know this process any more".into())
        })?;
        // What stood here before is not ours to close: it does not lead to the file. If another thread has put one here
        // meanwhile, that one stays.
        let (old, new) = (numbers[1], spare.as_raw_fd());
        let kept = self
            .spare
            .compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
        if kept.is_ok() {
            std::mem::forget(spare);
        }
        Ok(verdict)
    }

    /// Asks through one number; `None` where it does not stand for the file.
    fn ask(&self, fd: i32, ticket: u64, mine: u64) -> Option<bool> {
        let dead = !is_held(fd, byte_of(ticket)).ok()?;
        // Where the dead are not locked, we must be.
        if dead && !is_held(fd, byte_of(mine)).ok()? {
            return None;
        }
        // Another segment's file may know locks on the same bytes: there the dead would live for ever, and the living
        // be dead. Asked last, because once a number stands for another file it does so for good.
        shm::is_file(fd, self.device, self.inode).then_some(dead)
    }
}

impl Drop for LivenessProbe {
    fn drop(&mut self) {
        shm::close_if(*self.spare.get_mut(), self.device, self.inode);
    }
}

/// What this process is in one file: there is one of them for each, however often the file is mapped.
struct Entry {
    id_word: ForkLocal,
    lock_mapping: Option<LockMapping>,
    users: usize,
}

static KNOWN: ForkLocked<BTreeMap<(u64, u64), Entry>> = ForkLocked::new(BTreeMap::new());

/// This process as a participant of one segment; its id is claimed at the first use, anew in each forked child.
pub struct Participant {
    file: (u64, u64),
    id_word: ForkLocal,
}

/// Keeps a participant alive when the last user of its segment has detached: to be dropped after the mapping.
pub struct DeferredDetach {
    _lock_mapping: Option<LockMapping>,
}

/// Refuses where this process cannot take part in anything: asked before a segment gets its name.
///
/// `Unsupported` where the kernel wipes no pages at fork.
pub fn check_support() -> Result<()> {
    let mut inside = ForkLock::enter();
    let id_word = new_fork_local(&mut inside)?;
    free_fork_local(&mut inside, id_word);
    Ok(())
}

impl Participant {
    /// Prepares to take part in the segment whose file is `(device, inode)`; no kernel object is made yet.
    pub fn new(device: u64, inode: u64) -> Result<Participant> {
        let file = (device, inode);
        let mut inside = ForkLock::enter();
        if let Some(entry) = KNOWN.get(&mut inside).get_mut(&file) {
            entry.users += 1;
            let id_word = entry.id_word;
            return Ok(Participant { file, id_word });
        }
        let id_word = new_fork_local(&mut inside)?;
        let entry = Entry {
            id_word,
            lock_mapping: None,
            users: 1,
        };
        KNOWN.get(&mut inside).insert(file, entry);
        Ok(Participant { file, id_word })
    }

    /// Returns the word that holds our id, 0 before it is claimed and in a forked child.
    pub fn id_word(&self) -> ForkLocal {
        self.id_word
    }

    /// Returns our id, claiming one where there is none.
    pub fn id(&self, table: Table<'_>, probe: &LivenessProbe) -> Result<Id> {
        match Id::of(self.id_word.load(Ordering::Relaxed)) {
            Some(id) => Ok(id),
            None => self.claim(table, probe),
        }
    }

    /// Becomes a participant.
    ///
    /// `TooManyProcesses`: as many processes as there are slots are alive. `LivenessUnknown`, `Permission`: the file
    /// cannot be opened for writing once more. `Corrupt`: the tickets have run out, or somebody has turned them back.
    #[cold]
    fn claim(&self, table: Table<'_>, probe: &LivenessProbe) -> Result<Id> {
        // The fork lock keeps forks out from here to the end: a child that had a copy of the file opened below would
        // keep our byte locked when we are dead.
        let mut inside = ForkLock::enter();
        if let Some(id) = Id::of(self.id_word.load(Ordering::Relaxed)) {
            return Ok(id); // another thread was first
        }
        let entry = KNOWN.get(&mut inside).get_mut(&self.file);
        let entry = entry.ok_or(Error::Internal("a participant that nobody knows".into()))?;
        // Without an id a lock mapping can only be the parent's, whose address may be in other use here.
        std::mem::forget(entry.lock_mapping.take());

        let file = probe.open()?;
        let lock_mapping = LockMapping::new(&file)?;
        let ticket = draw(table.tickets, &file)?;
        drop(file); // the mapping alone keeps the lock

        let slot = take_slot(table.slots, ticket, |other| probe.is_dead(other, ticket))?;
        let id = Id::new(slot, ticket);
        table.slots[slot].describe(ticket);
        entry.lock_mapping = Some(lock_mapping);
        self.id_word.store(id.bits(), Ordering::Relaxed);
        Ok(id)
    }

    /// Detaches; what is returned must be dropped after the segment's data is unmapped.
    ///
    /// In that order no process that is judged dead can still write. Call it once.
    pub fn detach(&self, table: Table<'_>) -> DeferredDetach {
        let mut inside = ForkLock::enter();
        let known = KNOWN.get(&mut inside);
        let last = known.get_mut(&self.file).is_none_or(|entry| {
            entry.users -= 1;
            entry.users == 0
        });
        if !last {
            return DeferredDetach {
                _lock_mapping: None,
            };
        }
        let Some(mut entry) = known.remove(&self.file) else {
            return DeferredDetach {
                _lock_mapping: None,
            };
        };
        let id = Id::of(entry.id_word.load(Ordering::Relaxed));
        free_fork_local(&mut inside, entry.id_word);
        let Some(id) = id else {
            std::mem::forget(entry.lock_mapping.take()); // the parent's
            return DeferredDetach {
                _lock_mapping: None,
            };
        };
        if let Some(slot) = id.slot().and_then(|slot| table.slots.get(slot)) {
            // It fails where somebody has overwritten it: then it is not ours to free.
            let (mine, free) = (id.ticket(), 0);
            // PAIRS participant.slot
            let _ = slot
                .ticket
                .compare_exchange(mine, free, Ordering::Release, Ordering::Relaxed);
        }
        DeferredDetach {
            _lock_mapping: entry.lock_mapping,
        }
    }
}

/// Draws a ticket and locks its byte through `file`.
fn draw(tickets: &Tickets, file: &OwnedFd) -> Result<u64> {
    /// Whoever turns the counter back makes us meet tickets of the living; there are no more of them than slots.
    const DRAWS: u32 = 2 * MAX_PARTICIPANTS;
    for _ in 0..DRAWS {
        let ticket = tickets.0.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if ticket == 0 || ticket > LAST_TICKET {
            break;
        }
        if hold(file.as_fd(), byte_of(ticket))?.is_some() {
            return Ok(ticket);
        }
    }
    Err(Error::Corrupt(
        "the tickets of the segment's participants have run out, or somebody has changed their counter".into(),
    ))
}

/// Finds a slot that is free, or else one whose owner is dead, and makes it ours in one step.
fn take_slot(slots: &[Slot], ticket: u64, is_dead: impl Fn(u64) -> Result<bool>) -> Result<usize> {
    let count = slots.len().max(1);
    let begin = (ticket % count as u64) as usize;
    let order = || (0..slots.len()).map(|step| (begin + step) % count);
    let take = |slot: usize, old: u64| {
        // 1. Others may take the same slot: one of us wins. PAIRS participant.slot: what its last owner did with it is
        //    done.
        slots[slot]
            .ticket
            .compare_exchange(old, ticket, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    };
    // Free ones cost no system call.
    if let Some(slot) =
        order().find(|&slot| slots[slot].ticket.load(Ordering::Relaxed) == 0 && take(slot, 0))
    {
        return Ok(slot);
    }
    for slot in order() {
        let old = slots[slot].ticket.load(Ordering::Relaxed);
        // 2. Dead stays dead, so it does not matter how long ago we asked when we take it.
        if (old == 0 || is_dead(old)?) && take(slot, old) {
            return Ok(slot);
        }
    }
    Err(Error::TooManyProcesses(
        format!("all {} participants of the segment are alive", slots.len()).into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_holds_slot_and_ticket() {
        for slot in [0, 1, 127, MAX_PARTICIPANTS as usize - 1] {
            for ticket in [1, 0xffff, 0x1_0000, 0xabcd_1234_5678, LAST_TICKET] {
                let id = Id::new(slot, ticket);
                assert_eq!((id.slot(), id.ticket()), (Some(slot), ticket));
                assert_eq!(id.bits() & !Id::BITS, 0);
                assert_eq!(Id::of(id.bits() | !Id::BITS), Some(id));
            }
        }
        assert_eq!(Id::of(!Id::BITS), None);
        for ticket in [1, 0xffff, 0x1_0000, LAST_TICKET] {
            let id = Id::of_ticket(ticket).expect("a ticket");
            assert_eq!((id.slot(), id.ticket()), (None, ticket));
        }
        assert_eq!(Id::of_ticket(0), None);
    }
}
