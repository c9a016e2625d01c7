//! The limits of a segment's size, and checks that refuse a hopeless request before any memory is reserved.
//!
//! Every figure is advice, because other processes allocate and free memory meanwhile. Only the reservation counts.

use crate::error::{Error, Result};
use crate::sys::memory::{self, Cgroup, Machine, Space};
use crate::sys::process::{self, UNLIMITED};
use std::ffi::CStr;
use std::fmt;
use std::os::fd::OwnedFd;

/// Requests up to this size are not compared with the memory of the machine and the cgroup (D-005). Reading those figures
/// takes as long as reserving this much memory.
const UNCHECKED_BYTES: u64 = 1 << 20;

/// What limits the size of a segment now. All sizes are in bytes; `u64::MAX` means "no limit".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The directory of the question.
    pub directory: String,
    /// Its file system.
    pub space: Space,
    /// The machine.
    pub machine: Machine,
    /// The cgroup with the least free memory, from this process' own up to the root.
    pub cgroup: Option<Cgroup>,
    /// RLIMIT_FSIZE: the maximum size of a file.
    pub file_size: u64,
    /// RLIMIT_MEMLOCK: the maximum of locked memory.
    pub locked_memory: u64,
    /// RLIMIT_AS: the maximum of address space.
    pub address_space: u64,
    /// RLIMIT_NOFILE: the maximum number of descriptors.
    pub open_files: u64,
    /// The size of a page.
    pub page_size: u64,
}

/// Returns what limits the size of a segment in `directory` now.
pub fn limits(directory: &CStr) -> Result<Limits> {
    Ok(Limits {
        directory: directory.to_string_lossy().into_owned(),
        space: memory::space_at(directory)?,
        machine: memory::machine(),
        cgroup: memory::cgroup(),
        file_size: process::file_size_limit(),
        locked_memory: process::locked_memory_limit(),
        address_space: process::address_space_limit(),
        open_files: process::open_files_limit(),
        page_size: process::page_size(),
    })
}

/// Returns the free memory by each limit of memory, and the name of the limit.
fn memory_bounds(machine: &Machine, cgroup: Option<&Cgroup>) -> Vec<(u64, String)> {
    let available = machine.available.saturating_add(machine.swap_free);
    let mut bounds = vec![
        (available, "memory (MemAvailable and SwapFree)".to_owned()),
        (
            machine.commit_free,
            "the kernel's commit limit (overcommit_memory is 2)".to_owned(),
        ),
    ];
    bounds.extend(
        cgroup.map(|cgroup| (cgroup.free, format!("the cgroup {}", cgroup.path.display()))),
    );
    bounds
}

impl Limits {
    fn bounds(&self, named: bool) -> Vec<(u64, String)> {
        let mut bounds = vec![
            (self.file_size, "RLIMIT_FSIZE".to_owned()),
            (self.address_space, "RLIMIT_AS".to_owned()),
            (i64::MAX as u64, "a file's offset".to_owned()),
        ];
        if named {
            bounds.push((self.space.free, self.directory.clone()));
        }
        if self.space.in_memory || !named {
            bounds.extend(memory_bounds(&self.machine, self.cgroup.as_ref()));
        }
        bounds
    }

    /// Returns the size of the largest segment that can be created now, in whole pages, and the name of its limit.
    pub fn largest(&self, named: bool) -> (u64, String) {
        let tightest = self.bounds(named).into_iter().min_by_key(|(free, _)| *free);
        let (free, place) = tightest.unwrap_or_default();
        (free / self.page_size * self.page_size, place)
    }
}

/// Shows a number of bytes with a binary prefix.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PREFIXES: [&str; 7] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 == UNLIMITED {
            return f.write_str("unlimited");
        }
        let power = (self.0.max(1).ilog2() / 10) as usize;
        match power {
            0 => write!(f, "{} {}", self.0, PREFIXES[0]),
            _ => write!(
                f,
                "{:.1} {}",
                self.0 as f64 / (1u64 << (10 * power)) as f64,
                PREFIXES[power]
            ),
        }
    }
}

/// All limits in one line.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (named, named_bound) = self.largest(true);
        let (anonymous, anonymous_bound) = self.largest(false);
        write!(
            f,
            "largest segment now: {} in {} (bounded by {named_bound})",
            Bytes(named),
            self.directory
        )?;
        write!(
            f,
            ", {} anonymous (bounded by {anonymous_bound})",
            Bytes(anonymous)
        )?;
        write!(
            f,
            "; {} has {} free of {}",
            self.directory,
            Bytes(self.space.free),
            Bytes(self.space.total)
        )?;
        write!(
            f,
            ", memory {} of {}",
            Bytes(self.machine.available),
            Bytes(self.machine.total)
        )?;
        match &self.cgroup {
            Some(cgroup) => write!(
                f,
                ", cgroup {} of {}",
                Bytes(cgroup.free),
                Bytes(cgroup.limit)
            )?,
            None => write!(f, ", no cgroup limit")?,
        }
        write!(f, "; lockable {}", Bytes(self.locked_memory))?;
        write!(
            f,
            "; pages of {} and {}",
            Bytes(self.page_size),
            Bytes(self.machine.huge_page_size)
        )
    }
}

/// Refuses a file of `size` bytes for which the kernel would raise SIGXFSZ.
pub fn check_file_size(size: u64) -> Result<()> {
    match process::file_size_limit() {
        limit if size > limit => Err(Error::NoSpace(
            format!(
                "a file of {size} bytes exceeds RLIMIT_FSIZE, {limit} bytes; reduce the size, or raise the limit"
            )
            .into(),
        )),
        _ => Ok(()),
    }
}

/// Refuses `bytes` more in the file system of `file` if they are not free; `place` names it in the error.
pub fn check_room(file: &OwnedFd, bytes: u64, place: &str) -> Result<()> {
    if bytes <= UNCHECKED_BYTES {
        return Ok(());
    }
    let space = memory::space_of(file)?;
    let mut bounds = vec![(space.free, place.to_owned())];
    if space.in_memory {
        bounds.extend(memory_bounds(&memory::machine(), memory::cgroup().as_ref()));
    }
    match bounds.into_iter().find(|(free, _)| bytes > *free) {
        Some((free, place)) => Err(memory::no_space(bytes, free, &place)),
        None => Ok(()),
    }
}
