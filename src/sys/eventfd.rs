//! Descriptors that can be read from while a flag is up (eventfd(2)).

use super::refused;
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// A flag that poll(2) can see.
pub struct Flag(EventFd);

impl Flag {
    /// Makes one that is down. `Unsupported`: no descriptor is to be had.
    pub fn new() -> Result<Flag> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let made = EventFd::from_value_and_flags(0, flags);
        made.map(Flag)
            .map_err(|errno| match refused(errno, "cannot make an eventfd") {
                Error::System(cause) => Error::Unsupported(cause),
                other => other,
            })
    }

    /// Puts it up.
    pub fn raise(&self) {
        // It fails only where it is up 2^64 times already.
        let _ = self.0.write(1);
    }

    /// Takes it down.
    pub fn lower(&self) {
        let mut count = [0; 8];
        // It fails where it is down already; a signal comes before anything is read.
        while let Err(Errno::EINTR) = nix::unistd::read(self.0.as_fd(), &mut count) {}
    }

    /// Returns the descriptor; it is this flag's.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
