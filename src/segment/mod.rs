//! Segments: shared memory with a name in a directory, or anonymous behind a file descriptor.
//!
//! A plain segment is a file whose bytes are the user's, so any program that maps files can share it. A managed one
//! begins with a control area, so that it can hold locks:
//!
//! ```text
//! plain:                    |<------------- size ------------->|
//! managed:  |  control area |  data: byte 0 is the user's      |  room to grow: no memory, SIGBUS   |
//!           mapping         base                               base + size                  base + capacity
//! ```
//!
//! If a process dies inside
//!   create: the name does not exist (the kernel frees the file), or it does and the segment is whole;
//!   open:   nothing;
//!   resize: the size is the old one or the new one; memory reserved beyond it is given back by the next resize;
//!   unlink: the name is still there, or it is gone;
//!   close:  whoever closes is dying: the mapping goes before the word of its death (`participant`).

pub(crate) mod control;
mod directory;
mod draft;
mod fill;
mod growth;
pub mod limits;
pub(crate) mod name;
pub(crate) mod options;
mod reservation;

use crate::error::{Error, Result};
use crate::layout::{Bytes, EPHEMERAL, Header, Kind};
use crate::participant::{DeferredDetach, Id, LivenessProbe, Participant, ProcessInfo};
use crate::raw::Liveness;
use crate::sys::lockfile::{ByteLock, UNLINK};
use crate::sys::map::Map;
use crate::sys::shm::{self, CheckedFd, Facts};
use control::Control;
use directory::Found;
pub use directory::{gc, list, unlink};
use draft::TempFile;
pub(crate) use fill::Content;
use fill::{Filled, fill, map, place, settle, words};
use name::Name;
use options::{DEFAULT_MODE, check_capacity, check_options, check_size};
pub use options::{Form, Growth, Options};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What is known of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// What the kernel says of its file.
    pub file: Facts,
    /// Bytes of data: of a managed one less than its file has.
    pub size: u64,
    /// Bytes of address space mapped here.
    pub capacity: u64,
    /// Whether this handle made it.
    pub created: bool,
    /// Whether this handle may only read it.
    pub readonly: bool,
    /// Whether nobody can ever shrink it.
    pub sealed: bool,
    /// What its header says, where it is a managed one.
    pub header: Option<Header>,
}

/// A segment mapped into this process; dropped, this process lets go of it.
pub struct Segment {
    map: Map,
    file: CheckedFd,
    name: Option<Name>,
    options: Options,
    /// The largest size seen through this handle: a smaller one later says that somebody truncated the file.
    seen: AtomicU64,
    created: bool,
    managed: Option<Managed>,
    /// What is done when the mapping and the descriptor have gone: fields are dropped in the order in which they stand.
    ending: Ending,
}

/// What a managed segment has more.
struct Managed {
    header: Header,
    probe: LivenessProbe,
    /// None where it may only be read: who cannot hold anything need not be known.
    participant: Option<Participant>,
    /// The id that lived when we last asked, and when that was, in nanoseconds.
    alive: (AtomicU64, AtomicU64),
}

#[derive(Default)]
struct Ending {
    deferred_detach: Option<DeferredDetach>,
    collect: Option<Name>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        drop(self.deferred_detach.take());
        // Ours was perhaps the last attachment; whoever is attached still keeps it.
        if let Some(name) = self.collect.take() {
            let _ = directory::collect(&name);
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let Some(managed) = &self.managed else { return };
        if let (Some(participant), Ok(control)) = (&managed.participant, self.control()) {
            self.ending.deferred_detach = Some(participant.detach(control.table));
        }
        if managed.header.flags & EPHEMERAL != 0 {
            self.ending.collect = self.name.clone();
        }
    }
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

impl Segment {
    /// Makes a segment of `size` bytes, all zero; without a name it is anonymous.
    ///
    /// `Exists` where the name is taken; `NoSpace`, `NoMemory`, `Permission`, `Invalid`, `TooLarge`, `Interrupted`.
    /// The name appears last, in one step: nobody ever sees a segment that is not whole.
    pub fn create(name: Option<&CStr>, size: u64, options: &Options) -> Result<Segment> {
        Segment::create_with(name, size, options, &Content::NOTHING)
    }

