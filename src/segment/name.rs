//! Turns the name of a segment into the path of its file, and refuses what could mean another file.

use crate::error::{Error, Result};
use crate::sys::shm::{DEFAULT_DIRECTORY, NAME_MAX};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The variable that says where segments live, unless the caller does.
pub const DIRECTORY_VARIABLE: &str = "SHMKIT_DIR";

/// How the files begin that have not got their name yet, where the file system cannot do without one.
pub const UNFINISHED: &[u8] = b".shmkit-";

/// Where a segment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    directory: CString,
    path: CString,
}

/// Returns the directory meant: `directory`, else `SHMKIT_DIR`, else `/dev/shm`.
///
/// A relative one becomes absolute, because the name is looked up again when the segment is unlinked.
pub fn directory(directory: Option<&CStr>) -> Result<CString> {
    if let Some(directory) = directory.filter(|directory| !directory.is_empty()) {
        return absolute(directory.to_bytes());
    }
    match std::env::var_os(DIRECTORY_VARIABLE).filter(|value| !value.is_empty()) {
        Some(value) => absolute(value.as_bytes()),
        None => Ok(DEFAULT_DIRECTORY.to_owned()),
    }
}

fn absolute(directory: &[u8]) -> Result<CString> {
    let absolute = match directory {
        [b'/', ..] => directory.to_owned(),
        _ => std::path::absolute(OsStr::from_bytes(directory))
            .map_err(|_| Error::NotFound("the current directory is gone".into()))?
            .into_os_string()
            .into_vec(),
    };
    CString::new(absolute).map_err(|_| Error::Invalid("the directory contains a NUL byte".into()))
}

fn join(directory: &CStr, file: &[u8]) -> Result<CString> {
    let mut path = Vec::with_capacity(directory.count_bytes() + file.len() + 2);
    path.extend_from_slice(directory.to_bytes());
    path.push(b'/');
    path.extend_from_slice(file);
    CString::new(path).map_err(|_| Error::Invalid("the name contains a NUL byte".into()))
}

impl Name {
    /// Checks `name`, with or without the leading slash of shm_open(3), and finds its place.
    ///
    /// `Invalid`: nothing but a slash, `.`, `..`, a slash inside, more than 255 bytes, or the prefix of unfinished files.
    pub fn parse(name: &CStr, directory: Option<&CStr>) -> Result<Name> {
        let bytes = name.to_bytes();
        let bytes = bytes.strip_prefix(b"/").unwrap_or(bytes);
        let complaint = match bytes {
            b"" => "is empty",
            b"." | b".." => "is a directory",
            _ if bytes.contains(&b'/') => "has a slash inside",
            _ if bytes.len() > NAME_MAX => "is longer than 255 bytes",
            _ if bytes.starts_with(UNFINISHED) => {
                "begins with .shmkit-, which is kept for unfinished segments"
            }
            _ => {
                let directory = self::directory(directory)?;
                let path = join(&directory, bytes)?;
                return Ok(Name { directory, path });
            }
        };
        Err(Error::Invalid(
            format!("the name {:?} {complaint}", String::from_utf8_lossy(bytes)).into(),
        ))
    }

    /// Invents a name for a file in the same directory that is not finished yet.
    pub fn unfinished(&self) -> Result<Name> {
        use std::hash::{BuildHasher, Hasher, RandomState};
        let mut file = UNFINISHED.to_vec();
        file.extend_from_slice(
            format!("{:016x}", RandomState::new().build_hasher().finish()).as_bytes(),
        );
        Ok(Name {
            directory: self.directory.clone(),
            path: join(&self.directory, &file)?,
        })
    }

    /// Returns the name of a file that was found in this directory.
    pub fn within(directory: &CStr, file: &CStr) -> Result<Name> {
        Ok(Name {
            directory: directory.to_owned(),
            path: join(directory, file.to_bytes())?,
        })
    }

    /// Returns the directory.
    pub fn directory(&self) -> &CStr {
        &self.directory
    }

    /// Returns the whole path.
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// Returns the name itself, without directory or slash.
    pub fn file(&self) -> &CStr {
        // The path was joined from the directory, one slash and the name.
        let from = self.directory.count_bytes() + 1;
        CStr::from_bytes_with_nul(&self.path.as_bytes_with_nul()[from..]).unwrap_or_default()
    }
}
