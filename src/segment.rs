//! Segments: shared memory with a name in a directory, or anonymous behind a file descriptor.
//!
//! A plain segment is a file whose bytes are the user's, so whoever maps files can share it:
//!
//! ```text
//! file:     |<------------- size ------------->|
//! mapping:  |  data: byte 0 is the user's      |  room to grow: no memory, SIGBUS   |
//!           base                               size                                 capacity
//! ```
//!
//! If a process dies inside
//!   create: the name does not exist (the kernel frees the file), or it does and the segment is whole;
//!   open:   nothing;
//!   resize: the size is the old one or the new one; memory reserved beyond it is given back by the next resize;
//!   unlink: the name is still there, or it is gone.

use crate::directory;
pub use crate::directory::{list, unlink};
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::limits;
use crate::name::Name;
use crate::options::{DEFAULT_MODE, check_size, check_sparse};
pub use crate::options::{Growth, Options};
use crate::reservation;
use crate::sys::lockfile::{ByteLock, RESIZE, UNLINK};
use crate::sys::map::Map;
use crate::sys::process;
use crate::sys::shm::{self, Facts};
use std::borrow::Cow;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is known of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What the kernel says of its file.
    pub file: Facts,
    /// Bytes of address space mapped here.
    pub capacity: u64,
    /// Whether this handle made it.
    pub created: bool,
    /// Whether this handle may only read it.
    pub readonly: bool,
    /// Whether nobody can ever shrink it.
    pub sealed: bool,
}

/// A segment mapped into this process; dropped, this process lets go of it.
pub struct Segment {
    map: Map,
    file: OwnedFd,
    name: Option<Name>,
    options: Options,
    /// The largest size seen through this handle: a smaller one later says that somebody truncated the file.
    seen: AtomicU64,
    created: bool,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name().unwrap_or(c"(anonymous)");
        f.debug_struct("Segment")
            .field("name", &name)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

fn map(file: &OwnedFd, size: u64, options: &Options) -> Result<Map> {
    let page = process::page_size();
    let wanted = options.capacity.max(size);
    let capacity = wanted.checked_next_multiple_of(page).ok_or_else(|| {
        Error::TooLarge(format!("{wanted} bytes are more than an address space can have").into())
    })?;
    let map = Map::new(file, capacity, options.readonly)?;
    map.leave_out_of_dumps(size);
    Ok(map)
}

/// Gives a file that nobody else knows its bytes.
fn fill(file: &OwnedFd, size: u64, options: &Options, place: &str) -> Result<Map> {
    limits::check_file_size(size)?;
    if !options.force && !options.sparse {
        limits::check_room(file, size, place)?;
    }
    let reserve = || reservation::reserve(file, 0, size, false, options.interruptible, place);
    let map = if options.huge || options.sparse {
        shm::set_size(file, size)?;
        let map = map(file, size, options)?;
        if options.huge {
            reservation::collapse(file, &map, 0, size, options.interruptible)?;
        }
        if !options.sparse {
            reserve()?;
        }
        map
    } else {
        reserve()?;
        map(file, size, options)?
    };
    settle(&map, 0, size, options)?;
    Ok(map)
}

/// Does to the bytes `[from, to)`, which have memory, what the options ask for.
fn settle(map: &Map, from: u64, to: u64, options: &Options) -> Result<()> {
    if options.prefault {
        reservation::populate(map, from, to, options.interruptible)?;
    }
    if options.lock {
        map.lock(from, to)?;
    }
    Ok(())
}

/// Names the file system of a segment for people.
fn place(name: Option<&Name>) -> Cow<'_, str> {
    name.map_or("memory".into(), |name| name.directory().to_string_lossy())
}

impl Segment {
    /// Makes a segment of `size` bytes, all zero; without a name it is anonymous.
    ///
    /// `Exists` where the name is taken; `NoSpace`, `NoMemory`, `Permission`, `Invalid`, `TooLarge`, `Interrupted`.
    /// The name appears last, in one step: nobody ever sees a segment that is not whole.
    pub fn create(name: Option<&CStr>, size: u64, options: &Options) -> Result<Segment> {
        check_size(size, options)?;
        if options.readonly {
            return Err(Error::Invalid(
                "a new segment cannot be read-only: nobody could fill it".into(),
            ));
        }
        match name {
            Some(name) => Segment::create_named(
                Name::parse(name, options.directory.as_deref())?,
                size,
                options,
            ),
            None => {
                /// Memory files are sealed against being executed, which takes in these bits.
                const EXECUTABLE: u32 = 0o111;
                let mode = options.mode.unwrap_or(DEFAULT_MODE);
                let file = shm::make_memfd()?;
                shm::set_mode(&file, mode & !EXECUTABLE)?;
                let map = fill(&file, size, options, "memory")?;
                shm::seal(&file)?;
                Ok(Segment::new(map, file, None, options, size, true))
            }
        }
    }

