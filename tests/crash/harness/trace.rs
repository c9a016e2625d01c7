//! Traces a victim with ptrace: records its instructions, runs it to one of them, and kills it there.
//!
//! ```text
//! start                     marker                    point                     end
//!   |  prepare                |  run, natively          |  SIGKILL here           |  _exit(status)
//! ```
//!
//! A point is an instruction that is about to be executed, and how often it has been reached.

use crate::suite::capi::Status;
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

/// The time limit of a recording, in seconds. A path of a million steps takes seconds.
const RECORDING_LIMIT: u32 = 60;
/// The exit code of a victim that may not be traced.
const NOT_TRACED: i32 = 102;

/// The breakpoint instruction. It traps with the address behind it.
const INT3: i64 = 0xcc;
/// Enables breakpoint 0 for this process, for the execution of one byte.
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
    /// The number of times that the victim has reached it, from 1.
    pub time: usize,
}

/// The result of running a victim to a point.
#[derive(Debug, PartialEq, Eq)]
pub enum Reached {
    /// It is stopped there.
    Point,
    /// It has ended without reaching the point.
    Ended(Status),
}

/// A stopped process that runs one operation; dropping it kills it.
pub struct Victim {
    process: Pid,
    over: Cell<bool>,
}

/// Describes a failure of the harness, or of a victim that was not killed.
pub type Trouble = String;

fn status(end: WaitStatus) -> Result<Status, Trouble> {
    match end {
        WaitStatus::Exited(_, process::PANICKED) => Err("the victim has panicked".into()),
        WaitStatus::Exited(_, code) => Ok(-code),
        WaitStatus::Signaled(_, signal, _) => Err(format!("{signal} killed the victim")),
        other => Err(format!("unexpected wait status of the victim: {other:?}")),
    }
}

impl Victim {
    /// Starts a victim and runs it to its marker: `body` prepares, calls `process::stop_here`, and runs.
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
                return Err(format!("a victim did not reach its marker: {end:?}"));
            }
        }
        // The victim dies with the harness.
        ptrace::setoptions(victim.process, ptrace::Options::PTRACE_O_EXITKILL)
            .map_err(|errno| format!("PTRACE_SETOPTIONS: {errno}"))?;
        Ok(victim)
    }

    /// Returns its PID.
    pub fn process(&self) -> Pid {
        self.process
    }

    fn wait(&self, watchdog: &Watchdog) -> Result<WaitStatus, Trouble> {
        let now = watchdog.wait(self.process);
        let now = now.map_err(|_| "the victim hangs, and no process holds anything".to_owned())?;
        let over = matches!(now, WaitStatus::Exited(..) | WaitStatus::Signaled(..));
        self.over.set(over);
        Ok(now)
    }

    /// Single-steps it to its end; returns the executed addresses in `text`, in order.
    pub fn record(self, text: &Range<u64>) -> Result<(Vec<u64>, Status), Trouble> {
        let watchdog = Watchdog::arm(RECORDING_LIMIT);
        let (mut path, mut last) = (Vec::new(), 0);
        loop {
            let stepped = ptrace::step(self.process, None);
            stepped.map_err(|errno| format!("PTRACE_SINGLESTEP: {errno}"))?;
            match self.wait(&watchdog)? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                end => return Ok((path, status(end)?)),
            }
            let address = self.address()?;
            // A repeated address is an instruction with a repeat prefix, which hits a breakpoint once.
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

    /// Runs it to `point`.
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
                "the victim stopped at {address:#x}, not at its point"
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

    /// Continues to the next trap; returns the status if the victim has ended instead.
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

    /// As `go`, without debug registers: a breakpoint instruction is written to `address`.
    fn go_to_patched(&self, address: u64, watchdog: &Watchdog) -> Result<Option<Status>, Trouble> {
        let trouble = |errno: Errno| format!("PTRACE_POKETEXT: {errno}");
        let place = address as *mut c_void;
        let word = ptrace::read(self.process, place).map_err(trouble)?;
        ptrace::write(self.process, place, word & !0xff | INT3).map_err(trouble)?;
        if let Some(status) = self.go(watchdog)? {
            return Ok(Some(status));
        }
        ptrace::write(self.process, place, word).map_err(trouble)?;
        ptrace::write_user(self.process, RIP as *mut c_void, address as i64).map_err(trouble)?;
        Ok(None)
    }

    /// Continues it to its end.
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
    /// Kills it where it is stopped; the kernel has then released all that it held.
    fn drop(&mut self) {
        if !self.over.get() {
            process::kill(self.process);
        }
    }
}

/// Whether breakpoints are debug registers.
static HARDWARE: AtomicBool = AtomicBool::new(true);

/// Returns whether breakpoints are debug registers, which do not change the victim's instructions.
pub fn uses_debug_registers() -> bool {
    HARDWARE.load(Ordering::Relaxed)
}

/// A function that a probe reaches.
#[inline(never)]
extern "C" fn landmark() {
    std::hint::black_box(());
}

/// Determines which breakpoints work here, or why victims cannot be traced.
///
/// Some virtual machines accept a debug register and never trap.
pub fn probe() -> Result<(), Trouble> {
    let point = Point {
        address: landmark as *const () as u64,
        time: 2,
    };
    let unwanted = std::env::var_os("SHMKIT_CRASH_INT3").is_some();
    for hardware in [true, false] {
        HARDWARE.store(hardware, Ordering::Relaxed);
        let probe = Victim::start(|| {
            process::stop_here();
            (0..point.time).for_each(|_| landmark());
            0
        })?;
        if !(hardware && unwanted) && probe.run_to(point) == Ok(Reached::Point) {
            return Ok(());
        }
    }
    Err("neither debug registers nor breakpoint instructions stop a victim here".into())
}

/// Returns the points of a path, and how many repeats in loops are left out.
pub fn points(path: &[u64]) -> (Vec<Point>, usize) {
    /// The first repeats of an instruction are all points; later ones only at powers of two, and the last one.
    const FIRST_REPEATS: usize = 4;
    let (mut times, mut totals) = (HashMap::new(), HashMap::new());
    for address in path {
        *totals.entry(*address).or_insert(0) += 1;
    }
    let mut points = Vec::new();
    for &address in path {
        let time = times.entry(address).or_insert(0);
        *time += 1;
        if *time <= FIRST_REPEATS || time.is_power_of_two() || *time == totals[&address] {
            points.push(Point {
                address,
                time: *time,
            });
        }
    }
    let left_out = path.len() - points.len();
    (points, left_out)
}
