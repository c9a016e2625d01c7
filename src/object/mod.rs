//! Objects: what is stored in shared memory at a multiple of 64. The first word of an object, its tag, records its
//! kind.
//!
//! | tag                   | meaning                                            | next value                                  |
//! |-----------------------|----------------------------------------------------|---------------------------------------------|
//! | 0                     | no object                                          | me + MAKING, by a process that creates one  |
//! | me + MAKING           | this process is initialising the object            | kind + flags + cells, by a single store     |
//! | dead + MAKING         | the process that was initialising it died          | me + MAKING, by the next that creates one   |
//! | kind + flags + cells  | the object is complete                             | final                                       |
//! | any other value       | bytes of the user, no object                       | final                                       |
//!
//! ```text
//! tag: | cells (16 bits) | flags (16 bits) | kind (32 bits) |      object: | raw object, tag first | cell 0 | cell 1 | … |
//! ```
//!
//! A cell is the entry of one process or thread: the count slot of a reader or a holder, or the cell of a waiter.
//!
//! If a process dies while it initialises an object, the next process that creates the object begins again. Until then
//! no process has used it.

mod arena;
pub mod barrier;
pub mod condition;
pub mod event;
pub mod lock;
pub mod once;
pub mod queue;
pub mod rlock;
pub mod rwlock;
pub mod semaphore;

use crate::error::{Error, Result};
use crate::layout::{Kind, Shared};
use crate::participant::Id;
use crate::raw::Liveness;
pub use crate::segment::options::FileOptions;
use crate::segment::{Content, Options, Segment};
use crate::sys::clock;
use crate::sys::fork::{ForkLocal, Origin};
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// In a tag: the object is being initialised. No kind has this bit.
const MAKING: u64 = 1 << 29;

/// The offset of an object is a multiple of this.
pub(crate) const ALIGNMENT: u64 = 64;

/// Whether an object is created or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// Create it; it is an error if it exists.
    Always,
    /// Open it; it is an error if it does not exist.
    Never,
    /// Open it, or create it if it does not exist. One process creates it if several race.
    IfMissing,
}

/// A raw object: it begins with its tag, and its size is a multiple of `ALIGNMENT`.
pub(crate) trait Object: Shared + Sized {
    /// What follows the raw object, as many times as the tag records.
    type Cell: Shared;
    /// Returns the tag.
    fn tag(&self) -> &AtomicU64;
}

/// The cell of a raw object without cells.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct NoCell([AtomicU64; 0]);

// SAFETY: it has no bytes.
unsafe impl Shared for NoCell {}

/// What an object is and with which options it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) kind: Kind,
    /// Bits that the kind defines.
    pub(crate) flags: u16,
    /// How many cells follow the raw object.
    pub(crate) cells: u16,
}

impl Tag {
    /// Describes an object of this kind without flags and cells.
    const fn of(kind: Kind) -> Tag {
        Tag {
            kind,
            flags: 0,
            cells: 0,
        }
    }

    fn word(self) -> u64 {
        self.kind as u64 | u64::from(self.flags) << 32 | u64::from(self.cells) << 48
    }

    fn flags_of(word: u64) -> u16 {
        (word >> 32) as u16
    }

    fn cells_of(word: u64) -> usize {
        usize::from((word >> 48) as u16)
    }
}

/// Initialises all of a raw object and its cells but the tag, whatever the memory contains.
type Prepare<'a, T> = Box<dyn Fn(&T, &[<T as Object>::Cell]) + 'a>;

/// The tag of a new object, its size, and its initial contents.
pub(crate) struct Layout<'a, T: Object> {
    tag: Tag,
    /// Bytes after the raw object and its cells.
    tail: u64,
    /// Bytes by which the tail can grow in a file of its own.
    growth: u64,
    prepare: Prepare<'a, T>,
}

impl<'a, T: Object> Layout<'a, T> {
    /// Describes an object without a tail.
    fn new(tag: Tag, prepare: impl Fn(&T, &[T::Cell]) + 'a) -> Layout<'a, T> {
        Layout {
            tag,
            tail: 0,
            growth: 0,
            prepare: Box::new(prepare),
        }
    }

    /// Returns the size of a new object in bytes.
    fn size(&self) -> u64 {
        let size = size_of::<T>() as u64 + self.tag.cells as u64 * size_of::<T::Cell>() as u64;
        size.next_multiple_of(ALIGNMENT) + self.tail
    }
}

/// Where an object is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In a file that contains nothing else and can grow.
    File,
    /// In a managed segment or an arena, beside other objects.
    Segment,
}

