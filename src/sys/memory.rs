//! The free memory of the machine and of the cgroups of this process.
//!
//! All figures are advice: they were true when they were read.

use super::process::UNLIMITED;
use super::refused;
use crate::error::{Cause, Error, Result};
use nix::errno::Errno;
use nix::sys::statfs::{FsType, Statfs, TMPFS_MAGIC, fstatfs, statfs};
use std::ffi::CStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The capacity of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Its size; `UNLIMITED` if it has no limit of its own.
    pub total: u64,
    /// Bytes that are free for this user.
    pub free: u64,
    /// Whether its contents lie in memory and swap only.
    pub in_memory: bool,
}

fn space_from(facts: Statfs) -> Space {
    // ramfs (linux/magic.h) is like tmpfs, but has no limit at all; nix does not define it.
    const RAMFS: FsType = FsType(0x8584_58f6);
    let in_memory = [TMPFS_MAGIC, RAMFS].contains(&facts.filesystem_type());
    let unit = u64::try_from(facts.block_size()).unwrap_or(1);
    if facts.blocks() == 0 {
        // tmpfs reports 0 blocks if it has no size limit, as for memory files.
        return Space {
            total: UNLIMITED,
            free: UNLIMITED,
            in_memory,
        };
    }
    let (total, free) = (
        facts.blocks().saturating_mul(unit),
        facts.blocks_available().saturating_mul(unit),
    );
    Space {
        total,
        free,
        in_memory,
    }
}

/// Returns the capacity of the file system of `directory`.
pub fn space_at(directory: &CStr) -> Result<Space> {
    let what = || {
        format!(
            "cannot query the file system of {}",
            directory.to_string_lossy()
        )
    };
    statfs(directory)
        .map(space_from)
        .map_err(|errno| refused(errno, &what()))
}

/// Returns the capacity of the file system of an open file.
pub fn space_of(file: &OwnedFd) -> Result<Space> {
    fstatfs(file)
        .map(space_from)
        .map_err(|errno| refused(errno, "cannot query the segment's file system"))
}

/// Returns the error for `asked` bytes of which only `free` are free in `place`.
pub fn no_space(asked: u64, free: u64, place: &str) -> Error {
    let text = match free {
        // hugetlbfs without a size of its own: the pages of the machine are used up.
        UNLIMITED => format!(
            "asked for {asked} bytes, and {place} has no more memory; reduce the size, or free memory \
             (hugetlbfs: raise vm.nr_hugepages)"
        ),
        _ => format!(
            "asked for {asked} bytes, {free} bytes are free in {place}; reduce the size, or free memory"
        ),
    };
    Error::NoSpace(Cause {
        text: text.into(),
        errno: Errno::ENOSPC as i32,
    })
}

/// The memory of the machine, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// MemTotal.
    pub total: u64,
    /// MemAvailable: memory that can be allocated without swapping.
    pub available: u64,
    /// SwapTotal.
    pub swap_total: u64,
    /// SwapFree.
    pub swap_free: u64,
    /// CommitLimit less Committed_AS if the kernel enforces that limit (overcommit policy 2), else `UNLIMITED`.
    pub commit_free: u64,
    /// The overcommit policy: 0 heuristic, 1 always, 2 never.
    pub overcommit: u32,
    /// Hugepagesize; 0 if the kernel has no huge pages.
    pub huge_page_size: u64,
}

/// Returns the figure after `key` in a text of lines `key figure [kB]`, in bytes if it has a unit.
fn figure(text: &str, key: &str) -> Option<u64> {
    let mut words = text
        .lines()
        .find_map(|line| line.strip_prefix(key))?
        .split_ascii_whitespace();
    let figure: u64 = words.next()?.parse().ok()?;
    Some(if words.next() == Some("kB") {
        figure.saturating_mul(1024)
    } else {
        figure
    })
}

/// Returns the memory of the machine; `UNLIMITED` for a figure that the kernel does not report.
pub fn machine() -> Machine {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let read = |key| figure(&text, key);
    let policy = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    let overcommit = policy.trim().parse().unwrap_or(0);
    let commit_free = match (overcommit, read("CommitLimit:"), read("Committed_AS:")) {
        (2, Some(limit), Some(committed)) => limit.saturating_sub(committed),
        _ => UNLIMITED,
    };
    Machine {
        total: read("MemTotal:").unwrap_or(UNLIMITED),
        available: read("MemAvailable:").unwrap_or(UNLIMITED),
        swap_total: read("SwapTotal:").unwrap_or(0),
        swap_free: read("SwapFree:").unwrap_or(0),
        commit_free,
        overcommit,
        huge_page_size: read("Hugepagesize:").unwrap_or(0),
    }
}

/// The memory limit of a cgroup, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Its limit; `UNLIMITED` if there is none.
    pub limit: u64,
    /// Bytes left below the limit; reclaimable page cache counts as free.
    pub free: u64,
    /// The directory of the cgroup.
    pub path: PathBuf,
}

