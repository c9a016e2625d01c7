//! The operations of segments: create, open, open_or_create, resize, unlink, close.

use crate::library::{Library, Options, Segment, Status};
use crate::operation::{Finding, Look, Operation, Run, Shape};
use crate::verify::{NAME, PAGE, WRITTEN, path};
use nix::fcntl::{FallocateFlags, fallocate};
use shmkit::capi::segment::{
    SHMKIT_SEGMENT_HUGE, SHMKIT_SEGMENT_NO_SPACE_CHECK, SHMKIT_SEGMENT_PREFAULT,
};
use std::fs::File;

/// A size that is not whole pages.
const SMALL: u64 = 2 * PAGE + 777;
/// More than the library sets aside in one step, so that it may die between two.
const STEPS: u64 = (66 << 20) + 777;
/// What a segment may grow to, in all that grow.
const ROOM: u64 = 4 << 30;
const NOT_FOUND: Status = -4;

/// What the victim does to the segment.
#[derive(Clone, Copy)]
pub enum Verb {
    /// Makes it, under its name.
    Create,
    /// Makes one without a name.
    CreateAnonymous,
    /// Opens it.
    Open,
    /// Opens one that another library has made, without memory, and asks for all of it.
    OpenSparse,
    /// Makes it, as nobody has.
    OpenOrCreate,
    /// Opens it, as somebody has made it.
    OpenOrCreateExisting,
    /// Lets it grow to this size.
    Resize(u64),
    /// Removes its name through a handle.
    Unlink,
    /// Removes its name without one.
    UnlinkName,
    /// Lets go of it.
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
    /// What another victim has left is there already, so that this one dies while it clears up.
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

    /// Leaves what a victim may leave: a draft that nobody makes any more, or memory beyond the end of a segment.
    fn leave_remains(&self) {
        const BYTES: i64 = 5 * PAGE as i64;
        let path = match self.verb {
            Verb::Resize(_) => path(),
            _ => path().with_file_name(".shmkit-0123456789abcdef"),
        };
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(path);
        let file = file.expect("a file can be made");
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let end = file.metadata().expect("it is open").len() as i64;
        fallocate(&file, keep, end, BYTES).expect("there is memory");
    }

    /// Makes what the victim finds, filled, and lets go of it.
    fn make(&self, shmkit: &Library) {
        // Who wants to see the very first call of the library must not make one here.
        if !self.warm {
            let bytes = vec![WRITTEN; self.shape.size as usize];
            return std::fs::write(path(), bytes).expect("a file can be made");
        }
        let made = shmkit.create(Some(NAME), self.shape.size, self.shape.options);
        let made = made.expect("a segment can be made");
        let base = shmkit.data(made).expect("it has an address");
        // SAFETY: the segment has that many bytes, and nobody else knows of it.
        unsafe { base.write_bytes(WRITTEN, self.shape.size as usize) };
        assert_eq!(shmkit.close(made), 0);
        if self.remains {
            self.leave_remains();
        }
    }

    fn open(&self, shmkit: &Library) -> Segment {
        let opened = shmkit.open(NAME, self.shape.size, self.shape.options);
        opened.expect("the segment can be opened")
    }
}

