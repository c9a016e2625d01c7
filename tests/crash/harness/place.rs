//! Where the victims work: a tmpfs of their own, so that every byte can be accounted for and nothing can be left.

use crate::suite::harness::process;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::statfs;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// It is there wherever shmkit is; in a mount namespace of our own another tmpfs lies over it.
const SHM: &str = "/dev/shm";

/// A directory that belongs to one series of victims.
pub struct Place {
    directory: PathBuf,
    /// Its file system belongs to it alone.
    private: bool,
    empty: (u64, u64),
}

/// Enters a mount namespace in which this process may mount; false where that is not permitted.
pub fn enter_namespace() -> bool {
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        if unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).is_err() {
            return false;
        }
        // Inside everybody is who they were outside.
        let _ = fs::write("/proc/self/setgroups", "deny");
        let mapped = fs::write("/proc/self/uid_map", format!("{user} {user} 1"))
            .and_then(|()| fs::write("/proc/self/gid_map", format!("{group} {group} 1")));
        if mapped.is_err() {
            return false;
        }
    }
    // What is mounted in here is not seen outside, and goes with the last process in here.
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let hidden = mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).is_ok();
    // Tried in a child, so that this process still sees the common one.
    let tried = process::spawn(|| i32::from(!(hidden && mount_tmpfs())));
    matches!(
        process::wait(tried, process::WATCHDOG),
        Ok(nix::sys::wait::WaitStatus::Exited(_, 0))
    )
}

/// Lays a new tmpfs over /dev/shm, for this process and its children alone.
fn mount_tmpfs() -> bool {
    // Larger than what any test needs: nothing is taken before it is used.
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
    /// Makes an empty place and has SHMKIT_DIR name it. `private`: `enter_namespace` has succeeded.
    ///
    /// Without that it is a directory whose name `run` and `series` make unique.
    pub fn make(private: bool, run: u32, series: usize) -> Result<Place, String> {
        let directory = if private {
            if !mount_tmpfs() {
                return Err("cannot mount a tmpfs in a namespace of our own".to_owned());
            }
            PathBuf::from(SHM)
        } else {
            let parent = if Path::new(SHM).is_dir() { SHM } else { "/tmp" };
            let directory = Path::new(parent).join(format!("{}{series}", prefix(run)));
            fs::create_dir(&directory)
                .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
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

    /// Returns the names of everything in it.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).expect("the directory can be read");
        let names = entries.map(|entry| entry.expect("it can be read to its end").file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    /// Returns free blocks and free inodes.
    fn free(&self) -> (u64, u64) {
        let what = statfs(&self.directory).expect("the file system can be asked");
        (what.blocks_free(), what.files_free())
    }

    /// Says what is missing from what was free when nothing was here; `None` where all of it is back.
    ///
    /// Where others use the file system too it is not known, and nothing is said to be missing.
    pub fn missing(&self) -> Option<String> {
        let patience = Instant::now() + Duration::from_secs(u64::from(process::WATCHDOG) / 2);
        while self.private && self.free() != self.empty {
            if Instant::now() > patience {
                let (free, empty) = (self.free(), self.empty);
                return Some(format!(
                    "{} pages and {} inodes are not given back",
                    empty.0.wrapping_sub(free.0) as i64,
                    empty.1.wrapping_sub(free.1) as i64
                ));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        None
    }

    /// Removes everything in it, after a run that has left something.
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

/// How the directories begin that stand in the common /dev/shm, where there is no namespace of our own.
fn prefix(run: u32) -> String {
    format!("shmkit-crash-{run}-")
}

/// Removes what the series of this run have left, where they had no namespace of their own.
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
