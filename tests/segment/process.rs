//! Processes and threads: what a forked child keeps, what closing releases, and one mapping in many threads.

use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::{Name, Watchdog, entries};
use super::{Relaxed, byte, fill, is_filled, plain, put};
use shmkit::segment::{Growth, Options, Segment};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

#[test]
fn a_forked_child_uses_and_closes_inherited_segments() {
    alone(|| {
        let name = Name::new();
        let options = Options {
            capacity: 1 << 20,
            ..plain()
        };
        for name in [Some(&*name), None] {
            let made = Segment::create(name, 5000, &options).unwrap();
            fill(&made);
            let mut made = Some(made);
            fork(|| {
                let made = made.take().unwrap();
                assert!(is_filled(&made));
                put(&made, 0, 99);
                made.resize(8192, &Growth::default()).unwrap();
                drop(made);
            })
            .succeed();
            let made = made.unwrap();
            assert_eq!((byte(&made, 0), made.size().unwrap()), (99, 8192));
            put(&made, 8191, 1);
            if name.is_some() {
                // A child may also remove the name.
                fork(|| made.unlink().unwrap()).succeed();
                refused!(NotFound, made.unlink());
            }
        }
    });
}

#[test]
fn a_forked_child_keeps_a_segment_that_its_parent_closed() {
    alone(|| {
        let made = Segment::create(None, 5000, &plain()).unwrap();
        let stage = shared_words(1);
        let mut made = Some(made);
        let child = fork(|| {
            let made = made.take().unwrap();
            stage[0].store(1, Release);
            wait_until(|| stage[0].load(Acquire) == 2);
            fill(&made);
            assert!(is_filled(&made));
        });
        wait_until(|| stage[0].load(Acquire) == 1);
        drop(made);
        stage[0].store(2, Release);
        child.succeed();
    });
}

#[test]
fn a_killed_user_leaves_the_segment_to_the_others() {
    alone(|| {
        let name = Name::new();
        let made = Segment::create(Some(&name), 5000, &plain()).unwrap();
        let touched = shared_words(1);
        let user = fork(|| {
            let opened = Segment::open(&name, 0, &plain()).unwrap();
            fill(&opened);
            touched[0].store(1, Release);
            wait_until(|| false);
        });
        wait_until(|| touched[0].load(Acquire) == 1);
        user.kill();
        assert!(is_filled(&made));
        assert!(is_filled(&Segment::open(&name, 0, &plain()).unwrap()));
    });
}

#[test]
fn closing_a_handle_leaves_other_handles_open() {
    let name = Name::new();
    let options = Options {
        capacity: 1 << 30,
        ..plain()
    };
    let made = Segment::create(Some(&name), 5000, &options).unwrap();
    let opened = Segment::open(&name, 0, &options).unwrap();
    let third = Segment::open_fd(opened.fd(), 0, &plain()).unwrap();
    fill(&made);
    assert_ne!(made.data(), opened.data());
    drop(made);
    assert!(is_filled(&opened));
    drop(opened);
    assert!(is_filled(&third));
}

#[test]
fn closing_frees_descriptors_and_address_space() {
    alone(|| {
        let name = Name::new();
        let descriptors = || entries(Path::new("/proc/self/fd"));
        let mappings = || {
            std::fs::read_to_string("/proc/self/maps")
                .unwrap()
                .lines()
                .count()
        };
        let use_all = || {
            for size in [5000, 5 << 20] {
                let options = Options {
                    capacity: 1 << 40,
                    ..plain()
                };
                let made = Segment::create(Some(&name), size, &options).unwrap();
                let opened = Segment::open(&name, 0, &plain()).unwrap();
                made.resize(size + 5000, &Growth::default()).unwrap();
                refused!(Exists, Segment::create(Some(&name), size, &options));
                refused!(
                    NoMemory,
                    Segment::create(
                        None,
                        1,
                        &Options {
                            capacity: 1 << 62,
                            ..plain()
                        }
                    )
                );
                drop(Segment::create(None, size, &options).unwrap());
                opened.unlink().unwrap();
            }
        };
        use_all();
        let before = (descriptors(), mappings());
        for _ in 0..20 {
            use_all();
        }
        assert_eq!((descriptors(), mappings()), before);
    });
}

#[test]
fn threads_read_and_write_one_mapping() {
    const THREADS: u64 = 8;
    const TURNS: u64 = 20_000;
    let _watchdog = Watchdog::start();
    let made = Segment::create(
        None,
        4096,
        &Options {
            capacity: 1 << 20,
            ..plain()
        },
    )
    .unwrap();
    // SAFETY: the segment is longer than a word, page-aligned, and lives until the threads have ended.
    let counter = unsafe { &*made.data().cast::<AtomicU64>() };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let made = &made;
            scope.spawn(move || {
                for _ in 0..TURNS {
                    counter.fetch_add(1, Relaxed);
                }
                // A thread that comes late finds the segment larger already.
                let _ = made.resize(4096 * (thread + 2), &Growth::default());
                assert!(made.size().unwrap() >= 4096 * (thread + 2));
                put(made, 4096 * (thread + 2) - 1, 7);
            });
        }
    });
    assert_eq!(counter.load(Relaxed), THREADS * TURNS);
    assert_eq!(made.size().unwrap(), 4096 * (THREADS + 1));
    assert!((0..THREADS).all(|thread| byte(&made, 4096 * (thread + 2) - 1) == 7));
}

#[test]
fn a_handle_moves_between_threads() {
    let _watchdog = Watchdog::start();
    let made = Segment::create(None, 5000, &plain()).unwrap();
    let made = std::thread::spawn(move || {
        fill(&made);
        made
    });
    let made = made.join().unwrap();
    assert!(is_filled(&made));
    std::thread::spawn(move || drop(made)).join().unwrap();
}

#[test]
fn children_forked_during_open_and_close_keep_no_byte_lock() {
    alone(|| {
        let name = Name::new();
        let made = Segment::create(
            Some(&name),
            4096,
            &Options {
                capacity: 1 << 30,
                ..plain()
            },
        )
        .unwrap();
        let _watchdog = Watchdog::start();
        let stop = AtomicU64::new(0);
        let mut sleepers = Vec::new();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while stop.load(Relaxed) == 0 {
                        // Each resize locks the byte RESIZE through a descriptor that no child may keep.
                        made.resize(4096, &Growth::default()).unwrap();
                    }
                });
            }
            for _ in 0..60 {
                // SAFETY: the child calls nothing but prctl and pause, which only enter the kernel.
                match unsafe { nix::unistd::fork() }.unwrap() {
                    nix::unistd::ForkResult::Parent { child } => sleepers.push(child),
                    nix::unistd::ForkResult::Child => loop {
                        // No child outlives its test.
                        let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::SIGKILL);
                        // SAFETY: pause takes nothing and changes nothing.
                        unsafe { libc::pause() };
                    },
                }
            }
            stop.store(1, Relaxed);
        });
        // A child closes the inherited descriptor as soon as it runs.
        let descriptors =
            |process: &str| entries(Path::new("/proc").join(process).join("fd").as_path()).len();
        let ours = descriptors("self") - 1;
        for child in &sleepers {
            wait_until(|| descriptors(&child.to_string()) <= ours);
        }
        // If a child had kept a locked descriptor, this would wait forever, and the watchdog would report it.
        made.resize(8192, &Growth::default()).unwrap();
        for child in sleepers {
            nix::sys::signal::kill(child, nix::sys::signal::SIGKILL).unwrap();
            nix::sys::wait::waitpid(child, None).unwrap();
        }
        assert_eq!(made.size().unwrap(), 8192);
    });
}
