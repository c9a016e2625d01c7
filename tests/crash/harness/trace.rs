//! Drives a victim with ptrace: records the instructions on its way, runs it to one of them, kills it there.
//!
//! ```text
//! start                     marker                    point                     end
//!   |  prepare                |  run, natively          |  SIGKILL here           |  _exit(status)
//! ```
//!
//! A point is an instruction and how often it is reached: it has not been executed yet.

use crate::suite::harness::library::Status;
use crate::suite::harness::process::{self, WATCHDOG, Watchdog};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// How long single steps may take altogether: a path of a million takes seconds.
const RECORDING: u32 = 60;
/// Exit code of a victim that may not be traced.
const NOT_TRACED: i32 = 102;

/// The breakpoint instruction, which traps behind itself.
const INT3: i64 = 0xcc;
/// Local enable of breakpoint 0; its length and kind are 0: one byte, executed.
const ENABLE: i64 = 1;

const RIP: usize = offset_of!(libc::user, regs) + offset_of!(libc::user_regs_struct, rip);

fn debug_register(number: usize) -> usize {
    offset_of!(libc::user, u_debugreg) + number * size_of::<u64>()
}

/// An instruction on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its address.
    pub address: u64,
    /// The how many-th time the victim comes to it, from 1.
    pub time: usize,
}

/// What became of a victim that was to run to a point.
#[derive(Debug, PartialEq, Eq)]
pub enum Reached {
    /// It stands there.
    Point,
    /// It never came there, and has ended.
    Ended(Status),
}

/// A process that runs one operation, stopped; dropped, it is killed.
pub struct Victim {
    process: Pid,
    over: Cell<bool>,
}

/// A sentence about what was wrong with a victim that has not been killed by us.
pub type Trouble = String;

fn status(end: WaitStatus) -> Result<Status, Trouble> {
    match end {
        WaitStatus::Exited(_, process::PANICKED) => Err("the victim has panicked".into()),
        WaitStatus::Exited(_, code) => Ok(-code),
        WaitStatus::Signaled(_, signal, _) => Err(format!("{signal} killed the victim")),
        other => Err(format!("the victim did what it should not: {other:?}")),
    }
}

impl Victim {
    /// Starts a victim and lets it come to its marker: `body` prepares, calls `process::stop_here`, and runs.
    pub fn start(body: impl FnOnce() -> Status) -> Result<Victim, Trouble> {
        let process = process::spawn(|| match ptrace::traceme() {
            Ok(()) => -body(),
            Err(_) => NOT_TRACED,
        });
        let victim = Victim {
            process,
            over: Cell::new(false),
        };
        match victim.wait(&Watchdog::arm(WATCHDOG))? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            WaitStatus::Exited(_, NOT_TRACED) => {
                return Err(
                    "ptrace is not permitted here (PTRACE_TRACEME was refused): in a container, allow the system call \
                     ptrace in its seccomp profile (--cap-add=SYS_PTRACE); else see /proc/sys/kernel/yama/ptrace_scope"
                        .into(),
                );
            }
            other => {
                let end = status(other);
                return Err(format!("a victim did not come to its marker: {end:?}"));
            }
        }
        // Should the harness die, so does the victim.
        ptrace::setoptions(victim.process, ptrace::Options::PTRACE_O_EXITKILL)
            .map_err(|errno| format!("PTRACE_SETOPTIONS: {errno}"))?;
        Ok(victim)
    }

    /// Returns its number.
    pub fn process(&self) -> Pid {
        self.process
    }

    fn wait(&self, watchdog: &Watchdog) -> Result<WaitStatus, Trouble> {
        let now = watchdog.wait(self.process);
        let now = now.map_err(|_| "the victim hangs, and nobody holds anything".to_owned())?;
        let over = matches!(now, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
        self.over.set(over);
        Ok(now)
    }

    /// Runs it to its end one instruction at a time; returns the addresses in `text` in the order in which they came.
    pub fn record(self, text: &Range<u64>) -> Result<(Vec<u64>, Status), Trouble> {
        let watchdog = Watchdog::arm(RECORDING);
        let (mut path, mut last) = (Vec::new(), 0);
        loop {
            let stepped = ptrace::step(self.process, None);
            stepped.map_err(|errno| format!("PTRACE_SINGLESTEP: {errno}"))?;
            match self.wait(&watchdog)? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                end => return Ok((path, status(end)?)),
            }
            let address = self.address()?;
            // The same once more is one instruction with a repeat prefix, which a breakpoint sees once.
            if text.contains(&address) && address != last {
                path.push(address);
            }
            last = address;
        }
    }

    fn address(&self) -> Result<u64, Trouble> {
        let address = ptrace::read_user(self.process, RIP as *mut c_void);
        Ok(address.map_err(|errno| format!("PTRACE_PEEKUSER: {errno}"))? as u64)
    }

    /// Runs it until it comes to `point`.
    pub fn run_to(&self, point: Point) -> Result<Reached, Trouble> {
        let watchdog = Watchdog::arm(WATCHDOG);
        if uses_debug_registers() {
            self.set_breakpoint(point.address)
                .map_err(|errno| format!("PTRACE_POKEUSER: {errno}"))?;
            for _ in 0..point.time {
                if let Some(status) = self.go(&watchdog)? {
                    return Ok(Reached::Ended(status));
                }
            }
        } else {
            for time in 1..=point.time {
                if let Some(status) = self.go_to_patched(point.address, &watchdog)? {
                    return Ok(Reached::Ended(status));
                }
                if time < point.time {
                    ptrace::step(self.process, None).map_err(|errno| errno.to_string())?;
                    self.trapped(&watchdog)?;
                }
            }
        }
        match self.address()? {
            address if address == point.address => Ok(Reached::Point),
            address => Err(format!(
                "the victim stopped at {address:#x}, not where it should"
            )),
        }
    }

    fn set_breakpoint(&self, address: u64) -> Result<(), Errno> {
        ptrace::write_user(
            self.process,
            debug_register(0) as *mut c_void,
            address as i64,
        )?;
        ptrace::write_user(self.process, debug_register(7) as *mut c_void, ENABLE)
    }

    /// Continues to the next trap; the status if it has ended instead.
    fn go(&self, watchdog: &Watchdog) -> Result<Option<Status>, Trouble> {
        ptrace::cont(self.process, None).map_err(|errno| format!("PTRACE_CONT: {errno}"))?;
        self.trapped(watchdog)
    }

    fn trapped(&self, watchdog: &Watchdog) -> Result<Option<Status>, Trouble> {
        match self.wait(watchdog)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(None),
            WaitStatus::Stopped(_, signal) => Err(format!("the victim got {signal}")),
            end => status(end).map(Some),
        }
    }

    /// Where debug registers are not to be had: as `go`, with an instruction written over the one at `address`.
    fn go_to_patched(&self, address: u64, watchdog: &Watchdog) -> Result<Option<Status>, Trouble> {
        let said = |errno: Errno| format!("PTRACE_POKETEXT: {errno}");
        let place = address as *mut c_void;
        let word = ptrace::read(self.process, place).map_err(said)?;
        ptrace::write(self.process, place, word & !0xff | INT3).map_err(said)?;
        if let Some(status) = self.go(watchdog)? {
            return Ok(Some(status));
        }
        ptrace::write(self.process, place, word).map_err(said)?;
        ptrace::write_user(self.process, RIP as *mut c_void, address as i64).map_err(said)?;
        Ok(None)
    }

    /// Lets it go on to its end.
    pub fn finish(self) -> Result<Status, Trouble> {
        if uses_debug_registers() {
            let off = ptrace::write_user(self.process, debug_register(7) as *mut c_void, 0);
            off.map_err(|errno| format!("PTRACE_POKEUSER: {errno}"))?;
        }
        ptrace::cont(self.process, None).map_err(|errno| format!("PTRACE_CONT: {errno}"))?;
        status(self.wait(&Watchdog::arm(WATCHDOG))?)
    }
}