/// What one kind of object adds to the life cycle of all.
pub(crate) trait Noun: Sized {
    /// What is stored in shared memory.
    type Raw: Object;
    /// How it is created and opened.
    type Options;
    /// Where an unnamed one is stored: in the arena of the process, or in a memory file of its own.
    const UNNAMED: Storage = Storage::Segment;

    /// Returns how the file of a named one is created and opened.
    fn file(options: &Self::Options) -> &FileOptions;
    /// Returns the layout of a new one. `Invalid`: the options contradict each other.
    fn layout(
        options: &Self::Options,
        create: Create,
        storage: Storage,
    ) -> Result<Layout<'_, Self::Raw>>;
    /// Returns the size of a new one in a segment, in bytes. `Invalid`: the options contradict each other.
    fn size(options: &Self::Options) -> Result<u64> {
        Ok(Self::layout(options, Create::Always, Storage::Segment)?.size())
    }
    /// Wraps a raw object. `Corrupt`: its words contradict each other.
    fn new(object: ObjectHandle<Self::Raw>) -> Result<Self>;
    /// Returns the object that it wraps.
    fn object(&self) -> &ObjectHandle<Self::Raw>;
    /// Compares an object that existed with the options, as far as its tag does not record them. `Invalid`: they differ.
    fn check(&self, _: &Self::Options, _: Storage) -> Result<()> {
        Ok(())
    }
}

/// Creates an unnamed object.
pub(crate) fn unnamed<N: Noun>(options: &N::Options) -> Result<N> {
    let layout = N::layout(options, Create::Always, N::UNNAMED)?;
    N::new(match N::UNNAMED {
        Storage::Segment => ObjectHandle::unnamed(&layout),
        Storage::File => ObjectHandle::in_file(None, &layout, Create::Always, N::file(options)),
    }?)
}

/// Creates or opens the object of this name.
pub(crate) fn named<N: Noun>(name: &CStr, create: Create, options: &N::Options) -> Result<N> {
    let layout = N::layout(options, create, Storage::File)?;
    let handle = ObjectHandle::in_file(Some(name), &layout, create, N::file(options))?;
    checked(N::new(handle)?, create, options, Storage::File)
}

/// Creates or opens the object at `offset`.
pub(crate) fn at<N: Noun>(
    segment: &Arc<Segment>,
    offset: u64,
    create: Create,
    options: &N::Options,
) -> Result<N> {
    let layout = N::layout(options, create, Storage::Segment)?;
    let handle = ObjectHandle::at(segment, offset, &layout, create)?;
    checked(N::new(handle)?, create, options, Storage::Segment)
}

/// Opens an object by its descriptor and offset.
pub(crate) fn open_fd<N: Noun>(fd: RawFd, offset: u64, options: &N::Options) -> Result<N> {
    let layout = N::layout(options, Create::Never, Storage::File)?;
    N::new(ObjectHandle::open_fd(
        fd,
        offset,
        &layout,
        N::file(options),
    )?)
}

fn checked<N: Noun>(noun: N, create: Create, options: &N::Options, storage: Storage) -> Result<N> {
    if create == Create::IfMissing {
        noun.check(options, storage)?;
    }
    Ok(noun)
}

