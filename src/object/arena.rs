//! Arenas: a memory file of each process with its small unnamed objects.
//!
//! ```text
//! | control area, 1024 participants | slot 0 | slot 1 | slot 2 | …      slots of 64 bytes, or of a multiple
//! ```
//!
//! One descriptor and one participant table serve all of them. A slot is used again only if no other process can know
//! it: the slot was not exported, and no fork came after its allocation.
//!
//! If the process dies, its arena lives as long as another process has it mapped. No slot in it is allocated any more.

use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::segment::options::{Form, Growth, Options};
use crate::segment::{Content, Segment};
use crate::sys::fork::{
    ForkLocal, ForkLock, ForkLocked, Origin, forks, free_fork_local, new_fork_local,
};
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Number of processes that can use one arena at a time.
const PARTICIPANTS: u32 = 1024;
/// Bytes of memory that are reserved at a time.
const STEP: u64 = 64 << 10;
/// Bytes of address space of an arena: four million slots of 64 bytes.
const CAPACITY: u64 = 256 << 20;

struct Arena {
    segment: Arc<Segment>,
    /// The first byte that was never allocated.
    next: u64,
    /// The freed slots, by size.
    unused: BTreeMap<u64, Vec<u64>>,
    /// 1 in the process that created the arena, 0 in its forked children, which create their own.
    mine: ForkLocal,
}

impl Arena {
    fn is_mine(&self) -> bool {
        self.mine.load(Ordering::Relaxed) == 1
    }
}

/// The arena of this process, if it needed one.
static MINE: ForkLocked<Option<Arena>> = ForkLocked::new(None);

/// All arenas mapped here, by device and inode, so that none is mapped twice.
static MAPPED: ForkLocked<BTreeMap<(u64, u64), Weak<Segment>>> = ForkLocked::new(BTreeMap::new());

/// A number that `forks` never returns.
const SHOWN: u64 = u64::MAX;

/// An allocated slot.
pub struct Slot {
    /// The arena.
    pub segment: Arc<Segment>,
    /// The offset in its data.
    pub offset: u64,
    size: u64,
    /// The value of `forks` at the allocation; `SHOWN` if other processes may know the slot.
    alone: AtomicU64,
}

impl Slot {
    /// Allocates a slot of `size` bytes, a multiple of 64, in our own arena.
    ///
    /// `Forked`: this is a child that was forked meanwhile; the slot is its parent's.
    pub fn new(size: u64) -> Result<Slot> {
        let origin = Origin::here();
        loop {
            let taken = {
                let mut inside = ForkLock::enter();
                MINE.get(&mut inside)
                    .as_mut()
                    .filter(|arena| arena.is_mine())
                    .map(|arena| {
                        let unused = arena.unused.get_mut(&size).and_then(Vec::pop);
                        let offset = unused.unwrap_or_else(|| {
                            arena.next += size;
                            arena.next - size
                        });
                        (arena.segment.clone(), offset)
                    })
            };
            // The fork lock is released here, because the functions below acquire it again.
            let Some((segment, offset)) = taken else {
                make_arena()?;
                continue;
            };
            let slot = Slot {
                segment,
                offset,
                size,
                alone: AtomicU64::new(forks()),
            };
            let made = make_room(&slot.segment, offset + size);
            origin.check()?;
            made?;
            return Ok(slot);
        }
    }

    /// Opens a slot in an arena that another process has exported, or in our own.
    pub fn open(fd: RawFd, offset: u64, options: &Options) -> Result<Slot> {
        let opened = Arc::new(Segment::open_fd_with(fd, 0, options, Kind::Arena)?);
        let facts = opened.stat()?.file;
        let key = (facts.device, facts.inode);
        let segment = {
            let mut inside = ForkLock::enter();
            let mapped = MAPPED.get(&mut inside);
            match mapped.get(&key).and_then(Weak::upgrade) {
                Some(known) => known,
                None => {
                    mapped.retain(|_, segment| segment.strong_count() > 0);
                    mapped.insert(key, Arc::downgrade(&opened));
                    opened.clone()
                }
            }
        };
        Ok(Slot {
            segment,
            offset,
            size: 0, // not ours to free
            alone: AtomicU64::new(SHOWN),
        })
    }

    /// Records that other processes may know the slot, so that it is never used again.
    pub fn expose(&self) {
        self.alone.store(SHOWN, Ordering::Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut inside = ForkLock::enter();
        if *self.alone.get_mut() == forks()
            && let Some(arena) = MINE.get(&mut inside)
            && arena.is_mine()
            // After a raw clone, which the fork handlers do not see, the arena may be the parent's.
            && Arc::ptr_eq(&arena.segment, &self.segment)
        {
            arena.unused.entry(self.size).or_default().push(self.offset);
        }
    }
}

fn make_arena() -> Result<()> {
    let options = Options {
        capacity: CAPACITY,
        form: Form::Managed,
        participants: PARTICIPANTS,
        ..Options::default()
    };
    let content = Content {
        kind: Kind::Arena,
        least: None,
        prepare: &|_| {},
    };
    let segment = Segment::create_with(None, STEP, &options, &content)?;
    let facts = segment.stat()?.file;
    let segment = Arc::new(segment);
    let mut inside = ForkLock::enter();
    let mine = new_fork_local(&mut inside)?;
    let arena = MINE.get(&mut inside);
    if arena.as_ref().is_some_and(Arena::is_mine) {
        free_fork_local(&mut inside, mine);
        drop(inside); // another thread was faster; our segment is dropped without the fork lock
        return Ok(());
    }
    mine.store(1, Ordering::Relaxed);
    let new = Arena {
        segment: segment.clone(),
        next: 0,
        unused: BTreeMap::new(),
        mine,
    };
    let parents = arena.replace(new);
    if let Some(parents) = &parents {
        free_fork_local(&mut inside, parents.mine);
    }
    let key = (facts.device, facts.inode);
    MAPPED
        .get(&mut inside)
        .insert(key, Arc::downgrade(&segment));
    drop(inside);
    drop(parents); // dropping a segment acquires the fork lock
    Ok(())
}

/// Grows the arena until it has `end` bytes.
fn make_room(segment: &Segment, end: u64) -> Result<()> {
    while segment.size()? < end {
        let wanted = end.next_multiple_of(STEP);
        match segment.resize(wanted, &Growth::default()) {
            // Another thread has made it even larger.
            Ok(()) | Err(Error::Invalid(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
