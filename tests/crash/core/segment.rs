//! Plain segments: create, open, open_or_create, resize, unlink, close.

pub mod managed;

use crate::suite::capi::segment::{Options, Segment};
use crate::suite::capi::{NOT_FOUND, Status, status};
use crate::suite::harness::fixture::{NAME, PAGE, path};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Verifier};
use crate::suite::harness::verify::{Shape, WRITTEN};
use nix::fcntl::{FallocateFlags, fallocate};
use shmkit::capi::segment::{
    SHMKIT_SEGMENT_HUGE, SHMKIT_SEGMENT_NO_SPACE_CHECK, SHMKIT_SEGMENT_PREFAULT,
};
use std::fs::File;

/// A size that is not a multiple of the page size.
const SMALL: u64 = 2 * PAGE + 777;
/// More than the library reserves in one step, so that a victim may die between two steps.
const STEPS: u64 = (66 << 20) + 777;
/// The capacity of segments that grow.
const ROOM: u64 = 4 << 30;

/// What the victim does to the segment.
#[derive(Clone, Copy)]
pub enum Verb {
    /// Creates it with its name.
    Create,
    /// Creates one without a name.
    CreateAnonymous,
    /// Opens it.
    Open,
    /// Opens a sparse file, and reserves all of its memory.
    OpenSparse,
    /// Creates it, because it does not exist.
    OpenOrCreate,
    /// Opens it, because it exists.
    OpenOrCreateExisting,
    /// Grows it to this size.
    Resize(u64),
    /// Removes its name through a handle.
    Unlink,
    /// Removes its name without one.
    UnlinkName,
    /// Closes it.
    Close,
}

/// An operation of segments.
pub struct SegmentOperation {
    name: &'static str,
    verb: Verb,
    shape: Shape,
    every: usize,
    warm: bool,
    tmpfile: bool,
    /// Whether another victim has died before, so that this one dies while it cleans up.
    remains: bool,
}

impl SegmentOperation {
    fn new(name: &'static str, every: usize, verb: Verb, shape: Shape) -> Self {
        SegmentOperation {
            name,
            verb,
            shape,
            every,
            warm: true,
            tmpfile: true,
            remains: false,
        }
    }

    fn cold(self) -> Self {
        SegmentOperation {
            warm: false,
            ..self
        }
    }

    fn without_tmpfile(self) -> Self {
        SegmentOperation {
            tmpfile: false,
            ..self
        }
    }

    fn after_a_death(self) -> Self {
        SegmentOperation {
            remains: true,
            ..self
        }
    }

    /// Leaves what a victim may leave: an unfinished file, or memory beyond the end of a segment.
    fn leave_remains(&self) {
        const BYTES: i64 = 5 * PAGE as i64;
        let path = match self.verb {
            Verb::Resize(_) => path(),
            _ => path().with_file_name(".shmkit-0123456789abcdef"),
        };
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(path);
        let file = file.expect("the file is created");
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let end = file.metadata().expect("the file is open").len() as i64;
        fallocate(&file, keep, end, BYTES).expect("there is memory");
    }

    /// Creates the segment that the victim finds, filled, and closes it.
    fn create(&self, shmkit: &Library) {
        // The first call of the library must be that of the victim.
        if !self.warm {
            let bytes = vec![WRITTEN; self.shape.size as usize];
            return std::fs::write(path(), bytes).expect("the file is created");
        }
        let created = shmkit.create(Some(NAME), self.shape.size, self.shape.options);
        let segment = created.expect("the segment is created");
        let base = shmkit.data(segment).expect("the segment has data");
        // SAFETY: the segment has that many bytes, and no other process uses it.
        unsafe { base.write_bytes(WRITTEN, self.shape.size as usize) };
        assert_eq!(shmkit.close(segment), 0);
        if self.remains {
            self.leave_remains();
        }
    }

    fn open(&self, shmkit: &Library) -> Segment {
        let opened = shmkit.open(NAME, self.shape.size, self.shape.options);
        opened.expect("the segment is opened")
    }
}