/// Gives a noun the methods of its life cycle: with options of its own, or without any.
macro_rules! life_cycle {
    ($noun:ident, $options:ident) => {
        crate::object::life_cycle!(@ $noun, $options, [options: &$options], options);
    };
    ($noun:ident) => {
        crate::object::life_cycle!(@ $noun, FileOptions, [], &FileOptions::default());
    };
    (@ $noun:ident, $file:ident, [$($given:tt)*], $options:expr) => {
        impl $noun {
            /// Creates one without a name, for the threads and forked children of this process.
            ///
            /// Another process opens it with [`open_fd`](Self::open_fd), by what [`export`](Self::export) returns.
            ///
            /// # Errors
            /// * `Invalid`: the options contradict each other
            /// * `NoSpace`, `NoMemory`: there is no memory for it
            pub fn unnamed($($given)*) -> crate::error::Result<$noun> {
                crate::object::unnamed($options)
            }

            /// Creates or opens the one of this name: a file that contains nothing else.
            ///
            /// # Errors
            /// * `Exists`: the name is taken, and `create` is [`Create::Always`](crate::object::Create::Always)
            /// * `NotFound`: there is no such name, and `create` is [`Create::Never`](crate::object::Create::Never)
            /// * `WrongKind`: the file contains something else
            /// * `Invalid`: the name or an option is invalid, or it was created with other options
            /// * `Untrusted`: it belongs to another user
            /// * `Permission`, `NoSpace`, `NoMemory`, `Corrupt`, `VersionMismatch`: as for
            ///   [`Segment::create`](crate::segment::Segment::create) and [`Segment::open`](crate::segment::Segment::open)
            pub fn named(
                name: &std::ffi::CStr,
                create: crate::object::Create,
                options: &$file,
            ) -> crate::error::Result<$noun> {
                crate::object::named(name, create, options)
            }

            /// Creates or opens the one at `offset` of the data of a managed segment.
            ///
            /// # Errors
            /// * `Exists`: there is an object, and `create` is [`Create::Always`](crate::object::Create::Always)
            /// * `NotFound`: there is none, and `create` is [`Create::Never`](crate::object::Create::Never)
            /// * `WrongKind`: there is something else, or the segment is plain
            /// * `Invalid`: the offset is not a multiple of 64, the object does not fit, or it was created with other
            ///   options
            /// * `Permission`: the segment is open for reading only
            /// * `Timeout`: another process has been creating it for a second
            pub fn at(
                segment: &std::sync::Arc<crate::segment::Segment>,
                offset: u64,
                create: crate::object::Create,
                $($given)*
            ) -> crate::error::Result<$noun> {
                crate::object::at(segment, offset, create, $options)
            }

            /// Opens one by the descriptor and offset that [`export`](Self::export) returned. The descriptor stays the
            /// caller's.
            ///
            /// # Errors
            /// * `NotFound`, `WrongKind`: there is none of this kind
            /// * `Invalid`: no object can be at this offset
            /// * `Untrusted`, `Permission`, `Corrupt`: as for [`Segment::open_fd`](crate::segment::Segment::open_fd)
            pub fn open_fd(
                fd: std::os::fd::RawFd,
                offset: u64,
                options: &$file,
            ) -> crate::error::Result<$noun> {
                crate::object::open_fd(fd, offset, options)
            }

            /// Returns the descriptor and the offset by which another process opens it. The descriptor stays the
            /// handle's.
            ///
            /// The memory of an unnamed one is never used for another object after this call.
            ///
            /// # Errors
            /// * `Invalid`: it is stored in a segment; pass on the segment and the offset
            pub fn export(&self) -> crate::error::Result<(std::os::fd::RawFd, u64)> {
                crate::object::Noun::object(self).export()
            }

            /// Removes the name of a named one. Open handles remain valid.
            ///
            /// # Errors
            /// * `NotFound`: the name is gone, or belongs to another file
            /// * `Invalid`: it has no name of its own, or was opened by its descriptor
            pub fn unlink(&self) -> crate::error::Result<()> {
                crate::object::Noun::object(self).unlink()
            }

            /// Returns the segment in which it is stored; the segment of a named one contains nothing else.
            pub fn segment(&self) -> &std::sync::Arc<crate::segment::Segment> {
                crate::object::Noun::object(self).segment()
            }

            /// Returns its offset in the data of the segment.
            pub fn offset(&self) -> u64 {
                crate::object::Noun::object(self).offset()
            }
        }

        impl std::fmt::Debug for $noun {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($noun))
                    .field("segment", self.segment())
                    .field("offset", &self.offset())
                    .finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use life_cycle;

/// Maps an expired timeout to `None`.
fn in_time<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::WouldBlock(_) | Error::Timeout(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cold]
fn not_owner() -> Error {
    Error::NotOwner("this process does not hold the object; release only what it acquired".into())
}

/// An object that this process has open; the handle keeps the memory mapped.
pub(crate) struct ObjectHandle<T: Object> {
    raw: NonNull<T>,
    cells: NonNull<[T::Cell]>,
    flags: u16,
    /// Contains our id.
    id_word: ForkLocal,
    offset: u64,
    /// Set for an object in an arena.
    slot: Option<arena::Slot>,
    /// Whether its file contains nothing else.
    has_own_file: bool,
    segment: Arc<Segment>,
}

// SAFETY: the raw object consists of atomics, in a mapping that belongs to the process and lives as long as `segment`.
unsafe impl<T: Object> Send for ObjectHandle<T> {}
// SAFETY: as for Send.
unsafe impl<T: Object> Sync for ObjectHandle<T> {}

impl<T: Object> ObjectHandle<T> {
    /// Opens or creates an object at `offset` of the data of a managed segment.
    ///
    /// Errors as of `Lock::at`. `Corrupt`: the tag claims more cells than there is room for.
    fn at(
        segment: &Arc<Segment>,
        offset: u64,
        layout: &Layout<'_, T>,
        create: Create,
    ) -> Result<ObjectHandle<T>> {
        const { assert!((size_of::<T>() as u64).is_multiple_of(ALIGNMENT)) };
        // A segment that cannot hold anything is refused first, whatever its bytes are.
        let id_word = segment.identity_word()?;
        let bytes = segment.words()?;
        let invalid = || {
            let text = format!(
                "{} of {} bytes at offset {offset} must lie inside the segment of {} bytes, at a multiple of {ALIGNMENT}",
                layout.tag.kind.article(),
                layout.size(),
                segment.size().unwrap_or(0)
            );
            Error::Invalid(text.into())
        };
        let raw: &T = bytes
            .at(offset)
            .filter(|_| offset.is_multiple_of(ALIGNMENT))
            .ok_or_else(invalid)?;
        let behind = offset + size_of::<T>() as u64;
        let room = bytes.array(behind, layout.tag.cells.into());
        let end = offset.checked_add(layout.size());
        let fits = end.is_some_and(|end| bytes.raw(0, end).is_some());
        let make = || {
            let cells = room.filter(|_| fits).ok_or_else(invalid)?;
            (layout.prepare)(raw, cells);
            Ok(())
        };
        let place = || place(segment, offset);
        let tag = establish(raw.tag(), layout.tag, &make, create, segment, &place)?;
        let cells = bytes.array(behind, Tag::cells_of(tag)).ok_or_else(|| {
            let text = format!(
                "the {}{} claims more cells than there is room for; recreate it",
                layout.tag.kind.noun(),
                place()
            );
            Error::Corrupt(text.into())
        })?;
        Ok(ObjectHandle {
            raw: NonNull::from(raw),
            cells: NonNull::from(cells),
            flags: Tag::flags_of(tag),
            id_word,
            offset,
            slot: None,
            has_own_file: false,
            segment: segment.clone(),
        })
    }

    /// Wraps an existing raw object without cells; `raw` lies in the mapping of `segment`.
    fn known(segment: Arc<Segment>, raw: NonNull<T>) -> Result<ObjectHandle<T>> {
        Ok(ObjectHandle {
            raw,
            cells: NonNull::from(&[]),
            flags: 0,
            id_word: segment.identity_word()?,
            offset: 0,
            slot: None,
            has_own_file: false,
            segment,
        })
    }

    /// Opens or creates a file that contains this object alone. Errors as of `Lock::named`.
    fn in_file(
        name: Option<&CStr>,
        layout: &Layout<'_, T>,
        create: Create,
        file: &FileOptions,
    ) -> Result<ObjectHandle<T>> {
        let options = file.for_file();
        let size = layout.size();
        let new = Options {
            capacity: match layout.growth {
                0 => 0,
                growth => size.saturating_add(growth),
            },
            ..options.clone()
        };
        let least = size_of::<T>() as u64;
        let content = Content {
            kind: layout.tag.kind,
            least: Some(least),
            prepare: &|bytes| {
                let cells = bytes.array(least, layout.tag.cells.into());
                if let (Some(raw), Some(cells)) = (bytes.at::<T>(0), cells) {
                    (layout.prepare)(raw, cells);
                    raw.tag().store(layout.tag.word(), Ordering::Relaxed);
                }
            },
        };
        let segment = match (create, name) {
            (Create::Always, name) => Segment::create_with(name, size, &new, &content),
            (_, None) => {
                return Err(Error::Invalid(
                    "an object must have a name to be opened".into(),
                ));
            }
            (Create::Never, Some(name)) => {
                Segment::open_with(name, least, &options, layout.tag.kind)
            }
            (Create::IfMissing, name) => Segment::open_or_create_with(name, size, &new, &content),
        }?;
        ObjectHandle::alone(segment, layout, create)
    }

    fn alone(segment: Segment, layout: &Layout<'_, T>, create: Create) -> Result<ObjectHandle<T>> {
        // The object was complete before the file had its name.
        let create = match create {
            Create::Always => Create::Never,
            other => other,
        };
        let mut handle = ObjectHandle::at(&Arc::new(segment), 0, layout, create)?;
        handle.has_own_file = true;
        Ok(handle)
    }

    /// Creates an object in the arena of this process.
    fn unnamed(layout: &Layout<'_, T>) -> Result<ObjectHandle<T>> {
        let slot = arena::Slot::new(layout.size())?;
        let raw: Option<&T> = slot.segment.words()?.at(slot.offset);
        let raw = raw.ok_or(Error::Internal("a slot outside its arena".into()))?;
        // No other process uses the slot, so the tag of an earlier object in it is void.
        raw.tag().store(0, Ordering::Relaxed);
        let mut handle = ObjectHandle::at(&slot.segment, slot.offset, layout, Create::Always)?;
        handle.slot = Some(slot);
        Ok(handle)
    }

    /// Opens the object behind a descriptor: at `offset` of an arena, or alone in its own file.
    fn open_fd(
        fd: RawFd,
        offset: u64,
        layout: &Layout<'_, T>,
        file: &FileOptions,
    ) -> Result<ObjectHandle<T>> {
        let options = file.for_file();
        match Segment::open_fd_with(fd, 0, &options, layout.tag.kind) {
            Ok(_) if offset != 0 => Err(Error::Invalid(
                format!("offset {offset}: the file contains one object, so the offset must be 0")
                    .into(),
            )),
            Ok(segment) => ObjectHandle::alone(segment, layout, Create::Never),
            Err(Error::WrongKind(cause)) => {
                let slot =
                    arena::Slot::open(fd, offset, &options).map_err(|error| match error {
                        Error::WrongKind(_) => Error::WrongKind(cause),
                        other => other,
                    })?;
                let mut handle = ObjectHandle::at(&slot.segment, offset, layout, Create::Never)?;
                handle.slot = Some(slot);
                Ok(handle)
            }
            Err(error) => Err(error),
        }
    }
}

impl<T: Object> ObjectHandle<T> {
    /// Returns the raw object.
    #[inline(always)]
    pub(crate) fn raw(&self) -> &T {
        // SAFETY: it lies in the mapping of `segment` (each constructor has checked that), which lives as long as self.
        // It consists of atomics, which other processes may change at any time.
        unsafe { self.raw.as_ref() }
    }

    /// Returns the cells that follow the raw object.
    #[inline(always)]
    pub(crate) fn cells(&self) -> &[T::Cell] {
        // SAFETY: as for the raw object.
        unsafe { self.cells.as_ref() }
    }

    /// Returns the flags with which it was created.
    pub(crate) fn flags(&self) -> u16 {
        self.flags
    }

    /// Returns our id if this process has claimed one.
    #[inline(always)]
    pub(crate) fn known_id(&self) -> Option<Id> {
        Id::of(self.id_word.load(Ordering::Relaxed))
    }

    /// Returns our id, and claims one if this process has none.
    #[inline(always)]
    pub(crate) fn id(&self) -> Result<Id> {
        match self.known_id() {
            Some(id) => Ok(id),
            None => self.segment.identify(),
        }
    }

    /// Returns our id for a release. `NotOwner`: this process has none, so that it holds nothing.
    pub(crate) fn owner_id(&self) -> Result<Id> {
        self.known_id().ok_or_else(not_owner)
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns a number that identifies this object in every process, until its memory is used for something else.
    pub(crate) fn number(&self) -> u64 {
        // The built-in lock is stored before the data.
        let built_in = self.raw.as_ptr().cast::<u8>() < self.segment.data();
        let place = if built_in { 1 } else { ALIGNMENT + self.offset };
        // Only a managed segment contains objects. Its number is random, so the sums hardly ever collide.
        self.segment
            .number()
            .unwrap_or(0)
            .wrapping_add(place)
            .max(1)
    }

    pub(crate) fn export(&self) -> Result<(RawFd, u64)> {
        match &self.slot {
            Some(slot) => slot.expose(),
            None if self.has_own_file => {}
            None => {
                return Err(Error::Invalid(
                    "the object is stored in a segment; pass on the segment and the offset".into(),
                ));
            }
        }
        Ok((self.segment.fd(), self.offset))
    }

    pub(crate) fn unlink(&self) -> Result<()> {
        match self.has_own_file {
            true => self.segment.unlink(),
            false => Err(Error::Invalid(
                "the object has no name of its own; unlink the segment that contains it".into(),
            )),
        }
    }
}

/// Returns where an object is, for an error message: ` 'name'` if the file contains nothing else, or its offset.
fn place(segment: &Segment, offset: u64) -> String {
    let name = segment.name().map(CStr::to_string_lossy);
    let stat = segment.stat().ok();
    let kind = stat.and_then(|stat| stat.header).map(|header| header.kind);
    let shared = [Kind::Segment as u32, Kind::Arena as u32];
    match name {
        Some(name) if kind.is_some_and(|kind| !shared.contains(&kind)) => format!(" '{name}'"),
        Some(name) => format!(" at offset {offset} of '{name}'"),
        None => format!(" at offset {offset}"),
    }
}

/// Creates or finds an object, as `create` allows, and returns its tag; `make` initialises all but the tag.
fn establish(
    word: &AtomicU64,
    tag: Tag,
    make: &dyn Fn() -> Result<()>,
    create: Create,
    segment: &Segment,
    place: &dyn Fn() -> String,
) -> Result<u64> {
    /// Time between two looks at an object that another process is initialising.
    const CREATE_POLL_INTERVAL: std::time::Duration = std::time::Duration::from_micros(100);
    /// Initialising takes less than a microsecond. After this time the process is stopped, or the tag is forged
    /// (D-023).
    const CREATE_TIMEOUT_NS: u64 = 1_000_000_000;
    let mut deadline = None;
    let origin = Origin::here();
    loop {
        // PAIRS object.made: a reader of the kind or of the maker sees what the maker stored before.
        let seen = word.load(Ordering::Acquire);
        let maker = maker(seen, segment);
        if maker.is_none() && seen != 0 {
            return match create {
                Create::Always => {
                    let text = format!(
                        "there is already an object{}; open it, or choose another offset",
                        place()
                    );
                    Err(Error::Exists(text.into()))
                }
                Create::Never | Create::IfMissing => {
                    compare(seen, tag, create, place).map(|()| seen)
                }
            };
        }
        if let Some(maker) = maker {
            // 1. A process is initialising it. If it is alive, wait; if it is dead, no process has used the object.
            if !segment.is_dead(maker, origin)? {
                let now = clock::monotonic();
                if now > *deadline.get_or_insert(now.saturating_add(CREATE_TIMEOUT_NS)) {
                    return Err(Error::Timeout(
                        "timed out: another live process has been creating the object for a second"
                            .into(),
                    ));
                }
                std::thread::sleep(CREATE_POLL_INTERVAL);
                origin.check()?;
                continue;
            }
        }
        if create == Create::Never {
            return Err(Error::NotFound(
                format!("there is no {}{}; create it", tag.kind.noun(), place()).into(),
            ));
        }
        // 2. Of several processes here, one initialises it, and the others wait. PAIRS object.made: a reader of our
        //    identity sees that its ticket was drawn.
        let making = segment.identify()?.bits() | MAKING;
        if word
            .compare_exchange(seen, making, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            if let Err(error) = make() {
                word.store(0, Ordering::Relaxed);
                return Err(error);
            }
            // 3. The object is complete. PAIRS object.made
            word.store(tag.word(), Ordering::Release);
            return Ok(tag.word());
        }
    }
}

/// Returns the process that is initialising an object. Other bytes of the user do not look like a participant.
fn maker(seen: u64, segment: &Segment) -> Option<Id> {
    let id = Id::of(seen)?;
    (seen == id.bits() | MAKING && segment.has_had(id)).then_some(id)
}

fn compare(seen: u64, tag: Tag, create: Create, place: &dyn Fn() -> String) -> Result<()> {
    let kind = seen as u32;
    if kind != tag.kind as u32 {
        let (place, wanted) = (place(), tag.kind.article());
        let text = match Kind::of(kind) {
            Some(kind) => format!(
                "there is {0}{place}, not {wanted}; open it as {0}, or choose another name or offset",
                kind.article()
            ),
            None => format!(
                "there is other data{place} ({seen:#x}), not {wanted}; choose another name or offset"
            ),
        };
        return Err(Error::WrongKind(text.into()));
    }
    if create == Create::IfMissing && seen != tag.word() {
        let text = format!(
            "the {}{} was created with other options; pass the same ones, or open it without creating it",
            tag.kind.noun(),
            place()
        );
        return Err(Error::Invalid(text.into()));
    }
    Ok(())
}
