//! The operations of managed segments: create, open, resize, close; and of ephemeral ones, whose name goes with the
//! last who has them mapped, or with the next collector.

use crate::board::{Said, Who, Wrong, board};
use crate::library::{Library, Options, Segment, Status};
use crate::locks::NOWAIT;
use crate::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::party::status;
use crate::place::Place;
use crate::survivor::refused;
use crate::verify::{NAME, PAGE, WRITTEN, path};
use nix::unistd::Pid;
use shmkit::capi::segment::{
    SHMKIT_SEGMENT_EPHEMERAL, SHMKIT_SEGMENT_MANAGED, SHMKIT_SEGMENT_NO_SPACE_CHECK,
};

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Makes one under its name.
    Create,
    /// Makes one without a name.
    CreateAnonymous,
    /// Opens one.
    Open,
    /// Makes it, as nobody has.
    OpenOrCreate,
    /// Lets it grow to this size.
    Resize(u64),
    /// Lets go of it.
    Close,
    /// Removes all ephemeral ones that nobody has mapped; one is there.
    Collect,
    /// As `Collect`; there is also what a maker has left who died where there is no O_TMPFILE.
    CollectDraft,
}

/// An operation of managed segments.
pub struct FullOperation {
    name: &'static str,
    verb: Verb,
    every: usize,
    ephemeral: bool,
}

const SIZE: u64 = 2 * PAGE;
/// What it may grow to.
const ROOM: u64 = 1 << 30;
/// The control area of a segment for two participants.
const CONTROL: u64 = PAGE;
const NOT_FOUND: Status = -4;

impl FullOperation {
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

    /// Makes the segment, filled; whoever does that may die of it.
    fn make(&self, shmkit: &Library) -> Segment {
        let made = shmkit.create(Some(NAME), SIZE, self.options());
        let made = made.expect("a segment can be made");
        let base = shmkit.data(made).expect("it has an address");
        // SAFETY: the data has that many bytes, and nobody else knows of it.
        unsafe { base.write_bytes(WRITTEN, SIZE as usize) };
        made
    }

    /// Whether the victim finds one.
    fn finds_one(&self) -> bool {
        !matches!(
            self.verb,
            Verb::Create | Verb::CreateAnonymous | Verb::OpenOrCreate
        )
    }

    fn is_written(&self, shmkit: &Library, segment: Segment) -> bool {
        let base = shmkit.data(segment).expect("it has an address");
        // SAFETY: the data has at least that many bytes, and nobody changes them.
        let bytes = unsafe { std::slice::from_raw_parts(base, SIZE as usize) };
        bytes.iter().all(|&byte| byte == WRITTEN)
    }

    /// Is attached for a while to what a collector would take.
    fn attend(&self, shmkit: &Library, segment: Segment) -> Status {
        if path().symlink_metadata().is_err() {
            board().accuse(Wrong::PulledAway);
        }
        if !self.is_written(shmkit, segment) {
            board().accuse(Wrong::NotWritten);
        }
        board().pass();
        shmkit.close(segment)
    }

    /// Opens the segment, uses all of it, and lets go of it.
    fn use_it(&self, look: &Look, sizes: &[u64], byte: u8) -> Result<(), Finding> {
        let shmkit = look.shmkit;
        let segment = self.open(shmkit).map_err(|status| {
            Crime::HalfMade.found(format!("a survivor's open returned {status}"))
        })?;
        let size = shmkit.size(segment).map_err(refused("size"))?;
        if !sizes.contains(&size) {
            let text = format!("it has {size} bytes, expected {sizes:?}");
            return Err(Crime::HalfMade.found(text));
        }
        look.has_memory(CONTROL + size)?;
        look.check_bytes(segment, 0, SIZE, byte)?;
        look.check_bytes(segment, SIZE, size, 0)?;
        let lock = shmkit.built_in_lock(segment).map_err(refused("lock"))?;
        let told = shmkit.acquire(lock, NOWAIT).map_err(refused("acquire"))?;
        if told {
            return Err(Crime::Untold.found("told of a death where nobody held the lock"));
        }
        let given = (shmkit.release(lock), shmkit.close_lock(lock));
        if given != (0, 0) {
            return Err(Crime::Refused.found(format!("release and close returned {given:?}")));
        }
        // Less than what the dead may have set aside, and then more than that.
        let most = sizes.iter().max().expect("there is one") + PAGE;
        for new in [size + PAGE, most] {
            let grown = shmkit.resize(segment, new, 0);
            if grown != 0 {
                return Err(refused("resize")(grown));
            }
            look.has_memory(CONTROL + new)?;
        }
        look.has_exactly(CONTROL + most)?;
        look.check_bytes(segment, 0, SIZE, byte)?;
        look.check_bytes(segment, SIZE, most, 0)?;
        match shmkit.close(segment) {
            0 => Ok(()),
            status => Err(refused("close")(status)),
        }
    }

    /// Has a collector come: it takes what nobody has mapped, and only that.
    fn collect(&self, look: &Look, expected: u64) -> Result<(), Finding> {
        match look.shmkit.gc() {
            Ok(count) if count == expected => Ok(()),
            other => {
                let text = format!("gc returned {other:?}, expected {expected} to be removed");
                Err(Crime::LeftBehind.found(text))
            }
        }
    }
}

