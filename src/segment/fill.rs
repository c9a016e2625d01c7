//! Fills a file that no other process can find yet: its memory, its control area and its first object.

use super::control::{Control, Plan};
use super::limits;
use super::name::Name;
use super::options::{Form, Options};
use super::reservation;
use crate::error::{Error, Result};
use crate::layout::{Bytes, Header, Kind};
use crate::participant;
use crate::sys::fork::Origin;
use crate::sys::lockfile::{self, ATTACH};
use crate::sys::map::Map;
use crate::sys::process;
use crate::sys::shm;
use crate::sys::thread::SignalGuard;
use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

/// What a new segment contains, and how that is initialised before another process can find it.
pub(crate) struct Content<'a> {
    pub kind: Kind,
    /// Minimum size in bytes of an existing segment that is opened instead; `None`: the size of a new one.
    pub least: Option<u64>,
    pub prepare: &'a dyn Fn(Bytes<'_>),
}

impl Content<'_> {
    /// No object.
    pub const NOTHING: Content<'static> = Content {
        kind: Kind::Segment,
        least: None,
        prepare: &|_| {},
    };
}

/// Maps the first `size` bytes of a file, and reserves address space for `capacity`.
pub(super) fn map(file: &OwnedFd, size: u64, capacity: u64, options: &Options) -> Result<Map> {
    let page = process::page_size();
    let wanted = capacity.max(size);
    let capacity = wanted.checked_next_multiple_of(page).ok_or_else(|| {
        Error::TooLarge(
            format!(
                "{wanted} bytes are more than the address space; reduce the size or the capacity"
            )
            .into(),
        )
    })?;
    let map = Map::new(file, capacity, options.readonly)?;
    map.leave_out_of_dumps(size);
    Ok(map)
}

/// Returns the mapped bytes as words.
pub(super) fn words(map: &Map, size: u64) -> Bytes<'_> {
    let base = NonNull::new(map.base()).unwrap_or(NonNull::dangling());
    // SAFETY: the bytes are within the file and the mapping, and stay mapped as long as the map lives. All processes
    // access the control area, and objects placed in the data, as atomics. A read-only mapping is only read: a caller
    // that stores something needs a participant first, and a read-only segment has none.
    unsafe { Bytes::new(base, size.min(map.capacity())) }
}

/// A file that no other process can find yet, filled and mapped.
pub(super) struct Filled {
    pub map: Map,
    pub header: Option<Header>,
}

/// Gives memory to a file that no other process has opened, and a control area if it is managed.
///
/// `Forked`: `origin`, which began to create it, is the parent of this process.
pub(super) fn fill(
    file: &OwnedFd,
    size: u64,
    options: &Options,
    content: &Content<'_>,
    place: &str,
    origin: Origin,
) -> Result<Filled> {
    let plan = Plan {
        kind: content.kind,
        participants: options.participants,
        ephemeral: options.ephemeral,
    };
    let header = match options.form {
        Form::Managed => Some(plan.header(size, options.capacity)?),
        Form::Plain | Form::Either => None,
    };
    let before = header.map_or(0, |header| header.control_bytes);
    let total = before.checked_add(size).ok_or_else(|| {
        Error::TooLarge(
            format!("{size} bytes are more than a file can have; reduce the size").into(),
        )
    })?;
    let capacity = header.map_or(options.capacity, |header| header.capacity);
    let map = fill_bytes(file, total, capacity, options, place)?;
    if let Some(header) = &header {
        participant::check_support()?;
        // The control area of a sparse segment has memory: every process uses it.
        reservation::reserve(file, 0, before, true, options.interruptible, place)?;
        // A child that a handler forks here must not initialise an object that its parent uses by then.
        let _signals = SignalGuard::new();
        origin.check()?;
        // A temporary file may have a private name. Collectors ignore it while it has no header; from the header on we
        // are attached.
        lockfile::share(file.as_fd(), ATTACH)?;
        shm::write_start(file, &header.to_bytes())?;
        let bytes = words(&map, total);
        let control = Control::find(bytes, header.participants)?;
        control.lock.tag.store(Kind::Lock as u64, Ordering::Relaxed);
        (content.prepare)(bytes.from(before));
    }
    settle(&map, 0, total, options)?;
    Ok(Filled { map, header })
}

fn fill_bytes(
    file: &OwnedFd,
    size: u64,
    capacity: u64,
    options: &Options,
    place: &str,
) -> Result<Map> {
    limits::check_file_size(size)?;
    if !options.no_space_check && !options.sparse {
        limits::check_room(file, size, place)?;
    }
    let reserve = || reservation::reserve(file, 0, size, false, options.interruptible, place);
    if options.huge || options.sparse {
        shm::set_size(file, size)?;
        let map = map(file, size, capacity, options)?;
        if options.huge {
            reservation::collapse(file, &map, 0, size, options.interruptible)?;
        }
        if !options.sparse {
            reserve()?;
        }
        Ok(map)
    } else {
        reserve()?;
        map(file, size, capacity, options)
    }
}

/// Prefaults and locks the bytes `[from, to)`, which have memory, as the options ask.
pub(super) fn settle(map: &Map, from: u64, to: u64, options: &Options) -> Result<()> {
    if options.prefault {
        reservation::populate(map, from, to, options.interruptible)?;
    }
    if options.lock {
        map.lock(from, to)?;
    }
    Ok(())
}

/// Returns the name of the segment's file system for error messages.
pub(super) fn place(name: Option<&Name>) -> Cow<'_, str> {
    name.map_or("memory".into(), |name| name.directory().to_string_lossy())
}