    fn create_named(name: Name, size: u64, options: &Options) -> Result<Segment> {
        /// Above this it is worth a look whether the name is taken before memory is set aside.
        const LARGE: u64 = 1 << 20;
        if size > LARGE && shm::facts_at(name.path()).is_ok() {
            return Err(Error::Exists(
                format!("{} exists already", name.path().to_string_lossy()).into(),
            ));
        }
        let draft = Draft::make(&name, options.interruptible)?;
        shm::set_mode(draft.file(), options.mode.unwrap_or(DEFAULT_MODE))?;
        let map = fill(
            draft.file(),
            size,
            options,
            &name.directory().to_string_lossy(),
        )?;
        draft.publish(&name)?;
        Ok(Segment::new(
            map,
            draft.into_file(),
            Some(name),
            options,
            size,
            true,
        ))
    }

    /// Opens the segment of this name.
    ///
    /// `size` is the least that is expected of it, 0 where any will do. `NotFound`; `Permission`; `Untrusted`: a
    /// symbolic link, or another user's; `WrongKind`: not a regular file; `Corrupt`: shorter than `size`, or empty.
    pub fn open(name: &CStr, size: u64, options: &Options) -> Result<Segment> {
        Segment::open_named(
            Name::parse(name, options.directory.as_deref())?,
            size,
            options,
        )
    }

    fn open_named(name: Name, size: u64, options: &Options) -> Result<Segment> {
        let (file, facts) = directory::find(&name, size, options)?;
        Segment::open_file(file, &facts, Some(name), options)
    }

    fn open_file(
        file: OwnedFd,
        facts: &Facts,
        name: Option<Name>,
        options: &Options,
    ) -> Result<Segment> {
        let map = map(&file, facts.size, options)?;
        if options.settles() && !options.readonly {
            // Others, Python's SharedMemory for one, make sparse files: what is mapped now must have memory first.
            let place = place(name.as_ref());
            let missing = facts.size.saturating_sub(facts.allocated);
            if !options.force {
                limits::check_room(&file, missing, &place)?;
            }
            reservation::reserve(&file, 0, facts.size, true, options.interruptible, &place)?;
        }
        if options.huge && !options.readonly {
            reservation::collapse(&file, &map, 0, facts.size, options.interruptible)?;
        }
        settle(&map, 0, facts.size, options)?;
        Ok(Segment::new(map, file, name, options, facts.size, false))
    }

    /// Opens the segment of this name, or makes it if there is none: of several who race, one makes it.
    ///
    /// Without a name it is `create`. A segment that exists has at least `size` bytes or is `Corrupt`.
    pub fn open_or_create(name: Option<&CStr>, size: u64, options: &Options) -> Result<Segment> {
        check_size(size, options)?;
        let Some(name) = name else {
            return Segment::create(None, size, options);
        };
        let name = Name::parse(name, options.directory.as_deref())?;
        loop {
            match Segment::open_named(name.clone(), size, options) {
                Err(Error::NotFound(_)) if !options.readonly => {}
                other => return other,
            }
            // Taken since: somebody else was first, and theirs is opened.
            match Segment::create_named(name.clone(), size, options) {
                Err(Error::Exists(_)) => {}
                other => return other,
            }
        }
    }

    /// Opens the segment behind a file descriptor, which stays the caller's.
    ///
    /// As `open`; and `Untrusted`: a file without a name that somebody could shrink, so that touching it is SIGBUS.
    pub fn open_fd(fd: i32, size: u64, options: &Options) -> Result<Segment> {
        let (file, writable) = shm::duplicate(fd)?;
        let facts = shm::facts(&file)?;
        let place = format!("file descriptor {fd}");
        directory::check(&facts, size, options, || place.clone())?;
        if !writable && !options.readonly {
            return Err(Error::Permission(
                format!("{place} is open for reading only: open it read-only").into(),
            ));
        }
        if facts.links == 0 && !options.trust && !shm::is_sealed(&file) {
            return Err(Error::Untrusted(
                format!("{place} has no name and is not sealed against shrinking").into(),
            ));
        }
        Segment::open_file(file, &facts, None, options)
    }

    fn new(
        map: Map,
        file: OwnedFd,
        name: Option<Name>,
        options: &Options,
        size: u64,
        created: bool,
    ) -> Segment {
        Segment {
            map,
            file,
            name,
            options: options.clone(),
            seen: AtomicU64::new(size),
            created,
        }
    }

