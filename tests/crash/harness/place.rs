//! Where the victims work: a tmpfs of their own, so that every byte is accounted for.

use crate::suite::harness::process;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::statfs;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// In a mount namespace of the harness, a tmpfs of its own is mounted over it.
const SHM: &str = "/dev/shm";

/// The directory of one series.
pub struct Place {
    directory: PathBuf,
    /// Whether the file system belongs to the series alone.
    private: bool,
    /// Free blocks and inodes of the empty file system.
    empty: (u64, u64),
}

/// Enters a mount namespace in which this process may mount; returns whether that is permitted.
pub fn enter_namespace() -> bool {
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        if unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).is_err() {
            return false;
        }
        // User and group keep their numbers.
        let _ = fs::write("/proc/self/setgroups", "deny");
        let mapped = fs::write("/proc/self/uid_map", format!("{user} {user} 1"))
            .and_then(|()| fs::write("/proc/self/gid_map", format!("{group} {group} 1")));
        if mapped.is_err() {
            return false;
        }
    }
    // Mounts are not visible outside, and vanish with the last process of the namespace.
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let hidden = mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).is_ok();
    // In a child, so that this process keeps the common /dev/shm.
    let tried = process::spawn(|| i32::from(!(hidden && mount_tmpfs())));
    matches!(
        process::wait(tried, process::WATCHDOG),
        Ok(nix::sys::wait::WaitStatus::Exited(_, 0))
    )
}

/// Mounts a new tmpfs over /dev/shm, for this process and its children.
fn mount_tmpfs() -> bool {
    // Larger than any series needs; memory is allocated on use.
    let options = Some("size=64g,mode=0700");
    unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && mount(
            Some("shmkit-crash"),
            SHM,
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        )
        .is_ok()
}

impl Place {
    /// Creates an empty place, and sets SHMKIT_DIR. `private`: `enter_namespace` has succeeded.
    ///
    /// Otherwise it is a directory whose name contains `run` and `series`.
    pub fn create(private: bool, run: u32, series: usize) -> Result<Place, String> {
        let directory = if private {
            if !mount_tmpfs() {
                return Err("cannot mount a tmpfs in the namespace of the harness".to_owned());
            }
            PathBuf::from(SHM)
        } else {
            let parent = if Path::new(SHM).is_dir() { SHM } else { "/tmp" };
            let directory = Path::new(parent).join(format!("{}{series}", prefix(run)));
            fs::create_dir(&directory)
                .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
            directory
        };
        // SAFETY: there is one thread.
        unsafe { std::env::set_var("SHMKIT_DIR", &directory) };
        let mut place = Place {
            directory,
            private,
            empty: (0, 0),
        };
        place.empty = place.free();
        Ok(place)
    }

    /// Returns the path of a file in it.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.directory.join(name.as_ref())
    }

    /// Returns the names of its files.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).expect("the directory can be read");
        let names = entries.map(|entry| entry.expect("the directory can be read").file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    /// Returns free blocks and free inodes.
    fn free(&self) -> (u64, u64) {
        let status = statfs(&self.directory).expect("the file system exists");
        (status.blocks_free(), status.files_free())
    }

    /// Returns what is still allocated, after some time to release it; `None`: nothing.
    ///
    /// If other processes use the file system too, that is unknown, and the result is `None`.
    pub fn missing(&self) -> Option<String> {
        let deadline = Instant::now() + Duration::from_secs(u64::from(process::WATCHDOG) / 2);
        while self.private && self.free() != self.empty {
            if Instant::now() > deadline {
                let (free, empty) = (self.free(), self.empty);
                return Some(format!(
                    "{} pages and {} inodes are not released",
                    empty.0.wrapping_sub(free.0) as i64,
                    empty.1.wrapping_sub(free.1) as i64
                ));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        None
    }

    /// Removes all files, after a failure.
    pub fn clear(&self) {
        for name in self.names() {
            let _ = fs::remove_file(self.path(name));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.private {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// The prefix of directories in the common /dev/shm, without a namespace of the harness.
fn prefix(run: u32) -> String {
    format!("shmkit-crash-{run}-")
}

/// Removes what the series of this run have left, without a namespace of the harness.
pub fn remove_all(run: u32) {
    for parent in [SHM, "/tmp"] {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with(&prefix(run))
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}
