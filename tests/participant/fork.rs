//! Children that are made by fork, vfork or a raw clone, and children forked while their parent claims.

use super::common::pass::{receive, send};
use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::{Name, byte};
use super::{claim, descriptor_alone, holder, lock, managed, recover, stay, unnamed, within};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use shmkit::raw::WaitOptions;
use shmkit::segment::Segment;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn a_forked_child_owns_nothing_of_its_parent() {
    alone(|| {
        let segment = unnamed(0);
        let (held, free) = (lock(&segment, 0), lock(&segment, 1));
        held.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        let mine = held.stat().0.owner.unwrap();
        fork(|| {
            refused!(NotOwner, held.release());
            refused!(NotOwner, held.mark_consistent());
            refused!(WouldBlock, held.acquire_with(WaitOptions::NONBLOCKING));
            refused!(NotOwner, held.release());
            assert_eq!(free.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            let its = free.stat().0.owner.unwrap();
            assert_ne!(its.ticket(), mine.ticket());
            assert_ne!(its.slot(), mine.slot());
            free.release().unwrap();
        })
        .succeed();
        // The child's end releases nothing of the parent.
        assert_eq!(held.stat().0.owner, Some(mine));
        fork(|| {
            drop(refused!(
                WouldBlock,
                held.acquire_with(WaitOptions::NONBLOCKING)
            ))
        })
        .succeed();
        held.release().unwrap();
    });
}

#[test]
fn a_child_that_closes_inherited_handles_leaves_its_parent_alive() {
    alone(|| {
        let name = Name::new();
        let words = shared_words(1);
        let parent = fork(|| {
            let segment = Arc::new(Segment::create(Some(&name), 4096, &managed(0)).unwrap());
            let held = lock(&segment, 0);
            held.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            let mut kept = Some((held, segment));
            fork(|| drop(kept.take())).succeed();
            words[0].store(1, Relaxed);
            stay();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        let segment = Arc::new(Segment::open(&name, 0, &managed(0)).unwrap());
        let held = lock(&segment, 0);
        refused!(Timeout, held.acquire_with(within(30)));
        parent.kill();
        recover(&held);
    });
}

#[test]
fn a_raw_clone_is_another_participant() {
    alone(|| {
        let segment = unnamed(0);
        let (held, free) = (lock(&segment, 0), lock(&segment, 1));
        held.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        let mine = held.stat().0.owner.unwrap().ticket();
        // SAFETY: this is a fork without the handlers of the C library; this process has one thread.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            let fine = matches!(held.release(), Err(shmkit::error::Error::NotOwner(_)))
                && matches!(
                    held.acquire_with(WaitOptions::NONBLOCKING),
                    Err(shmkit::error::Error::WouldBlock(_))
                )
                && free.acquire_with(WaitOptions::NONBLOCKING) == Ok(false)
                && free
                    .stat()
                    .0
                    .owner
                    .is_some_and(|owner| owner.ticket() != mine);
            // SAFETY: _exit takes any number; nothing of the parent's is flushed or dropped.
            unsafe { libc::_exit(i32::from(!fine)) };
        }
        let status = nix::sys::wait::waitpid(Pid::from_raw(child as i32), None).unwrap();
        assert!(
            matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)),
            "{status:?}"
        );
        // The child died with this lock.
        recover(&free);
        held.release().unwrap();
    });
}

#[test]
fn starting_a_program_leaves_the_owner_alive() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        let owner = lock.stat().0.owner;
        for _ in 0..20 {
            assert!(
                std::process::Command::new("true")
                    .status()
                    .unwrap()
                    .success()
            );
        }
        assert_eq!(lock.stat().0.owner, owner);
        fork(|| drop(refused!(Timeout, lock.acquire_with(within(30))))).succeed();
        lock.release().unwrap();
    });
}

#[test]
fn children_forked_during_claims_keep_no_dead_identity_alive() {
    alone(|| {
        let segment = unnamed(0);
        let survivor = lock(&segment, 0);
        let mut inherited = Some((unnamed(0), ()));
        let words = shared_words(3);
        for _ in 0..10 {
            for word in words {
                word.store(0, Relaxed);
            }
            let claimer = fork(|| {
                let group = Pid::from_raw(0);
                nix::unistd::setpgid(group, group).unwrap();
                std::thread::spawn(move || {
                    // These children only sleep, and are forked as fast as possible.
                    for _ in 0..100 {
                        // SAFETY: the child only calls pause, whatever other threads were doing.
                        if unsafe { libc::fork() } == 0 {
                            stay();
                        }
                        words[1].fetch_add(1, Relaxed);
                    }
                });
                let fd = descriptor_alone(&mut inherited);
                while words[1].load(Relaxed) < 50 || words[2].load(Relaxed) == 0 {
                    let lock = claim(&fd, 0);
                    assert!(lock.acquire_with(WaitOptions::NONBLOCKING).is_ok());
                    lock.release().unwrap();
                    words[2].fetch_add(1, Relaxed);
                }
                // The claimer dies as an owner here; it released its earlier identities.
                survivor.acquire_with(WaitOptions::NONBLOCKING).unwrap();
                words[0].store(1, Relaxed);
                stay();
            });
            wait_until(|| words[0].load(Relaxed) == 1);
            let group = claimer.pid();
            kill(group, Signal::SIGKILL).unwrap();
            // The children live, and have copies of all descriptors and mappings.
            recover(&survivor);
            assert!(
                words[2].load(Relaxed) > 0,
                "no claim coincided with the forks"
            );
            // None of its identities is locked any more.
            let file = byte::reopen(inherited.as_ref().unwrap().0.fd());
            let held = (1..=words[2].load(Relaxed) as i64 * 20)
                .filter(|ticket| byte::is_locked(&file, (1 << 62) + ticket));
            assert_eq!(held.count(), 0, "a child keeps a dead identity alive");
            killpg(group, Signal::SIGKILL).unwrap();
        }
    });
}

#[test]
fn a_descriptor_passed_over_a_socket_keeps_no_dead_process_alive() {
    alone(|| {
        let (segment, words) = (unnamed(0), shared_words(2));
        let survivor = lock(&segment, 0);
        let (near, far) = UnixStream::pair().unwrap();
        // The heir gets the owner's descriptor over a socket, opens it again through /proc, and maps it.
        let heir = fork(|| {
            let fd = receive(&far);
            let again = Segment::open_fd(fd.as_raw_fd(), 0, &managed(0)).unwrap();
            let owner = format!("/proc/{}/fd/{}", words[1].load(Relaxed), segment.fd());
            let _files = (again, std::fs::File::open(owner).unwrap());
            words[0].store(1, Relaxed);
            stay();
        });
        let owner = holder(&survivor, || {
            words[1].store(std::process::id().into(), Relaxed);
            send(&near, segment.fd());
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        owner.kill();
        recover(&survivor);
        heir.kill();
    });
}

#[test]
fn a_live_child_does_not_keep_its_dead_parents_lock() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let heir = shared_words(1);
        let owner = holder(&lock, || {
            // SAFETY: this process has one thread.
            let child = unsafe { libc::fork() };
            if child == 0 {
                stay();
            }
            heir[0].store(child as u64, Relaxed);
        });
        wait_until(|| heir[0].load(Relaxed) != 0);
        owner.kill();
        recover(&lock);
        kill(Pid::from_raw(heir[0].load(Relaxed) as i32), Signal::SIGKILL)
            .expect("the child lives");
    });
}
