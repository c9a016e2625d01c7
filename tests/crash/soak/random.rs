//! Kills at random times where single steps do not lead: inside a long system call, and amid a storm of forks.

use crate::suite::core::segment::{self, SegmentOperation, Verb};
use crate::suite::harness::byte;
use crate::suite::harness::library::{Library, Options};
use crate::suite::harness::operation::{Crime, Finding, Look, Operation, Run, Shape};
use crate::suite::harness::process::{self, WATCHDOG};
use crate::suite::harness::report::Report;
use crate::suite::harness::series::{ENOUGH, Plan, Series};
use crate::suite::harness::shared_state::board;
use crate::suite::harness::trace::Trouble;
use crate::suite::harness::verify::{NAME, PAGE, WRITTEN, path};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{ForkResult, Pid, fork, setpgid};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// A stream of numbers that the offset of the run decides.
pub struct Dice(u64);

impl Dice {
    /// Begins one.
    pub fn new(seed: usize) -> Dice {
        // Never 0, which would stay 0.
        Dice((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
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

/// Returns the numbers of this run.
pub fn dice(plan: &Plan) -> Dice {
    Dice::new(plan.offset)
}

/// How many victims: the default run takes a few, a whole one many.
fn victims(plan: &Plan, few: usize) -> usize {
    if plan.every == Some(1) { 4 * few } else { few }
}

/// Operations that spend their time in a few long system calls.
pub fn long_ones() -> Vec<SegmentOperation> {
    /// Sixteen steps of the library.
    const LARGE: u64 = 1 << 30;
    // Not to be had on a small machine: then a quarter of what is.
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = available.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let size = LARGE.min(available.unwrap_or(0) / 4 * 1024);
    let growing = 2 * PAGE + 1;
    vec![
        segment::large("create, large, at random times", Verb::Create, size),
        segment::large(
            "resize, large, at random times",
            Verb::Resize(size),
            growing,
        ),
    ]
}

/// Kills an operation at random times in all the time that it takes.
pub fn run_long(series: &Series, plan: &Plan) -> Result<Report, Trouble> {
    const FEW: usize = 12;
    let start = || -> Result<Pid, Trouble> {
        series.prepare_ground()?;
        Ok(process::spawn(|| -series.victim(process::stop_here)))
    };
    let prepared = |victim| match process::wait(victim, WATCHDOG) {
        Ok(WaitStatus::Stopped(..)) => nix::sys::signal::kill(victim, Signal::SIGCONT)
            .map_err(|errno| format!("a victim cannot be let go on: {errno}")),
        other => Err(format!("a victim did not come to its marker: {other:?}")),
    };
    let unharmed = start()?;
    prepared(unharmed)?;
    let begin = Instant::now();
    match process::wait(unharmed, WATCHDOG) {
        Ok(WaitStatus::Exited(_, 0)) => {}
        other => return Err(format!("without being killed: {other:?}")),
    }
    let whole = begin.elapsed();
    series.verify(true).map_err(|finding| finding.to_string())?;
    let (mut dice, mut report) = (dice(plan), Report::new(victims(plan, FEW), 0, 1));
    let begin = Instant::now();
    for _ in 0..report.points {
        let victim = start()?;
        prepared(victim)?;
        std::thread::sleep(dice.below(whole));
        let late = process::has_ended(victim);
        process::kill(victim);
        report.taken += 1;
        report.killed += usize::from(!late);
        report.not_reached += usize::from(late);
        if let Err(finding) = series.verify(late) {
            report.findings.push((None, finding));
        }
        if report.findings.len() >= ENOUGH {
            break;
        }
    }
    report.time = begin.elapsed();
    Ok(report)
}

/// A process that one thread lets grow a segment page by page, while another forks children that sleep.
pub struct Storm {
    /// Broken on purpose: the lock is taken such that the children keep it.
    pub leaky: bool,
}

const STORM: Shape = Shape {
    size: PAGE,
    options: Options {
        flags: 0,
        capacity: 1 << 30,
        mode: 0,
        participants: 0,
    },
};

/// Sleeps until it is killed; should nobody do that, not for ever.
pub fn sleep() -> ! {
    // SAFETY: alarm is async-signal-safe and touches no memory.
    unsafe { libc::alarm(6 * WATCHDOG) };
    loop {
        // SAFETY: as alarm.
        unsafe { libc::pause() };
    }
}

/// Forks so many children that sleep, one after each pause.
pub fn fork_sleepers(count: usize, pause: Duration) {
    for _ in 0..count {
        // SAFETY: the child only sleeps, which is async-signal-safe, whatever other threads were doing.
        if let Ok(ForkResult::Child) = unsafe { fork() } {
            sleep();
        }
        std::thread::sleep(pause);
    }
}

/// Locks the RESIZE byte as nobody should: through a descriptor that children inherit.
fn lock_leakily() {
    let file = std::fs::File::options().read(true).write(true).open(path());
    let file = file.expect("the segment can be opened");
    byte::lock(&file, (1 << 61) + 2, 1);
    std::mem::forget(file);
}

impl Operation for Storm {
    fn name(&self) -> String {
        match self.leaky {
            true => "broken: a lock that children keep",
            false => "resize amid a storm of forks",
        }
        .to_owned()
    }

    fn every(&self) -> usize {
        1
    }

    fn guilty_of(&self) -> Option<Crime> {
        self.leaky.then_some(Crime::Stuck)
    }

    fn patience(&self) -> u32 {
        if self.leaky { 1 } else { WATCHDOG }
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        // The whole family, which outlives the victim, is one process group.
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).expect("a process can lead its group");
        let made = shmkit.create(Some(NAME), STORM.size, STORM.options);
        let made = made.expect("a segment can be made");
        let base = shmkit.data(made).expect("it has an address");
        // SAFETY: the segment has that many bytes, and nobody else knows of it.
        unsafe { base.write_bytes(WRITTEN, STORM.size as usize) };
        let leaky = self.leaky;
        Box::new(move || {
            if leaky {
                lock_leakily();
                fork_sleepers(1, Duration::ZERO);
                sleep();
            }
            std::thread::spawn(|| fork_sleepers(64, Duration::from_micros(100)));
            let mut size = STORM.size;
            while size < STORM.options.capacity {
                size += PAGE;
                match shmkit.resize(made, size, 0) {
                    0 => {}
                    status => return status,
                }
            }
            0
        })
    }

    /// Looks while the victim's children still sleep: the segment is theirs too, so its memory is not given back yet.
    fn verify(&self, look: &Look, _done: bool) -> Result<(), Finding> {
        let sizes: Vec<_> = (PAGE..=STORM.options.capacity)
            .step_by(PAGE as usize)
            .collect();
        let (segment, size) = look.open_whole(&sizes)?;
        look.check_bytes(segment, 0, PAGE, WRITTEN)?;
        look.grow(segment, size + PAGE)?;
        look.check_bytes(segment, PAGE, size + PAGE, 0)?;
        look.remove(segment)
    }
}

/// Kills the process amid its forks; its children sleep on.
///
/// `once`: one that is broken on purpose is guilty at its first death.
pub fn run_storm(series: &Series, once: bool, plan: &Plan) -> Result<Report, Trouble> {
    const FEW: usize = 60;
    const LONGEST: Duration = Duration::from_millis(15);
    // Orphans come to us, so that we know when they are gone.
    prctl::set_child_subreaper(true).map_err(|errno| errno.to_string())?;
    let count = if once { 1 } else { victims(plan, FEW) };
    let (mut dice, mut report, mut claims) = (dice(plan), Report::new(count, 0, 1), 0);
    let begin = Instant::now();
    for _ in 0..count {
        series.prepare_ground()?;
        let victim = process::spawn(|| -series.victim(process::stop_here));
        match process::wait(victim, WATCHDOG) {
            Ok(WaitStatus::Stopped(..)) => {}
            other => return Err(format!("the victim did not come to its marker: {other:?}")),
        }
        let gone_on = nix::sys::signal::kill(victim, Signal::SIGCONT);
        gone_on.map_err(|errno| errno.to_string())?;
        // At least long enough for a few children.
        std::thread::sleep(LONGEST / 5 + dice.below(LONGEST));
        let late = process::has_ended(victim);
        if late {
            match process::wait(victim, WATCHDOG) {
                Ok(WaitStatus::Exited(_, 0)) => {}
                other => return Err(format!("amid its forks a victim has ended: {other:?}")),
            }
        } else {
            process::kill(victim);
        }
        let found = series.verify(false);
        claims += board().ticket.load(SeqCst);
        let _ = killpg(victim, Signal::SIGKILL);
        let mut children = 0;
        while wait() != Err(Errno::ECHILD) {
            children += 1;
        }
        report.taken += 1;
        report.killed += usize::from(!late && children > 0);
        report.not_reached += usize::from(late || children == 0);
        let missing = || match series.place().missing() {
            Some(text) => Err(Crime::LeftBehind.found(text)),
            None => Ok(()),
        };
        if let Err(finding) = found.and_then(|()| missing()) {
            report.findings.push((None, finding));
        }
        if report.findings.len() >= ENOUGH {
            break;
        }
    }
    report.time = begin.elapsed();
    if claims > 0 {
        report.note = format!(", {claims} identities");
    }
    Ok(report)
}
