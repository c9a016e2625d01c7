//! Descriptors that are readable while there may be a message, or room for one.

use super::common::Watchdog;
use super::common::kernel::limit;
use super::common::process::{alone, fork, shared_words, threads, wait_until};
use super::{NOW, drain, holder, managed, unnamed};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::Resource;
use shmkit::queue::{Create, Options, Overflow, Queue, What};
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::Relaxed;

fn of_one() -> Options {
    Options {
        messages: 1,
        ..Options::default()
    }
}

/// Returns whether the descriptor is readable; with `wait`, waits until it is.
fn is_readable(fd: i32, wait: bool) -> bool {
    // SAFETY: the queue keeps the descriptor open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut polled = [PollFd::new(fd, PollFlags::POLLIN)];
    let timeout = if wait {
        PollTimeout::NONE
    } else {
        PollTimeout::ZERO
    };
    poll(&mut polled, timeout).unwrap() == 1
}

#[test]
fn the_descriptor_is_readable_while_there_is_a_message() {
    let _watchdog = Watchdog::start();
    let queue = unnamed(Options::default());
    let fd = queue.notice(What::Messages).unwrap();
    assert_eq!(queue.notice(What::Messages), Ok(fd));
    assert!(!is_readable(fd, false));
    for round in 0..20 {
        queue.put_with(b"a", NOW).unwrap();
        assert!(is_readable(fd, true), "{round}");
        queue.get_with(NOW).unwrap();
        // A get that finds nothing lowers the flag, and it stays down.
        while is_readable(fd, false) {
            refused!(Empty, queue.get_with(NOW));
        }
    }
    // A message that precedes the first request for the descriptor is reported as well.
    let full = unnamed(Options::default());
    full.put_with(b"a", NOW).unwrap();
    assert!(is_readable(full.notice(What::Messages).unwrap(), true));
}

#[test]
fn the_descriptor_is_readable_while_there_is_room() {
    let _watchdog = Watchdog::start();
    let queue = unnamed(of_one());
    let fd = queue.notice(What::Room).unwrap();
    assert!(is_readable(fd, true));
    for round in 0..20 {
        queue.put_with(b"a", NOW).unwrap();
        while is_readable(fd, false) {
            refused!(Full, queue.put_with(b"b", NOW));
        }
        queue.get_with(NOW).unwrap();
        assert!(is_readable(fd, true), "{round}");
    }
    assert_ne!(queue.notice(What::Messages).unwrap(), fd);
}

#[test]
fn a_lowered_flag_stays_down_until_there_is_a_message() {
    let _watchdog = Watchdog::start();
    let queue = unnamed(of_one());
    let (messages, room) = (
        queue.notice(What::Messages).unwrap(),
        queue.notice(What::Room).unwrap(),
    );
    type Try = fn(&Queue);
    let tries: [Try; 4] = [
        |queue| drop(refused!(Empty, queue.get_with(NOW))),
        |queue| drop(refused!(Empty, queue.lease_with(NOW))),
        |queue| drop(refused!(Empty, queue.peek_into_with(&mut [], NOW))),
        |queue| {
            let mut lengths = [std::mem::MaybeUninit::uninit()];
            refused!(Empty, queue.get_many_into_with(&mut [], &mut lengths, NOW));
        },
    ];
    for take_down in tries {
        queue.put_with(b"a", NOW).unwrap();
        assert!(is_readable(messages, true));
        queue.get_with(NOW).unwrap();
        take_down(&queue);
        take_down(&queue);
        while is_readable(messages, false) {
            take_down(&queue);
        }
    }
    queue.put_with(b"a", NOW).unwrap();
    let tries: [Try; 2] = [
        |queue| drop(refused!(Full, queue.put_with(b"", NOW))),
        |queue| drop(refused!(Full, queue.reserve_with(0, NOW))),
    ];
    for take_down in tries {
        while is_readable(room, false) {
            take_down(&queue);
        }
    }
}