fn status(made: Result<Segment, Status>) -> Status {
    made.err().unwrap_or(0)
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
                self.make(shmkit);
                Box::new(move || status(shmkit.open(NAME, size, options)))
            }
            Verb::OpenSparse => {
                let made = File::create_new(path()).expect("a file can be made");
                made.set_len(size).expect("a file can be sized");
                Box::new(move || status(shmkit.open(NAME, size, options)))
            }
            Verb::OpenOrCreateExisting => {
                self.make(shmkit);
                Box::new(move || status(shmkit.open_or_create(NAME, size, options)))
            }
            Verb::UnlinkName => {
                self.make(shmkit);
                Box::new(move || shmkit.unlink_name(NAME))
            }
            Verb::Resize(new) => {
                self.make(shmkit);
                let segment = self.open(shmkit);
                Box::new(move || {
                    shmkit.resize(segment, new, options.flags & SHMKIT_SEGMENT_NO_SPACE_CHECK)
                })
            }
            Verb::Unlink => {
                self.make(shmkit);
                let segment = self.open(shmkit);
                Box::new(move || shmkit.unlink(segment))
            }
            Verb::Close => {
                self.make(shmkit);
                let segment = self.open(shmkit);
                Box::new(move || shmkit.close(segment))
            }
        }
    }

    fn makes_others_wait(&self) -> bool {
        match self.verb {
            // What is large takes its time; once will do.
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

    fn bystander_may(&self, status: Status) -> bool {
        match self.verb {
            // Whoever was first.
            Verb::Unlink | Verb::UnlinkName => [0, NOT_FOUND].contains(&status),
            _ => status == 0,
        }
    }

    fn verify(&self, look: &Look, done: bool) -> Result<(), Finding> {
        match self.verb {
            Verb::Create | Verb::OpenOrCreate => {
                let drafts = usize::from(!self.tmpfile) + usize::from(self.remains);
                look.created(self.shape, drafts, done)
            }
            // The kernel takes a memory file back when nobody has it open; here nothing of it was ever to be seen.
            Verb::CreateAnonymous => look.nothing_is_left().and_then(|()| look.use_and_leave()),
            Verb::Open | Verb::OpenOrCreateExisting | Verb::Close => look.unchanged(self.shape),
            Verb::OpenSparse => look.as_long_as_ever(self.shape),
            Verb::Resize(new) => look.resized(self.shape, new, done),
            Verb::Unlink | Verb::UnlinkName => look.unlinked(self.shape, done),
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

/// Returns an operation that spends its time in a few long system calls.
pub fn large(name: &'static str, verb: Verb, size: u64) -> SegmentOperation {
    SegmentOperation::new(name, 1, verb, shape(size, 0, ROOM, 0))
}

/// The operations of segments, those that take longest first.
///
/// What is large is asked for with FORCE but once: the figures that the library reads otherwise, line by line, are
/// twenty thousand points.
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
        operation("create, steps, compared", 32, Create, compared),
        operation("resize, steps, compared", 32, Resize(STEPS), growing),
        operation("create, steps", 8, Create, steps),
        operation("create, huge pages", 8, Create, huge),
        operation("create, steps, no O_TMPFILE", 16, Create, steps).without_tmpfile(),
        operation("create anonymous, steps", 8, CreateAnonymous, steps),
        operation("resize, steps", 8, Resize(STEPS), grows),
        operation("resize, huge pages", 16, Resize(STEPS), grows_huge),
        operation("create", 4, Create, small),
        operation("create, first call", 4, Create, small).cold(),
        operation("create, prefault", 8, Create, prefault),
        operation("create, no O_TMPFILE", 4, Create, small).without_tmpfile(),
        operation("create, no O_TMPFILE, first call", 8, Create, small)
            .without_tmpfile()
            .cold(),
        operation("create, no O_TMPFILE, after a death", 8, Create, small)
            .without_tmpfile()
            .after_a_death(),
        operation("create anonymous", 4, CreateAnonymous, small),
        operation("open", 4, Open, growing),
        operation("open, prefault, of a sparse file", 8, OpenSparse, prefault),
        operation("open, first call", 8, Open, growing).cold(),
        operation("open_or_create, makes", 8, OpenOrCreate, growing),
        operation("open_or_create, opens", 8, OpenOrCreateExisting, growing),
        operation("resize", 2, Resize(3 * SMALL), growing),
        operation("resize, after a death", 2, Resize(3 * SMALL), growing).after_a_death(),
        operation("unlink", 2, Unlink, growing),
        operation("unlink_name", 2, UnlinkName, growing),
        operation("unlink_name, first call", 4, UnlinkName, growing).cold(),
        operation("close", 1, Close, growing),
    ]
}