    /// Makes the segment `size` bytes long, for everybody who has it mapped; no address moves.
    ///
    /// `TooLarge`: beyond the capacity of this mapping; `Invalid`: it would shrink; `NoSpace`: nothing has changed.
    /// Where the new bytes cannot be locked as the options ask (`NoMemory`), it has grown all the same.
    pub fn resize(&self, size: u64, options: &Growth) -> Result<()> {
        let Growth {
            force,
            sparse,
            interruptible,
        } = *options;
        if self.options.readonly {
            return Err(Error::Permission("this handle is read-only".into()));
        }
        if size > self.capacity() {
            let text = format!(
                "{size} bytes are more than this mapping's capacity, {}",
                self.capacity()
            );
            return Err(Error::TooLarge(text.into()));
        }
        check_sparse(sparse, &self.options)?;
        let _lock = ByteLock::of(self.file.as_fd(), RESIZE, interruptible)?;
        let old = shm::facts(&self.file)?.size;
        if size < old {
            return Err(Error::Invalid(
                format!("a segment of {old} bytes cannot shrink to {size}").into(),
            ));
        }
        limits::check_file_size(size)?;
        // The same length again gives back what a grower who was killed had set aside beyond it.
        shm::set_size(&self.file, old)?;
        if !sparse {
            let place = place(self.name.as_ref());
            if !force {
                limits::check_room(&self.file, size - old, &place)?;
            }
            reservation::reserve(&self.file, old, size, true, interruptible, &place).or_else(
                |error| {
                    shm::set_size(&self.file, old)?;
                    Err(error)
                },
            )?;
        }
        shm::set_size(&self.file, size)?;
        self.map.put_into_dumps(old, size);
        self.seen.fetch_max(size, Ordering::Relaxed);
        let options = Options {
            interruptible,
            ..self.options.clone()
        };
        if options.huge {
            reservation::collapse(&self.file, &self.map, old, size, interruptible)?;
        }
        settle(&self.map, old, size, &options)
    }

    /// Removes the segment's name; who has it mapped keeps it. An anonymous one has no name: nothing happens.
    ///
    /// `NotFound`: the name is gone, or stands for another segment by now, which is left alone.
    /// `Invalid`: opened by a descriptor, so the name is not known here.
    pub fn unlink(&self) -> Result<()> {
        let facts = shm::facts(&self.file)?;
        match &self.name {
            Some(name) => {
                let _lock =
                    ByteLock::best_of(self.file.as_fd(), UNLINK, self.options.interruptible)?;
                directory::unlink_locked(name, &facts)
            }
            None if facts.links == 0 => Ok(()),
            None => Err(Error::Invalid(
                "this segment was opened by a descriptor: its name is not known here".into(),
            )),
        }
    }

    /// Returns the address of byte 0.
    pub fn data(&self) -> *mut u8 {
        self.map.base()
    }

    /// Returns the bytes as they are now, for threads and processes that change them meanwhile.
    pub fn bytes(&self) -> Result<&[AtomicU8]> {
        let size = self.size()? as usize;
        // SAFETY: `size` bytes from base are mapped and have memory for as long as self lives (a named file that
        // somebody truncates is SIGBUS, not a wrong access); an AtomicU8 may be changed by anybody at any time. A
        // mapping for reading only is only read: storing through it is SIGSEGV, which `Options::readonly` says.
        Ok(unsafe { std::slice::from_raw_parts(self.map.base().cast::<AtomicU8>(), size) })
    }

    /// Returns how many bytes of the mapping have memory now: others may have let it grow.
    ///
    /// `Corrupt`: it is shorter than it has been, so somebody truncated the file.
    pub fn size(&self) -> Result<u64> {
        // Looked up first: what another thread sees meanwhile may be more, and is no sign of anything.
        let seen = self.seen.load(Ordering::Relaxed);
        let size = shm::facts(&self.file)?.size;
        self.seen.fetch_max(size, Ordering::Relaxed);
        if size < seen {
            let text =
                format!("the segment had {seen} bytes and has {size}: somebody truncated its file");
            return Err(Error::Corrupt(text.into()));
        }
        Ok(size.min(self.capacity()))
    }

    /// Returns how many bytes of address space are mapped: how far it can grow here.
    pub fn capacity(&self) -> u64 {
        self.map.capacity()
    }

    /// Returns the descriptor of the file; it is this handle's.
    pub fn fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// Returns the name without directory or slash; `None` where it is anonymous or was opened by a descriptor.
    pub fn name(&self) -> Option<&CStr> {
        self.name.as_ref().map(Name::file)
    }

    /// Returns the directory in which it was found or made; `None` as for `name`.
    pub fn directory(&self) -> Option<&CStr> {
        self.name.as_ref().map(Name::directory)
    }

    /// Returns how many bytes this process reaches through huge pages just now; it reads /proc/self/smaps.
    pub fn huge_bytes(&self) -> u64 {
        self.map.huge_bytes()
    }

    /// Returns what is known of the segment.
    pub fn stat(&self) -> Result<Stat> {
        Ok(Stat {
            file: shm::facts(&self.file)?,
            capacity: self.capacity(),
            created: self.created,
            readonly: self.options.readonly,
            // What has a name in a file system was not made to be sealed (memfd_create(2)).
            sealed: self.name.is_none() && shm::is_sealed(&self.file),
        })
    }
}