#[test]
fn puts_and_gets_of_another_process_raise_the_flag() {
    alone(|| {
        let queue = unnamed(of_one());
        let words = shared_words(1);
        // Forked before this process has a thread.
        let other = fork(|| {
            for round in 0..10 {
                wait_until(|| words[0].load(Relaxed) == 2 * round + 1);
                queue.put_with(b"a", NOW).unwrap();
                wait_until(|| words[0].load(Relaxed) == 2 * round + 2);
                queue.get_with(NOW).unwrap();
            }
        });
        let (messages, room) = (
            queue.notice(What::Messages).unwrap(),
            queue.notice(What::Room).unwrap(),
        );
        for round in 0..10 {
            while is_readable(messages, false) {
                refused!(Empty, queue.get_with(NOW));
            }
            words[0].store(2 * round + 1, Relaxed);
            assert!(is_readable(messages, true));
            while is_readable(room, false) {
                let _ = queue.put_with(b"b", NOW).unwrap_err();
            }
            words[0].store(2 * round + 2, Relaxed);
            assert!(is_readable(room, true));
        }
        other.succeed();
    });
}

#[test]
fn a_lease_of_a_dead_consumer_raises_the_flag() {
    alone(|| {
        let queue = unnamed(Options::default());
        queue.put_with(b"a", NOW).unwrap();
        let lessee = holder(|| {
            queue.lease_with(NOW).unwrap();
        });
        let fd = queue.notice(What::Messages).unwrap();
        assert!(!is_readable(fd, false));
        lessee.kill();
        assert!(is_readable(fd, true));
        assert_eq!(drain(&queue), [b"a"]);
    });
}

#[test]
fn each_handle_has_its_own_descriptor() {
    let _watchdog = Watchdog::start();
    let segment = managed(1 << 20);
    let open = || Queue::at(&segment, 0, Create::IfMissing, &Options::default()).unwrap();
    let (one, other) = (open(), open());
    let (first, second) = (
        one.notice(What::Messages).unwrap(),
        other.notice(What::Messages).unwrap(),
    );
    assert_ne!(first, second);
    one.put_with(b"a", NOW).unwrap();
    assert!(is_readable(first, true) && is_readable(second, true));
    assert_eq!(drain(&one), [b"a"]);
    // The other handle's flag stays up until that handle finds nothing.
    assert!(is_readable(second, false));
    drop(one);
    while is_readable(second, false) {
        refused!(Empty, other.get_with(NOW));
    }
    other.put_with(b"b", NOW).unwrap();
    assert!(is_readable(second, true));
}

#[test]
fn the_descriptor_of_a_queue_that_is_shut_down_stays_readable() {
    let _watchdog = Watchdog::start();
    let queue = unnamed(of_one());
    let messages = queue.notice(What::Messages).unwrap();
    queue.put_with(b"a", NOW).unwrap();
    let room = queue.notice(What::Room).unwrap();
    while is_readable(room, false) {
        refused!(Full, queue.put_with(b"b", NOW));
    }
    queue.shut_down().unwrap();
    assert!(is_readable(room, true));
    refused!(ShutDown, queue.put_with(b"b", NOW));
    queue.get_with(NOW).unwrap();
    assert!(is_readable(messages, true));
    refused!(ShutDown, queue.get_with(NOW));
    // This never changes.
    assert!(is_readable(messages, false) && is_readable(room, false));
}

#[test]
fn a_queue_with_overflow_fail_reports_room_when_there_is_some() {
    let _watchdog = Watchdog::start();
    let queue = unnamed(Options {
        overflow: Overflow::Fail,
        ..of_one()
    });
    let fd = queue.notice(What::Room).unwrap();
    queue.put_with(b"a", NOW).unwrap();
    while is_readable(fd, false) {
        refused!(Full, queue.put_with(b"b", NOW));
    }
    // The flag is down for longer than a moment.
    std::thread::sleep(std::time::Duration::from_millis(40));
    assert!(!is_readable(fd, false));
    queue.get_with(NOW).unwrap();
    assert!(is_readable(fd, true));
}

