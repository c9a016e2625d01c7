//! Segments: shared memory with a name in a directory, or anonymous with a file descriptor only.
//!
//! A plain segment is a file whose bytes are the user's, so any program that maps files can share it (D-001). A managed
//! segment begins with a control area, so that it can contain locks:
//!
//! ```text
//! plain:                    |<------------- size ------------->|
//! managed:  |  control area |  data: byte 0 is the user's      |  room to grow: no memory, SIGBUS   |
//!           mapping         base                               base + size                  base + capacity
//! ```
//!
//! If a process dies inside
//! * create: the name does not exist and the kernel frees the file, or the name exists and the segment is complete;
//! * open: nothing changes;
//! * resize: the size is the old one or the new one, and the next resize releases memory reserved beyond it (D-003);
//! * unlink: the name still exists, or it is removed;
//! * close: the process counts as dead only after its mapping is gone (`participant`).

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
use crate::sys::fork::Origin;
use crate::sys::lockfile::{ByteLock, UNLINK};
use crate::sys::map::Map;
use crate::sys::shm::{self, CheckedFd, Facts};
use crate::sys::thread::CancelGuard;
use control::Control;
use directory::Found;
pub use directory::{gc, list, unlink};
use draft::TempFile;
pub(crate) use fill::Content;
use fill::{Filled, fill, map, place, settle, words};
use name::Name;
use options::{DEFAULT_ANONYMOUS_MODE, DEFAULT_MODE, check_capacity, check_options, check_size};
pub use options::{Form, Growth, Options};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// A description of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// What the kernel reports about its file.
    pub file: Facts,
    /// Size of the data in bytes; the file of a managed segment is larger.
    pub size: u64,
    /// Bytes of address space mapped here.
    pub capacity: u64,
    /// Whether this handle created it.
    pub created: bool,
    /// Whether this handle is read-only.
    pub readonly: bool,
    /// Whether the file is sealed against shrinking.
    pub sealed: bool,
    /// The header of a managed segment.
    pub header: Option<Header>,
}

/// A segment mapped into this process; dropping it detaches.
pub struct Segment {
    map: Map,
    file: CheckedFd,
    name: Option<Name>,
    options: Options,
    /// The largest size seen through this handle: a smaller one later means that the file was truncated.
    seen: AtomicU64,
    created: bool,
    managed: Option<Managed>,
    /// What remains to do after the unmapping and the close: fields are dropped in the order of their declaration.
    ending: Ending,
}

/// What only a managed segment has.
struct Managed {
    header: Header,
    probe: LivenessProbe,
    /// `None` in a read-only handle, which cannot hold anything.
    participant: Option<Participant>,
    /// The identity that was last found alive, and when, in nanoseconds.
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
        // We may have been the last to detach; `collect` does nothing while another process is attached.
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
    /// Creates a segment of `size` zero bytes; without a name it is anonymous.
    ///
    /// The name appears last, in one step: no process ever sees an incomplete segment.
    ///
    /// * `Exists`: the name is taken
    /// * `NoSpace`, `NoMemory`: there is not enough memory, or not enough address space
    /// * `Invalid`, `TooLarge`: the name, the size or an option is not valid
    /// * `Permission`: this user may not create files in the directory
    /// * `Interrupted`: the interrupt hook ended the call
    pub fn create(name: Option<&CStr>, size: u64, options: &Options) -> Result<Segment> {
        Segment::create_with(name, size, options, &Content::NOTHING)
    }