impl Drop for Victim {
    /// Kills it where it stands; afterwards the kernel has taken back what it had.
    fn drop(&mut self) {
        if !self.over.get() {
            process::kill(self.process);
        }
    }
}

/// Whether breakpoints are debug registers.
static HARDWARE: AtomicBool = AtomicBool::new(true);

/// Says whether breakpoints are debug registers, which leave the victim's instructions alone.
pub fn uses_debug_registers() -> bool {
    HARDWARE.load(Ordering::Relaxed)
}

/// A place that every probe comes to.
#[inline(never)]
extern "C" fn landmark() {
    std::hint::black_box(());
}

/// Finds out what breakpoints can be made of here, or why victims cannot be traced at all.
///
/// For this process and what it forks. Some virtual machines take a debug register and never trap.
pub fn probe() -> Result<(), Trouble> {
    let point = Point {
        address: landmark as *const () as u64,
        time: 2,
    };
    let asked_for_none = std::env::var_os("SHMKIT_CRASH_INT3").is_some();
    for hardware in [true, false] {
        HARDWARE.store(hardware, Ordering::Relaxed);
        let probe = Victim::start(|| {
            process::stop_here();
            (0..point.time).for_each(|_| landmark());
            0
        })?;
        if !(hardware && asked_for_none) && probe.run_to(point) == Ok(Reached::Point) {
            return Ok(());
        }
    }
    Err("neither debug registers nor written breakpoints stop a victim here".into())
}

/// The points of a path that are worth a victim, and how many repeats of loops were left out.
pub fn points(path: &[u64]) -> (Vec<Point>, usize) {
    /// So often an instruction is taken each time it comes; later only at powers of two, and the last time.
    const ALWAYS: usize = 4;
    let (mut times, mut totals) = (HashMap::new(), HashMap::new());
    for address in path {
        *totals.entry(*address).or_insert(0) += 1;
    }
    let mut points = Vec::new();
    for &address in path {
        let time = times.entry(address).or_insert(0);
        *time += 1;
        if *time <= ALWAYS || time.is_power_of_two() || *time == totals[&address] {
            points.push(Point {
                address,
                time: *time,
            });
        }
    }
    let left_out = path.len() - points.len();
    (points, left_out)
}