#[test]
fn a_notice_of_room_discards_no_message() {
    let _watchdog = Watchdog::start();
    let queue = unnamed(Options {
        overflow: Overflow::Overwrite,
        ..of_one()
    });
    queue.put_with(b"a", NOW).unwrap();
    assert!(is_readable(queue.notice(What::Room).unwrap(), true));
    assert_eq!(queue.stat().unwrap().overwritten, 0);
    assert_eq!(drain(&queue), [b"a"]);
}

#[test]
fn a_forked_child_opens_a_descriptor_of_its_own() {
    alone(|| {
        let queue = unnamed(Options::default());
        let fd = queue.notice(What::Messages).unwrap();
        assert_eq!(threads(), 2);
        // SAFETY: the other thread waits inside the library, which supports a fork there.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                assert_eq!(threads(), 1);
                // The parent's descriptor reports nothing here.
                refused!(Empty, queue.get_with(NOW));
                let own = queue.notice(What::Messages).unwrap();
                queue.put_with(b"a", NOW).unwrap();
                assert!(is_readable(own, true));
                assert_eq!(queue.get_with(NOW).unwrap(), b"a");
                while is_readable(own, false) {
                    refused!(Empty, queue.get_with(NOW));
                }
                queue.put_with(b"b", NOW).unwrap();
                drop(queue);
            }));
            // SAFETY: _exit accepts any number.
            unsafe { libc::_exit(ended.is_err().into()) }
        }
        let mut status = -1;
        // SAFETY: a child of this process, and a writable output.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
        assert!(is_readable(fd, true));
        assert_eq!(drain(&queue), [b"b"]);
        while is_readable(fd, false) {
            refused!(Empty, queue.get_with(NOW));
        }
        queue.put_with(b"c", NOW).unwrap();
        assert!(is_readable(fd, true));
    });
}

#[test]
fn a_child_can_close_its_copy_of_the_handle_and_the_parent_keeps_its_notice() {
    alone(|| {
        for asks in [false, true] {
            let queue = unnamed(Options::default());
            queue.put_with(b"a", NOW).unwrap();
            queue.notice(What::Messages).unwrap();
            let words = shared_words(1);
            // SAFETY: _exit accepts any number.
            let child = unsafe { libc::fork() };
            if child == 0 {
                queue.lease_with(NOW).unwrap();
                if asks {
                    queue.notice(What::Messages).unwrap();
                }
                drop(queue);
                words[0].store(1, Relaxed);
                super::stay();
            }
            wait_until(|| words[0].load(Relaxed) == 1);
            let got = queue.get_with(super::within(5_000_000_000));
            // SAFETY: a child of this process.
            unsafe { libc::kill(child, libc::SIGKILL) };
            assert_eq!(got.unwrap(), b"a");
        }
    });
}

#[test]
fn the_thread_and_the_descriptor_end_with_the_handle() {
    alone(|| {
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        for _ in 0..20 {
            let queue = unnamed(of_one());
            queue.notice(What::Messages).unwrap();
            queue.notice(What::Room).unwrap();
            assert!(threads() >= 3);
        }
        wait_until(|| threads() == 1);
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn a_notice_fails_without_a_free_descriptor_and_the_queue_still_works() {
    alone(|| {
        let queue = unnamed(Options::default());
        queue.put_with(b"a", NOW).unwrap();
        limit(Resource::RLIMIT_NOFILE, 0);
        refused!(Unsupported, queue.notice(What::Messages));
        limit(Resource::RLIMIT_NOFILE, 100);
        assert_eq!(threads(), 1);
        assert_eq!(drain(&queue), [b"a"]);
    });
}
