//! The control area: whole pages at the beginning of a managed segment, before the user's data.
//!
//! ```text
//! 0         64     128       192             256           320       512
//! | header  | size | tickets | built-in lock | resize lock | (zeros) | slot 0 | slot 1 | … | (rest of the page) | data
//! ```
//!
//! The resize lock is a robust lock word: a process that may only read the file cannot hold it, and taking it opens no
//! file (D-080). The zeros are room for later versions.
//!
//! The control area is written before the segment has a name. A process that opens the segment reads the header once,
//! from the file (D-016), and checks it against the size of the file. The rest are words that may change at any time.

use crate::error::{Error, Result};
use crate::layout::{Bytes, CacheLine, EPHEMERAL, HEADER, Header, Kind, MAJOR, MINOR, SIZE};
use crate::participant::{self, Slot, Table, Tickets};
use crate::raw::lock;
use crate::sys::process;
use std::sync::atomic::{AtomicU64, Ordering};

const TICKETS: u64 = HEADER as u64;
const LOCK: u64 = TICKETS + size_of::<CacheLine<AtomicU64>>() as u64;
const RESIZE_LOCK: u64 = LOCK + size_of::<lock::RawLock>() as u64;
const SLOTS: u64 = 512;
const _: () = assert!(RESIZE_LOCK + size_of::<lock::RawLock>() as u64 <= SLOTS);

/// The parameters of a new control area.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What the segment contains.
    pub kind: Kind,
    /// Number of participant slots; 0: `participant::DEFAULT_PARTICIPANTS`.
    pub participants: u32,
    /// Whether the name is removed when no process is attached any more.
    pub ephemeral: bool,
}

impl Plan {
    /// Returns the header for `size` bytes of data with `capacity` bytes of address space.
    ///
    /// `Invalid`: the number of participants is out of range.
    pub fn header(&self, size: u64, capacity: u64) -> Result<Header> {
        let participants = match self.participants {
            0 => participant::DEFAULT_PARTICIPANTS,
            count @ 1..=participant::MAX_PARTICIPANTS => count,
            count => {
                return Err(Error::Invalid(
                    format!(
                        "participants must be from 1 to {}, not {count}",
                        participant::MAX_PARTICIPANTS
                    )
                    .into(),
                ));
            }
        };
        let control_bytes = bytes_of(participants).next_multiple_of(process::page_size());
        Ok(Header {
            major: MAJOR,
            minor: MINOR,
            kind: self.kind as u32,
            control_bytes,
            capacity: capacity.max(size).saturating_add(control_bytes),
            id: process::random()?,
            participants,
            flags: if self.ephemeral { EPHEMERAL } else { 0 },
            size,
        })
    }
}

fn bytes_of(participants: u32) -> u64 {
    SLOTS + u64::from(participants) * size_of::<Slot>() as u64
}

/// Checks the header of the file `name`, which has `file_size` bytes, for a file that must contain `wanted`.
pub fn check(header: &Header, file_size: u64, wanted: Kind, name: &str) -> Result<()> {
    if header.kind != wanted as u32 {
        let wanted = wanted.article();
        let text = match Kind::of(header.kind) {
            Some(kind) => format!(
                "{name} contains {}, not {wanted}; open it as {0}",
                kind.article()
            ),
            None => format!(
                "{name} contains an unknown kind of object ({}), not {wanted}; open it with a newer shmkit",
                header.kind
            ),
        };
        return Err(Error::WrongKind(text.into()));
    }
    let corrupt = |what: &str| {
        Err(Error::Corrupt(
            format!("the header of {name} {what}; recreate it").into(),
        ))
    };
    if !(1..=participant::MAX_PARTICIPANTS).contains(&header.participants) {
        return corrupt("has an impossible number of participants");
    }
    if !header.control_bytes.is_multiple_of(process::page_size())
        || header.control_bytes < bytes_of(header.participants)
    {
        return corrupt("has no room for its participants");
    }
    let needed = header.control_bytes.checked_add(header.size);
    if header.size == 0 || needed.is_none_or(|needed| needed > file_size) {
        return corrupt("claims more bytes than the file has");
    }
    if needed > Some(header.capacity) {
        return corrupt("has a capacity below the size");
    }
    Ok(())
}

/// The control area of a mapped segment.
pub struct Control<'a> {
    size: &'a AtomicU64,
    /// The participant table.
    pub table: Table<'a>,
    /// The built-in lock.
    pub lock: &'a lock::RawLock,
    /// Held by the process that changes the size.
    pub resize_lock: &'a lock::RawLock,
}

impl<'a> Control<'a> {
    /// Finds the parts in the mapped bytes; `check` has verified that the bytes exist.
    pub fn find(bytes: Bytes<'a>, participants: u32) -> Result<Control<'a>> {
        let parts = || {
            Some(Control {
                size: bytes.at(SIZE)?,
                table: Table {
                    tickets: bytes.at::<Tickets>(TICKETS)?,
                    slots: bytes.array(SLOTS, participants as usize)?,
                },
                lock: bytes.at(LOCK)?,
                resize_lock: bytes.at(RESIZE_LOCK)?,
            })
        };
        parts().ok_or_else(|| {
            Error::Corrupt(
                "the control area of the segment is not mapped; recreate the segment".into(),
            )
        })
    }

    /// Returns the size of the data in bytes, as the last grower recorded it.
    pub fn size(&self) -> u64 {
        // PAIRS segment.size: a reader of the size can use the memory that was there before the size was stored.
        self.size.load(Ordering::Acquire)
    }

    /// Records the size of the data in bytes; those bytes must have memory.
    pub fn set_size(&self, size: u64) {
        // PAIRS segment.size
        self.size.store(size, Ordering::Release);
    }
}
