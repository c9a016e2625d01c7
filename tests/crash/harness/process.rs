//! Forks children, and waits for them under a watchdog. The harness has one thread, so its children may run any code.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, alarm, fork};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The time limit of every action that should be immediate, in seconds. Beyond this limit the verdict is "stuck".
pub const WATCHDOG: u32 = 10;
/// The exit code of a child that panicked; its message has gone to stderr.
pub const PANICKED: i32 = 101;

/// The time limit was exceeded.
#[derive(Debug)]
pub struct Stuck;

extern "C" fn ring_again(_: i32) {
    // A signal that arrives just before the wait is lost; the next one is not.
    // SAFETY: alarm is async-signal-safe and touches no memory.
    unsafe { libc::alarm(1) };
}

/// Interrupts waits of this process after a time limit; dropping it disarms it.
pub struct Watchdog;

impl Watchdog {
    /// Arms it. A process has at most one at a time.
    pub fn arm(seconds: u32) -> Watchdog {
        let handler = SigHandler::Handler(ring_again);
        // Without SA_RESTART, because the signal must interrupt the wait.
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

/// Kills a child and reaps it: the kernel has then released all that it held.
pub fn kill(child: Pid) {
    let _ = signal::kill(child, Signal::SIGKILL);
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => return,
            _ => {}
        }
    }
}

/// Returns whether a child has ended, without reaping it.
pub fn has_ended(child: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(child), flags), Ok(WaitStatus::StillAlive))
}

/// Stops this process until it is continued: the marker before an operation.
pub fn stop_here() {
    signal::raise(Signal::SIGSTOP).expect("a process can stop itself");
}

/// Returns whether a process waits for another one: in fcntl(F_OFD_SETLKW) for a byte lock, in futex(FUTEX_WAIT_BITSET)
/// for a word, or in clock_nanosleep between two looks.
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

/// Forks a child as `spawn` does, and returns when it waits for another process or has ended.
pub fn spawn_waiter(body: impl FnOnce() -> i32) -> Pid {
    let child = spawn(body);
    while !waits(child) && !has_ended(child) {
        std::thread::yield_now();
    }
    child
}

/// Runs `body` in a child, which must exit with success. The child closes nothing.
pub fn run_and_die(body: impl FnOnce()) {
    let child = spawn(|| {
        body();
        0
    });
    let end = wait(child, WATCHDOG);
    assert!(matches!(end, Ok(WaitStatus::Exited(_, 0))), "{end:?}");
}

/// Waits for a child, which must exit with success.
pub fn expect_good_end(child: Pid) {
    let end = waitpid(child, None);
    assert!(matches!(end, Ok(WaitStatus::Exited(_, 0))), "{end:?}");
}
