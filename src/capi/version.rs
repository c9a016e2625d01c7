//! Version: which library runs, and whether a program was built for it.

use super::run;
use super::status::shmkit_status;
use crate::error::Error;
use std::ffi::c_char;

/// Incremented by changes that break programs. While the major version is 0,
/// SHMKIT_VERSION_MINOR has this role.
pub const SHMKIT_VERSION_MAJOR: u32 = 0;
/// Incremented by additions.
pub const SHMKIT_VERSION_MINOR: u32 = 1;
/// Incremented by fixes.
pub const SHMKIT_VERSION_PATCH: u32 = 0;
/// The version as one number that only grows: major * 1000000 + minor * 1000 + patch.
pub const SHMKIT_VERSION: u32 = 1_000;

const _: () = assert!(
    SHMKIT_VERSION
        == SHMKIT_VERSION_MAJOR * 1_000_000 + SHMKIT_VERSION_MINOR * 1_000 + SHMKIT_VERSION_PATCH
);

/// Returns the version of the running library, to be compared with SHMKIT_VERSION of the header.
#[unsafe(no_mangle)]
pub extern "C" fn shmkit_version() -> u32 {
    SHMKIT_VERSION
}

/// Returns the version of the running library as text, such as "0.1.0". Do not free it.
#[unsafe(no_mangle)]
pub extern "C" fn shmkit_version_string() -> *const c_char {
    const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    TEXT.as_ptr().cast()
}

/// Checks that a program built with version `built_with` of the header can use the running library.
///
/// Call it first: shmkit_check_version(SHMKIT_VERSION).
///
///   SHMKIT_ERR_VERSION_MISMATCH  the library has another major version (while that is 0, another
///                                minor version), or is older than the header
#[unsafe(no_mangle)]
pub extern "C" fn shmkit_check_version(built_with: u32) -> shmkit_status {
    const SERIES: u32 = if SHMKIT_VERSION_MAJOR == 0 {
        1_000
    } else {
        1_000_000
    };
    run(|| {
        if built_with / SERIES == SHMKIT_VERSION / SERIES && built_with <= SHMKIT_VERSION {
            return Ok(());
        }
        let remedy = match built_with > SHMKIT_VERSION {
            true => "update the library",
            false => "rebuild the program",
        };
        let text = format!(
            "the program was built for shmkit {built_with}, this is {SHMKIT_VERSION}; {remedy}"
        );
        Err(Error::VersionMismatch(text.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_the_crates() {
        let version =
            format!("{SHMKIT_VERSION_MAJOR}.{SHMKIT_VERSION_MINOR}.{SHMKIT_VERSION_PATCH}");
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
    }
}
