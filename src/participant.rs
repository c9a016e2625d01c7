//! Participants: the processes that are attached to a managed segment, and which of them are alive.
//!
//! ```text
//! table:  | next ticket | slot 0 | slot 1 | …          slot: | ticket | described | pid | start | namespace | since | comm |
//! ```
//!
//! | slot's ticket | means                                        | goes to                            |
//! |---------------|----------------------------------------------|------------------------------------|
//! | 0             | free                                         | t, by the process with ticket t    |
//! | t             | the process that holds the byte of t         | 0, when that process detaches      |
//! | t             | the byte of t is not held: its owner is dead | u, by the process with ticket u    |
//!
//! A ticket is drawn once and never used again. A process locks the byte of its ticket in the segment's file
//! (`F_OFD_SETLK`) before any other process can read the ticket. The kernel unlocks the byte when the process ends, for
//! any reason. So an unlocked byte means a dead process, and nothing else does. `docs/liveness.md` has the whole
//! argument.
//!
//! If a process dies inside
//! * `claim`, before the compare-and-swap: no other process sees it;
//! * `claim`, after the compare-and-swap: the slot has a dead ticket;
//! * `detach`: the slot has a dead ticket, or 0.

use crate::error::{Error, Result};
use crate::layout::{CacheLine, Shared};
use crate::sys::fork::{ForkLocal, ForkLock, ForkLocked, free_fork_local, new_fork_local};
use crate::sys::lockfile::{byte_of, hold_ticket, is_held};
use crate::sys::map::LockMapping;
use crate::sys::thread::CancelGuard;
use crate::sys::{clock, process, shm};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering, fence};

/// Maximum number of slots in a table.
pub const MAX_PARTICIPANTS: u32 = 4096;
/// Number of slots in a table if the creator asks for none.
pub const DEFAULT_PARTICIPANTS: u32 = 128;

/// Bits of a ticket: at a million tickets a second they last nine years.
const TICKET_BITS: u32 = 48;
const LAST_TICKET: u64 = (1 << TICKET_BITS) - 1;

/// The identity of a participant: its slot and its ticket in one word, as in the words of a lock.
///
/// ```text
/// | ticket 16..48 | 31 30 29 | ticket 0..16 | slot + 1 (13 bits) |
///  63           32             28         13 12                 0
/// ```
///
/// Bits 29 to 31 are 0 here; words of locks keep their marks in them. A futex sleeps on the lower half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(u64);

const SLOT_BITS: u32 = 13;
const LOW_TICKET_BITS: u32 = 16;

impl Id {
    /// The bits of an identity.
    pub const BITS: u64 = !(0b111 << 29);

    fn new(slot: usize, ticket: u64) -> Id {
        let low = ticket & ((1 << LOW_TICKET_BITS) - 1);
        Id((slot as u64 + 1) | low << SLOT_BITS | ticket >> LOW_TICKET_BITS << 32)
    }

    /// Reads a shared word; `None` if no process owns it. Any bits are accepted: an unknown identity counts as dead.
    pub fn of(word: u64) -> Option<Id> {
        match word & Id::BITS {
            0 => None,
            bits => Some(Id(bits)),
        }
    }

    /// Returns an identity of which only the ticket is known, as in a count slot; `None` for ticket 0, which is never
    /// drawn.
    pub fn of_ticket(ticket: u64) -> Option<Id> {
        let ticket = ticket & LAST_TICKET;
        let low = ticket & ((1 << LOW_TICKET_BITS) - 1);
        Id::of(low << SLOT_BITS | ticket >> LOW_TICKET_BITS << 32)
    }

    /// Returns the word.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Returns the ticket, which no other participant of this segment ever had or will have.
    pub fn ticket(self) -> u64 {
        (self.0 >> SLOT_BITS & ((1 << LOW_TICKET_BITS) - 1)) | (self.0 >> 32) << LOW_TICKET_BITS
    }

    /// Returns the slot; it can lie outside of the table if the word is corrupt.
    pub fn slot(self) -> Option<usize> {
        ((self.0 & ((1 << SLOT_BITS) - 1)) as usize).checked_sub(1)
    }
}

/// One entry of the table.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    ticket: AtomicU64,
    /// The ticket of the process that the following words describe. It is stored after the claim, and only for reports.
    described: AtomicU64,
    pid: AtomicU64,
    start: AtomicU64,
    namespace: AtomicU64,
    since: AtomicU64,
    comm: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Slot>() == 64);

// SAFETY: repr(C), nothing but atomics.
unsafe impl Shared for Slot {}

/// The last ticket drawn, in a cache line of its own.
#[derive(Debug)]
#[repr(C)]
pub struct Tickets(CacheLine<AtomicU64>);

// SAFETY: repr(C), one atomic; the padding is never read.
unsafe impl Shared for Tickets {}

/// The table of participants of a segment.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    /// The last ticket drawn.
    pub tickets: &'a Tickets,
    /// The slots.
    pub slots: &'a [Slot],
}

