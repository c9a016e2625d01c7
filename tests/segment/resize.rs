//! Growth: in place, visible to others, never beyond the capacity; a segment never shrinks.

use super::common::process::{Ended, alone, fork, shared_words, wait_until};
use super::common::{Folder, Name};
use super::{Relaxed, byte, fill, is_filled, plain, put, within};
use nix::sys::signal::Signal;
use shmkit::segment::{Growth, Options, Segment};

const TIB: u64 = 1 << 40;

fn roomy(capacity: u64) -> Options {
    Options {
        capacity,
        ..plain()
    }
}

#[test]
fn a_segment_of_one_page_can_have_a_capacity_of_a_tebibyte() {
    let name = Name::new();
    let named = Segment::create(Some(&name), 4096, &roomy(TIB)).unwrap();
    let anonymous = Segment::create(None, 4096, &roomy(TIB)).unwrap();
    for segment in [&named, &anonymous] {
        assert_eq!((segment.size().unwrap(), segment.capacity()), (4096, TIB));
        assert_eq!(segment.stat().unwrap().file.allocated, 4096);
        let base = segment.data();
        put(segment, 4095, 1);
        segment.resize(5 << 20, &Growth::default()).unwrap();
        assert_eq!((segment.data(), segment.size().unwrap()), (base, 5 << 20));
        assert_eq!((byte(segment, 4095), byte(segment, 4096)), (1, 0));
        assert!(segment.stat().unwrap().file.allocated >= 5 << 20);
        let sparse = Growth {
            sparse: true,
            ..Growth::default()
        };
        segment.resize(TIB, &sparse).unwrap();
        put(segment, TIB - 1, 9);
        assert_eq!(byte(segment, TIB - 1), 9);
        assert!(segment.stat().unwrap().file.allocated < 10 << 20);
    }
}

#[test]
fn growth_is_visible_without_mapping_again() {
    alone(|| {
        let name = Name::new();
        let made = Segment::create(Some(&name), 4096, &roomy(1 << 30)).unwrap();
        fill(&made);
        let base = made.data();
        let grower = fork(|| {
            let opened = Segment::open(&name, 0, &roomy(1 << 30)).unwrap();
            assert_eq!(opened.size().unwrap(), 4096);
            opened.resize(3 << 20, &Growth::default()).unwrap();
            fill(&opened);
        });
        grower.succeed();
        assert_eq!(made.size().unwrap(), 3 << 20);
        assert!(is_filled(&made));
        assert_eq!(made.data(), base);
        // The parent sees a child's growth too, through the mapping that the child inherited.
        let ready = shared_words(1);
        let watcher = fork(|| {
            ready[0].store(1, Relaxed);
            wait_until(|| made.size().unwrap() == 5 << 20);
            wait_until(|| byte(&made, (5 << 20) - 1) == 77);
        });
        wait_until(|| ready[0].load(Relaxed) == 1);
        made.resize(5 << 20, &Growth::default()).unwrap();
        put(&made, (5 << 20) - 1, 77);
        watcher.succeed();
    });
}

#[test]
fn a_mapping_sees_as_much_as_its_capacity() {
    let name = Name::new();
    let large = Segment::create(Some(&name), 4096, &roomy(1 << 20)).unwrap();
    let small = Segment::open(&name, 0, &roomy(8192)).unwrap();
    large.resize(1 << 20, &Growth::default()).unwrap();
    assert_eq!(small.size().unwrap(), 8192);
    assert_eq!(small.bytes().unwrap().len(), 8192);
    assert_eq!(small.stat().unwrap().file.size, 1 << 20);
    refused!(TooLarge, small.resize(1 << 20, &Growth::default()));
    refused!(Invalid, small.resize(8192, &Growth::default()));
    assert_eq!(large.size().unwrap(), 1 << 20);
}

#[test]
fn resize_fails_beyond_the_capacity_and_below_the_size() {
    let name = Name::new();
    let made = Segment::create(Some(&name), 5000, &roomy(10_000)).unwrap();
    fill(&made);
    // The capacity is rounded up to whole pages.
    assert_eq!(made.capacity(), 12288);
    let everything = [false, true].map(|flag| Growth {
        no_space_check: flag,
        sparse: flag,
        ..Growth::default()
    });
    for how in &everything {
        let cause = refused!(TooLarge, made.resize(12289, how));
        assert!(
            cause.text.contains("12289") && cause.text.contains("12288"),
            "{cause}"
        );
        refused!(TooLarge, made.resize(u64::MAX, how));
        refused!(TooLarge, made.resize(1 << 63, how));
        refused!(Invalid, made.resize(4999, how));
        refused!(Invalid, made.resize(0, how));
        assert_eq!(made.size().unwrap(), 5000);
        made.resize(5000, how).unwrap();
    }
    assert!(is_filled(&made));
    made.resize(5001, &Growth::default()).unwrap();
    assert_eq!(byte(&made, 5000), 0);
    made.resize(12288, &Growth::default()).unwrap();
    assert_eq!(std::fs::metadata(name.path()).unwrap().len(), 12288);
    assert!(made.stat().unwrap().file.allocated >= 12288);
    assert!((5000..12288).all(|at| byte(&made, at) == 0));
}