impl Operation for FullOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        self.finds_one().then(|| -> Ground<'a> {
            Box::new(move || {
                if self.verb == Verb::CollectDraft {
                    let draft = path().with_file_name(".shmkit-0123456789abcdef");
                    std::fs::write(draft, [WRITTEN]).expect("a file can be made");
                }
                // Not closed: an ephemeral one stays as its dead maker has left it.
                self.make(shmkit);
            })
        })
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let attached = move |made: Result<Segment, Status>| {
            // Whoever is told that it has the segment must not lose its name to a collector.
            let segment = match made {
                Ok(segment) => segment,
                Err(status) => return status,
            };
            board().say(Who::Victim, Said::Holds);
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
                let segment = self.open(shmkit).expect("it can be opened");
                Box::new(move || shmkit.resize(segment, size, SHMKIT_SEGMENT_NO_SPACE_CHECK))
            }
            Verb::Close => {
                let segment = self.open(shmkit).expect("it can be opened");
                Box::new(move || shmkit.close(segment))
            }
            Verb::Collect | Verb::CollectDraft => Box::new(move || status(shmkit.gc())),
        }
    }

    fn makes_others_wait(&self) -> bool {
        matches!(self.verb, Verb::Resize(_) | Verb::Collect)
    }

    fn has_company(&self) -> bool {
        self.makes_others_wait() || self.ephemeral && self.verb != Verb::CollectDraft
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        match self.verb {
            Verb::Resize(size) => {
                let segment = self.open(shmkit).expect("it can be opened");
                Some(Box::new(move || {
                    shmkit.resize(segment, size, SHMKIT_SEGMENT_NO_SPACE_CHECK)
                }))
            }
            // Somebody comes while it is collected,
            Verb::Collect => Some(Box::new(move || match self.open(shmkit) {
                Ok(segment) => self.attend(shmkit, segment),
                Err(status) => status,
            })),
            // somebody has it when another one goes,
            Verb::Close => {
                let segment = self.open(shmkit).expect("it can be opened");
                Some(Box::new(move || self.attend(shmkit, segment)))
            }
            // and it is collected while somebody comes.
            _ => Some(Box::new(move || status(shmkit.gc()))),
        }
    }

    fn bystander_may(&self, status: Status) -> bool {
        status == 0 || self.verb == Verb::Collect && status == NOT_FOUND
    }

    fn look_at(&self, _victim: Pid, passed: bool, place: &Place) -> Result<(), Finding> {
        let there = place.path("victim").symlink_metadata().is_ok();
        match passed && !there && board().said() == Said::Holds {
            true => Err(Crime::Lost.found("the name was taken from under somebody")),
            false => Ok(()),
        }
    }

    fn verify(&self, look: &Look, done: bool) -> Result<(), Finding> {
        if self.verb == Verb::CreateAnonymous {
            look.nothing_is_left()?;
            return look.use_and_leave();
        }
        board().verdict()?;
        let draft = self.verb == Verb::CollectDraft && !done;
        let there = look.name_is_there(usize::from(draft))?;
        let byte = if self.finds_one() { WRITTEN } else { 0 };
        let sizes = match self.verb {
            Verb::Resize(new) if done => vec![new],
            Verb::Resize(new) => vec![SIZE, new],
            _ => vec![SIZE],
        };
        if self.ephemeral {
            // Where another one has let go as well it was perhaps not the last.
            let last = self.verb == Verb::Close && !board().has_passed();
            let removed = last || matches!(self.verb, Verb::Collect | Verb::CollectDraft);
            // Whoever had it is dead, or has let go.
            if there && done && removed {
                return Err(Crime::LeftBehind.found("the name of an ephemeral segment is there"));
            }
            if self.verb == Verb::Create && there {
                // Its last user takes it along.
                self.use_it(look, &sizes, byte)?;
                self.collect(look, 0)?;
            } else {
                self.collect(look, u64::from(there))?;
            }
            look.nothing_is_left()?;
            return look.use_and_leave();
        }
        if there {
            self.collect(look, 0)?;
            self.use_it(look, &sizes, byte)?;
            let gone = look.shmkit.unlink_name(NAME);
            if gone != 0 {
                return Err(refused("unlink")(gone));
            }
        } else if done || self.finds_one() {
            return Err(Crime::Lost.found("the name is not there"));
        }
        look.use_and_leave()
    }
}

/// The operations of managed segments, those that take longest first.
pub fn operations() -> Vec<FullOperation> {
    let operation = |name, every, verb| FullOperation {
        name,
        verb,
        every,
        ephemeral: false,
    };
    let ephemeral = |name, every, verb| FullOperation {
        ephemeral: true,
        ..operation(name, every, verb)
    };
    vec![
        operation("full: create", 16, Verb::Create),
        operation("full: create anonymous", 32, Verb::CreateAnonymous),
        operation("full: open", 16, Verb::Open),
        operation("full: open_or_create, makes", 32, Verb::OpenOrCreate),
        operation("full: resize", 8, Verb::Resize(6 * PAGE)),
        operation("full: close", 8, Verb::Close),
        ephemeral("ephemeral: create", 16, Verb::Create),
        ephemeral("ephemeral: open", 16, Verb::Open),
        ephemeral("ephemeral: last close", 8, Verb::Close),
        ephemeral("ephemeral: gc", 8, Verb::Collect),
        ephemeral("ephemeral: gc, and of a draft", 16, Verb::CollectDraft),
    ]
}
