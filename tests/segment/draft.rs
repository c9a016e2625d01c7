//! File systems without O_TMPFILE: a name still appears only with its whole segment, and drafts of killed creators are
//! removed.
//!
//! A seccomp filter makes the kernel answer as such a file system does.

use super::common::Folder;
use super::common::kernel::refuse_unnamed_files;
use super::common::process::{alone, end_after_one_step, fork, shared_words, wait_until};
use super::{fill, is_filled, within};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use shmkit::segment::{self, Form, Growth, Options, Segment};
use std::sync::atomic::Ordering::Relaxed;

fn in_folder_without_unnamed_files(body: impl FnOnce(&Folder)) {
    let folder = Folder::new();
    refuse_unnamed_files();
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR;
    let refused = nix::fcntl::open(folder.path(), flags, Mode::S_IRWXU).map(drop);
    assert_eq!(refused, Err(Errno::EOPNOTSUPP), "the filter has no effect");
    body(&folder);
}

#[test]
fn a_segment_is_created_under_a_private_name_and_renamed() {
    alone(|| {
        in_folder_without_unnamed_files(|folder| {
            for mode in [None, Some(0o666), Some(0o400)] {
                let options = Options {
                    mode,
                    capacity: 1 << 20,
                    ..within(folder)
                };
                let made = Segment::create(Some(c"a"), 5000, &options).unwrap();
                fill(&made);
                assert_eq!(folder.entries(), ["a"]);
                let stat = made.stat().unwrap();
                assert_eq!(
                    (stat.file.links, stat.file.mode),
                    (1, mode.unwrap_or(0o600))
                );
                let reading = Options {
                    readonly: true,
                    ..within(folder)
                };
                assert!(is_filled(&Segment::open(c"a", 5000, &reading).unwrap()));
                for size in [1, 2 << 20] {
                    refused!(Exists, Segment::create(Some(c"a"), size, &within(folder)));
                    assert_eq!(folder.entries(), ["a"]);
                }
                assert!(is_filled(&made));
                made.resize(6000, &Growth::default()).unwrap();
                made.unlink().unwrap();
                assert!(folder.entries().is_empty());
            }
        });
    });
}

#[test]
fn a_failed_create_leaves_no_draft() {
    alone(|| {
        in_folder_without_unnamed_files(|folder| {
            end_after_one_step();
            let careful = Options {
                interruptible: true,
                ..within(folder)
            };
            refused!(NoSpace, Segment::create(Some(c"a"), 1 << 50, &careful));
            let capacity = Options {
                capacity: 1 << 62,
                ..within(folder)
            };
            refused!(NoMemory, Segment::create(Some(c"a"), 1, &capacity));
            let steps = shared_words(1);
            super::signal::install_hook(steps, 2);
            refused!(Interrupted, Segment::create(Some(c"a"), 1 << 30, &careful));
            assert!(folder.entries().is_empty(), "{:?}", folder.entries());
        });
    });
}

/// Starts a process that stalls while it creates a large segment.
pub fn stalled_creator(folder: &Folder) -> super::common::process::Child {
    super::signal::stalled(1, || {
        let options = Options {
            interruptible: true,
            ..within(folder)
        };
        Segment::create(Some(c"large"), 128 << 20, &options).unwrap();
    })
}

#[test]
fn the_next_create_removes_the_drafts_of_dead_creators_only() {
    alone(|| {
        in_folder_without_unnamed_files(|folder| {
            let living = stalled_creator(folder);
            let unfinished = folder.entries();
            assert_eq!(unfinished.len(), 1);
            assert!(unfinished[0].starts_with(".shmkit-"), "{unfinished:?}");
            // The draft cannot be opened by its name, and is not listed.
            refused!(NotFound, Segment::open(c"large", 0, &within(folder)));
            let directory = folder.directory();
            segment::list(directory.as_deref(), |name| panic!("{name:?} is listed")).unwrap();

            let dead = stalled_creator(folder);
            assert_eq!(folder.entries().len(), 2);
            dead.kill();
            assert_eq!(
                folder.entries().len(),
                2,
                "a killed creator leaves its draft"
            );

            Segment::create(Some(c"a"), 1, &within(folder)).unwrap();
            let entries = folder.entries();
            assert_eq!(entries, [unfinished[0].as_str(), "a"]);

            living.kill();
            Segment::create(Some(c"b"), 1, &within(folder)).unwrap();
            assert_eq!(folder.entries(), ["a", "b"]);
        });
    });
}

#[test]
fn only_drafts_are_removed() {
    alone(|| {
        in_folder_without_unnamed_files(|folder| {
            for name in ["a", ".hidden", ".shmkit", "shmkit-1"] {
                std::fs::write(folder.path().join(name), "x").unwrap();
            }
            // A folder and a link with the name of a draft are not drafts.
            std::fs::create_dir(folder.path().join(".shmkit-folder")).unwrap();
            std::os::unix::fs::symlink("a", folder.path().join(".shmkit-link")).unwrap();
            std::fs::write(folder.path().join(".shmkit-0123"), "x").unwrap();
            Segment::create(Some(c"b"), 1, &within(folder)).unwrap();
            let expected = [
                ".hidden",
                ".shmkit",
                ".shmkit-folder",
                ".shmkit-link",
                "a",
                "b",
                "shmkit-1",
            ];
            assert_eq!(folder.entries(), expected);
        });
    });
}

#[test]
fn concurrent_creators_keep_each_others_drafts() {
    alone(|| {
        in_folder_without_unnamed_files(|folder| {
            let children: Vec<_> = (0..8)
                .map(|which| {
                    fork(move || {
                        for round in 0..60 {
                            let name = std::ffi::CString::new(format!("{which}-{round}")).unwrap();
                            let made = Segment::create(Some(&name), 5000, &within(folder)).unwrap();
                            let stat = made.stat().unwrap();
                            assert_eq!(stat.file.links, 1, "removed while it was created");
                            Segment::open(&name, 5000, &within(folder))
                                .unwrap()
                                .unlink()
                                .unwrap();
                        }
                    })
                })
                .collect();
            children.into_iter().for_each(|child| child.succeed());
            assert!(folder.entries().is_empty(), "{:?}", folder.entries());
        });
    });
}

#[test]
fn a_collector_leaves_a_draft_and_its_segment_to_a_live_creator() {
    alone(|| {
        in_folder_without_unnamed_files(|folder| {
            let words = shared_words(1);
            let collector = fork(|| {
                while words[0].load(Relaxed) == 0 {
                    segment::gc(folder.directory().as_deref(), false).unwrap();
                }
            });
            let options = Options {
                form: Form::Managed,
                ephemeral: true,
                ..within(folder)
            };
            for _ in 0..3000 {
                let made = Segment::create(Some(c"a"), 1, &options).unwrap();
                segment::gc(folder.directory().as_deref(), false).unwrap();
                assert_eq!(folder.entries(), ["a"], "removed while in use");
                drop(made);
                // Either this process or the collector removes the name.
                wait_until(|| folder.entries().is_empty());
            }
            words[0].store(1, Relaxed);
            collector.succeed();
        });
    });
}
