//! Descriptors that are readable while a flag is raised (eventfd(2)).

use super::refused;
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// A flag that poll(2) can see.
pub struct Flag(EventFd);

impl Flag {
    /// Creates a flag that is lowered. `Unsupported`: the kernel provides no descriptor.
    pub fn new() -> Result<Flag> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let made = EventFd::from_value_and_flags(0, flags);
        made.map(Flag)
            .map_err(|errno| match refused(errno, "cannot make an eventfd") {
                Error::System(cause) => Error::Unsupported(cause),
                other => other,
            })
    }

    /// Makes the descriptor readable.
    pub fn raise(&self) {
        // The write fails only if the counter is full, and then the flag is raised.
        let _ = self.0.write(1);
    }

    /// Makes the descriptor unreadable.
    pub fn lower(&self) {
        let mut count = [0; 8];
        // The read fails if the flag is lowered already; a signal interrupts it before it has read anything.
        while let Err(Errno::EINTR) = nix::unistd::read(self.0.as_fd(), &mut count) {}
    }

    /// Returns the descriptor, which belongs to this flag.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
