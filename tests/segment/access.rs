//! Processes with fewer rights: readers that lock bytes, users that were given up, a root without /proc, and system calls
//! that are forbidden.

use super::common::byte;
use super::common::kernel::{
    UNPRIVILEGED_USER, answer_always, can_change_user, refuse_unnamed_files_with,
};
use super::common::process::{alone, fork};
use super::common::{Folder, entries};
use super::within;
use nix::unistd::{Gid, Uid};
use shmkit::lock::{self, Create, FileOptions, Lock};
use shmkit::queue::{self, Queue};
use shmkit::raw::WaitOptions;
use shmkit::segment::{self, Form, Growth, Options, Segment};
use std::fs::File;
use std::time::{Duration, Instant};

/// The bytes of a file that the library locks, as in the layout.
const UNLINK: i64 = (1 << 61) + 1;
const RESIZE: i64 = (1 << 61) + 2;
const TICKETS: i64 = 1 << 62;

/// Gives up all privileges, as a server does. The process may not be inspected any more, not even by itself.
fn give_up_privileges() {
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setgid(Gid::from_raw(UNPRIVILEGED_USER)).unwrap();
    nix::unistd::setuid(Uid::from_raw(UNPRIVILEGED_USER)).unwrap();
}

/// Puts messages until the ring has grown several times, and gets them.
fn grow(queue: &Queue) {
    let message = vec![7; 60_000];
    for _ in 0..10 {
        queue.put(&message).unwrap();
    }
    for _ in 0..10 {
        assert_eq!(queue.try_get().unwrap().unwrap(), message);
    }
}

fn in_folder(folder: &Folder) -> FileOptions {
    FileOptions {
        directory: folder.directory(),
        ..FileOptions::default()
    }
}

#[test]
fn a_reader_that_locks_bytes_holds_up_no_attached_process() {
    alone(|| {
        let folder = Folder::new();
        let options = queue::Options {
            file: in_folder(&folder),
            ..Default::default()
        };
        let queue = Queue::named(c"queue", Create::Always, &options).unwrap();
        queue.put(b"first").unwrap();
        assert_eq!(queue.get().unwrap(), b"first");
        let reader = File::open(folder.path().join("queue")).unwrap();
        byte::share(&reader, RESIZE, 1);
        // The ticket 1 is locked by this process.
        byte::share(&reader, TICKETS + 2, 1 << 40);
        grow(&queue);
        fork(|| {
            let began = Instant::now();
            refused!(ReadLocked, queue.put(b"of a newcomer"));
            assert!(began.elapsed() < Duration::from_secs(10));
        })
        .succeed();
        drop(reader);
        fork(|| queue.put(b"of a newcomer").unwrap()).succeed();
        assert_eq!(queue.get().unwrap(), b"of a newcomer");
    });
}

#[test]
fn a_reader_that_locks_bytes_makes_resize_and_unlink_of_a_plain_segment_fail() {
    alone(|| {
        let folder = Folder::new();
        let options = Options {
            capacity: 1 << 20,
            ..within(&folder)
        };
        let made = Segment::create(Some(c"a"), 4096, &options).unwrap();
        let reader = File::open(folder.path().join("a")).unwrap();
        byte::share(&reader, UNLINK, 2);
        refused!(ReadLocked, made.resize(8192, &Growth::default()));
        refused!(ReadLocked, made.unlink());
        let directory = folder.directory();
        refused!(
            ReadLocked,
            segment::unlink(c"a", directory.as_deref(), None, false)
        );
        assert_eq!(made.size(), Ok(4096));
        drop(reader);
        made.resize(8192, &Growth::default()).unwrap();
        made.unlink().unwrap();
    });
}

#[test]
fn unnamed_objects_work_after_privileges_are_given_up() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let lock = Lock::unnamed(&lock::Options::default()).unwrap();
        let queue = Queue::unnamed(&queue::Options::default()).unwrap();
        fork(|| {
            give_up_privileges();
            // The first use: the file is opened again.
            assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            lock.release().unwrap();
            grow(&queue);
        })
        .succeed();
        assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
    });
}

#[test]
fn what_was_used_grows_without_proc_and_after_privileges_are_given_up() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let folder = Folder::new();
        let options = queue::Options {
            file: in_folder(&folder),
            ..Default::default()
        };
        for name in [None, Some(c"queue")] {
            let queue = match name {
                None => Queue::unnamed(&options),
                Some(name) => Queue::named(name, Create::Always, &options),
            }
            .unwrap();
            fork(|| {
                queue.put(b"first").unwrap();
                assert_eq!(queue.get().unwrap(), b"first");
                nix::unistd::chroot(folder.path()).unwrap();
                nix::unistd::chdir("/").unwrap();
                give_up_privileges();
                grow(&queue);
            })
            .succeed();
        }
    });
}

#[test]
fn a_process_that_was_killed_while_it_changed_the_size_blocks_no_other() {
    alone(|| {
        let options = Options {
            capacity: 1 << 20,
            form: Form::Managed,
            ..Options::default()
        };
        let made = Segment::create(None, 4096, &options).unwrap();
        for size in 2..20 {
            let child = fork(|| {
                loop {
                    made.resize(4096 * size, &Growth::default()).unwrap();
                }
            });
            std::thread::sleep(Duration::from_millis(size));
            child.kill();
            made.resize(4096 * size, &Growth::default()).unwrap();
        }
    });
}

#[test]
fn where_memory_files_are_forbidden_an_unnamed_file_serves() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        alone(|| {
            answer_always(libc::SYS_memfd_create, errno);
            let queue = Queue::unnamed(&queue::Options::default()).unwrap();
            let lock = Lock::unnamed(&lock::Options::default()).unwrap();
            fork(|| {
                std::mem::forget(lock.acquire().unwrap());
                grow(&queue);
            })
            .succeed();
            assert!(lock.acquire().unwrap().owner_died());
        });
    }
}

#[test]
fn an_unnamed_file_that_is_refused_for_any_reason_of_the_system_is_replaced() {
    for errno in [libc::EOPNOTSUPP, libc::EPERM, libc::ENOSYS, libc::EINVAL] {
        alone(|| {
            let folder = Folder::new();
            refuse_unnamed_files_with(errno);
            let made = Segment::create(Some(c"a"), 4096, &within(&folder)).unwrap();
            assert_eq!(entries(folder.path()), ["a"]);
            made.unlink().unwrap();
        });
    }
}
