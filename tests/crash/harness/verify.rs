//! Checks what the dead processes have left of a segment, and uses and removes it from a surviving process.

use crate::suite::capi::segment::{Options, Segment};
use crate::suite::capi::{EXISTS, NOT_FOUND, Status};
use crate::suite::harness::fixture::{NAME, PAGE, name};
use crate::suite::harness::operation::{Failure, Verifier, Violation};
use crate::suite::harness::survivor::refused;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// The byte that fills the segment before the victim is killed.
pub const WRITTEN: u8 = 0x5a;
/// The size of the segments that survivors create: not whole pages.
const SURVIVORS: u64 = 3 * PAGE + 123;
/// A capacity that suffices for every survivor.
const ROOM: u64 = 4 << 30;

/// The prefix of files that have not been given their name yet, without O_TMPFILE.
const UNFINISHED: &str = ".shmkit-";

/// Size and options of a segment.
#[derive(Clone, Copy, Default)]
pub struct Shape {
    /// The size.
    pub size: u64,
    /// The options.
    pub options: Options,
}

/// Fails unless a call has returned the expected status.
fn expect(what: &str, status: Status, expected: Status) -> Result<(), Failure> {
    if status == expected {
        return Ok(());
    }
    Err(Violation::Refused.failure(format!(
        "a survivor's {what} returned {status}, not {expected}"
    )))
}

