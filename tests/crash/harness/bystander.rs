//! A process that uses the object under test while the victim does, and may have to wait for it.

use crate::suite::harness::operation::{Failure, Violation};
use crate::suite::harness::process::{self, WATCHDOG};
use nix::sys::signal::{self, Signal};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The process is stopped until `go`; dropping it kills it.
pub struct Bystander {
    process: Pid,
    over: Cell<bool>,
}

impl Bystander {
    /// Starts it: `body` prepares, calls `process::stop_here`, and runs.
    pub fn start(body: impl FnOnce() -> i32) -> Result<Bystander, Failure> {
        let bystander = Bystander {
            process: process::spawn(|| -body()),
            over: Cell::new(false),
        };
        match bystander.wait(WATCHDOG) {
            Some(WaitStatus::Stopped(_, Signal::SIGSTOP)) => Ok(bystander),
            other => {
                let text = format!("a bystander cannot prepare: {other:?}");
                Err(Violation::Misbehaved.failure(text))
            }
        }
    }

    /// Waits for it; `None` if the time limit is exceeded.
    fn wait(&self, seconds: u32) -> Option<WaitStatus> {
        let now = process::wait(self.process, seconds).ok()?;
        let over = matches!(now, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
        self.over.set(over);
        Some(now)
    }

    /// Continues it until it waits for another process (true) or has ended (false).
    pub fn go(&self) -> Result<bool, Failure> {
        const LOOK_AGAIN: Duration = Duration::from_micros(50);
        let _ = signal::kill(self.process, Signal::SIGCONT);
        let deadline = Instant::now() + Duration::from_secs(u64::from(WATCHDOG));
        while Instant::now() < deadline {
            let ended = process::has_ended(self.process);
            if ended || process::waits(self.process) {
                return Ok(!ended);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Err(Violation::Stuck.failure("a bystander neither waits nor ends"))
    }

    /// Waits until it has ended, as it must, because no live process holds anything; returns its status.
    pub fn end(&self, limit: u32) -> Result<i32, Failure> {
        match self.wait(limit) {
            Some(WaitStatus::Exited(_, process::PANICKED)) => {
                Err(Violation::Misbehaved.failure("a bystander panicked"))
            }
            Some(WaitStatus::Exited(_, code)) => Ok(-code),
            Some(other) => {
                Err(Violation::Refused.failure(format!("a bystander has ended: {other:?}")))
            }
            None => {
                Err(Violation::Stuck.failure(format!("a bystander still waits after {limit} s")))
            }
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
