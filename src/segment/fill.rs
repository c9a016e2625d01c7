//! Fills a file that nobody can find yet: memory, control area, and what is to stand in it.

use super::control::{Control, Plan};
use super::limits;
use super::name::Name;
use super::options::{Form, Options};
use super::reservation;
use crate::error::{Error, Result};
use crate::layout::{Bytes, Header, Kind};
use crate::participant;
use crate::sys::lockfile::{self, ATTACH};
use crate::sys::map::Map;
use crate::sys::process;
use crate::sys::shm;
use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

/// What a new segment is to hold, and how that is put there before anybody can find it.
pub(crate) struct Content<'a> {
    pub kind: Kind,
    /// How many bytes an older one has at the least that is opened instead; `None`: as many as a new one.
    pub least: Option<u64>,
    pub prepare: &'a dyn Fn(Bytes<'_>),
}

impl Content<'_> {
    /// Nothing.
    pub const NOTHING: Content<'static> = Content {
        kind: Kind::Segment,
        least: None,
        prepare: &|_| {},
    };
}

/// Maps the first `size` bytes of a file and room for `capacity`.
pub(super) fn map(file: &OwnedFd, size: u64, capacity: u64, options: &Options) -> Result<Map> {
    let page = process::page_size();
    let wanted = capacity.max(size);
    let capacity = wanted.checked_next_multiple_of(page).ok_or_else(|| {
        Error::TooLarge(format!("{wanted} bytes are more than an address space can have").into())
    })?;
    let map = Map::new(file, capacity, options.readonly)?;
    map.leave_out_of_dumps(size);
    Ok(map)
}

/// Returns the mapped bytes, in which words are found.
pub(super) fn words(map: &Map, size: u64) -> Bytes<'_> {
    let base = NonNull::new(map.base()).unwrap_or(NonNull::dangling());
    // SAFETY: as many bytes as the file has and the mapping has room for are mapped as long as the map lives; who
    // shares them uses the control area, and objects placed in the data, as atomics. A mapping for reading is only read:
    // those who store ask for a participant first, and there is none.
    unsafe { Bytes::new(base, size.min(map.capacity())) }
}

/// A file that nobody can find yet, filled and mapped.
pub(super) struct Filled {
    pub map: Map,
    pub header: Option<Header>,
}

/// Gives a file that nobody else knows its bytes, and its control area where it has one.
pub(super) fn fill(
    file: &OwnedFd,
    size: u64,
    options: &Options,
    content: &Content<'_>,
    place: &str,
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
        Error::TooLarge(format!("{size} bytes are more than a file can have").into())
    })?;
    let capacity = header.map_or(options.capacity, |header| header.capacity);
    let map = fill_bytes(file, total, capacity, options, place)?;
    if let Some(header) = &header {
        participant::check_support()?;
        // A sparse segment's control area is not: everybody touches it.
        reservation::reserve(file, 0, before, true, options.interruptible, place)?;
        // A temporary file may have a private name. Collectors leave it alone before it has a header, and then we are
        // attached.
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

/// Does to the bytes `[from, to)`, which have memory, what the options ask for.
pub(super) fn settle(map: &Map, from: u64, to: u64, options: &Options) -> Result<()> {
    if options.prefault {
        reservation::populate(map, from, to, options.interruptible)?;
    }
    if options.lock {
        map.lock(from, to)?;
    }
    Ok(())
}

/// Names the file system of a segment for people.
pub(super) fn place(name: Option<&Name>) -> Cow<'_, str> {
    name.map_or("memory".into(), |name| name.directory().to_string_lossy())
}
