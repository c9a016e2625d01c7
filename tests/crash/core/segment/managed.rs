//! Managed segments: create, open, resize, close. Ephemeral ones: the last close removes the name, or else the next gc.

use crate::suite::capi::segment::{Options, Segment};
use crate::suite::capi::{NOT_FOUND, NOWAIT, Status, check, status};
use crate::suite::harness::fixture::{NAME, PAGE, name, path};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::place::Place;
use crate::suite::harness::shared_state::{Fault, Phase, Role, shared_state};
use crate::suite::harness::survivor::refused;
use crate::suite::harness::verify::WRITTEN;
use nix::unistd::Pid;
use shmkit::capi::segment::{
    SHMKIT_SEGMENT_EPHEMERAL, SHMKIT_SEGMENT_MANAGED, SHMKIT_SEGMENT_NO_SPACE_CHECK,
};

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Creates one with its name.
    Create,
    /// Creates one without a name.
    CreateAnonymous,
    /// Opens one.
    Open,
    /// Creates it, because it does not exist.
    OpenOrCreate,
    /// Grows it to this size.
    Resize(u64),
    /// Closes it.
    Close,
    /// Removes the ephemeral segments that no process has mapped; there is one.
    Collect,
    /// As `Collect`; there is also the unfinished file of a creator that died without O_TMPFILE.
    CollectDraft,
}

/// An operation of managed segments.
pub struct ManagedOperation {
    name: &'static str,
    verb: Verb,
    every: usize,
    ephemeral: bool,
}

const SIZE: u64 = 2 * PAGE;
/// The capacity.
const ROOM: u64 = 1 << 30;
/// The control area of a segment for two participants.
const CONTROL: u64 = PAGE;

impl ManagedOperation {
    fn options(&self) -> Options {
        let ephemeral = match self.ephemeral {
            true => SHMKIT_SEGMENT_EPHEMERAL,
            false => 0,
        };
        Options {
            flags: SHMKIT_SEGMENT_MANAGED | SHMKIT_SEGMENT_NO_SPACE_CHECK | ephemeral,
            capacity: ROOM,
            participants: 2,
            ..Options::default()
        }
    }

    fn open(&self, shmkit: &Library) -> Result<Segment, Status> {
        let options = Options {
            flags: SHMKIT_SEGMENT_MANAGED,
            participants: 0,
            ..self.options()
        };
        shmkit.open(NAME, SIZE, options)
    }

    /// Creates the segment, filled, and leaves it open.
    fn create(&self, shmkit: &Library) {
        let created = shmkit.create(Some(NAME), SIZE, self.options());
        let segment = created.expect("the segment is created");
        let base = shmkit.data(segment).expect("the segment has data");
        // SAFETY: the data has that many bytes, and no other process uses it.
        unsafe { base.write_bytes(WRITTEN, SIZE as usize) };
    }

    /// Whether the segment exists before the victim begins.
    fn exists(&self) -> bool {
        !matches!(
            self.verb,
            Verb::Create | Verb::CreateAnonymous | Verb::OpenOrCreate
        )
    }

    fn is_written(&self, shmkit: &Library, segment: Segment) -> bool {
        let base = shmkit.data(segment).expect("the segment has data");
        // SAFETY: the data has at least that many bytes, and they are constant.
        let bytes = unsafe { std::slice::from_raw_parts(base, SIZE as usize) };
        bytes.iter().all(|&byte| byte == WRITTEN)
    }

    /// Checks, while this process has the segment open, that the name and the contents exist; then closes it.
    fn use_open(&self, shmkit: &Library, segment: Segment) -> Status {
        if path().symlink_metadata().is_err() {
            shared_state().report_fault(Fault::NameRemoved);
        }
        if !self.is_written(shmkit, segment) {
            shared_state().report_fault(Fault::NotWritten);
        }
        shared_state().set_passed();
        shmkit.close(segment)
    }

