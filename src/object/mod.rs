//! Objects: something of 64 bytes and more that stands at a place in shared memory and says what it is.
//!
//! | tag                   | means                                              | goes to                                     |
//! |-----------------------|----------------------------------------------------|---------------------------------------------|
//! | 0                     | nothing stands here                                | me + MAKING: whoever creates it             |
//! | me + MAKING           | I am making it                                     | kind + flags, by a single store             |
//! | dead + MAKING         | whoever was making it is dead                      | me + MAKING: the next who creates it        |
//! | kind + flags + cells  | it is there                                        | stays                                       |
//! | anything else         | bytes of the user's own                            | stays                                       |
//!
//! ```text
//! tag: | cells (16 bits) | flags (16 bits) | kind (32 bits) |      object: | words, the tag first | cell 0 | cell 1 | … |
//! ```
//!
//! If a process dies while it makes one, the next one that creates it begins again; nobody has used it yet.

mod arena;
pub mod barrier;
pub mod condition;
pub mod event;
pub mod lock;
pub mod once;
pub mod queue;
pub mod rlock;
pub mod rwlock;
pub mod semaphore;

use crate::error::{Error, Result};
use crate::layout::{Kind, Shared};
use crate::participant::Id;
use crate::raw::Liveness;
pub use crate::segment::options::Named;
use crate::segment::{Content, Options, Segment};
use crate::sys::clock;
use crate::sys::fork::ForkLocal;
use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// In a tag: it is being made. No kind has this bit.
const MAKING: u64 = 1 << 29;

/// Where an object stands must be a multiple of this.
pub const ALIGNMENT: u64 = 64;

/// Words that say what they are; their size is a multiple of `ALIGNMENT`.
pub trait Object: Shared + Sized {
    /// What stands behind them, as often as the tag says.
    type Cell: Shared;
    /// The first word.
    fn tag(&self) -> &AtomicU64;
}

/// The cell of what has none.
#[derive(Debug)]
#[repr(C)]
pub struct NoCell([AtomicU64; 0]);

// SAFETY: no bytes at all.
unsafe impl Shared for NoCell {}

/// What an object is and how it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// What it is.
    pub kind: Kind,
    /// How it was made: bits of that kind's own.
    pub flags: u16,
    /// How many cells stand behind its words.
    pub cells: u16,
}

impl Tag {
    fn word(self) -> u64 {
        self.kind as u64 | u64::from(self.flags) << 32 | u64::from(self.cells) << 48
    }

    fn flags_of(word: u64) -> u16 {
        (word >> 32) as u16
    }

    fn cells_of(word: u64) -> usize {
        usize::from((word >> 48) as u16)
    }

    /// Returns how many bytes an object takes that is made so.
    pub const fn size<T: Object>(self) -> u64 {
        let size = size_of::<T>() as u64 + self.cells as u64 * size_of::<T::Cell>() as u64;
        size.next_multiple_of(ALIGNMENT)
    }
}

/// What to make.
pub struct Recipe<'a, T: Object> {
    /// What it is.
    pub tag: Tag,
    /// How many bytes it has behind words and cells.
    pub behind: u64,
    /// In a file of its own: how many more they may become.
    pub growth: u64,
    /// Makes all but the tag as it is in a new object, whatever stands there.
    pub prepare: &'a dyn Fn(&T, &[T::Cell]),
}

impl<'a, T: Object> Recipe<'a, T> {
    /// Describes an object that is words and cells alone.
    pub const fn new(tag: Tag, prepare: &'a dyn Fn(&T, &[T::Cell])) -> Recipe<'a, T> {
        Recipe {
            tag,
            behind: 0,
            growth: 0,
            prepare,
        }
    }

    /// Returns how many bytes a new one takes.
    pub const fn size(&self) -> u64 {
        self.tag.size::<T>() + self.behind
    }
}

/// Whether something is made or found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// It must not be there.
    Always,
    /// It must be there.
    Never,
    /// It is made if it is not there.
    IfMissing,
}

/// An object at its place: it keeps the memory mapped.
pub struct Placed<T: Object> {
    words: NonNull<T>,
    cells: NonNull<[T::Cell]>,
    flags: u16,
    /// Where our id stands.
    id_word: ForkLocal,
    offset: u64,
    /// Where it is one of many in an arena.
    place: Option<arena::Place>,
    /// Whether its file holds nothing else.
    has_own_file: bool,
    segment: Arc<Segment>,
}

