//! Byte locks (`F_OFD_SETLK`, fcntl(2)) as anybody may take them, without the library.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;

/// Locks `count` bytes from `from` on for writing; they are free when the last descriptor of this opening is closed.
pub fn lock(file: &File, from: i64, count: i64) {
    fcntl(file, FcntlArg::F_OFD_SETLK(&command(from, count)))
        .expect("nobody else holds a lock there");
}

/// Opens the file behind a descriptor afresh.
pub fn reopen(fd: i32) -> File {
    let path = format!("/proc/self/fd/{fd}");
    let opened = File::options().read(true).write(true).open(path);
    opened.expect("the descriptor is open")
}

/// As `lock`, for reading: several may share it.
pub fn share(file: &File, from: i64, count: i64) {
    let lock = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        ..command(from, count)
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).expect("nobody else holds a lock there");
}

/// Says whether somebody else, through another opening, holds a lock on this byte that keeps out readers.
pub fn is_locked(file: &File, byte: i64) -> bool {
    let mut lock = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        ..command(byte, 1)
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).expect("the file knows locks");
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