    /// Opens the segment, uses all of it, and closes it.
    fn use_it(&self, verifier: &Verifier, sizes: &[u64], byte: u8) -> Result<(), Failure> {
        let shmkit = verifier.shmkit;
        let segment = self.open(shmkit).map_err(|status| {
            Violation::HalfMade.failure(format!("a survivor's open returned {status}"))
        })?;
        let size = shmkit.size(segment).map_err(refused("size"))?;
        if !sizes.contains(&size) {
            let text = format!("it has {size} bytes, expected {sizes:?}");
            return Err(Violation::HalfMade.failure(text));
        }
        verifier.has_memory(CONTROL + size)?;
        verifier.check_bytes(segment, 0, SIZE, byte)?;
        verifier.check_bytes(segment, SIZE, size, 0)?;
        let lock = shmkit.built_in_lock(segment).map_err(refused("lock"))?;
        let owner_died = shmkit.acquire(lock, NOWAIT).map_err(refused("acquire"))?;
        if owner_died {
            let text = "a death is reported, and no process has held the lock";
            return Err(Violation::Misreported.failure(text));
        }
        check(shmkit.release(lock)).map_err(refused("release"))?;
        check(shmkit.close_lock(lock)).map_err(refused("close of a lock"))?;
        // Less than the victim may have reserved, and then more.
        let most = sizes.iter().max().expect("there is one") + PAGE;
        for new in [size + PAGE, most] {
            check(shmkit.resize(segment, new, 0)).map_err(refused("resize"))?;
            verifier.has_memory(CONTROL + new)?;
        }
        verifier.has_exactly(CONTROL + most)?;
        verifier.check_bytes(segment, 0, SIZE, byte)?;
        verifier.check_bytes(segment, SIZE, most, 0)?;
        check(shmkit.close(segment)).map_err(refused("close"))
    }

    /// Calls gc, which must remove what no process has mapped, and only that.
    fn collect(&self, verifier: &Verifier, expected: u64) -> Result<(), Failure> {
        match verifier.shmkit.gc() {
            Ok(count) if count == expected => Ok(()),
            other => {
                let text = format!("gc returned {other:?}, expected {expected}");
                Err(Violation::Leaked.failure(text))
            }
        }
    }
}

