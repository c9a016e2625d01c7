//! What the kernel reports about this process.

use super::refused;
use crate::error::Result;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The value of a limit that does not exist.
pub const UNLIMITED: u64 = u64::MAX;

/// Returns the effective user of this process: the owner of the files that it creates.
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Returns the size of a page in bytes.
pub fn page_size() -> u64 {
    /// 0 until the first call. The size never changes, and every mapping call needs it several times.
    static KNOWN: AtomicU64 = AtomicU64::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: sysconf only reads; _SC_PAGESIZE exists everywhere.
            let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            let size = u64::try_from(size).unwrap_or(4096);
            KNOWN.store(size, Ordering::Relaxed);
            size
        }
        known => known,
    }
}

fn limit(resource: Resource) -> u64 {
    // RLIM_INFINITY is u64::MAX, our UNLIMITED.
    getrlimit(resource).map_or(UNLIMITED, |(soft, _)| soft)
}

/// Returns the maximum size of a file in bytes; writing beyond it raises SIGXFSZ.
pub fn file_size_limit() -> u64 {
    limit(Resource::RLIMIT_FSIZE)
}

/// Returns the maximum of locked memory in bytes.
pub fn locked_memory_limit() -> u64 {
    limit(Resource::RLIMIT_MEMLOCK)
}

/// Returns the maximum of address space in bytes.
pub fn address_space_limit() -> u64 {
    limit(Resource::RLIMIT_AS)
}

/// Returns the maximum number of file descriptors.
pub fn open_files_limit() -> u64 {
    limit(Resource::RLIMIT_NOFILE)
}

/// Returns the number of processors of the machine. The owner of a lock may run on one that this process may not use.
pub fn processors() -> usize {
    /// 0 until the first call.
    static KNOWN: AtomicUsize = AtomicUsize::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            let count = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
            let count = count.map_or(1, |count| count.max(1) as usize);
            KNOWN.store(count, Ordering::Relaxed);
            count
        }
        known => known,
    }
}

/// The description of a process in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its process ID, in its own PID namespace.
    pub pid: u32,
    /// When it started, in clock ticks since the machine's start (proc(5), stat, field 22); 0: unknown.
    pub start: u64,
    /// Its PID namespace, as the inode of /proc/self/ns/pid; 0: unknown.
    pub namespace: u64,
    /// Its name, cut to 15 bytes and padded with NULs.
    pub comm: [u8; 16],
}

/// Returns the description of this process.
pub fn identity() -> Identity {
    let stat = std::fs::read("/proc/self/stat").unwrap_or_default();
    // The name is in parentheses and may contain any byte, even a parenthesis.
    let open = stat
        .iter()
        .position(|&byte| byte == b'(')
        .map_or(0, |at| at + 1);
    let close = stat.iter().rposition(|&byte| byte == b')').unwrap_or(open);
    let name = stat.get(open..close).unwrap_or_default();
    let mut comm = [0; 16];
    for (to, from) in comm[..15].iter_mut().zip(name) {
        *to = *from;
    }
    /// Field 22, counted from the field after the name.
    const START: usize = 22 - 3;
    let fields = String::from_utf8_lossy(stat.get(close + 1..).unwrap_or_default());
    Identity {
        pid: std::process::id(),
        start: fields
            .split_ascii_whitespace()
            .nth(START)
            .and_then(|field| field.parse().ok())
            .unwrap_or(0),
        namespace: namespace(),
        comm,
    }
}

/// Returns the PID namespace of this process, as the inode of /proc/self/ns/pid; 0: unknown.
pub fn namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |facts| facts.ino())
}

/// Returns a random number of the kernel: different in each process, also in forked siblings (getrandom(2)).
pub fn random() -> Result<u64> {
    let mut bytes = [0; size_of::<u64>()];
    loop {
        // SAFETY: the kernel writes at most the bytes of the array.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        match Errno::result(got) {
            Ok(count) if count as usize == bytes.len() => return Ok(u64::from_ne_bytes(bytes)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(refused(errno, "cannot get a random number (getrandom)")),
        }
    }
}

/// Returns whether this program has more rights than the user that started it (set-user-ID and the like): it must not
/// obey that user's environment (secure_getenv(3)).
pub fn is_privileged() -> bool {
    // SAFETY: getauxval only reads.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
