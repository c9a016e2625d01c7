//! Processes for tests: one that runs a single test by itself, and children forked from it.
//!
//! A test runner has many threads, and a child forked from it may do almost nothing. Limits, umask, environment and
//! signal handlers belong to all threads. So a test that changes one of them runs in a process of its own: the test
//! binary is started again with this test alone. There the runner still has a thread that waits for the test, so the
//! test forks once more. That child has one thread, and may do anything.

use super::{DEADLINE, report};
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;

/// The start of a line that reports a skipped test.
pub const SKIPPED: &str = "SKIPPED ";

/// The variable that names the single test of a process.
const ALONE: &str = "SHMKIT_TEST_ALONE";

/// The variable with the prefix of all names that such a process creates, so that they can be removed after its end.
const PREFIX: &str = "SHMKIT_TEST_PREFIX";

/// Returns the prefix of the names that this process creates, if one is set.
pub fn prefix() -> Option<String> {
    std::env::var(PREFIX).ok()
}

/// Returns the single test of this process.
pub fn current_test() -> Option<String> {
    std::env::var(ALONE).ok()
}

/// Returns the name of the test that contains a closure, as the test runner knows it.
fn test_of<F>(_: &F) -> String {
    let path = std::any::type_name::<F>();
    let (_binary, test) = path
        .split_once("::")
        .expect("the type name of a closure begins with its crate");
    test.split("::{{closure}}")
        .next()
        .unwrap_or(test)
        .to_owned()
}

/// Runs `body`, the whole test, in a process of its own with a single thread.
pub fn alone(body: impl FnOnce()) {
    let test = test_of(&body);
    if current_test().as_deref() == Some(&test) {
        prefer_for_oom_kill();
        wait_until(|| main_thread_sleeps() && threads() == 2);
        return fork_now(body).succeed();
    }
    let prefix = super::unique() + "-alone";
    let program = std::env::current_exe().expect("the test binary has a path");
    let started = Command::new(program)
        .args([
            &test,
            "--exact",
            "--nocapture",
            "--test-threads=1",
            "--include-ignored",
        ])
        .env(ALONE, &test)
        .env(PREFIX, &prefix)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("the test binary can be started");
    let group = Pid::from_raw(started.id() as i32);
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(started.wait_with_output()));
    let output = match ended.recv_timeout(DEADLINE) {
        Ok(output) => output.expect("the process can be waited for"),
        Err(_) => {
            // The first process has not been waited for, so the number of the group cannot belong to another one.
            let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
            super::remove_left(&prefix);
            panic!("{test} hangs: the watchdog has killed its process");
        }
    };
    super::remove_left(&prefix);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    err.lines()
        .filter(|line| line.starts_with(SKIPPED))
        .for_each(report);
    assert!(
        output.status.success(),
        "{test} in its own process: {}\n{out}{err}",
        output.status
    );
    // An unknown name runs no test, and the runner reports no failure.
    assert!(out.contains("1 passed"), "{test} has not run:\n{out}{err}");
}

/// Returns how many threads this process has.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Exit(i32),
    /// This signal killed it.
    Signal(Signal),
}

/// A forked child; if it is dropped before it was waited for, it is killed.
pub struct Child {
    pid: Pid,
    waited: bool,
}

/// The exit code of a child whose body panicked.
const PANICKED: i32 = 101;

/// Returns whether the main thread sleeps, so that it holds no lock that a forked child would need.
fn main_thread_sleeps() -> bool {
    let stat = format!("/proc/self/task/{}/stat", std::process::id());
    // proc(5): the PID, the name in parentheses, the state.
    let stat = std::fs::read_to_string(stat).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| rest.starts_with(" S"))
}

/// Runs `body` in a forked child. This process must have one thread, as inside `alone`.
pub fn fork(body: impl FnOnce()) -> Child {
    assert_eq!(threads(), 1, "a process with threads must not fork here");
    fork_now(body)
}

fn fork_now(body: impl FnOnce()) -> Child {
    let parent = nix::unistd::getpid();
    // SAFETY: this process has a single thread, or another that sleeps in the test runner and holds no lock (the callers
    // have checked it). So the child may do all that its parent may.
    match unsafe { nix::unistd::fork() }.expect("fork") {
        ForkResult::Parent { child } => Child {
            pid: child,
            waited: false,
        },
        ForkResult::Child => {
            // No child outlives its test.
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("prctl");
            let orphan = nix::unistd::getppid() != parent;
            restore_fatal_signals();
            let ended = catch_unwind(AssertUnwindSafe(|| (!orphan).then(body)));
            let code = if ended.is_ok() { 0 } else { PANICKED };
            // SAFETY: _exit takes any number; nothing that the parent owns is dropped or flushed a second time.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Makes the kernel kill this process before any other if memory runs out.
fn prefer_for_oom_kill() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// Makes a bad access kill this process by its signal and without a core, even if a runtime installed handlers.
fn restore_fatal_signals() {
    for signal in [Signal::SIGSEGV, Signal::SIGBUS] {
        // SAFETY: the default action runs no code of this process.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }.expect("signal");
    }
    super::kernel::limit(nix::sys::resource::Resource::RLIMIT_CORE, 0);
}

impl Child {
    /// Returns its PID.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        self.waited = true;
        match waitpid(self.pid, None).expect("the child can be waited for") {
            WaitStatus::Exited(_, code) => Ended::Exit(code),
            WaitStatus::Signaled(_, signal, _) => Ended::Signal(signal),
            other => panic!("the child has not ended: {other:?}"),
        }
    }

    /// Waits for its end, and panics unless it exited with 0.
    #[track_caller]
    pub fn succeed(self) {
        assert_eq!(self.wait(), Ended::Exit(0));
    }

    /// Kills it and waits for its end.
    pub fn kill(self) {
        nix::sys::signal::kill(self.pid, Signal::SIGKILL).expect("the child can be killed");
        assert_eq!(self.wait(), Ended::Signal(Signal::SIGKILL));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.waited {
            let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// Returns words that later children share with this process; they live as long as the process.
pub fn shared_words(count: usize) -> &'static [AtomicU64] {
    let length = std::num::NonZeroUsize::new(count * 8).expect("at least one word");
    let access = nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE;
    let flags = nix::sys::mman::MapFlags::MAP_SHARED;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice replaces nothing.
    let base = unsafe { nix::sys::mman::mmap_anonymous(None, length, access, flags) };
    let base = base.expect("mmap").cast::<AtomicU64>();
    // SAFETY: `count` words of zeros are mapped at base, aligned to a page, and are never unmapped.
    unsafe { std::slice::from_raw_parts(base.as_ptr(), count) }
}

/// Makes every interruptible call of the library end after its first step. Use it only inside `alone`.
///
/// A request for more memory than the machine has must fail before the first step. If that check is broken, the call
/// ends here with another error instead of using all memory of the machine.
pub fn end_after_one_step() {
    extern "C" fn interrupt(_: *mut std::ffi::c_void) -> i32 {
        1
    }
    // SAFETY: the hook ignores its argument.
    let status = unsafe {
        shmkit::capi::interrupt::shmkit_set_interrupt(Some(interrupt), std::ptr::null_mut())
    };
    assert_eq!(status, 0);
}

/// Waits until `condition` holds; the watchdog ends a test in which it never does.
pub fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}
