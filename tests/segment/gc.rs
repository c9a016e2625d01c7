//! Ephemeral segments: the last user or the collector removes the name, and never while a process uses the segment.

use super::common::kernel::{
    UNPRIVILEGED_USER, become_unprivileged, can_change_user, refuse_unnamed_files,
};
use super::common::process::{Child, alone, fork, shared_words, wait_until};
use super::common::{Folder, byte, is_root};
use super::draft::stalled_creator;
use super::{Relaxed, within};
use shmkit::lock::{Create, Lock};
use shmkit::segment::{self, Form, Options, Segment};
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::Arc;

pub fn ephemeral(folder: &Folder) -> Options {
    Options {
        form: Form::Managed,
        ephemeral: true,
        ..within(folder)
    }
}

pub fn make(folder: &Folder) -> Segment {
    Segment::create(Some(c"a"), 64, &ephemeral(folder)).unwrap()
}

pub fn collect(folder: &Folder) -> u64 {
    segment::gc(folder.directory().as_deref(), false).unwrap()
}

/// Forks a process that runs `body` and then waits to be killed.
pub fn stays<T>(body: impl FnOnce() -> T) -> Child {
    let words = shared_words(1);
    let child = fork(|| {
        let _kept = body();
        words[0].store(1, Relaxed);
        loop {
            nix::unistd::pause();
        }
    });
    wait_until(|| words[0].load(Relaxed) == 1);
    child
}

#[test]
fn the_last_close_removes_the_name() {
    let folder = Folder::new();
    let made = make(&folder);
    let reading = Options {
        readonly: true,
        ..within(&folder)
    };
    let found = Segment::open(c"a", 0, &within(&folder)).unwrap();
    let reader = Segment::open(c"a", 0, &reading).unwrap();
    drop(made);
    assert_eq!(folder.entries(), ["a"]);
    drop(found);
    assert_eq!(folder.entries(), ["a"]);
    drop(reader);
    assert!(folder.entries().is_empty());
    // Closing an unlinked segment leaves a newer one of its name alone.
    let made = make(&folder);
    made.unlink().unwrap();
    let newer = make(&folder);
    drop(made);
    assert_eq!(folder.entries(), ["a"]);
    drop(newer);
    assert!(folder.entries().is_empty());
    // A segment without a name leaves nothing.
    drop(Segment::create(None, 64, &ephemeral(&folder)).unwrap());
}

#[test]
fn a_placed_object_keeps_the_name() {
    let folder = Folder::new();
    let made = Arc::new(make(&folder));
    let lock = Lock::at(&made, 0, Create::Always, &Default::default()).unwrap();
    let built_in = Lock::of(&made).unwrap();
    drop(made);
    drop(lock.acquire().unwrap());
    drop(lock);
    assert_eq!(folder.entries(), ["a"]);
    drop(built_in);
    assert!(folder.entries().is_empty());
}

#[test]
fn a_forked_child_is_a_user_too() {
    alone(|| {
        let folder = Folder::new();
        let made = make(&folder);
        let child = stays(|| ());
        drop(made);
        assert_eq!((folder.entries().len(), collect(&folder)), (1, 0));
        child.kill();
        assert_eq!((collect(&folder), folder.entries().len()), (1, 0));
        let mut made = Some(make(&folder));
        let words = shared_words(1);
        let child = fork(|| {
            wait_until(|| words[0].load(Relaxed) == 1);
            // The last close removes the name.
            drop(made.take());
        });
        drop(made.take());
        assert_eq!(folder.entries(), ["a"]);
        words[0].store(1, Relaxed);
        child.succeed();
        assert!(folder.entries().is_empty());
    });
}

