//! Between two steps of an opener or a collector, where somebody else comes in: each is stopped at a system call.

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
    /// Whether a byte lock is tried without waiting: the first of an opener is that of ATTACH.
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

/// Forks a process that does this and is stopped as it begins the first call of which `here` says so.
fn stopped(here: impl Fn(&Call) -> bool, body: impl FnOnce()) -> Child {
    let child = fork(|| {
        ptrace::traceme().expect("a child may be traced");
        raise(Signal::SIGSTOP).unwrap();
        body();
    });
    let stops = |status| match waitpid(child.pid(), None).unwrap() {
        WaitStatus::Stopped(_, signal) => assert_eq!(signal, status),
        WaitStatus::PtraceSyscall(_) => {}
        other => panic!("it has not come to that call: {other:?}"),
    };
    stops(Signal::SIGSTOP);
    ptrace::setoptions(child.pid(), ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    loop {
        ptrace::syscall(child.pid(), None).unwrap();
        stops(Signal::SIGTRAP);
        let told = ptrace::syscall_info(child.pid()).unwrap();
        if told.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            continue;
        }
        // SAFETY: `op` says that this is the part that the kernel has filled.
        let entry = unsafe { told.u.entry };
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
fn an_opener_that_met_no_collector_looks_at_the_name_again() {
    alone(|| {
        let folder = Folder::new();
        let open = || Segment::open(c"a", 0, &within(&folder));
        // It has the file open, and has said to nobody yet that it is there.
        stays(|| make(&folder)).kill();
        let opener = stopped(Call::locks, || drop(refused!(NotFound, open())));
        assert_eq!(collect(&folder), 1);
        goes_on(&opener);
        opener.succeed();
        // Another one stands under the name by then: that is opened.
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
fn an_opener_waits_for_a_collector_that_has_looked() {
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
                    // The kernel has let go of what the collector held.
                    true => assert_eq!(found.unwrap().size(), Ok(64)),
                    false => drop(refused!(NotFound, found)),
                }
            });
            wait_until(|| words[0].load(Relaxed) == 1);
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert_eq!(words[1].load(Relaxed), 0, "it waits");
            // Nor does a second collector count the same one.
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
fn an_unlinker_that_has_looked_is_waited_for_by_the_next() {
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
        // The name is free, and who has it mapped keeps it.
        let other = make(&folder);
        drop(made);
        assert_eq!(folder.entries(), ["a"]);
        drop(other);
    });
}
