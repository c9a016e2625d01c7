//! Temporary files: a new segment has no name until it is complete (D-002).
//!
//! | file system     | while it is created             | published by         | if the creator dies         |
//! |-----------------|---------------------------------|----------------------|-----------------------------|
//! | knows O_TMPFILE | no name at all                  | linkat               | the kernel frees it         |
//! | does not        | a private name, its byte locked | renameat2(NOREPLACE) | the next creator removes it |

use super::name::{self, Name};
use super::options::DEFAULT_MODE;
use crate::error::{Error, Result};
use crate::sys::lockfile::{ByteLock, UNLINK};
use crate::sys::shm;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

/// A file that no other process can find yet. If it is dropped unpublished, the file is removed.
pub struct TempFile {
    file: OwnedFd,
    private: Option<Private>,
}

/// The private name of a temporary file; dropping it removes the name.
struct Private {
    name: Name,
    /// Shows other processes that the creator of this file is alive.
    alive: ByteLock,
}

impl Drop for Private {
    fn drop(&mut self) {
        // A forked child leaves the file to its parent. After the publication the private name is gone already.
        if self.alive.origin().is_here() {
            let _ = shm::unlink(self.name.path());
        }
    }
}

impl TempFile {
    /// Creates an empty file in the directory of `name`, for its owner alone.
    pub fn make(name: &Name, interruptible: bool) -> Result<TempFile> {
        match shm::make_unnamed(name.directory(), DEFAULT_MODE)? {
            Some(file) => Ok(TempFile {
                file,
                private: None,
            }),
            None => TempFile::make_private(name, interruptible),
        }
    }

    fn make_private(name: &Name, interruptible: bool) -> Result<TempFile> {
        sweep(name.directory())?;
        loop {
            let private = name.unfinished()?;
            let file = match shm::make_named(private.path(), DEFAULT_MODE) {
                Err(Error::Exists(_)) => continue,
                other => other?,
            };
            // Undo the umask: without these permission bits the byte cannot be locked.
            let locked = shm::set_mode(&file, DEFAULT_MODE)
                .and_then(|()| ByteLock::of(file.as_fd(), UNLINK, interruptible));
            let alive = match locked {
                Ok(alive) => alive,
                Err(error @ Error::Forked(_)) => return Err(error),
                Err(error) => {
                    let _ = shm::unlink(private.path());
                    return Err(error);
                }
            };
            let temp = TempFile {
                file,
                private: Some(Private {
                    name: private,
                    alive,
                }),
            };
            // A sweeper that came between the creation and the lock has removed it: try again.
            if shm::facts(&temp.file)?.links > 0 {
                return Ok(temp);
            }
        }
    }

    /// Returns the file, to be filled.
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Names the file, in one step. `Exists`: the name is taken.
    pub fn publish(&self, name: &Name) -> Result<()> {
        match &self.private {
            None => shm::publish(&self.file, name.path()),
            Some(private) => shm::rename(private.name.path(), name.path()),
        }
    }

    /// Returns the file, after its publication or instead of it.
    pub fn into_file(self) -> OwnedFd {
        self.file
    }
}

/// Removes the temporary files of dead processes in this directory.
pub fn sweep(directory: &CStr) -> Result<()> {
    let mut left = Vec::new();
    shm::list(directory, |file| {
        if file.to_bytes().starts_with(name::UNFINISHED) {
            left.push(Name::within(directory, file));
        }
        true
    })?;
    for old in left {
        let old = old?;
        // If the byte is locked, its creator is alive. After any other error the file is left alone.
        if let Ok(Some(_dead)) = ByteLock::attempt(old.path(), UNLINK) {
            let _ = shm::unlink(old.path());
        }
    }
    Ok(())
}
