//! Named queues: messages that outlive processes, and other users. For the rest see tests/object/name.rs.

use super::common::kernel::{become_unprivileged, can_change_user};
use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::{Folder, Name};
use super::{NOW, ONE_MINUTE, drain};
use shmkit::queue::{Create, FileOptions, Options, Queue};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering::Relaxed;

fn place(folder: &Folder) -> FileOptions {
    FileOptions {
        directory: folder.directory(),
        ..FileOptions::default()
    }
}

fn by(file: FileOptions) -> Options {
    Options {
        file,
        ..Options::default()
    }
}

#[test]
fn messages_outlive_the_processes_that_put_them() {
    alone(|| {
        let name = Name::new();
        let large = vec![7; 3 << 20];
        let put = |message: &[u8]| {
            let queue = Queue::named(&name, Create::IfMissing, &Options::default()).unwrap();
            queue.put_with(message, NOW).unwrap();
        };
        fork(|| put(b"small")).succeed();
        fork(|| put(&large)).succeed();
        let queue = Queue::named(&name, Create::Never, &Options::default()).unwrap();
        assert_eq!(drain(&queue), [&b"small"[..], &large]);
        queue.unlink().unwrap();
    });
}

#[test]
fn one_of_several_racing_creators_creates_the_queue() {
    alone(|| {
        let folder = Folder::new();
        let options = by(place(&folder));
        let words = shared_words(1);
        for round in 0..20u64 {
            let children: Vec<_> = (0..4u8)
                .map(|number| {
                    let options = &options;
                    fork(move || {
                        wait_until(|| words[0].load(Relaxed) > round);
                        let queue = Queue::named(c"race", Create::IfMissing, options).unwrap();
                        queue.put_with(&[number], NOW).unwrap();
                    })
                })
                .collect();
            words[0].store(round + 1, Relaxed);
            let queue = Queue::named(c"race", Create::IfMissing, &options).unwrap();
            let mut had = [0; 4].map(|_: u8| queue.get_with(ONE_MINUTE).unwrap()[0]);
            had.sort_unstable();
            assert_eq!(had, [0, 1, 2, 3]);
            for child in children {
                child.succeed();
            }
            queue.unlink().unwrap();
        }
        assert!(folder.entries().is_empty());
    });
}

#[test]
fn a_queue_of_another_user_is_opened_only_with_trust() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let folder = Folder::new();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let options = by(FileOptions {
            mode: Some(0o666),
            ..place(&folder)
        });
        let queue = Queue::named(c"a", Create::Always, &options).unwrap();
        queue.put_with(b"for others", NOW).unwrap();
        fork(|| {
            become_unprivileged();
            for create in [Create::Never, Create::IfMissing] {
                refused!(Untrusted, Queue::named(c"a", create, &options));
            }
            let trusting = by(FileOptions {
                trust: true,
                ..place(&folder)
            });
            let queue = Queue::named(c"a", Create::Never, &trusting).unwrap();
            assert_eq!(drain(&queue), [b"for others"]);
            // Any process that puts can grow the file.
            queue.put_with(&[9; 1 << 20], NOW).unwrap();
        })
        .succeed();
        assert_eq!(drain(&queue), [[9; 1 << 20]]);
        // Without the permission the queue cannot be opened.
        let own = by(place(&folder));
        let queue = Queue::named(c"own", Create::Always, &own).unwrap();
        fork(|| {
            become_unprivileged();
            let trusting = by(FileOptions {
                trust: true,
                ..place(&folder)
            });
            refused!(Permission, Queue::named(c"own", Create::Never, &trusting));
        })
        .succeed();
        drop(queue);
    });
}