    /// Creates a segment as `create` does, with this content.
    pub(crate) fn create_with(
        name: Option<&CStr>,
        size: u64,
        options: &Options,
        content: &Content<'_>,
    ) -> Result<Segment> {
        check_size(size, options)?;
        if options.readonly {
            return Err(Error::Invalid(
                "a new segment must be writable: open an existing one for read-only access".into(),
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
                /// Memory files are sealed against execution, which includes these bits.
                const EXECUTABLE: u32 = 0o111;
                let mode = options.mode.unwrap_or(DEFAULT_ANONYMOUS_MODE);
                let origin = Origin::here();
                let file = shm::make_memfd()?;
                shm::set_mode(&file, mode & !EXECUTABLE)?;
                let filled = fill(&file, size, options, content, "memory", origin)?;
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
        /// From this size on, the name is checked before memory is reserved.
        const EARLY_NAME_CHECK_BYTES: u64 = 1 << 20;
        if size > EARLY_NAME_CHECK_BYTES && shm::facts_at(name.path()).is_ok() {
            return Err(Error::Exists(
                format!(
                    "{} exists already; open it, or choose another name",
                    name.path().to_string_lossy()
                )
                .into(),
            ));
        }
        let origin = Origin::here();
        let temp = TempFile::make(&name, options.interruptible)?;
        shm::set_mode(temp.file(), options.mode.unwrap_or(DEFAULT_MODE))?;
        let place = name.directory().to_string_lossy();
        let filled = fill(temp.file(), size, options, content, &place, origin)?;
        // A forked child leaves the name to its parent.
        origin.check()?;
        let published = temp.publish(&name);
        origin.check().and(published)?;
        drop(place);
        let file = temp.into_file();
        let facts = shm::facts(&file)?;
        Segment::new(filled, file, &facts, Some(name), options, size, true)
    }

    /// Opens the segment of this name, which must have at least `size` bytes.
    ///
    /// * `NotFound`: there is no such name
    /// * `Permission`: this user may not open the file
    /// * `Untrusted`: a symbolic link, or a file of another user
    /// * `WrongKind`: not a regular file, or not the kind of segment that the options ask for
    /// * `Invalid`: the segment is smaller than `size`, or an option is not valid
    /// * `Corrupt`: the file is empty, or its header contradicts it
    /// * `VersionMismatch`: the layout has another major version
    pub fn open(name: &CStr, size: u64, options: &Options) -> Result<Segment> {
        Segment::open_with(name, size, options, Kind::Segment)
    }

    /// Opens a segment as `open` does, for a file that contains an object of this kind.
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
        let what = match &name {
            Some(name) => name.path().to_string_lossy().into_owned(),
            None => "the segment".to_owned(),
        };
        let (before, size) = match &header {
            None => (0, facts.size),
            Some(header) => {
                control::check(header, facts.size, kind, &what)?;
                (header.control_bytes, header.size)
            }
        };
        if size < least {
            // The size of a segment is the caller's figure (D-071); the size of an object is the file's.
            return Err(match kind {
                Kind::Segment => {
                    let text = format!(
                        "{what} has {size} bytes, not the {least} asked for; pass a smaller size to open it"
                    );
                    Error::Invalid(text.into())
                }
                _ => {
                    let noun = kind.article();
                    let text =
                        format!("{what} has {size} bytes, but {noun} needs {least}; recreate it");
                    Error::Corrupt(text.into())
                }
            });
        }
        check_capacity(size, options)?;
        let capacity = match &header {
            Some(header) if options.capacity == 0 => header.capacity,
            _ => options.capacity.saturating_add(before),
        };
        let map = map(&file, facts.size, capacity, options)?;
        if options.touches_all() && !options.readonly {
            // Other programs, for example Python's own SharedMemory, create sparse files: reserve what is missing.
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

    /// Opens the segment of this name, or creates it if it does not exist. If several processes race, one creates it.
    ///
    /// Without a name it creates one. Errors as of `create` and `open`; `Invalid`: an existing segment is smaller than
    /// `size`.
    pub fn open_or_create(name: Option<&CStr>, size: u64, options: &Options) -> Result<Segment> {
        Segment::open_or_create_with(name, size, options, &Content::NOTHING)
    }

    /// Opens or creates a segment as `open_or_create` does; a new one has this content.
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
            // Another process was faster: open its segment.
            match Segment::create_named(name.clone(), size, options, content) {
                Err(Error::Exists(_)) => {}
                other => return other,
            }
        }
    }

    /// Opens the segment behind a file descriptor, which remains the caller's.
    ///
    /// Errors as of `open`. `Untrusted`: also a file that has no name and is not sealed, because another process could
    /// truncate it and an access would then be SIGBUS.
    pub fn open_fd(fd: i32, size: u64, options: &Options) -> Result<Segment> {
        Segment::open_fd_with(fd, size, options, Kind::Segment)
    }

    /// Opens a segment as `open_fd` does, for a file that contains an object of this kind.
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
                    "{} has no name and is not sealed against shrinking; use the trust option to open it",
                    place()
                )
                .into(),
            ));
        }
        let found = directory::attach(file, facts, options, place)?.ok_or_else(|| {
            let text = format!(
                "the segment of {} is being removed; create a new one",
                place()
            );
            Error::NotFound(text.into())
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

    /// Removes the segment's name. Processes that have it mapped keep it. An anonymous segment has no name, so nothing
    /// happens.
    ///
    /// * `NotFound`: the name is gone, or belongs to another segment, which keeps it
    /// * `Invalid`: the segment was opened by a descriptor, so this handle does not know the name
    pub fn unlink(&self) -> Result<()> {
        let Some(name) = &self.name else {
            return match self.file.facts()?.links {
                0 => Ok(()),
                _ => Err(Error::Invalid(
                    "the segment was opened by a descriptor, so this handle has no name; unlink it by its name".into(),
                )),
            };
        };
        let interruptible = self.options.interruptible;
        let origin = Origin::here();
        let _lock = match self.file.facts() {
            Ok(_) => ByteLock::best_of(self.file.as_fd(), UNLINK, interruptible)?,
            Err(_) => ByteLock::best_at(name.path(), UNLINK, interruptible)?,
        };
        directory::unlink_locked(name, self.file.device, self.file.inode, origin)
    }

    /// Returns the bytes of the mapping before the data.
    fn before(&self) -> u64 {
        self.managed
            .as_ref()
            .map_or(0, |managed| managed.header.control_bytes)
    }

    /// Returns the bytes of data for which the file has room.
    fn have(&self, file: &Facts) -> u64 {
        file.size.saturating_sub(self.before())
    }

    /// Returns the size of the data as the last grower recorded it; for a plain segment, the size that the file `has`.
    ///
    /// If the file has no data at all, its control area may be cut off too: reading it would be SIGBUS.
    fn recorded_size(&self, has: u64) -> u64 {
        match self.control() {
            Ok(control) if has > 0 => control.size(),
            _ => has,
        }
    }

    fn managed(&self) -> Result<&Managed> {
        self.managed.as_ref().ok_or_else(|| {
            Error::WrongKind(
                "the segment is plain: it has no control area for objects; create a managed segment".into(),
            )
        })
    }

    fn control(&self) -> Result<Control<'_>> {
        let header = &self.managed()?.header;
        Control::find(words(&self.map, header.control_bytes), header.participants)
    }

    /// Returns the address of the first byte of data.
    pub fn data(&self) -> *mut u8 {
        // The control area lies in the mapping (`control::check`), so the address does too.
        self.map.base().wrapping_add(self.before() as usize)
    }

    /// Returns the data as words, at its present size. `WrongKind`: a plain segment.
    pub(crate) fn words(&self) -> Result<Bytes<'_>> {
        self.managed()?;
        let end = self.before() + self.size()?;
        Ok(words(&self.map, end).from(self.before()))
    }

    /// Returns the built-in lock. `WrongKind`: a plain segment.
    pub(crate) fn built_in_lock(&self) -> Result<&crate::raw::lock::RawLock> {
        Ok(self.control()?.lock)
    }

    /// Returns the identity of this process, and claims one if there is none.
    ///
    /// `WrongKind`: a plain segment. `Permission`: a read-only handle. Others as of `Participant::id`.
    pub(crate) fn identify(&self) -> Result<Id> {
        let managed = self.managed()?;
        managed
            .participant()?
            .id(self.control()?.table, &managed.probe)
    }

    /// Returns the word that contains our identity; it is 0 before `identify` and in a forked child.
    pub(crate) fn identity_word(&self) -> Result<crate::sys::fork::ForkLocal> {
        Ok(self.managed()?.participant()?.id_word())
    }

    /// Returns the description of a participant; `None` if another process has its slot by now.
    pub fn process_info(&self, id: Id) -> Option<ProcessInfo> {
        self.control().ok()?.table.process_info(id)
    }

    /// Returns the random number of this segment, which no other one has. `WrongKind`: a plain segment.
    pub(crate) fn number(&self) -> Result<u64> {
        Ok(self.managed()?.header.id)
    }

    /// Returns whether a participant can have had this identity.
    pub(crate) fn has_had(&self, id: Id) -> bool {
        self.control()
            .is_ok_and(|control| control.table.has_had(id))
    }

    /// Returns the data, which other threads and processes may change at any time.
    pub fn bytes(&self) -> Result<&[AtomicU8]> {
        let size = self.size()? as usize;
        // SAFETY: `size` bytes from there are mapped and have memory as long as self lives. If another program truncates
        // a named file, an access is SIGBUS, not undefined. Other processes may change an AtomicU8 at any time. Through
        // a read-only mapping a store is SIGSEGV, as `Options::readonly` documents.
        Ok(unsafe { std::slice::from_raw_parts(self.data().cast::<AtomicU8>(), size) })
    }

    /// Returns the size of the data in bytes; another process may have grown the segment.
    ///
    /// `Corrupt`: the file is shorter than before, or than its header records: it was truncated.
    pub fn size(&self) -> Result<u64> {
        // Loaded first: a larger size that another thread sees meanwhile is no evidence of truncation.
        let seen = self.seen.load(Ordering::Relaxed);
        let mut have = self.have(&self.file.facts()?);
        let size = self.recorded_size(have);
        if size > have {
            // Another process may have grown it between the two reads.
            have = self.have(&self.file.facts()?);
        }
        if size < seen || size > have {
            let expected = seen.max(size);
            let text = format!(
                "the segment had {expected} bytes and now has {}: its file was truncated; recreate the segment",
                size.min(have)
            );
            return Err(Error::Corrupt(text.into()));
        }
        self.seen.fetch_max(size, Ordering::Relaxed);
        Ok(size.min(self.capacity()))
    }

    /// Copies data by a system call, so that reading does not allocate memory in the file.
    ///
    /// `Corrupt`: the file ends before. `LivenessUnknown`: the descriptor is lost.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let _cancel = CancelGuard::new();
        self.file.facts()?;
        match shm::read(&*self.file, self.before() + offset, bytes)? == bytes.len() {
            true => Ok(()),
            false => Err(Error::Corrupt(
                "the segment's file was truncated; recreate the segment".into(),
            )),
        }
    }

    /// Returns the address space of the data in bytes: the maximum size in this process.
    pub fn capacity(&self) -> u64 {
        self.map.capacity() - self.before()
    }

    /// Returns the descriptor of the file, which belongs to this handle.
    pub fn fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// Returns the name without directory or slash; `None` if the segment is anonymous or was opened by a descriptor.
    pub fn name(&self) -> Option<&CStr> {
        self.name.as_ref().map(Name::file)
    }

    /// Returns the directory of the name; `None` as for `name`.
    pub fn directory(&self) -> Option<&CStr> {
        self.name.as_ref().map(Name::directory)
    }

    /// Returns the bytes that this process now maps by huge pages; it reads /proc/self/smaps.
    pub fn huge_bytes(&self) -> u64 {
        self.map.huge_bytes()
    }

    /// Returns a description of the segment.
    pub fn stat(&self) -> Result<SegmentInfo> {
        let file = self.file.facts()?;
        let have = self.have(&file);
        Ok(SegmentInfo {
            file,
            size: self.recorded_size(have).min(have),
            capacity: self.capacity(),
            created: self.created,
            readonly: self.options.readonly,
            // Only memory files can be sealed (memfd_create(2)).
            sealed: self.name.is_none() && shm::is_sealed(&self.file),
            header: self.managed.as_ref().map(|managed| managed.header),
        })
    }
}

