//! Pages: mapped ahead of use, huge, or locked in memory.

use super::common::kernel::{
    SmallFileSystem, UNPRIVILEGED_USER, become_unprivileged, can_change_user, limit,
};
use super::common::process::{alone, fork};
use super::common::{Name, skip};
use super::{Relaxed, fill, is_filled, plain};
use nix::sys::resource::{Resource, UsageWho, getrusage};
use shmkit::segment::{Growth, Options, Segment};

const PAGE: u64 = 4096;
const HUGE_PAGE: u64 = 2 << 20;

/// Writes to each page of `[from, to)` and returns the number of page faults.
fn faults_of_touching(segment: &Segment, from: u64, to: u64) -> i64 {
    let bytes = segment.bytes().unwrap();
    let faults = || {
        getrusage(UsageWho::RUSAGE_THREAD)
            .unwrap()
            .minor_page_faults()
    };
    let before = faults();
    for at in (from..to).step_by(PAGE as usize) {
        bytes[at as usize].store(1, Relaxed);
    }
    faults() - before
}

#[test]
fn prefault_maps_every_page() {
    alone(|| {
        let (size, pages) = (256 * PAGE, 256);
        let prefault = Options {
            prefault: true,
            capacity: 1 << 20 << 1,
            ..plain()
        };
        let name = Name::new();
        let made = Segment::create(Some(&name), size, &plain()).unwrap();
        assert!(
            faults_of_touching(&made, 0, size) >= pages / 2,
            "the test must count page faults"
        );
        let opened = Segment::open(&name, 0, &prefault).unwrap();
        assert_eq!(faults_of_touching(&opened, 0, size), 0, "opened");
        let anonymous = Segment::create(None, size, &prefault).unwrap();
        assert_eq!(faults_of_touching(&anonymous, 0, size), 0, "made");
        anonymous.resize(2 * size, &Growth::default()).unwrap();
        assert_eq!(faults_of_touching(&anonymous, size, 2 * size), 0, "grown");
        // The pages of a read-only segment are mapped as well.
        let reading = Options {
            readonly: true,
            ..prefault
        };
        let opened = Segment::open(&name, 0, &reading).unwrap();
        assert_eq!(super::byte(&opened, size - 1), 0);
    });
}

#[test]
fn huge_bytes_reports_the_huge_pages_of_the_kernel() {
    let size = 4 * HUGE_PAGE + 5000;
    let huge = Options {
        huge: true,
        capacity: 8 * HUGE_PAGE,
        ..plain()
    };
    let name = Name::new();
    let mut got = Vec::new();
    for name in [Some(&*name), None] {
        let made = Segment::create(name, size, &huge).unwrap();
        assert_eq!(made.size().unwrap(), size);
        assert!(
            made.stat().unwrap().file.allocated >= size,
            "the memory is not reserved"
        );
        let bytes = made.huge_bytes();
        assert_eq!(bytes % HUGE_PAGE, 0);
        assert!(bytes <= size);
        assert_eq!(bytes, huge_bytes_of_smaps(&made));
        fill(&made);
        assert!(is_filled(&made));
        made.resize(7 * HUGE_PAGE, &Growth::default()).unwrap();
        assert!(made.huge_bytes() >= bytes);
        assert_eq!(made.huge_bytes(), huge_bytes_of_smaps(&made));
        got.push(bytes);
    }
    let opened = Segment::open(&name, 0, &huge).unwrap();
    assert!(opened.huge_bytes() <= 7 * HUGE_PAGE);
    if got.contains(&0) {
        skip(&format!("huge pages were not available: {got:?} bytes"));
    }
    // Without the option there are none, unless the machine uses them for all memory.
    let made = Segment::create(None, size, &plain()).unwrap();
    assert_eq!(made.huge_bytes(), huge_bytes_of_smaps(&made));
}