    /// As `create`, with something in it.
    pub(crate) fn create_with(
        name: Option<&CStr>,
        size: u64,
        options: &Options,
        content: &Content<'_>,
    ) -> Result<Segment> {
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
                content,
            ),
            None => {
                /// Memory files are sealed against being executed, which takes in these bits.
                const EXECUTABLE: u32 = 0o111;
                let mode = options.mode.unwrap_or(DEFAULT_MODE);
                let file = shm::make_memfd()?;
                shm::set_mode(&file, mode & !EXECUTABLE)?;
                let filled = fill(&file, size, options, content, "memory")?;
                shm::seal(&file)?;
                let facts = shm::facts(&file)?;
                Segment::new(filled, file, &facts, None, options, size, true)
            }
        }
    }

    fn create_named(
        name: Name,
        size: u64,
        options: &Options,
        content: &Content<'_>,
    ) -> Result<Segment> {
        /// Above this it is worth a look whether the name is taken before memory is set aside.
        const EARLY_NAME_CHECK_BYTES: u64 = 1 << 20;
        if size > EARLY_NAME_CHECK_BYTES && shm::facts_at(name.path()).is_ok() {
            return Err(Error::Exists(
                format!("{} exists already", name.path().to_string_lossy()).into(),
            ));
        }
        let temp = TempFile::make(&name, options.interruptible)?;
        shm::set_mode(temp.file(), options.mode.unwrap_or(DEFAULT_MODE))?;
        let place = name.directory().to_string_lossy();
        let filled = fill(temp.file(), size, options, content, &place)?;
        temp.publish(&name)?;
        drop(place);
        let file = temp.into_file();
        let facts = shm::facts(&file)?;
        Segment::new(filled, file, &facts, Some(name), options, size, true)
    }

    /// Opens the segment of this name.
    ///
    /// `size` is the least that is expected of it, 0 where any will do. `NotFound`; `Permission`; `Untrusted`: a
    /// symbolic link, or another user's; `WrongKind`: not a regular file, or not the kind of segment that is asked for;
    /// `Corrupt`: shorter than `size`, empty, or a header that lies; `VersionMismatch`.
    pub fn open(name: &CStr, size: u64, options: &Options) -> Result<Segment> {
        Segment::open_with(name, size, options, Kind::Segment)
    }

    /// As `open`, for a file that holds something of this kind.
    pub(crate) fn open_with(
        name: &CStr,
        size: u64,
        options: &Options,
        kind: Kind,
    ) -> Result<Segment> {
        let name = Name::parse(name, options.directory.as_deref())?;
        Segment::open_named(name, size, options, kind)
    }

    fn open_named(name: Name, size: u64, options: &Options, kind: Kind) -> Result<Segment> {
        let found = directory::find(&name, options)?;
        Segment::open_found(found, size, Some(name), options, kind)
    }

    fn open_found(
        found: Found,
        least: u64,
        name: Option<Name>,
        options: &Options,
        kind: Kind,
    ) -> Result<Segment> {
        let Found {
            file,
            facts,
            header,
        } = found;
        let (before, size) = match &header {
            None => (0, facts.size),
            Some(header) => {
                control::check(header, facts.size, kind)?;
                (header.control_bytes, header.size)
            }
        };
        if size < least {
            // The caller's figure; of an object its header says too little.
            let error = match kind {
                Kind::Segment => Error::Invalid,
                _ => Error::Corrupt,
            };
            let what = match &name {
                Some(name) => name.path().to_string_lossy(),
                None => "the segment".into(),
            };
            let text = format!("{what} has {size} bytes, not the {least} that `size` asks for");
            return Err(error(text.into()));
        }
        check_capacity(size, options)?;
        let capacity = match &header {
            Some(header) if options.capacity == 0 => header.capacity,
            _ => options.capacity.saturating_add(before),
        };
        let map = map(&file, facts.size, capacity, options)?;
        if options.touches_all() && !options.readonly {
            // Others, Python's SharedMemory for one, make sparse files: what is mapped now must have memory first.
            let place = place(name.as_ref());
            let missing = facts.size.saturating_sub(facts.allocated);
            if !options.no_space_check {
                limits::check_room(&file, missing, &place)?;
            }
            reservation::reserve(&file, 0, facts.size, true, options.interruptible, &place)?;
        }
        if options.huge && !options.readonly {
            reservation::collapse(&file, &map, 0, facts.size, options.interruptible)?;
        }
        settle(&map, 0, facts.size, options)?;
        let filled = Filled { map, header };
        Segment::new(filled, file, &facts, name, options, size, false)
    }

    /// Opens the segment of this name, or makes it if there is none: of several who race, one makes it.
    ///
    /// Without a name it is `create`. A segment that exists has at least `size` bytes or is `Corrupt`.
    pub fn open_or_create(name: Option<&CStr>, size: u64, options: &Options) -> Result<Segment> {
        Segment::open_or_create_with(name, size, options, &Content::NOTHING)
    }

    /// As `open_or_create`, with something in it.
    pub(crate) fn open_or_create_with(
        name: Option<&CStr>,
        size: u64,
        options: &Options,
        content: &Content<'_>,
    ) -> Result<Segment> {
        check_size(size, options)?;
        let Some(name) = name else {
            return Segment::create_with(None, size, options, content);
        };
        let name = Name::parse(name, options.directory.as_deref())?;
        loop {
            let least = content.least.unwrap_or(size);
            match Segment::open_named(name.clone(), least, options, content.kind) {
                Err(Error::NotFound(_)) if !options.readonly => {}
                other => return other,
            }
            // Taken since: somebody else was first, and theirs is opened.
            match Segment::create_named(name.clone(), size, options, content) {
                Err(Error::Exists(_)) => {}
                other => return other,
            }
        }
    }

    /// Opens the segment behind a file descriptor, which stays the caller's.
    ///
    /// As `open`; and `Untrusted`: a file without a name that somebody could shrink, so that touching it is SIGBUS.
    pub fn open_fd(fd: i32, size: u64, options: &Options) -> Result<Segment> {
        Segment::open_fd_with(fd, size, options, Kind::Segment)
    }

    /// As `open_fd`, for a file that holds something of this kind.
    pub(crate) fn open_fd_with(
        fd: i32,
        size: u64,
        options: &Options,
        kind: Kind,
    ) -> Result<Segment> {
        check_options(options)?;
        let (file, writable) = shm::duplicate(fd)?;
        let facts = shm::facts(&file)?;
        let place = || format!("file descriptor {fd}");
        directory::check(&facts, options, place)?;
        if !writable && !options.readonly {
            return Err(Error::Permission(
                format!("{} is open for reading only: open it read-only", place()).into(),
            ));
        }
        if facts.links == 0 && !options.trust && !shm::is_sealed(&file) {
            return Err(Error::Untrusted(
                format!(
                    "{} has no name and is not sealed against shrinking",
                    place()
                )
                .into(),
            ));
        }
        let found = directory::attach(file, facts, options, place)?.ok_or_else(|| {
            Error::NotFound(format!("the segment behind {} is just being removed", place()).into())
        })?;
        Segment::open_found(found, size, None, options, kind)
    }

    fn new(
        filled: Filled,
        file: OwnedFd,
        facts: &Facts,
        name: Option<Name>,
        options: &Options,
        size: u64,
        created: bool,
    ) -> Result<Segment> {
        let Filled { map, header } = filled;
        let managed = match header {
            None => None,
            Some(header) => {
                Control::find(words(&map, header.control_bytes), header.participants)?;
                let (device, inode) = (facts.device, facts.inode);
                let path = name.as_ref().map(Name::path);
                let participant = match options.readonly {
                    true => None,
                    false => Some(Participant::new(device, inode)?),
                };
                Some(Managed {
                    header,
                    probe: LivenessProbe::new(file.as_raw_fd(), path, device, inode),
                    participant,
                    alive: (AtomicU64::new(0), AtomicU64::new(0)),
                })
            }
        };
        Ok(Segment {
            map,
            file: CheckedFd::new(file, facts),
            name,
            options: options.clone(),
            seen: AtomicU64::new(size),
            created,
            managed,
            ending: Ending::default(),
        })
    }

    /// Removes the segment's name; who has it mapped keeps it. An anonymous one has no name: nothing happens.
    ///
    /// `NotFound`: the name is gone, or stands for another segment by now, which is left alone.
    /// `Invalid`: opened by a descriptor, so the name is not known here.
    pub fn unlink(&self) -> Result<()> {
        let Some(name) = &self.name else {
            return match self.file.facts()?.links {
                0 => Ok(()),
                _ => Err(Error::Invalid(
                    "this segment was opened by a descriptor: its name is not known here".into(),
                )),
            };
        };
        let interruptible = self.options.interruptible;
        let _lock = match self.file.facts() {
            Ok(_) => ByteLock::best_of(self.file.as_fd(), UNLINK, interruptible)?,
            Err(_) => ByteLock::best_at(name.path(), UNLINK, interruptible)?,
        };
        directory::unlink_locked(name, self.file.device, self.file.inode)
    }

    /// How many bytes of the mapping lie before byte 0.
    fn before(&self) -> u64 {
        self.managed
            .as_ref()
            .map_or(0, |managed| managed.header.control_bytes)
    }

    /// How many bytes of data the file has room for.
    fn have(&self, file: &Facts) -> u64 {
        file.size.saturating_sub(self.before())
    }

    /// Returns how many bytes of data there are, as the last grower said; of a plain one as many as the file `has`.
    ///
    /// Where it has none, somebody may have cut the control area off as well: touching that would be SIGBUS.
    fn recorded_size(&self, has: u64) -> u64 {
        match self.control() {
            Ok(control) if has > 0 => control.size(),
            _ => has,
        }
    }

    fn managed(&self) -> Result<&Managed> {
        self.managed.as_ref().ok_or_else(|| {
            Error::WrongKind("a plain segment has no control area: it cannot hold locks".into())
        })
    }

    fn control(&self) -> Result<Control<'_>> {
        let header = &self.managed()?.header;
        Control::find(words(&self.map, header.control_bytes), header.participants)
    }

    /// Returns the address of byte 0.
    pub fn data(&self) -> *mut u8 {
        // `before` bytes of the mapping are the control area (`control::check`), so it does not leave the mapping.
        self.map.base().wrapping_add(self.before() as usize)
    }

    /// Returns the data, in which objects are found, as it is now. `WrongKind`: a plain segment.
    pub(crate) fn words(&self) -> Result<Bytes<'_>> {
        self.managed()?;
        let end = self.before() + self.size()?;
        Ok(words(&self.map, end).from(self.before()))
    }

    /// Returns the words of the lock that every managed segment has. `WrongKind`: a plain one.
    pub(crate) fn built_in_lock(&self) -> Result<&crate::raw::lock::RawLock> {
        Ok(self.control()?.lock)
    }

    /// Returns the participant that this process is, and its id, claimed if need be.
    ///
    /// `WrongKind`: a plain segment; `Permission`: a read-only handle; as `Participant::id`.
    pub(crate) fn identify(&self) -> Result<Id> {
        let managed = self.managed()?;
        managed
            .participant()?
            .id(self.control()?.table, &managed.probe)
    }

    /// Returns the word that holds our id, as `identify` found it; 0 before that and in a forked child.
    pub(crate) fn identity_word(&self) -> Result<crate::sys::fork::ForkLocal> {
        Ok(self.managed()?.participant()?.id_word())
    }

    /// Returns what is known of a participant; `None` where its place has gone to somebody else.
    pub fn process_info(&self, id: Id) -> Option<ProcessInfo> {
        self.control().ok()?.table.process_info(id)
    }

    /// Returns the number that this segment has and no other one. `WrongKind`: a plain segment.
    pub(crate) fn number(&self) -> Result<u64> {
        Ok(self.managed()?.header.id)
    }

    /// Says whether anybody can have had this id.
    pub(crate) fn has_had(&self, id: Id) -> bool {
        self.control()
            .is_ok_and(|control| control.table.has_had(id))
    }

    /// Returns the bytes as they are now, for threads and processes that change them meanwhile.
    pub fn bytes(&self) -> Result<&[AtomicU8]> {
        let size = self.size()? as usize;
        // SAFETY: `size` bytes from there are mapped and have memory for as long as self lives (a named file that
        // somebody truncates is SIGBUS, not a wrong access); an AtomicU8 may be changed by anybody at any time. A
        // mapping for reading only is only read: storing through it is SIGSEGV, which `Options::readonly` says.
        Ok(unsafe { std::slice::from_raw_parts(self.data().cast::<AtomicU8>(), size) })
    }

    /// Returns how many bytes of the data have memory now: others may have let it grow.
    ///
    /// `Corrupt`: it is shorter than it has been, or than its header says: somebody truncated the file.
    pub fn size(&self) -> Result<u64> {
        // Looked up first: what another thread sees meanwhile may be more, and is no sign of anything.
        let seen = self.seen.load(Ordering::Relaxed);
        let mut have = self.have(&self.file.facts()?);
        let size = self.recorded_size(have);
        if size > have {
            // A grower has come between.
            have = self.have(&self.file.facts()?);
        }
        if size < seen || size > have {
            let expected = seen.max(size);
            let text = format!(
                "the segment had {expected} bytes and has {}: somebody truncated its file",
                size.min(have)
            );
            return Err(Error::Corrupt(text.into()));
        }
        self.seen.fetch_max(size, Ordering::Relaxed);
        Ok(size.min(self.capacity()))
    }

    /// Copies data by a system call, which needs no memory in the file. `Corrupt`: the file ends before;
    /// `LivenessUnknown`: the descriptor is lost.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.facts()?;
        match shm::read(&*self.file, self.before() + offset, bytes)? == bytes.len() {
            true => Ok(()),
            false => Err(Error::Corrupt(
                "somebody truncated the file of the segment".into(),
            )),
        }
    }

    /// Returns how many bytes of address space are mapped: how far it can grow here.
    pub fn capacity(&self) -> u64 {
        self.map.capacity() - self.before()
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
    pub fn stat(&self) -> Result<SegmentInfo> {
        let file = self.file.facts()?;
        let have = self.have(&file);
        Ok(SegmentInfo {
            file,
            size: self.recorded_size(have).min(have),
            capacity: self.capacity(),
            created: self.created,
            readonly: self.options.readonly,
            // What has a name in a file system was not made to be sealed (memfd_create(2)).
            sealed: self.name.is_none() && shm::is_sealed(&self.file),
            header: self.managed.as_ref().map(|managed| managed.header),
        })
    }
}

impl Managed {
    fn participant(&self) -> Result<&Participant> {
        self.participant.as_ref().ok_or_else(|| {
            Error::Permission("this handle is read-only: it cannot hold anything".into())
        })
    }
}

impl Liveness for Segment {
    fn is_dead(&self, id: Id) -> Result<bool> {
        /// Who is asked again so soon is not asked: for callers that poll.
        const LIVENESS_CACHE_NS: u64 = 1_000_000;
        let managed = self.managed()?;
        let mine = self.identify()?;
        let (known, when) = &managed.alive;
        let now = crate::sys::clock::monotonic();
        // Two loads that do not belong together at worst delay or repeat a question.
        if known.load(Ordering::Relaxed) == id.bits()
            && now.saturating_sub(when.load(Ordering::Relaxed)) < LIVENESS_CACHE_NS
        {
            return Ok(false);
        }
        let dead = managed.probe.is_dead(id.ticket(), mine.ticket())?;
        if !dead {
            known.store(id.bits(), Ordering::Relaxed);
            when.store(now, Ordering::Relaxed);
        }
        Ok(dead)
    }
}