#[test]
fn a_segment_without_a_capacity_can_grow_within_its_last_page() {
    let made = Segment::create(None, 100, &plain()).unwrap();
    made.resize(4096, &Growth::default()).unwrap();
    refused!(TooLarge, made.resize(4097, &Growth::default()));
}

#[test]
fn sparse_growth_of_a_handle_that_maps_all_pages_is_invalid() {
    let flags = [
        (true, false, false),
        (false, true, false),
        (false, false, true),
    ];
    for (prefault, huge, lock) in flags {
        let options = Options {
            prefault,
            huge,
            lock,
            ..roomy(1 << 20)
        };
        let made = Segment::create(None, 4096, &options).unwrap();
        let sparse = Growth {
            sparse: true,
            ..Growth::default()
        };
        refused!(Invalid, made.resize(8192, &sparse));
        assert_eq!(made.size().unwrap(), 4096);
        made.resize(8192, &Growth::default()).unwrap();
    }
}

#[test]
fn bytes_beyond_the_old_end_are_zeros() {
    let folder = Folder::new();
    let options = Options {
        capacity: 8192,
        ..within(&folder)
    };
    let made = Segment::create(Some(c"a"), 100, &options).unwrap();
    // SAFETY: the last page has memory to its end, and nothing else uses the bytes beyond the size.
    let behind = unsafe { made.data().add(200) };
    // SAFETY: as above.
    unsafe { behind.write_volatile(9) };
    made.resize(8192, &Growth::default()).unwrap();
    assert_eq!(byte(&made, 200), 0);
}

#[test]
fn concurrent_resizes_end_at_the_largest_size() {
    alone(|| {
        const GROWERS: u64 = 6;
        let name = Name::new();
        let made = Segment::create(Some(&name), 4096, &roomy(64 << 20)).unwrap();
        let start = shared_words(1);
        let grow = |which: u64| {
            let opened = Segment::open(&name, 0, &roomy(64 << 20)).unwrap();
            wait_until(|| start[0].load(Relaxed) == 1);
            let mut mine = 0;
            for step in 1..=40 {
                let size = 4096 * (step * GROWERS + which);
                match opened.resize(size, &Growth::default()) {
                    Ok(()) => mine = size,
                    // Another process was faster, and the segment is larger already.
                    Err(error) => drop(refused!(Invalid, Err::<(), _>(error))),
                }
                let now = opened.size().unwrap();
                assert!(now >= mine, "{now} after growing to {mine}");
                put(&opened, now - 1, 1);
            }
        };
        let growers: Vec<_> = (0..GROWERS)
            .map(|which| fork(move || grow(which)))
            .collect();
        start[0].store(1, Relaxed);
        growers.into_iter().for_each(|grower| grower.succeed());
        let size = made.size().unwrap();
        assert_eq!(size, 4096 * (40 * GROWERS + GROWERS - 1));
        assert_eq!(made.stat().unwrap().file.allocated, size);
    });
}

#[test]
fn a_killed_grower_leaves_the_old_size_and_the_next_resize_frees_its_memory() {
    alone(|| {
        let name = Name::new();
        let made = Segment::create(Some(&name), 4096, &roomy(256 << 20)).unwrap();
        let grower = super::signal::stalled(2, || {
            let growth = Growth {
                interruptible: true,
                ..Growth::default()
            };
            made.resize(256 << 20, &growth).unwrap();
        });
        grower.kill();
        assert_eq!(made.size().unwrap(), 4096);
        let left = made.stat().unwrap().file.allocated;
        assert!(
            left > 64 << 20,
            "the kill did not come during the growth: {left}"
        );
        // The kernel has released the lock of the dead process.
        made.resize(8192, &Growth::default()).unwrap();
        assert_eq!(made.stat().unwrap().file.allocated, 8192);
        assert_eq!(made.size().unwrap(), 8192);
    });
}

#[test]
fn accessing_capacity_beyond_the_size_is_sigbus() {
    alone(|| {
        let made = Segment::create(None, 4096, &roomy(1 << 20)).unwrap();
        // SAFETY: 4096 < the capacity, so the address lies in the mapping.
        let beyond = unsafe { made.data().add(4096) };
        let touch = || {
            // SAFETY: the address is mapped; an access without memory raises SIGBUS, which the test expects.
            unsafe { beyond.read_volatile() };
        };
        assert_eq!(fork(touch).wait(), Ended::Signal(Signal::SIGBUS));
        made.resize(8192, &Growth::default()).unwrap();
        fork(touch).succeed();
    });
}
