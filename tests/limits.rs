//! Limits: their figures, and that exceeding one is an error, never a signal, and leaves nothing.

#[macro_use]
mod common;

#[path = "limits/figure.rs"]
mod figure;

use common::kernel::{MemoryCgroup, SmallFileSystem, limit};
use common::process::{Ended, alone, end_after_one_step, fork};
use common::{Folder, Name, c_path};
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use shmkit::error::Cause;
use shmkit::limits::{Limits, limits};
use shmkit::segment::{Growth, Options, Segment};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;

fn plain() -> Options {
    Options::default()
}

fn within(folder: &Folder) -> Options {
    Options {
        directory: folder.directory(),
        ..plain()
    }
}

fn limits_of(path: &Path) -> Limits {
    limits(&c_path(path)).unwrap()
}

/// Writes to every page.
fn touch(segment: &Segment) {
    let bytes = segment.bytes().unwrap();
    bytes
        .iter()
        .step_by(PAGE as usize)
        .for_each(|byte| byte.store(1, Relaxed));
}

/// Checks that a text names each of these figures or places.
#[track_caller]
fn assert_names(cause: &Cause, words: &[String]) {
    for word in words {
        assert!(cause.text.contains(word), "no {word:?} in {cause}");
    }
}

#[test]
fn a_full_file_system_is_no_space_with_its_figures() {
    alone(|| {
        let Some(small) = SmallFileSystem::mount(MIB) else {
            return;
        };
        let folder = small.folder();
        let place = folder.path().to_str().unwrap().to_owned();
        assert_eq!(small.free(), MIB);
        // Above a megabyte the figures are compared first. Below it, or without the space check, the kernel refuses.
        for (no_space_check, size) in [
            (false, MIB + PAGE),
            (false, 1 << 40),
            (true, MIB + PAGE),
            (true, 80 * MIB),
        ] {
            let options = Options {
                no_space_check,
                ..within(folder)
            };
            let cause = refused!(NoSpace, Segment::create(Some(c"a"), size, &options));
            assert_names(&cause, &[size.to_string(), MIB.to_string(), place.clone()]);
            assert_eq!(cause.errno, libc::ENOSPC);
            assert!(folder.entries().is_empty(), "{:?}", folder.entries());
            assert_eq!(small.free(), MIB, "memory is left after the failure");
        }
        let half = Segment::create(Some(c"half"), MIB / 2, &within(folder)).unwrap();
        for no_space_check in [false, true] {
            let options = Options {
                no_space_check,
                ..within(folder)
            };
            let cause = refused!(NoSpace, Segment::create(Some(c"a"), MIB / 2 + 1, &options));
            assert_names(&cause, &[(MIB / 2 + 1).to_string(), (MIB / 2).to_string()]);
            let opened = Segment::open_or_create(Some(c"a"), MIB / 2 + 1, &options);
            refused!(NoSpace, opened);
        }
        assert_eq!(folder.entries(), ["half"]);
        // The memory is really reserved.
        let rest = Segment::create(Some(c"rest"), MIB / 2, &within(folder)).unwrap();
        assert_eq!(small.free(), 0);
        fork(|| {
            touch(&half);
            touch(&rest);
        })
        .succeed();
        refused!(NoSpace, Segment::create(Some(c"a"), 1, &within(folder)));
        rest.unlink().unwrap();
        drop(rest);
        Segment::create(Some(c"a"), 1, &within(folder)).unwrap();
    });
}

#[test]
fn a_failed_resize_on_a_full_file_system_changes_nothing() {
    alone(|| {
        let Some(small) = SmallFileSystem::mount(MIB) else {
            return;
        };
        let folder = small.folder();
        let options = Options {
            capacity: 1 << 30,
            ..within(folder)
        };
        let made = Segment::create(Some(c"a"), 5000, &options).unwrap();
        touch(&made);
        let (before, free) = (made.stat().unwrap(), small.free());
        for (no_space_check, size) in [
            (false, MIB + 1),
            (false, 3 * MIB),
            (true, MIB + 1),
            (true, 100 * MIB),
        ] {
            let growth = Growth {
                no_space_check,
                ..Growth::default()
            };
            let cause = refused!(NoSpace, made.resize(size, &growth));
            // The last page is allocated already, so only the pages after it are new.
            assert_names(
                &cause,
                &[free.to_string(), folder.path().to_str().unwrap().to_owned()],
            );
            assert_eq!(made.stat().unwrap(), before, "the segment has changed");
            assert_eq!(small.free(), free, "memory is left beyond the size");
        }
        made.resize(free + 8192, &Growth::default()).unwrap();
        assert_eq!(small.free(), 0);
        fork(|| touch(&made)).succeed();
    });
}