#[test]
fn the_collector_removes_the_segments_of_killed_users() {
    alone(|| {
        let folder = Folder::new();
        let options = ephemeral(&folder);
        let users = [
            stays(|| make(&folder)),
            stays(|| Segment::open(c"a", 0, &options).unwrap()),
            stays(|| {
                let reading = Options {
                    readonly: true,
                    ..within(&folder)
                };
                Segment::open(c"a", 0, &reading).unwrap()
            }),
        ];
        for user in users {
            assert_eq!((collect(&folder), folder.entries().len()), (0, 1));
            user.kill();
        }
        assert_eq!((collect(&folder), folder.entries().len()), (1, 0));
        assert_eq!(collect(&folder), 0);
        // A process that is stopped, or has closed its descriptors, is not dead.
        let stopped = stays(|| make(&folder));
        nix::sys::signal::kill(stopped.pid(), nix::sys::signal::Signal::SIGSTOP).unwrap();
        assert_eq!(collect(&folder), 0);
        stopped.kill();
        assert_eq!(collect(&folder), 1);
        let bare = stays(|| {
            let made = make(&folder);
            // SAFETY: closing descriptors accesses no memory; the test checks that the segment copes with it.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
            assert_eq!(closed, 0);
            made
        });
        assert_eq!(collect(&folder), 0);
        bare.kill();
        assert_eq!(collect(&folder), 1);
    });
}

#[test]
fn the_collector_removes_a_segment_whose_last_user_did_not_know_the_name() {
    let folder = Folder::new();
    let made = make(&folder);
    let found = Segment::open_fd(made.fd(), 0, &within(&folder)).unwrap();
    drop(made);
    assert_eq!((collect(&folder), folder.entries().len()), (0, 1));
    drop(found);
    assert_eq!(folder.entries(), ["a"]);
    assert_eq!((collect(&folder), folder.entries().len()), (1, 0));
}

#[test]
fn the_collector_removes_several_segments_in_the_directory_of_the_variable() {
    alone(|| {
        let folder = Folder::new();
        stays(|| {
            let names = [c"a", c"b", c"c"];
            names.map(|name| Segment::create(Some(name), 64, &ephemeral(&folder)).unwrap())
        })
        .kill();
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var("SHMKIT_DIR", folder.path()) };
        assert_eq!(segment::gc(None, true), Ok(3));
        assert!(folder.entries().is_empty());
        refused!(NotFound, segment::gc(Some(c"/nowhere"), false));
    });
}

#[test]
fn the_collector_leaves_all_other_files() {
    alone(|| {
        let folder = Folder::new();
        let managed = Options {
            form: Form::Managed,
            ..within(&folder)
        };
        Segment::create(Some(c"managed"), 64, &managed).unwrap();
        Segment::create(Some(c"plain"), 64, &within(&folder)).unwrap();
        Lock::named(
            c"lock",
            Create::Always,
            &shmkit::lock::Options {
                file: shmkit::lock::FileOptions {
                    directory: folder.directory(),
                    ..Default::default()
                },
                ..Default::default()
            },
        )
        .unwrap();
        let path = |name| folder.path().join(name);
        stays(|| make(&folder)).kill();
        // Files with another layout, with a wrong checksum, too short, and empty.
        let bytes = std::fs::read(path("a")).unwrap();
        for (name, at) in [("version", 8), ("checksum", 49)] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            std::fs::write(path(name), bytes).unwrap();
        }
        std::fs::write(path("short"), &bytes[..127]).unwrap();
        std::fs::write(path("empty"), "").unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("a", path("link")).unwrap();
        let before = folder.entries();
        assert_eq!((collect(&folder), collect(&folder)), (1, 0));
        let after: Vec<_> = before.into_iter().filter(|name| name != "a").collect();
        assert_eq!(folder.entries(), after);
        assert_eq!(after.len(), 10);
    });
}

#[test]
fn a_lock_of_another_process_on_the_attach_byte_keeps_the_segment() {
    alone(|| {
        /// The byte that users share and collectors lock, as in the layout.
        const ATTACH: i64 = 1 << 61;
        let folder = Folder::new();
        stays(|| make(&folder)).kill();
        let path = folder.path().join("a");
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        byte::share(&file, ATTACH, 1);
        assert_eq!(collect(&folder), 0);
        drop(file);
        assert_eq!(collect(&folder), 1);
    });
}