// SAFETY: the words are atomics in a mapping that belongs to the process and lives as long as `segment`.
unsafe impl<T: Object> Send for Placed<T> {}
// SAFETY: as for Send.
unsafe impl<T: Object> Sync for Placed<T> {}

impl<T: Object> Placed<T> {
    /// Finds or makes an object at `offset` of the data of a managed segment.
    ///
    /// `WrongKind`: something else stands there, or the segment is plain. `Invalid`: not a multiple of 64, or not
    /// inside; or it is there, but was made in another way. `NotFound`, `Exists`: as `create` says. `Permission`: the
    /// handle is read-only. `Corrupt`: it says that it has more cells than there is room for.
    pub fn at(
        segment: &Arc<Segment>,
        offset: u64,
        recipe: &Recipe<'_, T>,
        create: Create,
    ) -> Result<Placed<T>> {
        const { assert!((size_of::<T>() as u64).is_multiple_of(ALIGNMENT)) };
        // What cannot hold anything is refused first, whatever its bytes happen to say.
        let id_word = segment.identity_word()?;
        let bytes = segment.words()?;
        let invalid = || {
            let text = format!(
                "offset {offset}: a {:?} stands at a multiple of {ALIGNMENT} and wholly inside the segment, in {} bytes",
                recipe.tag.kind,
                recipe.size()
            );
            Error::Invalid(text.into())
        };
        let words: &T = bytes
            .at(offset)
            .filter(|_| offset.is_multiple_of(ALIGNMENT))
            .ok_or_else(invalid)?;
        let behind = offset + size_of::<T>() as u64;
        let room = bytes.array(behind, recipe.tag.cells.into());
        let end = offset.checked_add(recipe.size());
        let whole = end.is_some_and(|end| bytes.raw(0, end).is_some());
        let make = || {
            let cells = room.filter(|_| whole).ok_or_else(invalid)?;
            (recipe.prepare)(words, cells);
            Ok(())
        };
        let tag = establish(words.tag(), recipe.tag, &make, create, segment)?;
        let cells = bytes.array(behind, Tag::cells_of(tag)).ok_or_else(|| {
            let text = "the object says that it has more cells than there is room for";
            Error::Corrupt(text.into())
        })?;
        Ok(Placed {
            words: NonNull::from(words),
            cells: NonNull::from(cells),
            flags: Tag::flags_of(tag),
            id_word,
            offset,
            place: None,
            has_own_file: false,
            segment: segment.clone(),
        })
    }

    /// Takes words that are known to be there, without cells: `words` lies in the mapping of `segment`.
    pub fn known(segment: Arc<Segment>, words: NonNull<T>) -> Result<Placed<T>> {
        Ok(Placed {
            words,
            cells: NonNull::from(&[]),
            flags: 0,
            id_word: segment.identity_word()?,
            offset: 0,
            place: None,
            has_own_file: false,
            segment,
        })
    }

    /// Finds or makes a file that holds just this object.
    ///
    /// As `Segment::open` and `Segment::create`; `Invalid`: it is there, but was made in another way.
    pub fn in_file(
        name: &CStr,
        recipe: &Recipe<'_, T>,
        create: Create,
        named: &Named,
    ) -> Result<Placed<T>> {
        Placed::in_any_file(Some(name), recipe, create, named)
    }

    /// Makes a file without a name that holds just this object.
    pub fn in_unnamed_file(recipe: &Recipe<'_, T>, named: &Named) -> Result<Placed<T>> {
        Placed::in_any_file(None, recipe, Create::Always, named)
    }

    fn in_any_file(
        name: Option<&CStr>,
        recipe: &Recipe<'_, T>,
        create: Create,
        named: &Named,
    ) -> Result<Placed<T>> {
        let options = named.for_file();
        let size = recipe.size();
        let new = Options {
            capacity: match recipe.growth {
                0 => 0,
                growth => size.saturating_add(growth),
            },
            ..options.clone()
        };
        let least = size_of::<T>() as u64;
        let content = Content {
            kind: recipe.tag.kind,
            least: Some(least),
            prepare: &|bytes| {
                let cells = bytes.array(least, recipe.tag.cells.into());
                if let (Some(words), Some(cells)) = (bytes.at::<T>(0), cells) {
                    (recipe.prepare)(words, cells);
                    words.tag().store(recipe.tag.word(), Ordering::Relaxed);
                }
            },
        };
        let segment = match (create, name) {
            (Create::Always, name) => Segment::create_with(name, size, &new, &content),
            (_, None) => {
                return Err(Error::Invalid(
                    "only what has a name can be opened by it".into(),
                ));
            }
            (Create::Never, Some(name)) => {
                Segment::open_with(name, least, &options, recipe.tag.kind)
            }
            (Create::IfMissing, name) => Segment::open_or_create_with(name, size, &new, &content),
        }?;
        Placed::alone(segment, recipe, create)
    }

