//! Participants: what the kernel must do so that the dead are known and the living are never taken for dead.
//!
//! Each test forks, kills, stops or lies, and looks at a lock: whoever is judged dead loses it. A kernel that behaves
//! otherwise than `docs/liveness.md` says fails here.
//!
//! | module    | what is tested                                                            |
//! |-----------|---------------------------------------------------------------------------|
//! | `death`   | what ends a participant, and what does not                                  |
//! | `probe`   | whom is asked: lost descriptors, strangers' locks                          |
//! | `fork`    | children, made in each way, and storms of them                              |
//! | `table`   | full tables, many claimers, stopped ones                                    |
//! | `pin`     | what keeps the byte locked, in whatever state a process is                   |
//! | `border`  | other PID namespaces, other users                                           |
//! | `hostile` | words in shared memory that lie                                             |
//! | `support` | kernels that lack what all of this rests on                                 |

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

/// How a managed segment is made that so many processes may use at a time.
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

/// Returns the lock number `place` of a segment.
fn lock(segment: &Arc<Segment>, place: u64) -> Lock {
    Lock::at(segment, 64 * place, Create::IfMissing, &Options::default()).unwrap()
}

/// Waits that long and no longer.
fn within(milliseconds: u64) -> WaitOptions {
    WaitOptions::after(Duration::from_nanos(milliseconds * 1_000_000))
}

/// Stays until it is killed.
fn stay() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Forks a process that takes the lock and then runs `then`; returns once it has the lock and `then` has ended or stays.
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

/// As `holder`; returns once `then` has ended.
fn holder_after(lock: &Lock, then: impl FnOnce()) -> Child {
    let done = shared_words(1);
    let child = holder(lock, || {
        then();
        done[0].store(1, Relaxed);
    });
    wait_until(|| done[0].load(Relaxed) == 1);
    child
}

/// Takes the lock from the dead and gives it back whole.
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

/// Lets go of a segment and what stands in it, but for a descriptor: each handle made of it claims anew.
fn descriptor_alone<T>(inherited: &mut Option<(Arc<Segment>, T)>) -> OwnedFd {
    let (segment, others) = inherited.take().expect("it is still there");
    // SAFETY: the segment's descriptor is open as long as its handle.
    let fd = unsafe { BorrowedFd::borrow_raw(segment.fd()) };
    let kept = fd.try_clone_to_owned().unwrap();
    drop(others);
    assert_eq!(Arc::strong_count(&segment), 1, "the last handle goes");
    kept
}

/// Claims in a new handle of the segment behind a descriptor; the lock that is returned keeps it.
fn claim(fd: &OwnedFd, place: u64) -> Lock {
    let again = Arc::new(Segment::open_fd(fd.as_raw_fd(), 0, &managed(0)).unwrap());
    lock(&again, place)
}

/// Closes all descriptors but those of the terminal.
fn close_all() {
    // SAFETY: closing descriptors is no memory access; who owns them here is on trial, or has none.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    assert_eq!(closed, 0);
}

#[test]
fn the_page_names_tests_that_there_are() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/liveness.md")).unwrap();
    let mut count = 0;
    for quoted in page.split('`').skip(1).step_by(2) {
        let Some((module, test)) = quoted.split_once("::") else {
            continue;
        };
        // How the page says that it names them.
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
    assert!(
        count > 30,
        "{count} names: the page is read as it is written"
    );
}
