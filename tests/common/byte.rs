//! Byte locks (`F_OFD_SETLK`, fcntl(2)) as anybody may take them, without the library.

use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;

/// Locks `count` bytes from `from` on for writing; they are free when the last descriptor of this opening is closed.
pub fn lock(file: &File, from: i64, count: i64) {
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: from,
        l_len: count,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).expect("nobody else holds a lock there");
}