#[test]
fn a_failed_resize_frees_the_steps_that_succeeded() {
    alone(|| {
        // The size is more than one reservation step, and less than two.
        let Some(small) = SmallFileSystem::mount(80 * MIB) else {
            return;
        };
        let roomy = Options {
            capacity: 1 << 30,
            no_space_check: true,
            ..within(small.folder())
        };
        let made = Segment::create(Some(c"a"), 5000, &roomy).unwrap();
        let (before, free) = (made.stat().unwrap(), small.free());
        let growth = Growth {
            no_space_check: true,
            ..Growth::default()
        };
        let cause = refused!(NoSpace, made.resize(100 * MIB, &growth));
        assert_names(&cause, &[(100 * MIB - 5000).to_string(), free.to_string()]);
        assert_eq!(made.stat().unwrap(), before, "the segment has changed");
        assert_eq!(small.free(), free, "memory is left beyond the size");
        let cause = refused!(NoSpace, Segment::create(Some(c"b"), 100 * MIB, &roomy));
        assert_names(&cause, &[(100 * MIB).to_string(), free.to_string()]);
        assert_eq!(small.free(), free);
        assert_eq!(small.folder().entries(), ["a"]);
    });
}

#[test]
fn create_succeeds_up_to_the_largest_size_and_no_further() {
    alone(|| {
        let Some(small) = SmallFileSystem::mount(3 * MIB) else {
            return;
        };
        let folder = small.folder();
        let _other = Segment::create(Some(c"other"), 5000, &within(folder)).unwrap();
        let found = limits_of(folder.path());
        let (largest, place) = found.largest(true);
        assert_eq!(
            (largest, place),
            (3 * MIB - 8192, folder.path().to_str().unwrap().to_owned())
        );
        assert_eq!((found.space.total, found.space.free), (3 * MIB, largest));
        refused!(
            NoSpace,
            Segment::create(Some(c"a"), largest + 1, &within(folder))
        );
        let made = Segment::create(Some(c"a"), largest, &within(folder)).unwrap();
        fork(|| touch(&made)).succeed();
    });
}

#[test]
fn accessing_a_sparse_segment_beyond_the_file_system_is_sigbus() {
    alone(|| {
        let Some(small) = SmallFileSystem::mount(MIB) else {
            return;
        };
        let options = Options {
            sparse: true,
            ..within(small.folder())
        };
        let made = Segment::create(Some(c"a"), 2 * MIB, &options).unwrap();
        assert_eq!(fork(|| touch(&made)).wait(), Ended::Signal(Signal::SIGBUS));
    });
}

#[test]
fn rlimit_fsize_is_no_space_and_no_signal() {
    alone(|| {
        let folder = Folder::new();
        let options = Options {
            capacity: 1 << 30,
            ..within(&folder)
        };
        let made = Segment::create(Some(c"made"), 5000, &options).unwrap();
        limit(Resource::RLIMIT_FSIZE, MIB);
        assert_eq!(
            limits_of(folder.path()).largest(true),
            (MIB, "RLIMIT_FSIZE".to_owned())
        );
        let flags = [(false, false), (true, false), (false, true), (true, true)];
        for (no_space_check, sparse) in flags {
            let options = Options {
                no_space_check,
                sparse,
                ..within(&folder)
            };
            for name in [Some(c"a"), None] {
                for size in [MIB + 1, 80 * MIB] {
                    let cause = refused!(NoSpace, Segment::create(name, size, &options));
                    assert_names(
                        &cause,
                        &[size.to_string(), MIB.to_string(), "RLIMIT_FSIZE".into()],
                    );
                }
            }
            let growth = Growth {
                no_space_check,
                sparse,
                ..Growth::default()
            };
            refused!(NoSpace, made.resize(MIB + 1, &growth));
            assert_eq!(made.size().unwrap(), 5000);
        }
        assert_eq!(folder.entries(), ["made"]);
        made.resize(MIB, &Growth::default()).unwrap();
        Segment::create(None, MIB, &plain()).unwrap();
    });
}

