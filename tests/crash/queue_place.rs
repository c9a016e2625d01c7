//! How queues are come by: under a name, without one, in a segment. The victim also puts a message, and says so.

use crate::library::{Library, Options, Status};
use crate::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::party::{introduce, managed, status};
use crate::queues::{EMPTY, EXISTS, NOT_FOUND, NOWAIT, Queue, Shape, Way};
use crate::survivor::refused;
use crate::verify::{NAME, PAGE};

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Comes by one with a name; `there`: somebody has made it.
    FileOptions { way: Way, there: bool },
    /// Makes one without a name.
    Unnamed,
    /// Comes by one in a segment.
    At { there: bool },
}

/// An operation of such queues.
pub struct QueuePlaceOperation {
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
/// Where one stands in a segment.
const PLACE: u64 = 64;
const PARTICIPANTS: u32 = 2;
const MESSAGE: &[u8] = b"a message of thirty-two bytes ...";

impl QueuePlaceOperation {
    fn is_there(&self) -> bool {
        matches!(
            self.verb,
            Verb::FileOptions { there: true, .. } | Verb::At { there: true }
        )
    }

    fn way(&self) -> Way {
        match self.verb {
            Verb::FileOptions { way, .. } => way,
            _ => Way::Create,
        }
    }

    /// Makes what there is before the victim; whoever does that may die of it.
    fn make(&self, shmkit: &Library) -> Result<(), Status> {
        let Verb::At { there } = self.verb else {
            return Queue::named(shmkit, Some(NAME), Way::Create, SHAPE).map(drop);
        };
        let segment = shmkit.create(Some(NAME), PAGE, managed(PARTICIPANTS))?;
        match there {
            true => Queue::at(shmkit, segment, PLACE, SHAPE, true).map(drop),
            false => Ok(()),
        }
    }

    /// Checks that a survivor can use it: nothing is in it but what the victim may have put.
    fn works(&self, queue: &Queue, done: bool) -> Result<(), Finding> {
        let mut buffer = [0; 64];
        let got = queue.get(NOWAIT, &mut buffer);
        match got {
            Ok(length) if buffer[..length] == *MESSAGE => {}
            Err(EMPTY) if !done => {}
            other => return Err(Crime::Lost.found(format!("a survivor's get returned {other:?}"))),
        }
        queue.put(NOWAIT, MESSAGE).map_err(refused("put"))?;
        let again = queue.get(NOWAIT, &mut buffer).map_err(refused("get"))?;
        let end = queue.get(NOWAIT, &mut buffer);
        if (again, end) != (MESSAGE.len(), Err(EMPTY)) {
            let text = format!("one was put, and a survivor got {again} bytes, and then {end:?}");
            return Err(Crime::Lost.found(text));
        }
        let stat = queue.stat().map_err(refused("stat"))?;
        let expected = 1 + u64::from(got.is_ok());
        if (stat.puts, stat.gets) != (expected, expected) {
            let text = format!("{expected} were put, and it tells of {}", stat.puts);
            return Err(Crime::Lost.found(text));
        }
        Ok(())
    }

    fn named_survives(&self, look: &Look, done: bool) -> Result<(), Finding> {
        let shmkit = look.shmkit;
        let open = || Queue::named(shmkit, Some(NAME), Way::Open, SHAPE);
        if look.name_is_there(usize::from(!self.tmpfile))? {
            let queue = open().map_err(|status| {
                Crime::HalfMade.found(format!("a survivor's open returned {status}"))
            })?;
            self.works(&queue, done)?;
            let again = Queue::named(shmkit, Some(NAME), Way::Create, SHAPE);
            if again.err() != Some(EXISTS) {
                return Err(Crime::Refused.found("what is there was made once more"));
            }
            queue.unlink().map_err(refused("unlink"))?;
            queue.close().map_err(refused("close"))?;
        } else if done || self.is_there() {
            return Err(Crime::Lost.found("the name is not there"));
        } else if open().err() != Some(NOT_FOUND) {
            return Err(Crime::Refused.found("what is not there was opened"));
        }
        // Whatever makers have left goes with the next one.
        let made = shmkit.create(Some(NAME), 1, Options::default());
        look.remove(made.map_err(refused("create"))?)
    }

