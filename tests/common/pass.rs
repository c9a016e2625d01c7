//! Passes a descriptor to another process over a socket (unix(7)).

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Room for one descriptor in an ancillary message (unix(7)), aligned as its header.
#[repr(C, align(8))]
struct Ancillary([u8; 24]);

/// Builds a message of one byte and one descriptor, and passes it to `exchange`, which sends or receives it.
fn with_message(
    byte: &mut u8,
    room: &mut Ancillary,
    exchange: impl Fn(&mut libc::msghdr) -> isize,
) {
    let mut vector = libc::iovec {
        iov_base: (&raw mut *byte).cast(),
        iov_len: 1,
    };
    // SAFETY: all zeros is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = room.0.as_mut_ptr().cast();
    message.msg_controllen = room.0.len() as _;
    assert_eq!(
        exchange(&mut message),
        1,
        "{}",
        std::io::Error::last_os_error()
    );
}

/// The length of an ancillary message with one descriptor: its header and an int.
const ANCILLARY_LENGTH: usize = size_of::<libc::cmsghdr>() + size_of::<i32>();

/// Sends a descriptor.
pub fn send(socket: &UnixStream, fd: i32) {
    let mut room = Ancillary([0; 24]);
    room.0[..8].copy_from_slice(&ANCILLARY_LENGTH.to_ne_bytes());
    room.0[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
    room.0[12..16].copy_from_slice(&libc::SCM_RIGHTS.to_ne_bytes());
    room.0[16..20].copy_from_slice(&fd.to_ne_bytes());
    with_message(&mut 1, &mut room, |message| {
        // SAFETY: the message points to one byte and to an ancillary message, which live during the call.
        unsafe { libc::sendmsg(socket.as_raw_fd(), message, 0) }
    });
}

/// Receives a descriptor.
pub fn receive(socket: &UnixStream) -> OwnedFd {
    let mut room = Ancillary([0; 24]);
    with_message(&mut 0, &mut room, |message| {
        // SAFETY: the message points to room for one byte and one ancillary message, which lives during the call.
        unsafe { libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC) }
    });
    assert_eq!(room.0[..8], ANCILLARY_LENGTH.to_ne_bytes());
    assert_eq!(room.0[12..16], libc::SCM_RIGHTS.to_ne_bytes());
    let fd = i32::from_ne_bytes(room.0[16..20].try_into().unwrap());
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
