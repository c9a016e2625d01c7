//! The figures: those of the kernel, the smallest of them, and the line that contains them.

use super::common::Folder;
use super::{PAGE, limits_of};
use nix::sys::resource::{Resource, getrlimit};
use shmkit::limits::limits;
use std::path::Path;

#[test]
fn the_figures_match_the_kernels() {
    let found = limits_of(Path::new("/dev/shm"));
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let figure = |key: &str| {
        let line = meminfo.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    };
    assert_eq!(found.machine.total, figure("MemTotal:"));
    assert_eq!(found.machine.swap_total, figure("SwapTotal:"));
    assert_eq!(found.machine.huge_page_size, figure("Hugepagesize:"));
    assert!((1..=found.machine.total).contains(&found.machine.available));
    let statfs = nix::sys::statfs::statfs("/dev/shm").unwrap();
    if statfs.blocks() > 0 {
        assert_eq!(
            found.space.total,
            statfs.blocks() * statfs.block_size() as u64
        );
        assert!(found.space.free <= found.space.total);
    }
    assert!(found.space.in_memory);
    let soft = |resource| getrlimit(resource).unwrap().0;
    assert_eq!(found.file_size, soft(Resource::RLIMIT_FSIZE));
    assert_eq!(found.locked_memory, soft(Resource::RLIMIT_MEMLOCK));
    assert_eq!(found.address_space, soft(Resource::RLIMIT_AS));
    assert_eq!(found.open_files, soft(Resource::RLIMIT_NOFILE));
    assert_eq!(found.page_size, PAGE);
    let policy = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
    assert_eq!(found.machine.overcommit.to_string(), policy.trim());
}

#[test]
fn the_largest_size_is_within_every_bound() {
    let found = limits_of(Path::new("/dev/shm"));
    let memory = found.machine.available + found.machine.swap_free;
    let cgroup = found.cgroup.as_ref().map_or(u64::MAX, |cgroup| cgroup.free);
    for (named, directory) in [(true, found.space.free), (false, u64::MAX)] {
        let (largest, place) = found.largest(named);
        let bounds = [
            memory,
            cgroup,
            directory,
            found.file_size,
            found.address_space,
        ];
        let tightest = bounds.into_iter().min().unwrap();
        assert_eq!(largest, tightest / PAGE * PAGE);
        assert!(!place.is_empty());
    }
    let disk = limits_of(Path::new("/proc"));
    assert!(!disk.space.in_memory);
}

#[test]
fn the_line_names_every_bound() {
    let folder = Folder::new();
    let line = limits_of(folder.path()).to_string();
    let directory = folder.path().to_str().unwrap();
    for part in [
        "largest segment now: ",
        directory,
        "anonymous",
        "memory",
        "cgroup",
        "lockable",
        "pages of",
    ] {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
    assert!(!line.contains('\n') && line.len() < 1024, "{line}");
}

#[test]
fn a_missing_directory_is_not_found() {
    refused!(NotFound, limits(c"/dev/shm/no-such-directory"));
}