    fn placed_survives(&self, look: &Look, done: bool) -> Result<(), Finding> {
        let shmkit = look.shmkit;
        let segment = shmkit.open(NAME, 0, managed(0)).map_err(refused("open"))?;
        let found = Queue::at(shmkit, segment, PLACE, SHAPE, false);
        match found {
            Ok(queue) => queue.close().map_err(refused("close"))?,
            Err(NOT_FOUND) if !done && !self.is_there() => {}
            Err(NOT_FOUND) => return Err(Crime::Lost.found("the queue is not there")),
            Err(status) => return Err(refused("open_at")(status)),
        }
        let queue = Queue::at(shmkit, segment, PLACE, SHAPE, true);
        let queue = queue.map_err(refused("create_at"))?;
        self.works(&queue, done)?;
        look.table_has_room(segment, PARTICIPANTS)?;
        queue.close().map_err(refused("close"))?;
        look.remove(segment)
    }
}

impl Operation for QueuePlaceOperation {
    fn name(&self) -> String {
        format!("queue: {}", self.name)
    }

    fn every(&self) -> usize {
        self.every
    }

    fn has_tmpfile(&self) -> bool {
        self.tmpfile
    }

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        let prepared = self.is_there() || matches!(self.verb, Verb::At { .. });
        prepared
            .then(|| -> Ground<'a> { Box::new(move || self.make(shmkit).expect("it can be made")) })
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let put = |queue: Result<Queue, Status>| queue?.put(NOWAIT, MESSAGE);
        if let Verb::At { .. } = self.verb {
            let opened = shmkit.open(NAME, 0, managed(0));
            let segment = opened.expect("the segment can be opened");
            introduce(shmkit, segment);
            return Box::new(move || status(put(Queue::at(shmkit, segment, PLACE, SHAPE, true))));
        }
        let name = (self.verb != Verb::Unnamed).then_some(NAME);
        Box::new(move || status(put(Queue::named(shmkit, name, self.way(), SHAPE))))
    }

    fn verify(&self, look: &Look, done: bool) -> Result<(), Finding> {
        match self.verb {
            Verb::FileOptions { .. } => self.named_survives(look, done)?,
            Verb::At { .. } => self.placed_survives(look, done)?,
            // The kernel takes it back when nobody has it open.
            Verb::Unnamed => {
                let queue = Queue::named(look.shmkit, None, Way::Create, SHAPE);
                let queue = queue.map_err(refused("create"))?;
                self.works(&queue, false)?;
                queue.close().map_err(refused("close"))?;
            }
        }
        look.nothing_is_left()
    }
}

/// The ways to come by a queue, those that take longest first.
pub fn operations() -> Vec<QueuePlaceOperation> {
    let operation = |name, every, verb| QueuePlaceOperation {
        name,
        verb,
        every,
        tmpfile: true,
    };
    let named = |way, there| Verb::FileOptions { way, there };
    vec![
        operation("create", 128, named(Way::Create, false)),
        QueuePlaceOperation {
            tmpfile: false,
            ..operation("create, no O_TMPFILE", 192, named(Way::Create, false))
        },
        operation(
            "open_or_create, makes",
            192,
            named(Way::OpenOrCreate, false),
        ),
        operation("open_or_create, opens", 128, named(Way::OpenOrCreate, true)),
        operation("open", 128, named(Way::Open, true)),
        operation("create without a name", 128, Verb::Unnamed),
        operation("create_at", 32, Verb::At { there: false }),
        operation("create_at, opens", 32, Verb::At { there: true }),
    ]
}
