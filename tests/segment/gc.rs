//! Ephemeral segments: the name goes with the last user, or with the collector; never from under somebody.

use super::common::kernel::{
    UNPRIVILEGED_USER, become_unprivileged, can_change_user, refuse_unnamed_files,
};
use super::common::process::{Child, alone, fork, shared_words, wait_until};
use super::common::{Folder, byte, is_root};
use super::draft::maker_in_the_middle;
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

/// Forks a process that does this, and then stays.
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
fn the_last_to_close_removes_the_name() {
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
    // A new one of that name is another one's, whose end it waits for.
    let made = make(&folder);
    made.unlink().unwrap();
    let newer = make(&folder);
    drop(made);
    assert_eq!(folder.entries(), ["a"]);
    drop(newer);
    assert!(folder.entries().is_empty());
    // Without a name there is nothing to remove.
    drop(Segment::create(None, 64, &ephemeral(&folder)).unwrap());
}

#[test]
fn what_stands_in_it_keeps_it() {
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
            // The last one: it removes the name.
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
fn killed_users_leave_it_to_the_collector() {
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
        // One that is stopped is not dead, nor is one that has closed its descriptors.
        let stopped = stays(|| make(&folder));
        nix::sys::signal::kill(stopped.pid(), nix::sys::signal::Signal::SIGSTOP).unwrap();
        assert_eq!(collect(&folder), 0);
        stopped.kill();
        assert_eq!(collect(&folder), 1);
        let bare = stays(|| {
            let made = make(&folder);
            // SAFETY: closing descriptors is no memory access; the segment's is what is on trial.
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
fn who_does_not_know_the_name_leaves_it_to_the_collector() {
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
fn several_at_once_and_the_directory_of_the_variable() {
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
fn everything_else_is_left_alone() {
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
        // Of another layout, with a wrong checksum, too short, nothing at all.
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
fn a_stranger_who_holds_the_byte_keeps_it() {
    alone(|| {
        /// What users share and collectors take, as the layout fixes it.
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
fn what_may_not_be_opened_does_not_end_it() {
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
            // Who may not write it cannot say that nobody else is there.
            assert_eq!(collect(&folder), 2);
            assert_eq!(folder.entries(), ["a", "c"]);
        })
        .succeed();
    });
}

#[test]
fn anothers_is_not_ours_to_remove() {
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
            stays(|| Segment::create(Some(c"nobodys"), 64, &open).unwrap()).kill();
            stays(|| Segment::create(Some(c"too"), 64, &open).unwrap()).kill();
            assert_eq!(collect(&folder), 2);
            stays(|| Segment::create(Some(c"nobodys"), 64, &open).unwrap()).kill();
        })
        .succeed();
        assert_eq!(folder.entries(), ["nobodys", "roots"]);
        assert_eq!(collect(&folder), 1);
        assert_eq!(folder.entries(), ["nobodys"]);
    });
}

#[test]
fn what_killed_makers_have_left_goes_as_well() {
    alone(|| {
        let folder = Folder::new();
        refuse_unnamed_files();
        maker_in_the_middle(&folder).kill();
        assert_eq!(folder.entries().len(), 1);
        assert_eq!(collect(&folder), 0, "no segment has been removed");
        assert!(folder.entries().is_empty());
        let living = maker_in_the_middle(&folder);
        assert_eq!((collect(&folder), folder.entries().len()), (0, 1));
        living.kill();
    });
}

#[test]
fn never_from_under_somebody() {
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
        // Dies again and again without closing, so that there is something to collect.
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
