//! Queues that are created and opened: with a name, without one, and in a segment. The victim also puts a message.

use crate::suite::capi::queue::{Queue, Shape};
use crate::suite::capi::segment::Options;
use crate::suite::capi::{EMPTY, EXISTS, NOT_FOUND, NOWAIT, Status, Way, status};
use crate::suite::harness::fixture::{NAME, PAGE, PLACE, managed, open_attached};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::survivor::{refused, reopen};

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Creates or opens a queue with a name.
    Named { way: Way, exists: bool },
    /// Creates one without a name.
    Unnamed,
    /// Creates or opens one in a segment.
    At { exists: bool },
}

/// An operation of such queues.
pub struct LifeCycleOperation {
    name: &'static str,
    verb: Verb,
    every: usize,
    tmpfile: bool,
}

const SHAPE: Shape = Shape {
    capacity: 1024,
    maxsize: 0,
    overwrites: false,
};
const PARTICIPANTS: u32 = 2;
const MESSAGE: &[u8] = b"a message of thirty-two bytes ...";

impl LifeCycleOperation {
    fn exists(&self) -> bool {
        matches!(
            self.verb,
            Verb::Named { exists: true, .. } | Verb::At { exists: true }
        )
    }

    fn way(&self) -> Way {
        match self.verb {
            Verb::Named { way, .. } => way,
            _ => Way::Create,
        }
    }

    /// Creates what exists before the victim starts.
    fn create(&self, shmkit: &Library) -> Result<(), Status> {
        let Verb::At { exists } = self.verb else {
            return Queue::named(shmkit, Some(NAME), Way::Create, SHAPE).map(drop);
        };
        let segment = shmkit.create(Some(NAME), PAGE, managed(PARTICIPANTS))?;
        match exists {
            true => Queue::at(shmkit, segment, PLACE, SHAPE, true).map(drop),
            false => Ok(()),
        }
    }

    /// Checks that the queue works; it contains at most what the victim has put.
    fn works(&self, queue: &Queue, done: bool) -> Result<(), Failure> {
        let mut buffer = [0; 64];
        let got = queue.get(NOWAIT, &mut buffer);
        match got {
            Ok(length) if buffer[..length] == *MESSAGE => {}
            Err(EMPTY) if !done => {}
            other => {
                return Err(Violation::Lost.failure(format!("a survivor's get returned {other:?}")));
            }
        }
        queue.put(NOWAIT, MESSAGE).map_err(refused("put"))?;
        let again = queue.get(NOWAIT, &mut buffer).map_err(refused("get"))?;
        let end = queue.get(NOWAIT, &mut buffer);
        if (again, end) != (MESSAGE.len(), Err(EMPTY)) {
            let text =
                format!("one message was put, and get returned {again} bytes, and then {end:?}");
            return Err(Violation::Lost.failure(text));
        }
        let stat = queue.stat().map_err(refused("stat"))?;
        let expected = 1 + u64::from(got.is_ok());
        if (stat.puts, stat.gets) != (expected, expected) {
            let text = format!(
                "{expected} messages were put, and {} are counted",
                stat.puts
            );
            return Err(Violation::Lost.failure(text));
        }
        Ok(())
    }

    fn named_survives(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        let shmkit = verifier.shmkit;
        let open = || Queue::named(shmkit, Some(NAME), Way::Open, SHAPE);
        if verifier.name_exists(usize::from(!self.tmpfile))? {
            let queue = open().map_err(|status| {
                Violation::HalfMade.failure(format!("a survivor's open returned {status}"))
            })?;
            self.works(&queue, done)?;
            let again = Queue::named(shmkit, Some(NAME), Way::Create, SHAPE);
            if again.err() != Some(EXISTS) {
                return Err(Violation::Refused.failure("create of an existing name has succeeded"));
            }
            queue.unlink().map_err(refused("unlink"))?;
            queue.close().map_err(refused("close"))?;
        } else if done || self.exists() {
            return Err(Violation::Lost.failure("the name does not exist"));
        } else if open().err() != Some(NOT_FOUND) {
            return Err(Violation::Refused.failure("open of a missing name has succeeded"));
        }
        // The next create removes what dead creators have left.
        let created = shmkit.create(Some(NAME), 1, Options::default());
        verifier.remove(created.map_err(refused("create"))?)
    }

    fn placed_survives(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        let shmkit = verifier.shmkit;
        let segment = verifier.open_managed()?;
        let queue = reopen(
            done || self.exists(),
            Queue::at(shmkit, segment, PLACE, SHAPE, false),
            |queue| queue.close(),
            || Queue::at(shmkit, segment, PLACE, SHAPE, true),
        )?;
        self.works(&queue, done)?;
        verifier.table_has_room(segment, PARTICIPANTS)?;
        queue.close().map_err(refused("close"))?;
        verifier.remove(segment)
    }
}

impl Operation for LifeCycleOperation {
    fn name(&self) -> String {
        format!("queue: {}", self.name)
    }

    fn every(&self) -> usize {
        self.every
    }

    fn has_tmpfile(&self) -> bool {
        self.tmpfile
    }

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        let prepared = self.exists() || matches!(self.verb, Verb::At { .. });
        prepared
            .then(|| -> Setup<'a> { Box::new(move || self.create(shmkit).expect("it is created")) })
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let put = |queue: Result<Queue, Status>| queue?.put(NOWAIT, MESSAGE);
        if let Verb::At { .. } = self.verb {
            let segment = open_attached(shmkit);
            return Box::new(move || status(put(Queue::at(shmkit, segment, PLACE, SHAPE, true))));
        }
        let name = (self.verb != Verb::Unnamed).then_some(NAME);
        Box::new(move || status(put(Queue::named(shmkit, name, self.way(), SHAPE))))
    }

    fn verify(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        match self.verb {
            Verb::Named { .. } => self.named_survives(verifier, done)?,
            Verb::At { .. } => self.placed_survives(verifier, done)?,
            // The kernel removes it with the last process that has it open.
            Verb::Unnamed => {
                let queue = Queue::named(verifier.shmkit, None, Way::Create, SHAPE);
                let queue = queue.map_err(refused("create"))?;
                self.works(&queue, false)?;
                queue.close().map_err(refused("close"))?;
            }
        }
        verifier.check_nothing_left()
    }
}

/// The operations that create or open a queue, slowest first.
pub fn operations() -> Vec<LifeCycleOperation> {
    let operation = |name, every, verb| LifeCycleOperation {
        name,
        verb,
        every,
        tmpfile: true,
    };
    let named = |way, exists| Verb::Named { way, exists };
    vec![
        operation("create", 128, named(Way::Create, false)),
        LifeCycleOperation {
            tmpfile: false,
            ..operation("create, no O_TMPFILE", 192, named(Way::Create, false))
        },
        operation(
            "open_or_create, creates",
            192,
            named(Way::OpenOrCreate, false),
        ),
        operation("open_or_create, opens", 128, named(Way::OpenOrCreate, true)),
        operation("open", 128, named(Way::Open, true)),
        operation("create without a name", 128, Verb::Unnamed),
        operation("create_at", 32, Verb::At { exists: false }),
        operation("create_at, opens", 32, Verb::At { exists: true }),
    ]
}