    fn alone(segment: Segment, recipe: &Recipe<'_, T>, create: Create) -> Result<Placed<T>> {
        // Whoever made the file, the object was in it before it had its name.
        let create = match create {
            Create::Always => Create::Never,
            other => other,
        };
        let mut placed = Placed::at(&Arc::new(segment), 0, recipe, create)?;
        placed.has_own_file = true;
        Ok(placed)
    }

    /// Makes an object without a name, in the arena of this process.
    pub fn unnamed(recipe: &Recipe<'_, T>) -> Result<Placed<T>> {
        let place = arena::Place::new(recipe.tag.size::<T>())?;
        let words: Option<&T> = place.segment.words()?.at(place.offset);
        let words = words.ok_or(Error::Internal("a place outside its arena".into()))?;
        // The place is ours alone: what an object before it has left is no reason to wait.
        words.tag().store(0, Ordering::Relaxed);
        let mut placed = Placed::at(&place.segment, place.offset, recipe, Create::Always)?;
        placed.place = Some(place);
        Ok(placed)
    }

    /// Finds an object behind a descriptor that was handed over: at `offset` of an arena, or alone in its file.
    pub fn open_fd(
        fd: i32,
        offset: u64,
        recipe: &Recipe<'_, T>,
        named: &Named,
    ) -> Result<Placed<T>> {
        let options = named.for_file();
        match Segment::open_fd_with(fd, 0, &options, recipe.tag.kind) {
            Ok(segment) => Placed::alone(segment, recipe, Create::Never),
            Err(Error::WrongKind(cause)) => {
                let place =
                    arena::Place::open(fd, offset, &options).map_err(|error| match error {
                        Error::WrongKind(_) => Error::WrongKind(cause),
                        other => other,
                    })?;
                let mut placed = Placed::at(&place.segment, offset, recipe, Create::Never)?;
                placed.place = Some(place);
                Ok(placed)
            }
            Err(error) => Err(error),
        }
    }
}

impl<T: Object> Placed<T> {
    /// Returns the words.
    #[inline(always)]
    pub fn words(&self) -> &T {
        // SAFETY: they lie in the mapping of `segment` (each constructor has found them there), which lives as long as
        // self; they are Shared, which any process may change at any time.
        unsafe { self.words.as_ref() }
    }

    /// Returns the cells behind the words.
    #[inline(always)]
    pub fn cells(&self) -> &[T::Cell] {
        // SAFETY: as for the words.
        unsafe { self.cells.as_ref() }
    }

    /// Returns how it was made: bits of its kind's own.
    pub fn flags(&self) -> u16 {
        self.flags
    }

    /// Returns our id if it has been claimed in this process.
    #[inline(always)]
    pub fn known_id(&self) -> Option<Id> {
        Id::of(self.id_word.load(Ordering::Relaxed))
    }

    /// Returns our id, claiming one where there is none.
    #[inline(always)]
    pub fn id(&self) -> Result<Id> {
        match self.known_id() {
            Some(id) => Ok(id),
            None => self.segment.identify(),
        }
    }

    /// Returns the segment that it lies in.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Returns its place in that segment's data.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns a number that this object has in every process, and no other one; never 0. Until its segment's memory is
    /// used for something else.
    pub fn number(&self) -> u64 {
        // What is built in stands before the data.
        let built_in = self.words.as_ptr().cast::<u8>() < self.segment.data();
        let place = if built_in { 1 } else { ALIGNMENT + self.offset };
        // Only a managed segment holds objects. Its own number is random: two sums hardly ever meet.
        self.segment
            .number()
            .unwrap_or(0)
            .wrapping_add(place)
            .max(1)
    }

    /// Returns what `open_fd` needs in another process: a descriptor, which stays ours, and an offset.
    ///
    /// From now on its place in an arena is never given to another object. `Invalid`: it stands in a segment, which is
    /// what must be handed over.
    pub fn hand_over(&self) -> Result<(i32, u64)> {
        match &self.place {
            Some(place) => place.expose(),
            None if self.has_own_file => {}
            None => {
                return Err(Error::Invalid(
                    "it stands in a segment: hand that over, and the offset in it".into(),
                ));
            }
        }
        Ok((self.segment.fd(), self.offset))
    }

