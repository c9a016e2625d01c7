//! Participants: what the kernel must do so that dead processes are detected and live ones are never taken for dead.
//!
//! Each test forks, kills, stops or forges, and looks at a lock: a process that is judged dead loses it. These tests
//! fail on a kernel that behaves differently from `docs/liveness.md`.
//!
//! | module    | what is tested                                                            |
//! |-----------|---------------------------------------------------------------------------|
//! | `death`   | what ends a participant, and what does not                                  |
//! | `probe`   | what is asked: lost descriptors, locks of other processes                   |
//! | `fork`    | children, made in each way, and storms of them                              |
//! | `table`   | full tables, many claimers, stopped ones                                    |
//! | `pin`     | what keeps the byte locked, in whatever state a process is                   |
//! | `border`  | other PID namespaces, other users                                           |
//! | `hostile` | forged words in shared memory                                               |
//! | `support` | kernels without the system calls that liveness needs                        |

#[macro_use]
mod common;

#[path = "participant/border.rs"]
mod border;
#[path = "participant/death.rs"]
mod death;
#[path = "participant/fork.rs"]
mod fork;
#[path = "participant/hostile.rs"]
mod hostile;
#[path = "participant/pin.rs"]
mod pin;
#[path = "participant/probe.rs"]
mod probe;
#[path = "participant/support.rs"]
mod support;
#[path = "participant/table.rs"]
mod table;

use common::process::{Child, shared_words, wait_until};
use shmkit::lock::{Create, Lock, Options};
use shmkit::raw::WaitOptions;
use shmkit::segment::{self, Form, Segment};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Returns the options of a managed segment for this many participants.
fn managed(participants: u32) -> segment::Options {
    segment::Options {
        form: Form::Managed,
        participants,
        ..segment::Options::default()
    }
}

/// Makes a managed segment without a name.
fn unnamed(participants: u32) -> Arc<Segment> {
    Arc::new(Segment::create(None, 4096, &managed(participants)).unwrap())
}

/// Opens or creates lock number `place` of a segment.
fn lock(segment: &Arc<Segment>, place: u64) -> Lock {
    Lock::at(segment, 64 * place, Create::IfMissing, &Options::default()).unwrap()
}

/// Waits at most this long.
fn within(milliseconds: u64) -> WaitOptions {
    WaitOptions::after(Duration::from_nanos(milliseconds * 1_000_000))
}

/// Waits until it is killed.
fn stay() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Forks a process that acquires the lock, runs `then` and waits to be killed. Returns once it holds the lock.
fn holder(lock: &Lock, then: impl FnOnce()) -> Child {
    let words = shared_words(2);
    let child = common::process::fork(|| {
        assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(false));
        words[0].store(1, Relaxed);
        then();
        words[1].store(1, Relaxed);
        stay();
    });
    wait_until(|| words[0].load(Relaxed) == 1);
    child
}

/// Does as `holder`, and returns only after `then` has ended.
fn holder_after(lock: &Lock, then: impl FnOnce()) -> Child {
    let done = shared_words(1);
    let child = holder(lock, || {
        then();
        done[0].store(1, Relaxed);
    });
    wait_until(|| done[0].load(Relaxed) == 1);
    child
}

/// Takes the lock over from a dead owner, marks it consistent and releases it.
#[track_caller]
fn recover(lock: &Lock) {
    assert_eq!(
        lock.acquire_with(WaitOptions::BLOCKING),
        Ok(true),
        "the owner is dead"
    );
    lock.mark_consistent().unwrap();
    lock.release().unwrap();
}

/// Closes a segment and its objects, but for a descriptor. Each handle that is opened from it claims anew.
fn descriptor_alone<T>(inherited: &mut Option<(Arc<Segment>, T)>) -> OwnedFd {
    let (segment, others) = inherited.take().expect("the segment is open");
    // SAFETY: the segment's descriptor is open as long as its handle.
    let fd = unsafe { BorrowedFd::borrow_raw(segment.fd()) };
    let kept = fd.try_clone_to_owned().unwrap();
    drop(others);
    assert_eq!(
        Arc::strong_count(&segment),
        1,
        "this closes the last handle"
    );
    kept
}

/// Opens a new handle of the segment behind a descriptor, and a lock that keeps it open.
fn claim(fd: &OwnedFd, place: u64) -> Lock {
    let again = Arc::new(Segment::open_fd(fd.as_raw_fd(), 0, &managed(0)).unwrap());
    lock(&again, place)
}

/// Closes all descriptors but those of the terminal.
fn close_all() {
    // SAFETY: closing descriptors accesses no memory; the tests check that their owners cope with it.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    assert_eq!(closed, 0);
}

#[test]
fn every_test_that_the_page_cites_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/liveness.md")).unwrap();
    let mut count = 0;
    for quoted in page.split('`').skip(1).step_by(2) {
        let Some((module, test)) = quoted.split_once("::") else {
            continue;
        };
        // The page explains the form of a citation by these words.
        if (module, test) == ("module", "test") {
            continue;
        }
        let file = root.join(format!("tests/participant/{module}.rs"));
        let source = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            source.contains(&format!("#[test]\nfn {test}()")),
            "{quoted}"
        );
        count += 1;
    }
    assert!(count > 30, "only {count} citations were found in the page");
}