/// The names of the same figures in the two versions of cgroups (cgroups(7)).
struct Dialect {
    limit: &'static str,
    usage: &'static str,
    cache: [&'static str; 2],
}

static V1: Dialect = Dialect {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: ["total_inactive_file ", "total_active_file "],
};
static V2: Dialect = Dialect {
    limit: "memory.max",
    usage: "memory.current",
    cache: ["inactive_file ", "active_file "],
};

/// In version 1 the largest multiple of a page below 2^63 means "no limit".
const V1_NO_LIMIT: u64 = i64::MAX as u64 / 65536 * 65536;

fn read_cgroup(folder: &Path, dialect: &Dialect) -> Option<Cgroup> {
    let number = |file| {
        fs::read_to_string(folder.join(file))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let limit = number(dialect.limit).filter(|&limit| limit < V1_NO_LIMIT)?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache: u64 = dialect
        .cache
        .iter()
        .filter_map(|key| figure(&stat, key))
        .sum();
    let used = number(dialect.usage)?.saturating_sub(cache);
    Some(Cgroup {
        limit,
        free: limit.saturating_sub(used),
        path: folder.to_owned(),
    })
}

/// Returns the mount point of the memory controller, the part of its tree that the mount shows, and its dialect.
fn mounts(mountinfo: &str) -> impl Iterator<Item = (PathBuf, &str, &'static Dialect)> {
    // proc(5): `36 35 98:0 ROOT MOUNT-POINT OPTIONS [FIELDS...] - TYPE SOURCE SUPER-OPTIONS`
    mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let dialect = match (right.next()?, right.nth(1)?) {
            ("cgroup2", _) => &V2,
            ("cgroup", options) if options.split(',').any(|option| option == "memory") => &V1,
            _ => return None,
        };
        Some((PathBuf::from(point), root, dialect))
    })
}

/// Returns this process' path in the hierarchy of a dialect.
fn membership<'a>(cgroups: &'a str, dialect: &Dialect) -> Option<&'a str> {
    // cgroups(7): `HIERARCHY:CONTROLLERS:PATH`, version 2 as `0::PATH`
    cgroups.lines().find_map(|line| {
        let (hierarchy, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let v2 = hierarchy == "0" && controllers.is_empty();
        let fits = if std::ptr::eq(dialect, &V2) {
            v2
        } else {
            controllers.split(',').any(|c| c == "memory")
        };
        fits.then_some(path)
    })
}

/// Returns the tightest memory limit from this process' cgroup up to the root; `None` if there is no limit.
pub fn cgroup() -> Option<Cgroup> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut tightest: Option<Cgroup> = None;
    for (point, root, dialect) in mounts(&mountinfo) {
        let Some(path) = membership(&cgroups, dialect) else {
            continue;
        };
        // In a container the mount shows only the tree below `root`.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let folder = point.join(below);
        for folder in folder
            .ancestors()
            .take_while(|folder| folder.starts_with(&point))
        {
            if let Some(found) = read_cgroup(folder, dialect)
                && tightest
                    .as_ref()
                    .is_none_or(|known| found.free < known.free)
            {
                tightest = Some(found);
            }
        }
    }
    tightest
}

/// Returns how many bytes of `[address, address + length)` this process maps by huge pages.
pub(super) fn huge_bytes(address: usize, length: usize) -> u64 {
    let Ok(text) = fs::read_to_string("/proc/self/smaps") else {
        return 0;
    };
    let mut inside = false;
    let mut bytes = 0;
    for line in text.lines() {
        // A mapping begins with `start-end perms …`; its figures follow as `Key: figure kB` (proc(5)).
        let range = line
            .split_once(' ')
            .and_then(|(range, _)| range.split_once('-'));
        let start = range.and_then(|(start, end)| {
            usize::from_str_radix(end, 16).ok()?;
            usize::from_str_radix(start, 16).ok()
        });
        if let Some(start) = start {
            inside = start >= address && start - address < length;
        } else if inside {
            bytes += figure(line, "ShmemPmdMapped:").unwrap_or(0);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units() {
        assert_eq!(figure("MemTotal:   12 kB\n", "MemTotal:"), Some(12 * 1024));
        assert_eq!(figure("inactive_file 4096\n", "inactive_file "), Some(4096));
        assert_eq!(figure("MemTotal:", "MemTotal:"), None);
        assert_eq!(figure("", "MemTotal:"), None);
    }

    #[test]
    fn mounts_and_memberships_of_both_versions() {
        let text = "30 23 0:26 / /sys/fs/cgroup ro - tmpfs none rw\n\
                    31 30 0:27 /docker/ab /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                    32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found: Vec<_> = mounts(text)
            .map(|(point, root, d)| (point, root, d.limit))
            .collect();
        assert_eq!(
            found,
            [
                (
                    PathBuf::from("/sys/fs/cgroup/memory"),
                    "/docker/ab",
                    V1.limit
                ),
                (PathBuf::from("/sys/fs/cgroup/unified"), "/", V2.limit),
            ]
        );
        let cgroups = "4:cpu,memory:/docker/ab/x\n0::/y\n";
        assert_eq!(membership(cgroups, &V1), Some("/docker/ab/x"));
        assert_eq!(membership(cgroups, &V2), Some("/y"));
        assert_eq!(membership("", &V2), None);
    }
}