impl Operation for SegmentOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn is_warm(&self) -> bool {
        self.warm
    }

    fn has_tmpfile(&self) -> bool {
        self.tmpfile
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let Shape { size, options } = self.shape;
        if self.remains && !matches!(self.verb, Verb::Resize(_)) {
            self.leave_remains();
        }
        match self.verb {
            Verb::Create => Box::new(move || status(shmkit.create(Some(NAME), size, options))),
            Verb::CreateAnonymous => Box::new(move || status(shmkit.create(None, size, options))),
            Verb::OpenOrCreate => {
                Box::new(move || status(shmkit.open_or_create(NAME, size, options)))
            }
            Verb::Open => {
                self.create(shmkit);
                Box::new(move || status(shmkit.open(NAME, size, options)))
            }
            Verb::OpenSparse => {
                let file = File::create_new(path()).expect("the file is created");
                file.set_len(size).expect("the file is extended");
                Box::new(move || status(shmkit.open(NAME, size, options)))
            }
            Verb::OpenOrCreateExisting => {
                self.create(shmkit);
                Box::new(move || status(shmkit.open_or_create(NAME, size, options)))
            }
            Verb::UnlinkName => {
                self.create(shmkit);
                Box::new(move || shmkit.unlink_name(NAME))
            }
            Verb::Resize(new) => {
                self.create(shmkit);
                let segment = self.open(shmkit);
                Box::new(move || {
                    shmkit.resize(segment, new, options.flags & SHMKIT_SEGMENT_NO_SPACE_CHECK)
                })
            }
            Verb::Unlink => {
                self.create(shmkit);
                let segment = self.open(shmkit);
                Box::new(move || shmkit.unlink(segment))
            }
            Verb::Close => {
                self.create(shmkit);
                let segment = self.open(shmkit);
                Box::new(move || shmkit.close(segment))
            }
        }
    }

    fn blocks_bystander(&self) -> bool {
        match self.verb {
            // Large segments are slow, so one of them suffices.
            Verb::Resize(new) => {
                new < STEPS || self.shape.options.flags == SHMKIT_SEGMENT_NO_SPACE_CHECK
            }
            Verb::Unlink | Verb::UnlinkName => self.warm,
            _ => false,
        }
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        match self.verb {
            Verb::Resize(new) => {
                let options = self.shape.options;
                let segment = self.open(shmkit);
                Some(Box::new(move || {
                    shmkit.resize(segment, new, options.flags & SHMKIT_SEGMENT_NO_SPACE_CHECK)
                }))
            }
            Verb::Unlink | Verb::UnlinkName => {
                let segment = self.open(shmkit);
                Some(Box::new(move || shmkit.unlink(segment)))
            }
            _ => None,
        }
    }

    fn accepts_from_bystander(&self, status: Status) -> bool {
        match self.verb {
            // Either process may be first.
            Verb::Unlink | Verb::UnlinkName => [0, NOT_FOUND].contains(&status),
            _ => status == 0,
        }
    }

    fn verify(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        match self.verb {
            Verb::Create | Verb::OpenOrCreate => {
                let drafts = usize::from(!self.tmpfile) + usize::from(self.remains);
                verifier.created(self.shape, drafts, done)
            }
            // The kernel removes a memory file with the last process that has it open; the directory never shows it.
            Verb::CreateAnonymous => verifier
                .check_nothing_left()
                .and_then(|()| verifier.use_and_leave()),
            Verb::Open | Verb::OpenOrCreateExisting | Verb::Close => verifier.unchanged(self.shape),
            Verb::OpenSparse => verifier.still_sparse(self.shape),
            Verb::Resize(new) => verifier.resized(self.shape, new, done),
            Verb::Unlink | Verb::UnlinkName => verifier.unlinked(self.shape, done),
        }
    }
}

fn shape(size: u64, flags: u32, capacity: u64, mode: u32) -> Shape {
    Shape {
        size,
        options: Options {
            flags,
            capacity,
            mode,
            participants: 0,
        },
    }
}

/// Returns an operation that spends its time in few long system calls.
pub fn large(name: &'static str, verb: Verb, size: u64) -> SegmentOperation {
    SegmentOperation::new(name, 1, verb, shape(size, 0, ROOM, 0))
}

/// The operations of plain segments, slowest first.
///
/// All but one of the large segments use NO_SPACE_CHECK. Without it the library reads figures of the machine line by
/// line, which takes twenty thousand points.
pub fn operations() -> Vec<SegmentOperation> {
    use Verb::*;
    let small = shape(SMALL, 0, 0, 0);
    let growing = shape(SMALL, 0, ROOM, 0);
    let compared = shape(STEPS, 0, ROOM, 0o640);
    let forced = |size, flags| shape(size, SHMKIT_SEGMENT_NO_SPACE_CHECK | flags, ROOM, 0);
    let steps = forced(STEPS, 0);
    let huge = forced(STEPS, SHMKIT_SEGMENT_HUGE);
    let prefault = shape(SMALL, SHMKIT_SEGMENT_PREFAULT, ROOM, 0);
    let grows = forced(SMALL, 0);
    let grows_huge = forced(SMALL, SHMKIT_SEGMENT_HUGE);
    let operation = SegmentOperation::new;
    vec![
        operation("segment: create, two steps, compared", 32, Create, compared),
        operation(
            "segment: resize, two steps, compared",
            32,
            Resize(STEPS),
            growing,
        ),
        operation("segment: create, two steps", 8, Create, steps),
        operation("segment: create, huge pages", 8, Create, huge),
        operation(
            "segment: create, two steps, no O_TMPFILE",
            16,
            Create,
            steps,
        )
        .without_tmpfile(),
        operation(
            "segment: create anonymous, two steps",
            8,
            CreateAnonymous,
            steps,
        ),
        operation("segment: resize, two steps", 8, Resize(STEPS), grows),
        operation("segment: resize, huge pages", 16, Resize(STEPS), grows_huge),
        operation("segment: create", 4, Create, small),
        operation("segment: create, first call", 4, Create, small).cold(),
        operation("segment: create, prefault", 8, Create, prefault),
        operation("segment: create, no O_TMPFILE", 4, Create, small).without_tmpfile(),
        operation(
            "segment: create, no O_TMPFILE, first call",
            8,
            Create,
            small,
        )
        .without_tmpfile()
        .cold(),
        operation(
            "segment: create, no O_TMPFILE, after a death",
            8,
            Create,
            small,
        )
        .without_tmpfile()
        .after_a_death(),
        operation("segment: create anonymous", 4, CreateAnonymous, small),
        operation("segment: open", 4, Open, growing),
        operation(
            "segment: open, prefault, of a sparse file",
            8,
            OpenSparse,
            prefault,
        ),
        operation("segment: open, first call", 8, Open, growing).cold(),
        operation("segment: open_or_create, creates", 8, OpenOrCreate, growing),
        operation(
            "segment: open_or_create, opens",
            8,
            OpenOrCreateExisting,
            growing,
        ),
        operation("segment: resize", 2, Resize(3 * SMALL), growing),
        operation(
            "segment: resize, after a death",
            2,
            Resize(3 * SMALL),
            growing,
        )
        .after_a_death(),
        operation("segment: unlink", 2, Unlink, growing),
        operation("segment: unlink_name", 2, UnlinkName, growing),
        operation("segment: unlink_name, first call", 4, UnlinkName, growing).cold(),
        operation("segment: close", 1, Close, growing),
    ]
}