impl Managed {
    fn participant(&self) -> Result<&Participant> {
        self.participant.as_ref().ok_or_else(|| {
            Error::Permission(
                "this handle is read-only; open the segment for writing to use its objects".into(),
            )
        })
    }
}

impl Liveness for Segment {
    fn is_dead(&self, id: Id, origin: Origin) -> Result<bool> {
        /// For callers that poll: a process found alive counts as alive for this time.
        const LIVENESS_CACHE_NS: u64 = 1_000_000;
        let managed = self.managed()?;
        // A child that goes on with a call of its parent would claim an identity of its own here.
        origin.check()?;
        let mine = self.identify()?;
        let (known, when) = &managed.alive;
        let now = crate::sys::clock::monotonic();
        // The two loads may not belong together. At worst that delays or repeats a question.
        if known.load(Ordering::Relaxed) == id.bits()
            && now.saturating_sub(when.load(Ordering::Relaxed)) < LIVENESS_CACHE_NS
        {
            return Ok(false);
        }
        let dead = managed.probe.is_dead(id.ticket(), mine.ticket());
        origin.check()?;
        let dead = dead?;
        if !dead {
            known.store(id.bits(), Ordering::Relaxed);
            when.store(now, Ordering::Relaxed);
        }
        Ok(dead)
    }

    fn origin(&self, me: Id) -> Origin {
        match self
            .managed
            .as_ref()
            .and_then(|managed| managed.participant.as_ref())
        {
            Some(participant) => Origin::of(participant.id_word(), me.bits()),
            // A handle without a participant has no id.
            None => Origin::here(),
        }
    }
}
