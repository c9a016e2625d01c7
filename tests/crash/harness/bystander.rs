//! A process that does what the victim does, at the same time, and has to wait for it.

use crate::suite::harness::operation::{Crime, Finding};
use crate::suite::harness::process::{self, WATCHDOG};
use nix::sys::signal::{self, Signal};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// It is stopped first, until `go`; dropped, it is killed.
pub struct Bystander {
    process: Pid,
    over: Cell<bool>,
}

impl Bystander {
    /// Starts it: `body` prepares, calls `process::stop_here`, and runs.
    pub fn start(body: impl FnOnce() -> i32) -> Result<Bystander, Finding> {
        let bystander = Bystander {
            process: process::spawn(|| -body()),
            over: Cell::new(false),
        };
        match bystander.wait(WATCHDOG) {
            Some(WaitStatus::Stopped(_, Signal::SIGSTOP)) => Ok(bystander),
            other => {
                let text = format!("a bystander cannot prepare: {other:?}");
                Err(Crime::Misbehaved.found(text))
            }
        }
    }

    /// Waits for it; `None` when the time is up.
    fn wait(&self, seconds: u32) -> Option<WaitStatus> {
        let now = process::wait(self.process, seconds).ok()?;
        let over = matches!(now, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
        self.over.set(over);
        Some(now)
    }

    /// Lets it run until it sleeps for somebody else, which is true, or has ended, which is false.
    pub fn go(&self) -> Result<bool, Finding> {
        const LOOK_AGAIN: Duration = Duration::from_micros(50);
        let _ = signal::kill(self.process, Signal::SIGCONT);
        let patience = Instant::now() + Duration::from_secs(u64::from(WATCHDOG));
        while Instant::now() < patience {
            let ended = process::has_ended(self.process);
            if ended || process::waits(self.process) {
                return Ok(!ended);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Err(Crime::Stuck.found("a bystander neither waits nor ends"))
    }

    /// Waits until it has ended, as it must now that nobody lives who holds anything; returns its status.
    pub fn end(&self, patience: u32) -> Result<i32, Finding> {
        match self.wait(patience) {
            Some(WaitStatus::Exited(_, process::PANICKED)) => {
                Err(Crime::Misbehaved.found("a bystander panicked"))
            }
            Some(WaitStatus::Exited(_, code)) => Ok(-code),
            Some(other) => Err(Crime::Refused.found(format!("a bystander's end: {other:?}"))),
            None => Err(Crime::Stuck.found(format!("a bystander still waits after {patience} s"))),
        }
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        if !self.over.get() {
            process::kill(self.process);
        }
    }
}
