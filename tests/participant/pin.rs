//! The pin: the mapping that keeps a process' byte locked in each state in which the process lives.

use super::common::kernel::limit;
use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::{Folder, skip};
use super::{
    descriptor_alone, holder, holder_after, lock, managed, recover, stay, unnamed, within,
};
use nix::sys::ptrace;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use shmkit::raw::WaitOptions;
use shmkit::segment::Segment;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Returns the addresses of this process' pins: each is a read-only mapping of a single page of a memory file.
fn pins() -> Vec<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let pin = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (begin, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let (begin, end) = (address(begin)?, address(end)?);
        let fits = rest.starts_with("r--s") && rest.contains("memfd:") && end - begin == 4096;
        fits.then_some(begin)
    };
    maps.lines().filter_map(pin).collect()
}

#[test]
fn a_process_that_unmaps_its_pin_is_dead() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let child = holder_after(&lock, || {
            let [pin] = pins()[..] else {
                panic!("{}", std::fs::read_to_string("/proc/self/maps").unwrap());
            };
            // SAFETY: the pin is never accessed.
            assert_eq!(unsafe { libc::munmap(pin as *mut _, 4096) }, 0);
        });
        recover(&lock);
        assert_eq!(kill(child.pid(), None), Ok(()), "the process still runs");
        child.kill();
    });
}

#[test]
fn a_forked_child_has_no_pin_of_its_parent() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        assert_eq!(pins().len(), 1);
        fork(|| assert_eq!(pins(), [], "MADV_DONTFORK")).succeed();
        lock.release().unwrap();
    });
}

#[test]
fn the_data_is_unmapped_before_the_pin() {
    alone(|| {
        let mut inherited = Some((unnamed(0), ()));
        let words = shared_words(2);
        let child = fork(|| {
            let fd = descriptor_alone(&mut inherited);
            let own = Arc::new(Segment::open_fd(fd.as_raw_fd(), 0, &managed(0)).unwrap());
            let held = lock(&own, 0);
            held.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            let [pin] = pins()[..] else {
                panic!("expected one pin")
            };
            // The mapping of an opened segment begins with the control area.
            let control = own.stat().unwrap().header.unwrap().control_bytes;
            words[0].store(own.data() as u64 - control, Relaxed);
            words[1].store(pin as u64, Relaxed);
            ptrace::traceme().unwrap();
            nix::sys::signal::raise(Signal::SIGSTOP).unwrap();
            drop((own, held));
        });
        let survivor = lock(&inherited.as_ref().unwrap().0, 0);
        let mut order = Vec::new();
        let stopped = || waitpid(child.pid(), None).unwrap();
        assert!(matches!(stopped(), WaitStatus::Stopped(_, Signal::SIGSTOP)));
        loop {
            ptrace::syscall(child.pid(), None).unwrap();
            match stopped() {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                WaitStatus::Exited(_, code) => break assert_eq!(code, 0),
                other => panic!("{other:?}"),
            }
            let Some(address) = unmapping(child.pid()) else {
                continue;
            };
            if address == words[0].load(Relaxed) {
                order.push("data");
                // The process still has its identity, before the kernel has unmapped the data and after.
                refused!(WouldBlock, survivor.acquire_with(WaitOptions::NONBLOCKING));
            } else if address == words[1].load(Relaxed) {
                order.push("pin");
            }
        }
        // The process stops twice for each call, at its begin and at its end.
        assert_eq!(order, ["data", "data", "pin", "pin"]);
        recover(&survivor);
        std::mem::forget(child);
    });
}

/// Returns the address that a process stopped at a system call is unmapping.
fn unmapping(pid: Pid) -> Option<u64> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
    let mut words = line.split_whitespace();
    let call: i64 = words.next()?.parse().ok()?;
    let address = words.next()?.strip_prefix("0x")?;
    (call == libc::SYS_munmap).then(|| u64::from_str_radix(address, 16).unwrap())
}

#[test]
fn a_traced_process_is_not_dead() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let child = holder(&lock, || {});
        ptrace::attach(child.pid()).unwrap();
        assert!(matches!(
            waitpid(child.pid(), None),
            Ok(WaitStatus::Stopped(..))
        ));
        refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
        refused!(Timeout, lock.acquire_with(within(50)));
        ptrace::detach(child.pid(), None).unwrap();
        child.kill();
        recover(&lock);
    });
}

#[test]
fn a_process_that_dumps_core_is_not_dead() {
    /// The kernel needs a while to dump this much memory.
    const BALLAST: usize = 512 << 20;
    alone(|| {
        let (segment, folder) = (unnamed(0), Folder::new());
        let lock = lock(&segment, 0);
        let child = fork(|| {
            std::env::set_current_dir(folder.path()).unwrap();
            let (_, most) = getrlimit(Resource::RLIMIT_CORE).unwrap();
            limit(Resource::RLIMIT_CORE, most);
            let ballast = vec![1u8; BALLAST];
            std::hint::black_box(&ballast);
            lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            std::process::abort();
        });
        let status = format!("/proc/{}/status", child.pid());
        let dumping = || {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            status.contains("CoreDumping:\t1")
        };
        let ended = || {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            status.contains("State:\tZ")
        };
        wait_until(|| dumping() || ended());
        let mut asked = 0;
        while dumping() {
            let answer = lock.acquire_with(WaitOptions::NONBLOCKING);
            // The dump may have ended since the last look.
            if dumping() {
                refused!(WouldBlock, answer);
                asked += 1;
            } else if answer.is_ok() {
                lock.release().unwrap();
            }
        }
        if asked == 0 {
            skip("no core was dumped: see /proc/sys/kernel/core_pattern");
        }
        assert!(
            lock.acquire_with(WaitOptions::BLOCKING).unwrap(),
            "the owner is dead"
        );
        assert!(matches!(
            child.wait(),
            super::common::process::Ended::Signal(Signal::SIGABRT)
        ));
    });
}

#[test]
fn no_thread_of_a_dead_process_stores() {
    const THREADS: usize = 4;
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let counters = &segment.bytes().unwrap()[1024..1024 + THREADS];
        let seen = || {
            let bytes = counters.iter().map(|byte| byte.load(Relaxed));
            bytes.collect::<Vec<_>>()
        };
        for _ in 0..5 {
            let before = seen();
            let child = holder(&lock, || {
                std::thread::scope(|scope| {
                    for counter in counters {
                        scope.spawn(|| -> () {
                            loop {
                                counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
                            }
                        });
                    }
                });
                stay();
            });
            wait_until(|| seen().iter().zip(&before).all(|(now, then)| now != then));
            kill(child.pid(), Signal::SIGKILL).unwrap();
            assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
            let after = seen();
            for _ in 0..1000 {
                assert_eq!(seen(), after, "a dead process does not store");
                std::thread::yield_now();
            }
            lock.mark_consistent().unwrap();
            lock.release().unwrap();
        }
    });
}
