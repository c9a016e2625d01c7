//! Other users, limits, small file systems, cgroups and older kernels. Use them only inside `alone`.

use super::{Folder, is_root, skip};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid};
use std::path::{Path, PathBuf};

/// The user 65534, which owns no files.
pub const UNPRIVILEGED_USER: u32 = 65534;

/// Changes this process to `UNPRIVILEGED_USER` permanently.
pub fn become_unprivileged() {
    nix::unistd::setgroups(&[]).expect("setgroups");
    nix::unistd::setgid(Gid::from_raw(UNPRIVILEGED_USER)).expect("setgid");
    nix::unistd::setuid(Uid::from_raw(UNPRIVILEGED_USER)).expect("setuid");
    // A process that changes its user loses access to /proc/self, unlike one that a user starts.
    nix::sys::prctl::set_dumpable(true).expect("prctl");
}

/// Returns whether this process can change its user; if not, reports what is skipped.
pub fn can_change_user() -> bool {
    if !is_root() {
        skip("only root can become another user or give files away");
    }
    is_root()
}

/// Sets the soft limit of this process.
pub fn limit(resource: Resource, soft: u64) {
    let (_, hard) = getrlimit(resource).expect("getrlimit");
    setrlimit(resource, soft, hard).expect("setrlimit");
}

/// A tmpfs of a given size that only this process sees; dropping it unmounts it.
pub struct SmallFileSystem {
    folder: Folder,
}

impl SmallFileSystem {
    /// Mounts it in a new mount namespace; where that is not allowed, reports what is skipped.
    pub fn mount(bytes: u64) -> Option<SmallFileSystem> {
        match SmallFileSystem::try_mount(bytes) {
            Ok(mounted) => Some(mounted),
            Err(why) => {
                skip(&format!("no file system of its own: {why}"));
                None
            }
        }
    }

    fn try_mount(bytes: u64) -> Result<SmallFileSystem, String> {
        let describe = |what: &'static str| move |error: nix::Error| format!("{what}: {error}");
        let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
        if is_root() {
            unshare(CloneFlags::CLONE_NEWNS).map_err(describe("unshare"))?;
        } else {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
                .map_err(describe("unshare"))?;
            let write = |file: &str, text: String| {
                std::fs::write(file, text).map_err(|error| format!("{file}: {error}"))
            };
            write("/proc/self/setgroups", "deny".to_owned())?;
            write("/proc/self/uid_map", format!("{user} {user} 1"))?;
            write("/proc/self/gid_map", format!("{group} {group} 1"))?;
        }
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(none, "/", none, private, none).map_err(describe("mount --make-rprivate"))?;
        let folder = Folder::below(&std::env::temp_dir());
        let options = format!("size={bytes},mode=0777");
        mount(
            Some("tmpfs"),
            folder.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .map_err(describe("mount -t tmpfs"))?;
        Ok(SmallFileSystem { folder })
    }

    /// Returns the folder where it is mounted.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Returns its free bytes.
    pub fn free(&self) -> u64 {
        let status = nix::sys::statfs::statfs(self.folder.path()).expect("statfs");
        status.blocks_available() * status.block_size() as u64
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _ = umount2(self.folder.path(), MntFlags::MNT_DETACH);
    }
}

/// A memory cgroup with a limit, below this process' own; dropping it removes it.
pub struct MemoryCgroup {
    path: PathBuf,
    owner: u32,
}

impl MemoryCgroup {
    /// Creates it with a limit in bytes; where that is not possible, reports what is skipped.
    pub fn make(bytes: u64) -> Option<MemoryCgroup> {
        match MemoryCgroup::try_make(bytes) {
            Ok(made) => Some(made),
            Err(why) => {
                skip(&format!("no memory cgroup of its own: {why}"));
                None
            }
        }
    }

    fn try_make(bytes: u64) -> Result<MemoryCgroup, String> {
        let (parent, limit) = own_memory_cgroup().ok_or("none is mounted")?;
        let describe = |error: std::io::Error| format!("{}: {error}", parent.display());
        let made = MemoryCgroup {
            path: parent.join(super::unique()),
            owner: std::process::id(),
        };
        std::fs::create_dir(&made.path).map_err(describe)?;
        std::fs::write(made.path.join(limit), bytes.to_string()).map_err(describe)?;
        Ok(made)
    }

    /// Moves this process, a forked child, into it.
    pub fn enter(&self) {
        let pid = std::process::id().to_string();
        std::fs::write(self.path.join("cgroup.procs"), pid).expect("cgroup.procs can be written");
    }