/// A description of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its ticket.
    pub ticket: u64,
    /// Its process ID in that process' own PID namespace.
    pub pid: u32,
    /// When the process started, in clock ticks since the machine's start.
    pub start: u64,
    /// Its PID namespace, as the inode of /proc/PID/ns/pid.
    pub namespace: u64,
    /// When it became a participant, in nanoseconds since 1970.
    pub since: u64,
    /// The name of the process, terminated by a NUL.
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
        // PAIRS participant.undescribed: a reader of one of the words below reads this 0 afterwards, no old ticket.
        self.described.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        self.pid.store(pid.into(), Ordering::Relaxed);
        self.start.store(start, Ordering::Relaxed);
        self.namespace.store(namespace, Ordering::Relaxed);
        self.since.store(clock::realtime(), Ordering::Relaxed);
        for (word, bytes) in self.comm.iter().zip(comm.as_chunks::<8>().0) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        // PAIRS participant.described: a reader of this ticket reads what was stored before.
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
    /// Returns the description of the participant with this identity; `None` if another process has its slot by now.
    pub fn process_info(&self, id: Id) -> Option<ProcessInfo> {
        self.slots.get(id.slot()?)?.process_info(id.ticket())
    }

    /// Returns whether a participant can have had this identity: the slot exists, and the ticket was drawn.
    pub fn has_had(&self, id: Id) -> bool {
        let drawn = self.tickets.0.0.load(Ordering::Relaxed);
        id.slot().is_some_and(|slot| slot < self.slots.len()) && (1..=drawn).contains(&id.ticket())
    }
}

/// What asks the kernel for byte locks: the descriptors and the name by which this process finds a segment's file.
pub struct LivenessProbe {
    device: u64,
    inode: u64,
    /// The number of the segment's own descriptor. By now it may be closed, or belong to another file.
    fd: i32,
    /// A descriptor that was opened later, by the name; -1: none yet. Its number may have been closed, too.
    spare: AtomicI32,
    path: Option<CString>,
}

impl LivenessProbe {
    /// Asks through `fd`, or through the file at `path`, as long as it is the file `(device, inode)`.
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

    /// Returns whether the process that drew `ticket` is dead; `mine` is a ticket of this process, which is alive.
    ///
    /// `LivenessUnknown`: this process cannot ask the kernel; the caller must treat every process as alive.
    pub fn is_dead(&self, ticket: u64, mine: u64) -> Result<bool> {
        let numbers = self.numbers();
        for fd in numbers {
            if let Some(verdict) = self.ask(fd, ticket, mine) {
                return Ok(verdict);
            }
        }
        let _cancel = CancelGuard::new();
        let spare = self.open()?;
        let verdict = self.ask(spare.as_raw_fd(), ticket, mine).ok_or_else(|| {
            Error::LivenessUnknown(
                "the segment's file has lost the byte lock of this process; reopen the segment"
                    .into(),
            )
        })?;
        // The old number does not lead to the file, or the kernel did not answer through it. If another thread has stored
        // a spare meanwhile, that one stays.
        let (old, new) = (numbers[1], spare.as_raw_fd());
        let kept = self
            .spare
            .compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
        if kept.is_ok() {
            std::mem::forget(spare);
            shm::close_if(old, self.device, self.inode);
        }
        Ok(verdict)
    }

    /// Returns whether the byte of this process' own ticket is not locked, although its mapping keeps it locked.
    ///
    /// False if the kernel cannot be asked: the first question about another process reports that.
    fn has_lost(&self, mine: u64) -> bool {
        let fd = self.fd;
        is_held(fd, byte_of(mine)) == Ok(false) && shm::is_file(fd, self.device, self.inode)
    }

    /// Asks through one descriptor; `None` if it does not lead to the file.
    fn ask(&self, fd: i32, ticket: u64, mine: u64) -> Option<bool> {
        let dead = !is_held(fd, byte_of(ticket)).ok()?;
        // Our own byte must be locked in any file that can answer for others.
        if dead && !is_held(fd, byte_of(mine)).ok()? {
            return None;
        }
        // Another segment's file may have locks on the same bytes and would give wrong answers. This check comes last,
        // because a number that leads to another file never leads to ours again.
        shm::is_file(fd, self.device, self.inode).then_some(dead)
    }
}

impl Drop for LivenessProbe {
    fn drop(&mut self) {
        shm::close_if(*self.spare.get_mut(), self.device, self.inode);
    }
}

/// The participation of this process in one file: one entry per file, however often the file is mapped.
struct Entry {
    id_word: ForkLocal,
    lock_mapping: Option<LockMapping>,
    users: usize,
}

static KNOWN: ForkLocked<BTreeMap<(u64, u64), Entry>> = ForkLocked::new(BTreeMap::new());

/// This process as a participant of one segment. The identity is claimed at its first use, and anew in a forked child.
pub struct Participant {
    file: (u64, u64),
    id_word: ForkLocal,
}

/// Keeps the participant alive after the last handle of its segment has detached; drop it after the mapping.
pub struct DeferredDetach {
    _lock_mapping: Option<LockMapping>,
}