impl Operation for ManagedOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        self.exists().then(|| -> Setup<'a> {
            Box::new(move || {
                if self.verb == Verb::CollectDraft {
                    let draft = path().with_file_name(".shmkit-0123456789abcdef");
                    std::fs::write(draft, [WRITTEN]).expect("the file is created");
                }
                // The process dies with it open, so that the name of an ephemeral segment stays.
                self.create(shmkit);
            })
        })
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let attached = move |opened: Result<Segment, Status>| {
            // Once the call has returned, gc must not remove the name.
            let segment = match opened {
                Ok(segment) => segment,
                Err(status) => return status,
            };
            shared_state().set_phase(Role::Victim, Phase::Holding);
            status(shmkit.size(segment))
        };
        match self.verb {
            Verb::Create => {
                Box::new(move || attached(shmkit.create(Some(NAME), SIZE, self.options())))
            }
            Verb::CreateAnonymous => {
                Box::new(move || status(shmkit.create(None, SIZE, self.options())))
            }
            Verb::OpenOrCreate => {
                Box::new(move || attached(shmkit.open_or_create(NAME, SIZE, self.options())))
            }
            Verb::Open => Box::new(move || attached(self.open(shmkit))),
            Verb::Resize(size) => {
                let segment = self.open(shmkit).expect("the segment is opened");
                Box::new(move || shmkit.resize(segment, size, SHMKIT_SEGMENT_NO_SPACE_CHECK))
            }
            Verb::Close => {
                let segment = self.open(shmkit).expect("the segment is opened");
                Box::new(move || shmkit.close(segment))
            }
            Verb::Collect | Verb::CollectDraft => Box::new(move || status(shmkit.gc())),
        }
    }

    fn blocks_bystander(&self) -> bool {
        matches!(self.verb, Verb::Resize(_) | Verb::Collect)
    }

    fn has_bystander(&self) -> bool {
        self.blocks_bystander() || self.ephemeral && self.verb != Verb::CollectDraft
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        match self.verb {
            Verb::Resize(size) => {
                let segment = self.open(shmkit).expect("the segment is opened");
                Some(Box::new(move || {
                    shmkit.resize(segment, size, SHMKIT_SEGMENT_NO_SPACE_CHECK)
                }))
            }
            // Opens while the victim collects.
            Verb::Collect => Some(Box::new(move || match self.open(shmkit) {
                Ok(segment) => self.use_open(shmkit, segment),
                Err(status) => status,
            })),
            // Has it open while the victim closes it.
            Verb::Close => {
                let segment = self.open(shmkit).expect("the segment is opened");
                Some(Box::new(move || self.use_open(shmkit, segment)))
            }
            // Collects while the victim creates or opens.
            _ => Some(Box::new(move || status(shmkit.gc()))),
        }
    }

    fn accepts_from_bystander(&self, status: Status) -> bool {
        status == 0 || self.verb == Verb::Collect && status == NOT_FOUND
    }

    fn inspect_live(&self, _victim: Pid, passed: bool, place: &Place) -> Result<(), Failure> {
        let exists = place.path(name()).symlink_metadata().is_ok();
        match passed && !exists && shared_state().phase() == Phase::Holding {
            true => {
                Err(Violation::Lost.failure("the name was removed while the victim had it open"))
            }
            false => Ok(()),
        }
    }

    fn verify(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        if self.verb == Verb::CreateAnonymous {
            verifier.check_nothing_left()?;
            return verifier.use_and_leave();
        }
        shared_state().verdict()?;
        let draft = self.verb == Verb::CollectDraft && !done;
        let exists = verifier.name_exists(usize::from(draft))?;
        let byte = if self.exists() { WRITTEN } else { 0 };
        let sizes = match self.verb {
            Verb::Resize(new) if done => vec![new],
            Verb::Resize(new) => vec![SIZE, new],
            _ => vec![SIZE],
        };
        if self.ephemeral {
            // If the bystander has closed it too, the victim may not be the last.
            let last = self.verb == Verb::Close && !shared_state().has_passed();
            let removed = last || matches!(self.verb, Verb::Collect | Verb::CollectDraft);
            // All that had it open are dead, or have closed it.
            if exists && done && removed {
                return Err(Violation::Leaked.failure("the name of an ephemeral segment exists"));
            }
            if self.verb == Verb::Create && exists {
                // The last close removes the name.
                self.use_it(verifier, &sizes, byte)?;
                self.collect(verifier, 0)?;
            } else {
                self.collect(verifier, u64::from(exists))?;
            }
            verifier.check_nothing_left()?;
            return verifier.use_and_leave();
        }
        if exists {
            self.collect(verifier, 0)?;
            self.use_it(verifier, &sizes, byte)?;
            check(verifier.shmkit.unlink_name(NAME)).map_err(refused("unlink"))?;
        } else if done || self.exists() {
            return Err(Violation::Lost.failure("the name does not exist"));
        }
        verifier.use_and_leave()
    }
}

/// The operations of managed segments, slowest first.
pub fn operations() -> Vec<ManagedOperation> {
    let operation = |name, every, verb| ManagedOperation {
        name,
        verb,
        every,
        ephemeral: false,
    };
    let ephemeral = |name, every, verb| ManagedOperation {
        ephemeral: true,
        ..operation(name, every, verb)
    };
    vec![
        operation("segment: managed: create", 16, Verb::Create),
        operation(
            "segment: managed: create anonymous",
            32,
            Verb::CreateAnonymous,
        ),
        operation("segment: managed: open", 16, Verb::Open),
        operation(
            "segment: managed: open_or_create, creates",
            32,
            Verb::OpenOrCreate,
        ),
        operation("segment: managed: resize", 8, Verb::Resize(6 * PAGE)),
        operation("segment: managed: close", 8, Verb::Close),
        ephemeral("segment: ephemeral: create", 16, Verb::Create),
        ephemeral("segment: ephemeral: open", 16, Verb::Open),
        ephemeral("segment: ephemeral: close, last", 8, Verb::Close),
        ephemeral("segment: ephemeral: gc", 8, Verb::Collect),
        ephemeral(
            "segment: ephemeral: gc, unfinished file",
            16,
            Verb::CollectDraft,
        ),
    ]
}
