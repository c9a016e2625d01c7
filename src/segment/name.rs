//! Turns the name of a segment into the path of its file, and refuses names that could lead to another file.

use crate::error::{Error, Result};
use crate::sys::process;
use crate::sys::shm::{DEFAULT_DIRECTORY, NAME_MAX};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The environment variable with the directory of segments; the caller's directory takes precedence.
pub const DIRECTORY_VARIABLE: &str = "SHMKIT_DIR";

/// The prefix of temporary files in a file system that cannot create files without a name.
pub const UNFINISHED: &[u8] = b".shmkit-";

/// The directory and the path of a segment's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    directory: CString,
    path: CString,
}

/// Returns `directory`, or else `SHMKIT_DIR`, or else `/dev/shm`.
///
/// A relative directory becomes absolute, because the name is looked up again when the segment is unlinked.
pub fn directory(directory: Option<&CStr>) -> Result<CString> {
    if let Some(directory) = directory.filter(|directory| !directory.is_empty()) {
        return absolute(directory.to_bytes());
    }
    let variable = match process::is_privileged() {
        true => None,
        false => std::env::var_os(DIRECTORY_VARIABLE),
    };
    match variable.filter(|value| !value.is_empty()) {
        Some(value) => absolute(value.as_bytes()),
        None => Ok(DEFAULT_DIRECTORY.to_owned()),
    }
}

fn absolute(directory: &[u8]) -> Result<CString> {
    let absolute = match directory {
        [b'/', ..] => directory.to_owned(),
        _ => std::path::absolute(OsStr::from_bytes(directory))
            .map_err(|_| {
                Error::NotFound(
                    "the current directory was removed; use an absolute directory".into(),
                )
            })?
            .into_os_string()
            .into_vec(),
    };
    CString::new(absolute)
        .map_err(|_| Error::Invalid("the directory must not contain a NUL byte".into()))
}

fn join(directory: &CStr, file: &[u8]) -> Result<CString> {
    let mut path = Vec::with_capacity(directory.count_bytes() + file.len() + 2);
    path.extend_from_slice(directory.to_bytes());
    path.push(b'/');
    path.extend_from_slice(file);
    CString::new(path).map_err(|_| Error::Invalid("the name must not contain a NUL byte".into()))
}

impl Name {
    /// Checks `name`, with or without the leading slash of shm_open(3), and joins it to its directory.
    ///
    /// `Invalid`: the name is empty, `.` or `..`, has a slash inside, has more than 255 bytes, or has the prefix of
    /// temporary files.
    pub fn parse(name: &CStr, directory: Option<&CStr>) -> Result<Name> {
        let bytes = name.to_bytes();
        let bytes = bytes.strip_prefix(b"/").unwrap_or(bytes);
        let rule = match bytes {
            b"" => "not be empty",
            b"." | b".." => "not be a directory",
            _ if bytes.contains(&b'/') => "not contain a slash",
            _ if bytes.len() > NAME_MAX => "not be longer than 255 bytes",
            _ if bytes.starts_with(UNFINISHED) => {
                "not begin with .shmkit-, the prefix of temporary files"
            }
            _ => {
                let directory = self::directory(directory)?;
                let path = join(&directory, bytes)?;
                return Ok(Name { directory, path });
            }
        };
        let name = String::from_utf8_lossy(bytes);
        Err(Error::Invalid(
            format!("the name '{}' must {rule}", name.escape_debug()).into(),
        ))
    }

    /// Returns a random name for a temporary file in the same directory.
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

    /// Returns the path of the file.
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