/// Checks that this process can be a participant; called before a segment gets its name.
///
/// `Unsupported`: the kernel cannot wipe pages at fork.
pub fn check_support() -> Result<()> {
    let mut inside = ForkLock::enter();
    let id_word = new_fork_local(&mut inside)?;
    free_fork_local(&mut inside, id_word);
    Ok(())
}

impl Participant {
    /// Prepares the participation in the segment whose file is `(device, inode)`; creates no kernel object yet.
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

    /// Returns the word that contains our identity; it is 0 before the claim and in a forked child.
    pub fn id_word(&self) -> ForkLocal {
        self.id_word
    }

    /// Returns our identity, and claims one if there is none.
    pub fn id(&self, table: Table<'_>, probe: &LivenessProbe) -> Result<Id> {
        match Id::of(self.id_word.load(Ordering::Relaxed)) {
            Some(id) => Ok(id),
            None => self.claim(table, probe),
        }
    }

    /// Becomes a participant.
    ///
    /// * `TooManyProcesses`: live processes own all slots
    /// * `LivenessUnknown`, `Permission`: the file cannot be opened for writing again
    /// * `ReadLocked`: a process that may only read the file keeps newcomers out
    /// * `Unsupported`: the file system does not keep the lock of the mapping
    /// * `Corrupt`: the tickets have run out, or their counter was changed
    #[cold]
    fn claim(&self, table: Table<'_>, probe: &LivenessProbe) -> Result<Id> {
        // The fork lock prevents forks until the end: a child with a copy of the file opened below would keep our byte
        // locked after our death.
        let mut inside = ForkLock::enter();
        if let Some(id) = Id::of(self.id_word.load(Ordering::Relaxed)) {
            return Ok(id); // another thread has claimed it
        }
        let entry = KNOWN.get(&mut inside).get_mut(&self.file);
        let entry = entry.ok_or(Error::Internal("an unknown participant".into()))?;
        // Without an identity the lock mapping can only be the parent's.
        entry.lock_mapping = None;

        let file = probe.open()?;
        let lock_mapping = LockMapping::new(&file)?;
        let ticket = draw(table.tickets, &file)?;
        drop(file); // the mapping alone keeps the byte locked
        if probe.has_lost(ticket) {
            // overlayfs maps another file than it locks.
            return Err(Error::Unsupported(
                "the file system does not keep the lock of a mapping (overlayfs does not): use tmpfs, ext4 or xfs, \
                 for example /dev/shm"
                    .into(),
            ));
        }

        let slot = take_slot(table.slots, ticket, |other| probe.is_dead(other, ticket))?;
        let id = Id::new(slot, ticket);
        table.slots[slot].describe(ticket);
        entry.lock_mapping = Some(lock_mapping);
        self.id_word.store(id.bits(), Ordering::Relaxed);
        Ok(id)
    }

    /// Detaches; the caller must drop the returned value after the segment's data is unmapped. Call it once.
    ///
    /// In that order no process that counts as dead can still write.
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
            entry.lock_mapping = None; // the parent's
            return DeferredDetach {
                _lock_mapping: None,
            };
        };
        if let Some(slot) = id.slot().and_then(|slot| table.slots.get(slot)) {
            // The swap fails if the slot was overwritten: then it is not ours to free.
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
    /// A counter that was set back leads to tickets of live processes; there are at most as many as slots.
    const DRAWS: u32 = 2 * MAX_PARTICIPANTS;
    for _ in 0..DRAWS {
        let ticket = tickets.0.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if ticket == 0 || ticket > LAST_TICKET {
            break;
        }
        if hold_ticket(file.as_fd(), byte_of(ticket))?.is_some() {
            return Ok(ticket);
        }
    }
    Err(Error::Corrupt(
        "the tickets of the participants have run out, or their counter was changed; recreate the segment".into(),
    ))
}

/// Takes a free slot, or else the slot of a dead process (D-019).
fn take_slot(slots: &[Slot], ticket: u64, is_dead: impl Fn(u64) -> Result<bool>) -> Result<usize> {
    let count = slots.len().max(1);
    let begin = (ticket % count as u64) as usize;
    let order = || (0..slots.len()).map(|step| (begin + step) % count);
    let take = |slot: usize, old: u64| {
        // 1. Of several processes that take the same slot, one wins. PAIRS participant.slot: the last owner has
        //    finished with the slot.
        slots[slot]
            .ticket
            .compare_exchange(old, ticket, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    };
    // A free slot costs no system call.
    if let Some(slot) =
        order().find(|&slot| slots[slot].ticket.load(Ordering::Relaxed) == 0 && take(slot, 0))
    {
        return Ok(slot);
    }
    for slot in order() {
        let old = slots[slot].ticket.load(Ordering::Relaxed);
        // 2. A dead process stays dead, so the answer does not expire before the swap.
        if (old == 0 || is_dead(old)?) && take(slot, old) {
            return Ok(slot);
        }
    }
    Err(Error::TooManyProcesses(
        format!(
            "all {} participant slots of the segment belong to live processes; \
             recreate the segment with more participants",
            slots.len()
        )
        .into(),
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
