//! Looks at what the dead have left of a segment, and has a survivor use and remove it.

use crate::suite::harness::library::{Options, Segment, Status};
use crate::suite::harness::operation::{Crime, Finding, Look, Shape};
use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The name under which every victim works.
pub const NAME: &CStr = c"victim";
/// What a victim has written before it is killed.
pub const WRITTEN: u8 = 0x5a;
/// The size of a page on x86-64.
pub const PAGE: u64 = 4096;
/// What survivors make: not whole pages.
const SURVIVORS: u64 = 3 * PAGE + 123;
/// Capacity enough for every survivor.
const ROOM: u64 = 4 << 30;

/// How the files begin that have not got their name yet, where there is no O_TMPFILE.
const UNFINISHED: &str = ".shmkit-";

const NOT_FOUND: Status = -4;
const EXISTS: Status = -5;

/// Turns a status into a finding unless it is the expected one.
fn expect(what: &str, status: Status, expected: Status) -> Result<(), Finding> {
    if status == expected {
        return Ok(());
    }
    Err(Crime::Refused.found(format!(
        "a survivor's {what} returned {status}, not {expected}"
    )))
}

/// Returns where the victims work.
pub fn path() -> PathBuf {
    let directory = std::env::var_os("SHMKIT_DIR").expect("the harness sets it");
    Path::new(&directory).join(name())
}

fn name() -> &'static str {
    NAME.to_str().expect("it is ASCII")
}