impl Verifier<'_> {
    /// Returns whether the name exists. Apart from the name, only `unfinished` files may exist: they are left where
    /// O_TMPFILE is missing.
    pub fn name_exists(&self, unfinished: usize) -> Result<bool, Failure> {
        let names = self.place.names();
        let (drafts, others): (Vec<_>, Vec<_>) = names
            .into_iter()
            .filter(|found| found != name())
            .partition(|found| found.starts_with(UNFINISHED));
        if !others.is_empty() || drafts.len() > unfinished {
            return Err(Violation::Leaked.failure(format!(
                "the directory also has {:?}",
                [others, drafts].concat()
            )));
        }
        Ok(self.place.path(name()).symlink_metadata().is_ok())
    }

    /// Checks that the name exists, and no other entry.
    pub fn expect_name(&self) -> Result<(), Failure> {
        match self.name_exists(0)? {
            true => Ok(()),
            false => Err(Violation::Lost.failure("the name is gone")),
        }
    }

    /// Returns length and memory of the file.
    fn facts(&self) -> Result<(u64, u64), Failure> {
        /// The unit of st_blocks (stat(2)).
        const BLOCK: u64 = 512;
        match fs::symlink_metadata(self.place.path(name())) {
            Ok(facts) if facts.is_file() => Ok((facts.len(), facts.blocks() * BLOCK)),
            Ok(_) => Err(Violation::HalfMade.failure("the name does not refer to a regular file")),
            Err(error) => Err(Violation::Lost.failure(format!("the file is gone: {error}"))),
        }
    }

    /// Checks the permission bits, which are exact from the creation on.
    fn has_mode(&self, shape: Shape) -> Result<(), Failure> {
        let wanted = match shape.options.mode {
            0 => 0o600,
            mode => mode,
        };
        let facts = fs::symlink_metadata(self.place.path(name()));
        match facts.map(|facts| facts.mode() & 0o7777) {
            Ok(mode) if mode == wanted => Ok(()),
            other => {
                let text = format!("its permission bits are {other:?}, not {wanted:#o}");
                Err(Violation::HalfMade.failure(text))
            }
        }
    }

    /// Opens the segment, which must have one of `sizes` and no holes; returns it and its size.
    pub fn open_whole(&self, sizes: &[u64]) -> Result<(Segment, u64), Failure> {
        let (size, memory) = self.facts()?;
        if !sizes.contains(&size) {
            let text = format!("it has {size} bytes, expected {sizes:?}");
            return Err(Violation::HalfMade.failure(text));
        }
        if memory < size.next_multiple_of(PAGE) {
            let text = format!("only {memory} of its {size} bytes have memory");
            return Err(Violation::Sparse.failure(text));
        }
        let room = Options {
            capacity: ROOM,
            ..Options::default()
        };
        let opened = self.shmkit.open(NAME, size, room);
        let segment = opened.map_err(|status| {
            Violation::HalfMade.failure(format!("a survivor's open returned {status}"))
        })?;
        let seen = self.shmkit.size(segment);
        if seen != Ok(size) {
            let text = format!("it has {size} bytes, and a survivor sees {seen:?}");
            return Err(Violation::HalfMade.failure(text));
        }
        Ok((segment, size))
    }

    /// Checks that every byte of `[from, to)` is `byte`; of a very large range, both ends and a sample of each 2 MiB.
    pub fn check_bytes(
        &self,
        segment: Segment,
        from: u64,
        to: u64,
        byte: u8,
    ) -> Result<(), Failure> {
        const PIECE: u64 = 64 << 10;
        const LARGE: u64 = 4 << 20;
        const STRIDE: u64 = 2 << 20;
        let base = self.shmkit.data(segment);
        let base = base.map_err(refused("data"))?;
        let expected = vec![byte; PIECE as usize];
        let mut at = from;
        while at < to {
            let length = PIECE.min(to - at) as usize;
            // SAFETY: at < to, and `to` is at most the size, whose bytes are mapped and have memory.
            let start = unsafe { base.add(at as usize) };
            // SAFETY: `length` bytes from there are mapped too, and constant: the victim is dead.
            let bytes = unsafe { std::slice::from_raw_parts(start, length) };
            if bytes != &expected[..length] {
                let text = format!("bytes {at} to {} are not all {byte:#x}", at + length as u64);
                return Err(Violation::Lost.failure(text));
            }
            let far_from_the_ends = to - from > LARGE && at + STRIDE + PIECE < to;
            at += if far_from_the_ends { STRIDE } else { PIECE };
        }
        Ok(())
    }

    /// Grows the segment to `size`; afterwards it must have exactly that much memory.
    pub fn grow(&self, segment: Segment, size: u64) -> Result<(), Failure> {
        expect("resize", self.shmkit.resize(segment, size, 0), 0)?;
        self.has_exactly(size)
    }

    /// Checks that the file has at least `least` bytes, and memory for its whole length.
    pub fn has_memory(&self, least: u64) -> Result<(), Failure> {
        let (length, memory) = self.facts()?;
        if length < least || memory < length.next_multiple_of(PAGE) {
            let text =
                format!("{least} bytes are in use; the file has {length}, and memory for {memory}");
            return Err(Violation::Sparse.failure(text));
        }
        Ok(())
    }

    /// Checks that the file has `size` bytes, and memory for exactly those.
    pub fn has_exactly(&self, size: u64) -> Result<(), Failure> {
        let (length, memory) = self.facts()?;
        if length != size || memory < size.next_multiple_of(PAGE) {
            let text = format!("resized to {size}, it has {length} bytes and memory for {memory}");
            return Err(Violation::Sparse.failure(text));
        }
        if memory > size.next_multiple_of(PAGE) {
            let text = format!("resized to {size}, it keeps memory for {memory}");
            return Err(Violation::Leaked.failure(text));
        }
        Ok(())
    }

    /// Creates a segment, opens it a second time, grows and removes it: nothing may be left.
    pub fn use_and_leave(&self) -> Result<(), Failure> {
        let growing = Options {
            capacity: 4 * SURVIVORS,
            ..Options::default()
        };
        let created = self.shmkit.create(Some(NAME), SURVIVORS, growing);
        let created = created.map_err(refused("create"))?;
        // A create removes what dead creators have left.
        self.name_exists(0)?;
        let base = self.shmkit.data(created).map_err(refused("data"))?;
        // SAFETY: the segment has SURVIVORS bytes, and no other process uses it.
        unsafe { base.write_bytes(WRITTEN, SURVIVORS as usize) };
        let (opened, size) = self.open_whole(&[SURVIVORS])?;
        self.check_bytes(opened, 0, size, WRITTEN)?;
        self.grow(opened, 2 * SURVIVORS)?;
        self.check_bytes(created, SURVIVORS, 2 * SURVIVORS, 0)?;
        expect("unlink", self.shmkit.unlink_name(NAME), 0)?;
        expect("close", self.shmkit.close(opened), 0)?;
        expect("close", self.shmkit.close(created), 0)?;
        let anonymous = self.shmkit.create(None, SURVIVORS, Options::default());
        let anonymous = anonymous.map_err(refused("create without a name"))?;
        expect("close", self.shmkit.close(anonymous), 0)?;
        self.check_nothing_left()
    }

    /// Checks that directory and file system are as they were before the victim started.
    pub fn check_nothing_left(&self) -> Result<(), Failure> {
        if self.name_exists(0)? {
            return Err(Violation::Leaked.failure("the name still exists"));
        }
        let missing = self.place.missing();
        missing.map_or(Ok(()), |text| Err(Violation::Leaked.failure(text)))
    }

    /// Removes the segment by its handle, and closes it.
    pub fn remove(&self, segment: Segment) -> Result<(), Failure> {
        expect("unlink", self.shmkit.unlink(segment), 0)?;
        expect("close", self.shmkit.close(segment), 0)
    }

    /// Removes the last segment: nothing may be left.
    pub fn remove_last(&self, segment: Segment) -> Result<(), Failure> {
        self.remove(segment)?;
        self.check_nothing_left()
    }

    /// After create: the name refers to a complete segment, or does not exist.
    ///
    /// In addition, `drafts` unfinished files may exist until the next create.
    pub fn created(&self, shape: Shape, drafts: usize, done: bool) -> Result<(), Failure> {
        if self.name_exists(drafts)? {
            let (segment, size) =
                self.open_whole(&[shape.size])
                    .map_err(|failure| match failure {
                        // The name was published before its memory.
                        Failure {
                            violation: Violation::Sparse,
                            text,
                        } => Violation::HalfMade.failure(text),
                        other => other,
                    })?;
            self.check_bytes(segment, 0, size, 0)?;
            self.has_mode(shape)?;
            let again = self
                .shmkit
                .create(Some(NAME), SURVIVORS, Options::default());
            expect(
                "create of an existing name",
                again.err().unwrap_or(0),
                EXISTS,
            )?;
            self.remove(segment)?;
        } else if done {
            return Err(
                Violation::Lost.failure("create has succeeded, and the name does not exist")
            );
        } else {
            let opened = self.shmkit.open(NAME, 0, Options::default());
            expect(
                "open of a missing name",
                opened.err().unwrap_or(0),
                NOT_FOUND,
            )?;
        }
        self.use_and_leave()
    }

    /// After an operation that changes nothing: the segment has its `shape` and its contents.
    pub fn unchanged(&self, shape: Shape) -> Result<(), Failure> {
        self.expect_name()?;
        let (segment, size) = self.open_whole(&[shape.size])?;
        self.check_bytes(segment, 0, size, WRITTEN)?;
        self.grow(segment, size + PAGE)?;
        self.remove(segment)?;
        self.use_and_leave()
    }

    /// After open of a sparse file, which reserves its memory: the file has its length, and reads as zeros.
    pub fn still_sparse(&self, shape: Shape) -> Result<(), Failure> {
        let there = self.name_exists(0)?;
        let (size, _) = self.facts()?;
        if !there || size != shape.size {
            let text = format!("it had {} bytes and has {size}", shape.size);
            return Err(Violation::Lost.failure(text));
        }
        let opened = self.shmkit.open(NAME, size, Options::default());
        let opened = opened.map_err(refused("open"))?;
        self.check_bytes(opened, 0, size, 0)?;
        self.remove(opened)?;
        self.use_and_leave()
    }

    /// After resize: the old or the new size, the old contents, zeros behind them, and it can still grow.
    pub fn resized(&self, old: Shape, new: u64, done: bool) -> Result<(), Failure> {
        self.expect_name()?;
        let sizes = if done { &[new][..] } else { &[old.size, new] };
        let (segment, size) = self.open_whole(sizes)?;
        self.check_bytes(segment, 0, old.size, WRITTEN)?;
        self.check_bytes(segment, old.size, size, 0)?;
        if done {
            self.has_exactly(size)?;
        }
        // Less than the victim may have reserved, and then more.
        let next = if size == new { size } else { old.size + PAGE };
        self.grow(segment, next)?;
        self.grow(segment, next + PAGE)?;
        self.check_bytes(segment, 0, old.size, WRITTEN)?;
        self.check_bytes(segment, old.size, next + PAGE, 0)?;
        self.remove(segment)?;
        self.use_and_leave()
    }

    /// After unlink: the name refers to the same segment, or does not exist; the next unlink is not delayed.
    pub fn unlinked(&self, shape: Shape, done: bool) -> Result<(), Failure> {
        if self.name_exists(0)? {
            if done {
                return Err(
                    Violation::Lost.failure("unlink has succeeded, and the name still exists")
                );
            }
            let (segment, size) = self.open_whole(&[shape.size])?;
            self.check_bytes(segment, 0, size, WRITTEN)?;
            self.remove(segment)?;
        }
        expect(
            "unlink of a removed name",
            self.shmkit.unlink_name(NAME),
            NOT_FOUND,
        )?;
        self.use_and_leave()
    }
}
