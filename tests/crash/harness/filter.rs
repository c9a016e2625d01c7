//! Disables O_TMPFILE in this process with seccomp(2), as on a file system without it.

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter, sock_fprog};
use nix::sys::prctl;
use std::mem::offset_of;

/// AUDIT_ARCH_X86_64 (linux/audit.h).
const ARCHITECTURE: u32 = 0xc000_003e;
/// The bit of O_TMPFILE that is not O_DIRECTORY.
const TMPFILE: u32 = (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;

fn instruction(code: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: if_true,
        jf: if_false,
        k: value,
    }
}

fn load(offset: usize) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset as u32, 0, 0)
}

fn skip_unless(value: u32, skipped: u8) -> sock_filter {
    instruction(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skipped)
}

/// Makes openat with O_TMPFILE fail with EOPNOTSUPP in this process and its children.
pub fn forbid_tmpfile() {
    let flags = offset_of!(libc::seccomp_data, args) + 2 * size_of::<u64>();
    let mut program = [
        load(offset_of!(libc::seccomp_data, arch)),
        skip_unless(ARCHITECTURE, 5),
        load(offset_of!(libc::seccomp_data, nr)),
        skip_unless(libc::SYS_openat as u32, 3),
        load(flags),
        instruction(BPF_JMP | libc::BPF_JSET | BPF_K, TMPFILE, 0, 1),
        instruction(
            BPF_RET | BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP as u32,
            0,
            0,
        ),
        instruction(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    prctl::set_no_new_privs().expect("privileges can be given up");
    // SAFETY: the filter and its program live through the call, which copies them.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) };
    assert_eq!(set, 0, "a seccomp filter can be set");
}
