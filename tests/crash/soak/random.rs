//! Kills at random times, where single steps lead nowhere: inside a long system call, and among forks.

use crate::suite::harness::operation::Violation;
use crate::suite::harness::process::{self, WATCHDOG};
use crate::suite::harness::report::Report;
use crate::suite::harness::series::{MAX_FAILURES, Plan, Series};
use crate::suite::harness::shared_state::shared_state;
use crate::suite::harness::trace::Trouble;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{ForkResult, Pid, fork};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// Pseudo-random numbers.
pub struct Rng(u64);

impl Rng {
    /// Starts with a seed.
    pub fn new(seed: usize) -> Rng {
        // Not 0, which would stay 0.
        Rng((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns the next number below `limit` (xorshift64, <https://en.wikipedia.org/wiki/Xorshift>).
    pub fn number(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }

    /// Returns the next duration below `limit`.
    pub fn below(&mut self, limit: Duration) -> Duration {
        Duration::from_nanos(self.number(limit.as_nanos() as u64))
    }
}

/// Returns the numbers of this run, whose seed is its offset.
pub fn rng(plan: &Plan) -> Rng {
    Rng::new(plan.offset)
}

/// Returns the number of victims: `few` in the default run, more in a complete one.
fn victims(plan: &Plan, few: usize) -> usize {
    if plan.every == Some(1) { 4 * few } else { few }
}

/// Kills an operation at random times during its run.
pub fn run_long(series: &Series, plan: &Plan) -> Result<Report, Trouble> {
    const VICTIMS: usize = 12;
    let start = || -> Result<Pid, Trouble> {
        series.run_setup()?;
        Ok(process::spawn(|| -series.victim(process::stop_here)))
    };
    let prepared = |victim| match process::wait(victim, WATCHDOG) {
        Ok(WaitStatus::Stopped(..)) => nix::sys::signal::kill(victim, Signal::SIGCONT)
            .map_err(|errno| format!("a victim cannot be continued: {errno}")),
        other => Err(format!("a victim did not come to its marker: {other:?}")),
    };
    let unharmed = start()?;
    prepared(unharmed)?;
    let begin = Instant::now();
    match process::wait(unharmed, WATCHDOG) {
        Ok(WaitStatus::Exited(_, 0)) => {}
        other => return Err(format!("without being killed: {other:?}")),
    }
    let mut duration = begin.elapsed();
    series.verify(true).map_err(|failure| failure.to_string())?;
    let (mut rng, mut report) = (rng(plan), Report::new(victims(plan, VICTIMS), 0, 1));
    let begin = Instant::now();
    for _ in 0..report.points {
        let victim = start()?;
        prepared(victim)?;
        let pause = rng.below(duration);
        std::thread::sleep(pause);
        let late = process::has_ended(victim);
        if late {
            // The first run was slower, as under load.
            duration = pause;
        }
        process::kill(victim);
        report.taken += 1;
        report.killed += usize::from(!late);
        report.not_reached += usize::from(late);
        if let Err(failure) = series.verify(late) {
            report.failures.push((None, failure));
        }
        if report.failures.len() >= MAX_FAILURES {
            break;
        }
    }
    report.time = begin.elapsed();
    Ok(report)
}

/// Sleeps until it is killed, or for a minute.
pub fn sleep() -> ! {
    // SAFETY: alarm is async-signal-safe and touches no memory.
    unsafe { libc::alarm(6 * WATCHDOG) };
    loop {
        // SAFETY: as for alarm.
        unsafe { libc::pause() };
    }
}

/// Forks `count` children that sleep, with a pause after each.
pub fn fork_sleepers(count: usize, pause: Duration) {
    for _ in 0..count {
        // SAFETY: the child only sleeps, which is async-signal-safe.
        if let Ok(ForkResult::Child) = unsafe { fork() } {
            sleep();
        }
        std::thread::sleep(pause);
    }
}

/// Kills a process that forks; its children sleep on. `once`: one victim suffices, because it is broken on purpose.
pub fn run_storm(series: &Series, once: bool, plan: &Plan) -> Result<Report, Trouble> {
    const VICTIMS: usize = 60;
    const LONGEST: Duration = Duration::from_millis(15);
    // Orphans are reparented to this process, so that it can reap them.
    prctl::set_child_subreaper(true).map_err(|errno| errno.to_string())?;
    let count = if once { 1 } else { victims(plan, VICTIMS) };
    let (mut rng, mut report, mut claims) = (rng(plan), Report::new(count, 0, 1), 0);
    let begin = Instant::now();
    for _ in 0..count {
        series.run_setup()?;
        let victim = process::spawn(|| -series.victim(process::stop_here));
        match process::wait(victim, WATCHDOG) {
            Ok(WaitStatus::Stopped(..)) => {}
            other => return Err(format!("the victim did not come to its marker: {other:?}")),
        }
        let gone_on = nix::sys::signal::kill(victim, Signal::SIGCONT);
        gone_on.map_err(|errno| errno.to_string())?;
        // Long enough for a few forks.
        std::thread::sleep(LONGEST / 5 + rng.below(LONGEST));
        let late = process::has_ended(victim);
        if late {
            match process::wait(victim, WATCHDOG) {
                Ok(WaitStatus::Exited(_, 0)) => {}
                other => return Err(format!("a victim that forks has ended: {other:?}")),
            }
        } else {
            process::kill(victim);
        }
        let verified = series.verify(false);
        claims += shared_state().ticket.load(SeqCst);
        let _ = killpg(victim, Signal::SIGKILL);
        let mut children = 0;
        while wait() != Err(Errno::ECHILD) {
            children += 1;
        }
        report.taken += 1;
        report.killed += usize::from(!late && children > 0);
        report.not_reached += usize::from(late || children == 0);
        let complete = || match series.place().missing() {
            Some(text) => Err(Violation::Leaked.failure(text)),
            None => Ok(()),
        };
        if let Err(failure) = verified.and_then(|()| complete()) {
            report.failures.push((None, failure));
        }
        if report.failures.len() >= MAX_FAILURES {
            break;
        }
    }
    report.time = begin.elapsed();
    if claims > 0 {
        report.note = format!(", {claims} identities");
    }
    Ok(report)
}