/// Returns the sum of `ShmemPmdMapped` of the mappings that begin at the segment: an independent source.
fn huge_bytes_of_smaps(segment: &Segment) -> u64 {
    let start = format!("{:x}-", segment.data() as usize);
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    // The part without memory is excluded from core dumps, so it is a separate mapping that follows.
    let from = smaps.find(&start).expect("the segment is mapped");
    let figure = smaps[from..]
        .lines()
        .find(|line| line.starts_with("ShmemPmdMapped:"))
        .unwrap();
    figure
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[test]
fn a_segment_smaller_than_a_huge_page_has_none() {
    let huge = Options {
        huge: true,
        ..plain()
    };
    for size in [1, 5000, HUGE_PAGE - 1] {
        let made = Segment::create(None, size, &huge).unwrap();
        assert_eq!((made.size().unwrap(), made.huge_bytes()), (size, 0));
        assert!(made.stat().unwrap().file.allocated >= size);
        fill(&made);
        assert!(is_filled(&made));
    }
}

#[test]
fn huge_prefault_and_lock_work_together() {
    alone(|| {
        let options = Options {
            huge: true,
            prefault: true,
            lock: true,
            no_space_check: true,
            capacity: 1 << 30,
            ..plain()
        };
        limit(Resource::RLIMIT_MEMLOCK, 8 << 20);
        let made = Segment::create(None, 3 * HUGE_PAGE, &options).unwrap();
        fill(&made);
        assert!(is_filled(&made));
        assert_eq!(locked_bytes(), 3 * HUGE_PAGE);
        made.resize(3 * HUGE_PAGE + PAGE, &Growth::default())
            .unwrap();
        assert_eq!(locked_bytes(), 3 * HUGE_PAGE + PAGE);
        drop(made);
        assert_eq!(locked_bytes(), 0);
    });
}

/// Returns VmLck: the bytes that this process has locked in memory.
fn locked_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmLck:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[test]
fn locking_memory_fails_beyond_rlimit_memlock() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        fork(|| {
            limit(Resource::RLIMIT_MEMLOCK, 64 << 10);
            become_unprivileged();
            assert_eq!(nix::unistd::geteuid().as_raw(), UNPRIVILEGED_USER);
            let name = Name::new();
            let lock = Options {
                lock: true,
                capacity: 1 << 20,
                ..plain()
            };
            let made = Segment::create(Some(&name), 32 << 10, &lock).unwrap();
            assert_eq!(locked_bytes(), 32 << 10);
            let cause = refused!(NoMemory, Segment::create(None, 64 << 10, &lock));
            assert!(
                cause.text.contains("RLIMIT_MEMLOCK") && cause.text.contains("65536"),
                "{cause}"
            );
            assert!(cause.errno != 0);
            let opened = Segment::open(&name, 0, &lock).unwrap();
            refused!(NoMemory, Segment::open(&name, 0, &lock));
            drop(opened);
            // The segment has grown nevertheless, and its new pages are not locked.
            refused!(NoMemory, made.resize(512 << 10, &Growth::default()));
            assert_eq!(made.size().unwrap(), 512 << 10);
            fill(&made);
            made.unlink().unwrap();
            // A segment that cannot be locked does not get a name.
            refused!(NoMemory, Segment::create(Some(&name), 128 << 10, &lock));
            assert!(!name.path().exists());
        })
        .succeed();
    });
}

#[test]
fn prefault_reserves_the_memory_of_a_sparse_file() {
    alone(|| {
        let name = Name::new();
        limit(Resource::RLIMIT_MEMLOCK, 8 << 20);
        for (prefault, huge, lock) in [
            (true, false, false),
            (false, true, false),
            (false, false, true),
        ] {
            let file = std::fs::File::create(name.path()).unwrap();
            file.set_len(3 * HUGE_PAGE + 5000).unwrap();
            let options = Options {
                prefault,
                huge,
                lock,
                ..plain()
            };
            let opened = Segment::open(&name, 0, &options).unwrap();
            assert_eq!(opened.size().unwrap(), 3 * HUGE_PAGE + 5000);
            let allocated = opened.stat().unwrap().file.allocated;
            assert!(allocated >= 3 * HUGE_PAGE + 5000, "{allocated}");
        }
    });
}

#[test]
fn prefault_of_a_sparse_file_fails_on_a_full_file_system_without_a_signal() {
    alone(|| {
        let Some(small) = SmallFileSystem::mount(1 << 20) else {
            return;
        };
        let file = std::fs::File::create(small.folder().path().join("a")).unwrap();
        file.set_len(3 << 20).unwrap();
        limit(Resource::RLIMIT_MEMLOCK, 8 << 20);
        for (prefault, huge, lock) in [
            (true, false, false),
            (false, true, false),
            (false, false, true),
        ] {
            for no_space_check in [false, true] {
                let options = Options {
                    prefault,
                    huge,
                    lock,
                    no_space_check,
                    ..super::within(small.folder())
                };
                refused!(NoSpace, Segment::open(c"a", 0, &options));
                assert_eq!(file.metadata().unwrap().len(), 3 << 20);
            }
            let reading = Options {
                prefault,
                lock,
                readonly: true,
                ..super::within(small.folder())
            };
            let opened = Segment::open(c"a", 0, &reading);
            assert_eq!(opened.is_ok(), huge, "{opened:?}");
        }
    });
}
