//! Segments, killed at random times: in long reservations, and while the process forks.

use crate::suite::capi::segment::Options;
use crate::suite::core::segment::{self, SegmentOperation, Verb};
use crate::suite::harness::byte;
use crate::suite::harness::fixture::{NAME, PAGE, path};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Verifier, Violation};
use crate::suite::harness::process::WATCHDOG;
use crate::suite::harness::verify::{Shape, WRITTEN};
use crate::suite::soak::random::{fork_sleepers, sleep};
use nix::unistd::{Pid, setpgid};
use std::time::Duration;

/// A process with two threads: one grows a segment page by page, one forks children that sleep.
pub struct ForkStorm {
    /// Broken on purpose: the children inherit the lock.
    pub leaky: bool,
}

const SHAPE: Shape = Shape {
    size: PAGE,
    options: Options {
        flags: 0,
        capacity: 1 << 30,
        mode: 0,
        participants: 0,
    },
};

/// Operations that spend their time in few long system calls.
pub fn long_operations() -> Vec<SegmentOperation> {
    /// Sixteen steps of a reservation.
    const LARGE: u64 = 1 << 30;
    // On a small machine, a quarter of the available memory.
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = available.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let size = LARGE.min(available.unwrap_or(0) / 4 * 1024);
    let growing = 2 * PAGE + 1;
    vec![
        segment::large(
            "segment: create, large, at random times",
            Verb::Create,
            size,
        ),
        segment::large(
            "segment: resize, large, at random times",
            Verb::Resize(size),
            growing,
        ),
    ]
}

/// Locks the RESIZE byte through a descriptor that children inherit: a flaw.
fn lock_leakily() {
    let file = std::fs::File::options().read(true).write(true).open(path());
    let file = file.expect("the segment is opened");
    byte::lock(&file, (1 << 61) + 2, 1);
    std::mem::forget(file);
}

impl Operation for ForkStorm {
    fn name(&self) -> String {
        match self.leaky {
            true => "selftest: segment: RESIZE lock, inherited by children",
            false => "segment: resize, while forking",
        }
        .to_owned()
    }

    fn every(&self) -> usize {
        1
    }

    fn expect_violation(&self) -> Option<Violation> {
        self.leaky.then_some(Violation::Stuck)
    }

    fn time_limit(&self) -> u32 {
        if self.leaky { 1 } else { WATCHDOG }
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        // The victim and its children, which outlive it, are one process group.
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).expect("a process can lead its group");
        let created = shmkit.create(Some(NAME), SHAPE.size, SHAPE.options);
        let segment = created.expect("the segment is created");
        let base = shmkit.data(segment).expect("the segment has data");
        // SAFETY: the segment has that many bytes, and no other process uses it.
        unsafe { base.write_bytes(WRITTEN, SHAPE.size as usize) };
        let leaky = self.leaky;
        Box::new(move || {
            if leaky {
                lock_leakily();
                fork_sleepers(1, Duration::ZERO);
                sleep();
            }
            std::thread::spawn(|| fork_sleepers(64, Duration::from_micros(100)));
            let mut size = SHAPE.size;
            while size < SHAPE.options.capacity {
                size += PAGE;
                match shmkit.resize(segment, size, 0) {
                    0 => {}
                    status => return status,
                }
            }
            0
        })
    }

    /// Runs while the victim's children sleep. They have the segment mapped, so its memory is not released yet.
    fn verify(&self, verifier: &Verifier, _done: bool) -> Result<(), Failure> {
        let sizes: Vec<_> = (PAGE..=SHAPE.options.capacity)
            .step_by(PAGE as usize)
            .collect();
        let (segment, size) = verifier.open_whole(&sizes)?;
        verifier.check_bytes(segment, 0, PAGE, WRITTEN)?;
        verifier.grow(segment, size + PAGE)?;
        verifier.check_bytes(segment, PAGE, size + PAGE, 0)?;
        verifier.remove(segment)
    }
}
