//! Another process acts between two steps of an opener or a collector, which is stopped at a system call.

use super::common::Folder;
use super::common::process::{Child, alone, fork, shared_words, wait_until};
use super::gc::{collect, ephemeral, make, stays};
use super::{Relaxed, within};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use shmkit::segment::{self, Segment};

/// A system call: its number and its arguments.
struct Call {
    number: i64,
    arguments: [u64; 6],
}

impl Call {
    /// Returns whether the call tries a byte lock without waiting; an opener's first one is for the byte ATTACH.
    fn locks(&self) -> bool {
        self.number == libc::SYS_fcntl && self.arguments[1] as i32 == libc::F_OFD_SETLK
    }

    fn unlinks(&self) -> bool {
        let unlinking = [
            libc::SYS_unlinkat,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink,
        ];
        unlinking.contains(&self.number)
    }
}

/// Forks a process that runs `body` and stops at the begin of the first system call that `here` accepts.
fn stopped(here: impl Fn(&Call) -> bool, body: impl FnOnce()) -> Child {
    let child = fork(|| {
        ptrace::traceme().expect("a child may be traced");
        raise(Signal::SIGSTOP).unwrap();
        body();
    });
    let stops = |status| match waitpid(child.pid(), None).unwrap() {
        WaitStatus::Stopped(_, signal) => assert_eq!(signal, status),
        WaitStatus::PtraceSyscall(_) => {}
        other => panic!("the process did not reach that call: {other:?}"),
    };
    stops(Signal::SIGSTOP);
    ptrace::setoptions(child.pid(), ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    loop {
        ptrace::syscall(child.pid(), None).unwrap();
        stops(Signal::SIGTRAP);
        let stop = ptrace::syscall_info(child.pid()).unwrap();
        if stop.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            continue;
        }
        // SAFETY: `op` shows that the kernel has filled this member of the union.
        let entry = unsafe { stop.u.entry };
        let call = Call {
            number: entry.nr as i64,
            arguments: entry.args,
        };
        if here(&call) {
            return child;
        }
    }
}

fn goes_on(child: &Child) {
    ptrace::detach(child.pid(), None).unwrap();
}

#[test]
fn an_opener_whose_file_was_collected_looks_up_the_name_again() {
    alone(|| {
        let folder = Folder::new();
        let open = || Segment::open(c"a", 0, &within(&folder));
        // The opener has the file open, and does not hold its byte lock yet.
        stays(|| make(&folder)).kill();
        let opener = stopped(Call::locks, || drop(refused!(NotFound, open())));
        assert_eq!(collect(&folder), 1);
        goes_on(&opener);
        opener.succeed();
        // Meanwhile the name belongs to another segment, which is opened.
        stays(|| make(&folder)).kill();
        let opener = stopped(Call::locks, || {
            let found = open().unwrap();
            assert_eq!(found.size(), Ok(4096));
            assert_eq!(found.stat().unwrap().file.links, 1);
        });
        assert_eq!(collect(&folder), 1);
        let _other = Segment::create(Some(c"a"), 4096, &ephemeral(&folder)).unwrap();
        goes_on(&opener);
        opener.succeed();
    });
}

#[test]
fn an_opener_waits_for_a_collector_that_removes_the_name() {
    alone(|| {
        let folder = Folder::new();
        let words = shared_words(2);
        for killed in [false, true] {
            words.iter().for_each(|word| word.store(0, Relaxed));
            stays(|| make(&folder)).kill();
            let collector = stopped(Call::unlinks, || {
                collect(&folder);
            });
            let opener = fork(|| {
                words[0].store(1, Relaxed);
                let found = Segment::open(c"a", 0, &within(&folder));
                words[1].store(1, Relaxed);
                match killed {
                    // The kernel has released the byte lock of the collector.
                    true => assert_eq!(found.unwrap().size(), Ok(64)),
                    false => drop(refused!(NotFound, found)),
                }
            });
            wait_until(|| words[0].load(Relaxed) == 1);
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert_eq!(words[1].load(Relaxed), 0, "the opener did not wait");
            // A second collector does not count the same segment.
            assert_eq!(collect(&folder), 0);
            match killed {
                true => collector.kill(),
                false => {
                    goes_on(&collector);
                    collector.succeed();
                }
            }
            opener.succeed();
            assert!(folder.entries().is_empty());
        }
    });
}

#[test]
fn an_unlink_waits_for_an_unlink_in_progress() {
    alone(|| {
        let folder = Folder::new();
        let made = make(&folder);
        let first = stopped(Call::unlinks, || made.unlink().unwrap());
        let words = shared_words(1);
        let second = fork(|| {
            words[0].store(1, Relaxed);
            let directory = folder.directory();
            let removed = segment::unlink(c"a", directory.as_deref(), None, false);
            refused!(NotFound, removed);
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        goes_on(&first);
        first.succeed();
        second.succeed();
        // The name is free, and closing the old segment leaves the new one alone.
        let other = make(&folder);
        drop(made);
        assert_eq!(folder.entries(), ["a"]);
        drop(other);
    });
}
