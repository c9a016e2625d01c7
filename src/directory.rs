//! Directories of segments: found and checked under their names, removed, listed.
//!
//! If a process dies inside unlink, the name is still there, or it is gone.

use crate::error::{Error, Result};
use crate::name::{self, Name};
use crate::options::{Options, check_capacity, check_options};
use crate::sys::lockfile::{ByteLock, UNLINK};
use crate::sys::process;
use crate::sys::shm::{self, Facts};
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Opens the file of a segment and checks that it can be one.
pub fn find(name: &Name, size: u64, options: &Options) -> Result<(OwnedFd, Facts)> {
    loop {
        let file = shm::open(name.path(), options.readonly)?;
        let facts = shm::facts(&file)?;
        // Unlinked since it was opened: perhaps another stands under the name by now.
        if facts.links > 0 {
            check(&facts, size, options, || {
                name.path().to_string_lossy().into_owned()
            })?;
            return Ok((file, facts));
        }
    }
}

/// Refuses a file that cannot be the segment meant.
pub fn check(
    facts: &Facts,
    size: u64,
    options: &Options,
    place: impl Fn() -> String,
) -> Result<()> {
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
    if facts.size < size {
        let text = format!(
            "{} has {} bytes, at least {size} were expected",
            place(),
            facts.size
        );
        return Err(Error::Corrupt(text.into()));
    }
    check_options(options)?;
    check_capacity(facts.size, options)
}

/// Removes `name` if it stands for this file, whose UNLINK byte the caller holds: other unlinkers of it wait.
pub fn unlink_locked(name: &Name, file: &Facts) -> Result<()> {
    let now = shm::facts_at(name.path())?;
    if !now.is(file.device, file.inode) {
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
    unlink_locked(&name, &facts)
}

/// Calls `visit` with the name of each regular file that could be a segment in `directory`, until it returns false.
pub fn list(directory: Option<&CStr>, mut visit: impl FnMut(&CStr) -> bool) -> Result<()> {
    let directory = name::directory(directory)?;
    shm::list(&directory, |file| {
        file.to_bytes().starts_with(name::UNFINISHED) || visit(file)
    })
}