#[test]
fn rlimit_as_is_no_memory() {
    alone(|| {
        let folder = Folder::new();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmSize:"))
            .unwrap();
        let used = line
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024;
        limit(Resource::RLIMIT_AS, used + 64 * MIB);
        assert_eq!(limits_of(folder.path()).address_space, used + 64 * MIB);
        for name in [Some(c"a"), None] {
            let capacity = Options {
                capacity: 1 << 40,
                ..within(&folder)
            };
            let cause = refused!(NoMemory, Segment::create(name, 5000, &capacity));
            assert_names(&cause, &["RLIMIT_AS".into(), (1u64 << 40).to_string()]);
            assert_eq!(cause.errno, libc::ENOMEM);
            let sparse = Options {
                sparse: true,
                ..within(&folder)
            };
            refused!(NoMemory, Segment::create(name, 128 * MIB, &sparse));
        }
        assert!(folder.entries().is_empty(), "{:?}", folder.entries());
        Segment::create(Some(c"a"), 5000, &within(&folder)).unwrap();
        let capacity = Options {
            capacity: 1 << 40,
            ..within(&folder)
        };
        refused!(NoMemory, Segment::open(c"a", 0, &capacity));
        Segment::open(c"a", 0, &within(&folder)).unwrap();
        assert_eq!(folder.entries(), ["a"]);
    });
}

#[test]
fn more_than_the_memory_of_the_machine_is_no_space() {
    alone(|| {
        end_after_one_step();
        let folder = Folder::new();
        let careful = Options {
            interruptible: true,
            ..within(&folder)
        };
        let size = 1 << 50;
        let cause = refused!(NoSpace, Segment::create(None, size, &careful));
        assert_names(&cause, &[size.to_string(), "free in ".into()]);
        let cause = refused!(NoSpace, Segment::create(Some(c"a"), size, &careful));
        let place = folder.path().to_str().unwrap().to_owned();
        assert_names(&cause, &[size.to_string(), place]);
        let roomy = Options {
            capacity: 1 << 46,
            ..plain()
        };
        let made = Segment::create(None, 1, &roomy).unwrap();
        let before = made.stat().unwrap();
        let growth = Growth {
            interruptible: true,
            ..Growth::default()
        };
        refused!(NoSpace, made.resize(1 << 46, &growth));
        assert_eq!(made.stat().unwrap(), before);
        assert!(folder.entries().is_empty());
    });
}

#[test]
fn more_than_the_limit_of_a_cgroup_is_no_space() {
    alone(|| {
        let Some(cgroup) = MemoryCgroup::make(48 * MIB) else {
            return;
        };
        let name = Name::new();
        fork(|| {
            cgroup.enter();
            let found = limits_of(Path::new("/dev/shm"));
            let tightest = found.cgroup.clone().expect("the cgroup has a limit");
            assert_eq!(
                (tightest.limit, tightest.path.as_path()),
                (48 * MIB, cgroup.path())
            );
            assert!(tightest.free <= 48 * MIB);
            let (largest, place) = found.largest(false);
            assert!(largest <= tightest.free);
            assert!(place.contains(cgroup.path().to_str().unwrap()), "{place}");
            for name in [Some(&*name), None] {
                let cause = refused!(NoSpace, Segment::create(name, 64 * MIB, &plain()));
                let place = cgroup.path().to_str().unwrap().to_owned();
                assert_names(&cause, &[(64 * MIB).to_string(), place]);
                let options = Options {
                    capacity: 1 << 30,
                    ..plain()
                };
                let made = Segment::create(name, 16 * MIB, &options).unwrap();
                touch(&made);
                let cause = refused!(NoSpace, made.resize(128 * MIB, &Growth::default()));
                assert_names(&cause, &[(112 * MIB).to_string(), "the cgroup ".into()]);
                assert_eq!(made.size().unwrap(), 16 * MIB);
                made.unlink().unwrap();
            }
        })
        .succeed();
    });
}