    /// Removes the name of the file that holds this object alone.
    pub fn unlink(&self) -> Result<()> {
        match self.has_own_file {
            true => self.segment.unlink(),
            false => Err(Error::Invalid(
                "it has no name of its own: unlink the segment that it stands in".into(),
            )),
        }
    }
}

/// Has `word` say `tag`, as far as `create` allows, and returns what it says; `make` makes all else.
fn establish(
    word: &AtomicU64,
    tag: Tag,
    make: &dyn Fn() -> Result<()>,
    create: Create,
    segment: &Segment,
) -> Result<u64> {
    /// How long to leave somebody alone who is just making it.
    const CREATE_POLL_INTERVAL: std::time::Duration = std::time::Duration::from_micros(100);
    /// Making takes less than a microsecond. Who has not done it after so long is stopped, or is a lie.
    const CREATE_TIMEOUT_NS: u64 = 1_000_000_000;
    let mut deadline = None;
    loop {
        // PAIRS object.made: who reads the kind, or the maker, sees what its maker stored before.
        let seen = word.load(Ordering::Acquire);
        let maker = maker(seen, segment);
        if maker.is_none() && seen != 0 {
            return match create {
                Create::Always => Err(Error::Exists("an object stands there already".into())),
                Create::Never | Create::IfMissing => compare(seen, tag, create).map(|()| seen),
            };
        }
        if let Some(maker) = maker {
            // 1. Somebody is making it: alive, we wait; dead, nobody has used it.
            if !segment.is_dead(maker)? {
                let now = clock::monotonic();
                if now > *deadline.get_or_insert(now.saturating_add(CREATE_TIMEOUT_NS)) {
                    return Err(Error::Timeout(
                        "somebody who lives is making the object, and does not get on".into(),
                    ));
                }
                std::thread::sleep(CREATE_POLL_INTERVAL);
                continue;
            }
        }
        if create == Create::Never {
            return Err(Error::NotFound(
                format!("no {:?} has been made there", tag.kind).into(),
            ));
        }
        // 2. Others may be here as well: one of us makes it, the rest wait. PAIRS object.made: who reads our id reads
        //    that its ticket was drawn.
        let making = segment.identify()?.bits() | MAKING;
        if word
            .compare_exchange(seen, making, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            if let Err(error) = make() {
                word.store(0, Ordering::Relaxed);
                return Err(error);
            }
            // 3. From here on it is there. PAIRS object.made
            word.store(tag.word(), Ordering::Release);
            return Ok(tag.word());
        }
    }
}

/// Returns who is making an object, where the tag says so: bytes of the user's own that look alike are not taken.
fn maker(seen: u64, segment: &Segment) -> Option<Id> {
    let id = Id::of(seen)?;
    (seen == id.bits() | MAKING && segment.has_had(id)).then_some(id)
}

fn compare(seen: u64, tag: Tag, create: Create) -> Result<()> {
    let kind = seen as u32;
    if kind != tag.kind as u32 {
        let found = match Kind::of(kind) {
            Some(kind) => format!("a {kind:?}"),
            None => format!("no object (the word {seen:#x})"),
        };
        return Err(Error::WrongKind(
            format!("{found} stands there, not a {:?}", tag.kind).into(),
        ));
    }
    if create == Create::IfMissing && seen != tag.word() {
        return Err(Error::Invalid(
            format!(
                "the {:?} is there, but was made with other options",
                tag.kind
            )
            .into(),
        ));
    }
    Ok(())
}

/// Gives a noun what its field `placed`, or the one that is named, tells of its place.
macro_rules! place {
    ($noun:ident) => {
        crate::object::place!($noun, placed);
    };
    ($noun:ident, $($placed:ident).+) => {
        impl $noun {
            /// Removes the name of a named one. `Invalid`: it has no name of its own.
            pub fn unlink(&self) -> crate::error::Result<()> {
                self.$($placed).+.unlink()
            }

            /// Returns the segment in which it stands: that of a named one holds nothing else.
            pub fn segment(&self) -> &std::sync::Arc<crate::segment::Segment> {
                self.$($placed).+.segment()
            }

            /// Returns its place in that segment's data.
            pub fn offset(&self) -> u64 {
                self.$($placed).+.offset()
            }

            /// Returns what `open_fd` needs in another process: a descriptor, which stays ours, and an offset.
            ///
            /// `Invalid`: it stands in a segment, which is what must be handed over.
            pub fn hand_over(&self) -> crate::error::Result<(i32, u64)> {
                self.$($placed).+.hand_over()
            }
        }
    };
}
pub(crate) use place;