#[test]
fn the_collector_continues_after_a_file_that_it_may_not_open() {
    alone(|| {
        let folder = Folder::new();
        chown(folder.path(), is_root().then_some(UNPRIVILEGED_USER), None).unwrap();
        fork(|| {
            if is_root() {
                become_unprivileged();
            }
            for (name, mode) in [(c"a", 0o000), (c"b", 0o600), (c"c", 0o400), (c"d", 0o600)] {
                stays(|| Segment::create(Some(name), 64, &ephemeral(&folder)).unwrap()).kill();
                let path = folder.path().join(name.to_str().unwrap());
                std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            }
            // A process that may not write the file cannot check that it has no other users.
            assert_eq!(collect(&folder), 2);
            assert_eq!(folder.entries(), ["a", "c"]);
        })
        .succeed();
    });
}

#[test]
fn the_collector_leaves_segments_that_it_may_not_remove() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let folder = Folder::new();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let open = Options {
            mode: Some(0o666),
            ..ephemeral(&folder)
        };
        stays(|| Segment::create(Some(c"roots"), 64, &open).unwrap()).kill();
        fork(|| {
            become_unprivileged();
            stays(|| Segment::create(Some(c"others"), 64, &open).unwrap()).kill();
            stays(|| Segment::create(Some(c"too"), 64, &open).unwrap()).kill();
            assert_eq!(collect(&folder), 2);
            stays(|| Segment::create(Some(c"others"), 64, &open).unwrap()).kill();
        })
        .succeed();
        assert_eq!(folder.entries(), ["others", "roots"]);
        assert_eq!(collect(&folder), 1);
        assert_eq!(folder.entries(), ["others"]);
    });
}

#[test]
fn the_collector_removes_the_drafts_of_dead_creators() {
    alone(|| {
        let folder = Folder::new();
        refuse_unnamed_files();
        stalled_creator(&folder).kill();
        assert_eq!(folder.entries().len(), 1);
        assert_eq!(collect(&folder), 0, "a draft counts as a segment");
        assert!(folder.entries().is_empty());
        let living = stalled_creator(&folder);
        assert_eq!((collect(&folder), folder.entries().len()), (0, 1));
        living.kill();
    });
}

#[test]
fn the_collector_never_removes_a_segment_in_use() {
    const USERS: usize = 3;
    const ROUNDS: u64 = 3000;
    alone(|| {
        let folder = Folder::new();
        let words = shared_words(3);
        let options = ephemeral(&folder);
        let reading = Options {
            readonly: true,
            ..within(&folder)
        };
        let has_name = |segment: &Segment| segment.stat().unwrap().file.links == 1;
        let users: Vec<_> = (0..USERS)
            .map(|number| {
                fork(|| {
                    for round in 0..ROUNDS {
                        let segment = match (number, round % 4) {
                            (0, 0) => match Segment::open(c"a", 0, &reading) {
                                Ok(found) => found,
                                Err(error) => {
                                    assert!(matches!(error, shmkit::error::Error::NotFound(_)));
                                    continue;
                                }
                            },
                            _ => Segment::open_or_create(Some(c"a"), 64, &options).unwrap(),
                        };
                        assert!(has_name(&segment), "removed from under a user");
                        if round % 8 == 0 {
                            std::thread::yield_now();
                        }
                        assert!(has_name(&segment), "removed from under a user");
                    }
                    words[0].fetch_add(1, Relaxed);
                })
            })
            .collect();
        // These processes die without closing, so that the collector has work.
        let victim = fork(|| {
            while words[0].load(Relaxed) < USERS as u64 {
                stays(|| Segment::open_or_create(Some(c"a"), 64, &options).unwrap()).kill();
            }
        });
        let collector = fork(|| {
            while words[0].load(Relaxed) < USERS as u64 {
                words[1].fetch_add(collect(&folder), Relaxed);
            }
        });
        for child in users.into_iter().chain([victim, collector]) {
            child.succeed();
        }
        collect(&folder);
        assert!(folder.entries().is_empty(), "{:?}", folder.entries());
    });
}
