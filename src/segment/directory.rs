//! Directories of segments: found and checked under their names, removed, listed, collected.
//!
//! | ATTACH byte of a managed segment | held by                                   |
//! |-------------------------------|-------------------------------------------|
//! | shared                        | everybody who has it mapped               |
//! | exclusive                     | a collector, between its look and its unlink |
//!
//! If a process dies inside unlink or gc, a name is still there, or it is gone.

use super::name::{self, Name};
use super::options::{Form, Options, check_options};
use crate::error::{Error, Result};
use crate::layout::{EPHEMERAL, HEADER, Header};
use crate::sys::fork::CloseOnForkFd;
use crate::sys::lockfile::{self, ATTACH, ByteLock, UNLINK};
use crate::sys::shm::{self, Facts};
use crate::sys::{interrupt, process};
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

/// What was found: a file that can be a segment.
pub struct Found {
    /// Open as the options say.
    pub file: OwnedFd,
    /// What the kernel says of it.
    pub facts: Facts,
    /// What stands at its beginning, where that is a managed segment; then the ATTACH byte is shared through `file`.
    pub header: Option<Header>,
}

/// Opens the file of a segment and checks that it can be one.
pub fn find(name: &Name, options: &Options) -> Result<Found> {
    /// How long to leave a collector alone that is just removing the name.
    const COLLECTOR_POLL_INTERVAL: std::time::Duration = std::time::Duration::from_micros(50);
    check_options(options)?;
    loop {
        let file = shm::open(name.path(), options.readonly)?;
        let first = shm::facts(&file)?;
        // Unlinked since it was opened: perhaps another stands under the name by now.
        if first.links == 0 {
            continue;
        }
        let place = || name.path().to_string_lossy().into_owned();
        check(&first, options, place)?;
        let Some(found) = attach(file, first, options, place)? else {
            interrupt::ask(options.interruptible)?;
            std::thread::sleep(COLLECTOR_POLL_INTERVAL);
            continue;
        };
        // A collector may have come between; once we are attached none comes any more.
        if found.facts.links > 0 {
            return Ok(found);
        }
    }
}

/// Reads the header where there may be one, and says to collectors that we are here; `None` where one is at work.
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
            format!("{} is a plain segment: it has no control area", place()).into(),
        ));
    }
    let mut facts = facts;
    if header.is_some() {
        if lockfile::share(file.as_fd(), ATTACH)?.is_none() {
            return Ok(None);
        }
        // Somebody may have let it grow between: the file has at least what the header says only if asked after it.
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

/// Removes a segment whose name goes with its last user, unless somebody is attached; says whether it did.
///
/// What is not such a segment, or not this user's to write, is left alone.
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
    // 1. Who comes from here on waits until we are gone, and then finds that the name is.
    if !ephemeral || lockfile::hold(fd, ATTACH)?.is_none() {
        return Ok(false);
    }
    // 2. Whoever is just removing the name needs no help.
    if lockfile::hold(fd, UNLINK)?.is_none() {
        return Ok(false);
    }
    // 3. The name may stand for another segment by now.
    match unlink_locked(name, facts.device, facts.inode) {
        Ok(()) => Ok(true),
        Err(Error::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the ephemeral segments in `directory` to which nobody is attached, and what killed makers have left there;
/// returns how many segments it were.
pub fn gc(directory: Option<&CStr>, interruptible: bool) -> Result<u64> {
    let directory = name::directory(directory)?;
    super::draft::sweep(&directory)?;
    let mut names = Vec::new();
    shm::list(&directory, |file| {
        names.push(Name::within(&directory, file));
        true
    })?;
    let mut count = 0;
    for name in names {
        interrupt::ask(interruptible)?;
        count += u64::from(collect(&name?)?);
    }
    Ok(count)
}

/// Refuses a file that cannot be the segment meant.
pub fn check(facts: &Facts, options: &Options, place: impl Fn() -> String) -> Result<()> {
    if !facts.regular {
        return Err(Error::WrongKind(
            format!("{} is not a regular file", place()).into(),
        ));
    }
    if facts.user != process::user() && !options.trust {
        let text = format!(
            "{} belongs to user {}, not to {}",
            place(),
            facts.user,
            process::user()
        );
        return Err(Error::Untrusted(text.into()));
    }
    if facts.size == 0 {
        let text = format!(
            "{} has no bytes: its maker has not sized it yet, or somebody truncated it",
            place()
        );
        return Err(Error::Corrupt(text.into()));
    }
    Ok(())
}

/// Removes `name` if it stands for this file, whose UNLINK byte the caller holds: other unlinkers of it wait.
pub fn unlink_locked(name: &Name, device: u64, inode: u64) -> Result<()> {
    let now = shm::facts_at(name.path())?;
    if !now.is(device, inode) {
        let text = format!(
            "{} stands for another segment by now",
            name.path().to_string_lossy()
        );
        return Err(Error::NotFound(text.into()));
    }
    shm::unlink(name.path())
}

/// Removes a name without opening the segment: whatever it stands for, or only the file `(device, inode)`.
///
/// `NotFound`: nothing stands there, or another file than the one meant.
pub fn unlink(
    name: &CStr,
    directory: Option<&CStr>,
    only: Option<(u64, u64)>,
    interruptible: bool,
) -> Result<()> {
    let name = Name::parse(name, directory)?;
    let facts = shm::facts_at(name.path())?;
    if !facts.regular {
        return Err(Error::WrongKind(
            format!("{} is not a regular file", name.path().to_string_lossy()).into(),
        ));
    }
    if only.is_some_and(|(device, inode)| !facts.is(device, inode)) {
        return Err(Error::NotFound(
            "another segment stands under this name by now".into(),
        ));
    }
    // Who may neither read nor write the file holds no lock, but may remove its name where the directory lets them.
    let _lock = ByteLock::best_at(name.path(), UNLINK, interruptible)?;
    unlink_locked(&name, facts.device, facts.inode)
}

/// Calls `visit` with the name of each regular file that could be a segment in `directory`, until it returns false.
pub fn list(directory: Option<&CStr>, mut visit: impl FnMut(&CStr) -> bool) -> Result<()> {
    let directory = name::directory(directory)?;
    shm::list(&directory, |file| {
        file.to_bytes().starts_with(name::UNFINISHED) || visit(file)
    })
}
