//! Byte locks (`F_OFD_SETLK`, fcntl(2)) that are taken without the library.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;

/// Locks `count` bytes from `from` on for writing, until the last descriptor of this opening is closed.
pub fn lock(file: &File, from: i64, count: i64) {
    fcntl(file, FcntlArg::F_OFD_SETLK(&command(from, count))).expect("the bytes are not locked");
}

/// Opens the file behind a descriptor once more.
pub fn reopen(fd: i32) -> File {
    let path = format!("/proc/self/fd/{fd}");
    let opened = File::options().read(true).write(true).open(path);
    opened.expect("the descriptor is open")
}

/// Locks the bytes for reading; several openings may share such a lock.
pub fn share(file: &File, from: i64, count: i64) {
    let lock = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        ..command(from, count)
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).expect("the bytes are not locked");
}

/// Returns whether another opening holds a lock on this byte that excludes readers.
pub fn is_locked(file: &File, byte: i64) -> bool {
    let mut lock = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        ..command(byte, 1)
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).expect("the file supports locks");
    i32::from(lock.l_type) != libc::F_UNLCK
}

fn command(from: i64, count: i64) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: from,
        l_len: count,
        l_pid: 0,
    }
}
