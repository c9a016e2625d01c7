//! Directories of segments: how segments are found by name, checked, removed, listed and collected.
//!
//! | ATTACH byte of a managed segment | held by                                          |
//! |----------------------------------|--------------------------------------------------|
//! | shared                           | every process that has the segment mapped        |
//! | exclusive                        | a collector, between its check and its unlink    |
//!
//! If a process dies inside unlink or gc, the name still exists, or it is removed.

use super::name::{self, Name};
use super::options::{Form, Options, check_options};
use crate::error::{Error, Result};
use crate::layout::{EPHEMERAL, HEADER, Header};
use crate::sys::fork::{CloseOnForkFd, Origin};
use crate::sys::lockfile::{self, ATTACH, ByteLock, UNLINK};
use crate::sys::shm::{self, Facts};
use crate::sys::{interrupt, process};
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

/// A file that can be a segment.
pub struct Found {
    /// Open as the options ask.
    pub file: OwnedFd,
    /// What the kernel reports about it.
    pub facts: Facts,
    /// The header of a managed segment; if there is one, `file` holds the ATTACH byte shared.
    pub header: Option<Header>,
}

/// Opens the file of a segment and checks that it can be one.
pub fn find(name: &Name, options: &Options) -> Result<Found> {
    /// Time between two looks at a name that a collector is removing.
    const COLLECTOR_POLL_INTERVAL: std::time::Duration = std::time::Duration::from_micros(50);
    check_options(options)?;
    let origin = Origin::here();
    loop {
        let file = shm::open(name.path(), options.readonly)?;
        let first = shm::facts(&file)?;
        // Unlinked after the open: the name may belong to another segment by now.
        if first.links == 0 {
            continue;
        }
        let place = || name.path().to_string_lossy().into_owned();
        check(&first, options, place)?;
        let Some(found) = attach(file, first, options, place)? else {
            interrupt::ask(options.interruptible, origin)?;
            std::thread::sleep(COLLECTOR_POLL_INTERVAL);
            continue;
        };
        // A collector may have removed the name before we were attached; after that no collector removes it.
        if found.facts.links > 0 {
            return Ok(found);
        }
    }
}

/// Reads the header, if there may be one, and shows collectors that this process is attached; `None` if a collector is
/// removing the segment.
pub fn attach(
    file: OwnedFd,
    facts: Facts,
    options: &Options,
    place: impl Fn() -> String,
) -> Result<Option<Found>> {
    let header = match options.form {
        Form::Plain => None,
        Form::Either | Form::Managed => header_of(&file)?,
    };
    if header.is_none() && options.form == Form::Managed {
        return Err(Error::WrongKind(
            format!(
                "{} is a plain segment, without a control area for objects; \
                 open it as a plain segment, or choose another name",
                place()
            )
            .into(),
        ));
    }
    let mut facts = facts;
    if header.is_some() {
        if lockfile::share(file.as_fd(), ATTACH)?.is_none() {
            return Ok(None);
        }
        // Another process may have grown the segment: only a size read after the header covers what the header claims.
        facts = shm::facts(&file)?;
    }
    Ok(Some(Found {
        file,
        facts,
        header,
    }))
}

fn header_of(file: &OwnedFd) -> Result<Option<Header>> {
    let mut bytes = [0; HEADER];
    let count = shm::read(file, 0, &mut bytes)?;
    Header::parse(&bytes[..count])
}

