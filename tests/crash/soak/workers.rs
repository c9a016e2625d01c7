//! Workers that are killed and replaced at random times.

use crate::suite::harness::operation::{Failure, Violation};
use crate::suite::harness::process::{self, WATCHDOG};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::time::{Duration, Instant};

fn ended(end: &WaitStatus) -> Failure {
    Violation::Refused.failure(format!("a worker has ended: {end:?}"))
}

/// Kills a worker, which must be alive.
pub fn kill_live(worker: Pid) -> Result<(), Failure> {
    if process::has_ended(worker) {
        let end = process::wait(worker, WATCHDOG).expect("the worker has ended");
        return Err(ended(&end));
    }
    process::kill(worker);
    Ok(())
}

/// Waits until all workers have ended well, `limit` seconds for each; kills those that do not end.
pub fn expect_ends(workers: &[Pid], limit: u32) -> Result<(), Failure> {
    let mut result = Ok(());
    for &worker in workers {
        match process::wait(worker, limit) {
            Ok(WaitStatus::Exited(_, 0)) => {}
            Ok(end) => result = Err(ended(&end)),
            Err(_) => {
                process::kill(worker);
                result = Err(Violation::Stuck.failure("a worker does not end"));
            }
        }
    }
    result
}

/// Watches a count that must grow.
pub struct Progress {
    last: u64,
    since: Instant,
}

impl Progress {
    /// Starts at zero.
    pub fn new() -> Progress {
        Progress {
            last: 0,
            since: Instant::now(),
        }
    }

    /// Fails if the count has not grown for as long as the watchdog waits.
    pub fn check(&mut self, now: u64) -> Result<(), Failure> {
        if now != self.last {
            (self.last, self.since) = (now, Instant::now());
        } else if self.since.elapsed() > Duration::from_secs(u64::from(WATCHDOG)) {
            return Err(Violation::Stuck.failure("no worker makes progress"));
        }
        Ok(())
    }
}
