//! Forks children, and waits for them under a watchdog. The harness has one thread, so a child may do anything.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, alarm, fork};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many seconds anything may take that should take none: a verdict of "stuck".
pub const WATCHDOG: u32 = 10;
/// The exit code of a child that panicked; its message has gone to stderr.
pub const PANICKED: i32 = 101;

/// Nothing came in time.
#[derive(Debug)]
pub struct Stuck;

extern "C" fn ring_again(_: i32) {
    // A signal that comes just before the wait is lost: the next one is not.
    // SAFETY: alarm is async-signal-safe and touches no memory.
    unsafe { libc::alarm(1) };
}

/// Ends waits of this process when the time is up; dropped, it is disarmed.
pub struct Watchdog;

impl Watchdog {
    /// Arms it. There is one per process at a time.
    pub fn arm(seconds: u32) -> Watchdog {
        let handler = SigHandler::Handler(ring_again);
        // No SA_RESTART: the signal is there to end a wait.
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler is a static function that only calls alarm.
        unsafe { signal::sigaction(Signal::SIGALRM, &action) }.expect("SIGALRM can be caught");
        alarm::set(seconds);
        Watchdog
    }

    /// Waits for a child to end or to stop.
    pub fn wait(&self, child: Pid) -> Result<WaitStatus, Stuck> {
        match waitpid(child, Some(WaitPidFlag::WUNTRACED)) {
            Err(Errno::EINTR) => Err(Stuck),
            other => Ok(other.expect("the child is ours")),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        alarm::cancel();
    }
}

/// Waits for a child to end or to stop, for at most `seconds`.
pub fn wait(child: Pid, seconds: u32) -> Result<WaitStatus, Stuck> {
    Watchdog::arm(seconds).wait(child)
}

/// Runs `body` in a child, whose exit code is what it returns. The child dies with its parent.
pub fn spawn(body: impl FnOnce() -> i32) -> Pid {
    // SAFETY: there is one thread, so nothing is locked or half changed in the child.
    match unsafe { fork() }.expect("a process can be forked") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            prctl::set_pdeathsig(Signal::SIGKILL).expect("SIGKILL is a signal");
            // Unwinding further would run the parent's own code once more.
            let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
            // SAFETY: _exit only ends the process; what its parent has buffered is not written twice.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Kills a child and takes it from the list of processes: what it had is given back then.
pub fn kill(child: Pid) {
    let _ = signal::kill(child, Signal::SIGKILL);
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => return,
            _ => {}
        }
    }
}

/// Says whether a child has ended; it stays in the list of processes.
pub fn has_ended(child: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(child), flags), Ok(WaitStatus::StillAlive))
}

/// Stops this process until somebody lets it go on: the marker before an operation.
pub fn stop_here() {
    signal::raise(Signal::SIGSTOP).expect("a process can stop itself");
}

/// Says whether a process sleeps for somebody else: in fcntl(F_OFD_SETLKW) for a byte, in futex(FUTEX_WAIT_BITSET) for
/// a lock, or in clock_nanosleep until it looks again.
pub fn waits(process: Pid) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{process}/syscall")).unwrap_or_default();
    let mut words = call.split(' ');
    let number = words.next().and_then(|word| word.parse().ok());
    let command = words.nth(1);
    match number {
        Some(libc::SYS_fcntl) => command == Some(&format!("{:#x}", libc::F_OFD_SETLKW)),
        Some(libc::SYS_futex) => command == Some(&format!("{:#x}", libc::FUTEX_WAIT_BITSET)),
        Some(libc::SYS_clock_nanosleep) => true,
        _ => false,
    }
}

/// Runs `body` in a child and waits for its end, which must be a good one; what it had open is not closed first.
pub fn run_and_die(body: impl FnOnce()) {
    let child = spawn(|| {
        body();
        0
    });
    let end = wait(child, WATCHDOG);
    assert!(matches!(end, Ok(WaitStatus::Exited(_, 0))), "{end:?}");
}

/// Says whether a child's end is one that it should have.
pub fn ended_well(end: nix::Result<WaitStatus>) -> bool {
    matches!(end, Ok(WaitStatus::Exited(_, 0)))
}