/// Removes an ephemeral segment to which no process is attached; returns whether it did.
///
/// Leaves alone any other file, and a file that this user may not write.
pub fn collect(name: &Name) -> Result<bool> {
    let Ok(file) = CloseOnForkFd::open(|| shm::open(name.path(), false)) else {
        return Ok(false);
    };
    let (fd, facts) = (file.borrow(), shm::facts(file.borrow())?);
    let mut bytes = [0; HEADER];
    if !facts.regular || facts.user != process::user() {
        return Ok(false);
    }
    let count = shm::read(fd, 0, &mut bytes)?;
    let ephemeral = matches!(
        Header::parse(&bytes[..count]),
        Ok(Some(header)) if header.flags & EPHEMERAL != 0
    );
    // 1. A process that opens the segment from here on waits until we finish, and then finds that the name is gone.
    if !ephemeral || lockfile::hold(fd, ATTACH)?.is_none() {
        return Ok(false);
    }
    // 2. If another process is removing the name already, leave it alone.
    if lockfile::hold(fd, UNLINK)?.is_none() {
        return Ok(false);
    }
    // 3. The name may belong to another segment by now.
    match unlink_locked(name, facts.device, facts.inode, file.origin()) {
        Ok(()) => Ok(true),
        Err(Error::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the ephemeral segments in `directory` to which no process is attached, and the temporary files of dead
/// processes; returns the number of removed segments.
pub fn gc(directory: Option<&CStr>, interruptible: bool) -> Result<u64> {
    let directory = name::directory(directory)?;
    super::draft::sweep(&directory)?;
    let mut names = Vec::new();
    shm::list(&directory, |file| {
        names.push(Name::within(&directory, file));
        true
    })?;
    let mut count = 0;
    let origin = Origin::here();
    for name in names {
        interrupt::ask(interruptible, origin)?;
        count += u64::from(collect(&name?)?);
    }
    Ok(count)
}

/// Checks that a file can be the segment that the caller wants.
pub fn check(facts: &Facts, options: &Options, place: impl Fn() -> String) -> Result<()> {
    if !facts.regular {
        return Err(Error::WrongKind(
            format!(
                "{} must be a regular file to be opened as a segment",
                place()
            )
            .into(),
        ));
    }
    if facts.user != process::user() && !options.trust {
        let text = format!(
            "{} belongs to user {}, not to user {}; use the trust option to open it",
            place(),
            facts.user,
            process::user()
        );
        return Err(Error::Untrusted(text.into()));
    }
    if facts.size == 0 {
        let text = format!(
            "{} has no bytes: its creator has not set its size yet, or it was truncated; retry, or recreate it",
            place()
        );
        return Err(Error::Corrupt(text.into()));
    }
    Ok(())
}

/// Removes `name` if it belongs to this file. The caller holds the file's UNLINK byte, so other unlinkers wait.
///
/// `Forked`: `origin`, which holds the byte, is the parent of this process.
pub fn unlink_locked(name: &Name, device: u64, inode: u64, origin: Origin) -> Result<()> {
    let now = shm::facts_at(name.path())?;
    origin.check()?;
    if !now.is(device, inode) {
        let text = format!(
            "{} belongs to another segment by now; leave that one alone, or unlink it by its name",
            name.path().to_string_lossy()
        );
        return Err(Error::NotFound(text.into()));
    }
    shm::unlink(name.path())
}

/// Removes a name without opening the segment: whatever file it has, or only the file `(device, inode)`.
///
/// `NotFound`: there is no such name, or it belongs to another file.
pub fn unlink(
    name: &CStr,
    directory: Option<&CStr>,
    only: Option<(u64, u64)>,
    interruptible: bool,
) -> Result<()> {
    let origin = Origin::here();
    let name = Name::parse(name, directory)?;
    let facts = shm::facts_at(name.path())?;
    if !facts.regular {
        return Err(Error::WrongKind(
            format!(
                "{} must be a regular file to be removed as a segment",
                name.path().to_string_lossy()
            )
            .into(),
        ));
    }
    if only.is_some_and(|(device, inode)| !facts.is(device, inode)) {
        return Err(Error::NotFound(
            format!(
                "{} belongs to another segment by now; leave that one alone, or unlink it by its name",
                name.path().to_string_lossy()
            )
            .into(),
        ));
    }
    // A process that may neither read nor write the file holds no lock. The directory may still let it remove the name.
    let _lock = ByteLock::best_at(name.path(), UNLINK, interruptible)?;
    unlink_locked(&name, facts.device, facts.inode, origin)
}

/// Calls `visit` with the name of each regular file that could be a segment in `directory`, until it returns false.
pub fn list(directory: Option<&CStr>, mut visit: impl FnMut(&CStr) -> bool) -> Result<()> {
    let directory = name::directory(directory)?;
    shm::list(&directory, |file| {
        file.to_bytes().starts_with(name::UNFINISHED) || visit(file)
    })
}
