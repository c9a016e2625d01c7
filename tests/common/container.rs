//! Containers for these tests: PID namespaces, in which different processes have the same PID.

use super::process::{Child, Ended, fork};
use super::skip;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Runs `body` as process 1 of a new PID namespace. The returned child ends after that process.
pub fn contained(body: impl FnOnce()) -> Child {
    fork(|| {
        unshare(CloneFlags::CLONE_NEWPID).expect("can_contain has checked it");
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => {
                assert_eq!(std::process::id(), 1);
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                // SAFETY: _exit takes any number; nothing of the parent's is flushed or dropped.
                unsafe { libc::_exit(i32::from(ended.is_err())) };
            }
            first => {
                let ended = waitpid(Pid::from_raw(first), None);
                let status = ended.expect("the process can be waited for");
                assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
            }
        }
    })
}

/// Returns whether this process may create PID namespaces; if not, reports what is skipped.
pub fn can_contain() -> bool {
    let can = fork(|| {
        if unshare(CloneFlags::CLONE_NEWPID).is_err() {
            // SAFETY: _exit takes any number.
            unsafe { libc::_exit(1) };
        }
    })
    .wait()
        == Ended::Exit(0);
    if !can {
        skip("no PID namespaces: equal numbers in two containers");
    }
    can
}

/// Kills process 1 of the namespace of a `contained` child, from outside.
pub fn kill_first(outer: &Child) {
    let path = format!("/proc/{0}/task/{0}/children", outer.pid());
    let children = std::fs::read_to_string(path).unwrap();
    let first = children.trim().parse().unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
}