    /// Returns its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

/// Returns the folder of this process' memory cgroup, and the name of the file that contains its limit.
fn own_memory_cgroup() -> Option<(PathBuf, &'static str)> {
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let path = |version_2: bool| {
        let line = cgroups.lines().find(|line| {
            let controllers = line.split(':').nth(1).unwrap_or_default();
            if version_2 {
                line.starts_with("0::")
            } else {
                controllers
                    .split(',')
                    .any(|controller| controller == "memory")
            }
        });
        line?.splitn(3, ':').nth(2).map(str::to_owned)
    };
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let (root, point) = (left.split(' ').nth(3)?, left.split(' ').nth(4)?);
        let kind = right.split(' ').next()?;
        let (path, limit) = match kind {
            "cgroup"
                if right
                    .rsplit(' ')
                    .next()?
                    .split(',')
                    .any(|option| option == "memory") =>
            {
                (path(false)?, "memory.limit_in_bytes")
            }
            "cgroup2" => (path(true)?, "memory.max"),
            _ => return None,
        };
        let below = Path::new(&path).strip_prefix(root).ok()?.to_owned();
        let folder = Path::new(point).join(below);
        // The root of a hierarchy has no limit of its own, but its children have.
        let controlled = kind == "cgroup" || folder.join(limit).exists();
        controlled.then_some((folder, limit))
    })
}

/// Makes the kernel refuse files without a name (O_TMPFILE) to this process, as some file systems do.
pub fn refuse_unnamed_files() {
    refuse_unnamed_files_with(libc::EOPNOTSUPP);
}

/// Makes the kernel refuse files without a name as `refuse_unnamed_files` does, with this errno.
pub fn refuse_unnamed_files_with(errno: i32) {
    let unnamed = (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;
    // openat(directory, path, flags, mode)
    answer(libc::SYS_openat, 2, (libc::BPF_JSET, unnamed), errno);
}

/// Makes each call of `call` in this process fail with `errno`.
pub fn answer_always(call: libc::c_long, errno: i32) {
    answer(call, 0, (libc::BPF_JGE, 0), errno);
}

/// Makes each reservation of more than `bytes` in this process fail as if a signal had interrupted it.
///
/// On older kernels any signal ends fallocate(2) on a tmpfs, and undoes its work.
pub fn interrupt_large_reservations(bytes: u32) {
    // fallocate(file, mode, offset, length)
    answer(libc::SYS_fallocate, 3, (libc::BPF_JGT, bytes), libc::EINTR);
}

/// Makes the kernel refuse locks of open file descriptions to this process, as before Linux 3.15.
pub fn refuse_byte_locks() {
    // fcntl(fd, command, lock)
    let command = libc::F_OFD_SETLK as u32;
    answer(libc::SYS_fcntl, 1, (libc::BPF_JEQ, command), libc::EINVAL);
}

/// Makes the kernel refuse pages that fork wipes to this process, as before Linux 4.14.
pub fn refuse_wiping() {
    // madvise(address, length, advice)
    let advice = libc::MADV_WIPEONFORK as u32;
    answer(libc::SYS_madvise, 2, (libc::BPF_JEQ, advice), libc::EINVAL);
}

/// Makes a system call fail with `errno` if the low half of one argument passes a comparison.
fn answer(call: libc::c_long, argument: u32, comparison: (u32, u32), errno: i32) {
    // struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6], low half first.
    const NUMBER: u32 = 0;
    const ARGUMENTS: u32 = 16;
    let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, offset);
    let skip_unless =
        |jump, operand, skipped| step(libc::BPF_JMP | jump | libc::BPF_K, skipped, operand);
    let end = |verdict| step(libc::BPF_RET | libc::BPF_K, 0, verdict);
    let mut program = [
        load(NUMBER),
        skip_unless(libc::BPF_JEQ, call as u32, 3),
        load(ARGUMENTS + 8 * argument),
        skip_unless(comparison.0, comparison.1, 1),
        end(libc::SECCOMP_RET_ERRNO | errno as u32),
        end(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    nix::sys::prctl::set_no_new_privs().expect("prctl");
    // SAFETY: the kernel copies the program, which lives during the call.
    let set = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER as libc::c_ulong,
            &raw const program,
        )
    };
    assert_eq!(set, 0, "seccomp: {}", std::io::Error::last_os_error());
}

/// Returns one step of a filter; a comparison that fails skips `skipped` steps.
fn step(code: u32, skipped: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: skipped,
        k,
    }
}