impl Look<'_> {
    /// Says whether the name is there. Nothing else may be, but for `unfinished` files where O_TMPFILE is missing.
    pub fn name_is_there(&self, unfinished: usize) -> Result<bool, Finding> {
        let names = self.place.names();
        let (drafts, others): (Vec<_>, Vec<_>) = names
            .into_iter()
            .filter(|found| found != name())
            .partition(|found| found.starts_with(UNFINISHED));
        if !others.is_empty() || drafts.len() > unfinished {
            return Err(Crime::LeftBehind.found(format!(
                "the directory also has {:?}",
                [others, drafts].concat()
            )));
        }
        Ok(self.place.path(name()).symlink_metadata().is_ok())
    }

    /// Returns length and memory of the file.
    fn facts(&self) -> Result<(u64, u64), Finding> {
        /// What st_blocks counts in (stat(2)).
        const BLOCK: u64 = 512;
        match fs::symlink_metadata(self.place.path(name())) {
            Ok(facts) if facts.is_file() => Ok((facts.len(), facts.blocks() * BLOCK)),
            Ok(_) => Err(Crime::HalfMade.found("the name stands for something else than a file")),
            Err(error) => Err(Crime::Lost.found(format!("the file is gone: {error}"))),
        }
    }

    /// Checks who may use it: from the first moment on, nobody else.
    fn has_mode(&self, shape: Shape) -> Result<(), Finding> {
        let wanted = match shape.options.mode {
            0 => 0o600,
            mode => mode,
        };
        let facts = fs::symlink_metadata(self.place.path(name()));
        match facts.map(|facts| facts.mode() & 0o7777) {
            Ok(mode) if mode == wanted => Ok(()),
            other => {
                let text = format!("its permission bits are {other:?}, not {wanted:#o}");
                Err(Crime::HalfMade.found(text))
            }
        }
    }

    /// Opens the segment, which has one of `sizes` and no holes; returns it and its size.
    pub fn open_whole(&self, sizes: &[u64]) -> Result<(Segment, u64), Finding> {
        let (size, memory) = self.facts()?;
        if !sizes.contains(&size) {
            let text = format!("it has {size} bytes, expected {sizes:?}");
            return Err(Crime::HalfMade.found(text));
        }
        if memory < size.next_multiple_of(PAGE) {
            let text = format!("of its {size} bytes only {memory} have memory");
            return Err(Crime::Sparse.found(text));
        }
        let room = Options {
            capacity: ROOM,
            ..Options::default()
        };
        let opened = self.shmkit.open(NAME, size, room);
        let segment = opened.map_err(|status| {
            Crime::HalfMade.found(format!("a survivor's open returned {status}"))
        })?;
        let seen = self.shmkit.size(segment);
        if seen != Ok(size) {
            let text = format!("it has {size} bytes, and a survivor sees {seen:?}");
            return Err(Crime::HalfMade.found(text));
        }
        Ok((segment, size))
    }

    /// Checks that every byte of `[from, to)` is `byte`; of what is very large, a page in each 2 MiB and both ends.
    pub fn check_bytes(
        &self,
        segment: Segment,
        from: u64,
        to: u64,
        byte: u8,
    ) -> Result<(), Finding> {
        const PIECE: u64 = 64 << 10;
        const LARGE: u64 = 4 << 20;
        const STRIDE: u64 = 2 << 20;
        let base = self.shmkit.data(segment);
        let base =
            base.map_err(|status| Crime::Refused.found(format!("data returned {status}")))?;
        let expected = vec![byte; PIECE as usize];
        let mut at = from;
        while at < to {
            let length = PIECE.min(to - at) as usize;
            // SAFETY: at < to, and `to` is at most the size, whose bytes are mapped and have memory.
            let start = unsafe { base.add(at as usize) };
            // SAFETY: `length` bytes from there are mapped as well, and nobody changes them: the victim is dead.
            let bytes = unsafe { std::slice::from_raw_parts(start, length) };
            if bytes != &expected[..length] {
                let text = format!("bytes {at} to {} are not all {byte:#x}", at + length as u64);
                return Err(Crime::Lost.found(text));
            }
            let far_from_the_ends = to - from > LARGE && at + STRIDE + PIECE < to;
            at += if far_from_the_ends { STRIDE } else { PIECE };
        }
        Ok(())
    }

    /// Has a survivor let the segment grow to `size`; afterwards it has the memory for that, and no more.
    pub fn grow(&self, segment: Segment, size: u64) -> Result<(), Finding> {
        expect("resize", self.shmkit.resize(segment, size, 0), 0)?;
        self.has_exactly(size)
    }

    /// Checks that the file has at least so many bytes, and memory for all that it has.
    pub fn has_memory(&self, least: u64) -> Result<(), Finding> {
        let (length, memory) = self.facts()?;
        if length < least || memory < length.next_multiple_of(PAGE) {
            let text = format!("{least} bytes are used; it has {length}, and memory for {memory}");
            return Err(Crime::Sparse.found(text));
        }
        Ok(())
    }

    /// Checks that the file has so many bytes, and memory for them and no more.
    pub fn has_exactly(&self, size: u64) -> Result<(), Finding> {
        let (length, memory) = self.facts()?;
        if length != size || memory < size.next_multiple_of(PAGE) {
            let text = format!("resized to {size}, it has {length} bytes and memory for {memory}");
            return Err(Crime::Sparse.found(text));
        }
        if memory > size.next_multiple_of(PAGE) {
            let text = format!("resized to {size}, it keeps memory for {memory}");
            return Err(Crime::LeftBehind.found(text));
        }
        Ok(())
    }

    /// Has a survivor make a segment, open it a second time, let it grow, and remove it: nothing is left then.
    pub fn use_and_leave(&self) -> Result<(), Finding> {
        let refused = |what: &'static str| {
            move |status: Status| {
                Crime::Refused.found(format!("a survivor's {what} returned {status}"))
            }
        };
        let growing = Options {
            capacity: 4 * SURVIVORS,
            ..Options::default()
        };
        let made = self.shmkit.create(Some(NAME), SURVIVORS, growing);
        let made = made.map_err(refused("create"))?;
        // Whatever makers have left is gone when one has come after them.
        self.name_is_there(0)?;
        let base = self.shmkit.data(made).map_err(refused("data"))?;
        // SAFETY: the segment has SURVIVORS bytes, and nobody else knows of it.
        unsafe { base.write_bytes(WRITTEN, SURVIVORS as usize) };
        let (found, size) = self.open_whole(&[SURVIVORS])?;
        self.check_bytes(found, 0, size, WRITTEN)?;
        self.grow(found, 2 * SURVIVORS)?;
        self.check_bytes(made, SURVIVORS, 2 * SURVIVORS, 0)?;
        expect("unlink", self.shmkit.unlink_name(NAME), 0)?;
        expect("close", self.shmkit.close(found), 0)?;
        expect("close", self.shmkit.close(made), 0)?;
        let anonymous = self.shmkit.create(None, SURVIVORS, Options::default());
        let anonymous = anonymous.map_err(refused("create without a name"))?;
        expect("close", self.shmkit.close(anonymous), 0)?;
        self.nothing_is_left()
    }

    /// Checks that directory and file system are as they were before the victim.
    pub fn nothing_is_left(&self) -> Result<(), Finding> {
        if self.name_is_there(0)? {
            return Err(Crime::LeftBehind.found("the name is still there"));
        }
        let missing = self.place.missing();
        missing.map_or(Ok(()), |text| Err(Crime::LeftBehind.found(text)))
    }

    /// Removes the segment by its handle, and lets go of it.
    pub fn remove(&self, segment: Segment) -> Result<(), Finding> {
        expect("unlink", self.shmkit.unlink(segment), 0)?;
        expect("close", self.shmkit.close(segment), 0)
    }

    /// After create: the name stands for a whole segment, or is not there.
    ///
    /// So many unfinished files may stand beside it until somebody else makes a segment.
    pub fn created(&self, shape: Shape, drafts: usize, done: bool) -> Result<(), Finding> {
        if self.name_is_there(drafts)? {
            let (segment, size) =
                self.open_whole(&[shape.size])
                    .map_err(|finding| match finding {
                        // A name that has come before its memory.
                        Finding {
                            crime: Crime::Sparse,
                            text,
                        } => Crime::HalfMade.found(text),
                        other => other,
                    })?;
            self.check_bytes(segment, 0, size, 0)?;
            self.has_mode(shape)?;
            let again = self
                .shmkit
                .create(Some(NAME), SURVIVORS, Options::default());
            expect("create of what is there", again.err().unwrap_or(0), EXISTS)?;
            self.remove(segment)?;
        } else if done {
            return Err(Crime::Lost.found("create has succeeded, and the name is not there"));
        } else {
            let opened = self.shmkit.open(NAME, 0, Options::default());
            expect("open of nothing", opened.err().unwrap_or(0), NOT_FOUND)?;
        }
        self.use_and_leave()
    }

    /// After what changes nothing: the segment of `shape` is there, with what was written into it.
    pub fn unchanged(&self, shape: Shape) -> Result<(), Finding> {
        if !self.name_is_there(0)? {
            return Err(Crime::Lost.found("the name is gone"));
        }
        let (segment, size) = self.open_whole(&[shape.size])?;
        self.check_bytes(segment, 0, size, WRITTEN)?;
        self.grow(segment, size + PAGE)?;
        self.remove(segment)?;
        self.use_and_leave()
    }

    /// After open of a sparse file that is to get its memory: it has the length that it had, and reads as zeros.
    pub fn as_long_as_ever(&self, shape: Shape) -> Result<(), Finding> {
        let there = self.name_is_there(0)?;
        let (size, _) = self.facts()?;
        if !there || size != shape.size {
            let text = format!("it had {} bytes and has {size}", shape.size);
            return Err(Crime::Lost.found(text));
        }
        let opened = self.shmkit.open(NAME, size, Options::default());
        let opened = opened.map_err(|status| {
            Crime::Refused.found(format!("a survivor's open returned {status}"))
        })?;
        self.check_bytes(opened, 0, size, 0)?;
        self.remove(opened)?;
        self.use_and_leave()
    }

    /// After resize: one size or the other, what was written is there, what is new is zero, and it can grow on.
    pub fn resized(&self, old: Shape, new: u64, done: bool) -> Result<(), Finding> {
        if !self.name_is_there(0)? {
            return Err(Crime::Lost.found("the name is gone"));
        }
        let sizes = if done { &[new][..] } else { &[old.size, new] };
        let (segment, size) = self.open_whole(sizes)?;
        self.check_bytes(segment, 0, old.size, WRITTEN)?;
        self.check_bytes(segment, old.size, size, 0)?;
        if done {
            self.has_exactly(size)?;
        }
        // Less than what the dead may have set aside, and then more.
        let next = if size == new { size } else { old.size + PAGE };
        self.grow(segment, next)?;
        self.grow(segment, next + PAGE)?;
        self.check_bytes(segment, 0, old.size, WRITTEN)?;
        self.check_bytes(segment, old.size, next + PAGE, 0)?;
        self.remove(segment)?;
        self.use_and_leave()
    }

    /// After unlink: the name stands for what it stood for, or is gone; who unlinks once more is not held up.
    pub fn unlinked(&self, shape: Shape, done: bool) -> Result<(), Finding> {
        if self.name_is_there(0)? {
            if done {
                return Err(Crime::Lost.found("unlink has succeeded, and the name is there"));
            }
            let (segment, size) = self.open_whole(&[shape.size])?;
            self.check_bytes(segment, 0, size, WRITTEN)?;
            self.remove(segment)?;
        }
        expect(
            "unlink of what is gone",
            self.shmkit.unlink_name(NAME),
            NOT_FOUND,
        )?;
        self.use_and_leave()
    }
}
