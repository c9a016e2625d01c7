//! Handles: closed handles and memory without a handle are recognized.

use super::common::Name;
use super::common::process::alone;
use super::*;

/// A place for a handle, with the alignment of any type.
#[repr(C, align(64))]
struct Block([u8; 256]);

#[test]
fn memory_without_a_handle_is_the_wrong_kind() {
    for fill in [0x00, 0x01, 0x5a, 0xff] {
        let mut block = Block([fill; 256]);
        for (name, function) in functions_of_a_handle() {
            let handle = (&raw mut block).cast();
            assert_eq!(function(handle), SHMKIT_ERR_WRONG_KIND, "{name}");
            assert!(last_text().contains("segment"), "{name}: {}", last_text());
        }
        assert!(block.0.iter().all(|&byte| byte == fill));
    }
}

#[test]
fn a_closed_handle_is_closed_for_every_function() {
    let handle = Handle::anonymous(4096);
    let functions = functions_of_a_handle();
    for (name, function) in &functions {
        if *name != "shmkit_segment_close" {
            assert_eq!(function(handle.0), SHMKIT_OK, "{name}: {}", last_text());
        }
    }
    assert_eq!(handle.close(), SHMKIT_OK);
    for (name, function) in &functions {
        assert_eq!(function(handle.0), SHMKIT_ERR_CLOSED, "{name}");
    }
    assert_eq!(handle.close(), SHMKIT_ERR_CLOSED);
}

#[test]
fn a_closed_handle_is_remembered_until_1024_more_are_closed() {
    alone(|| {
        let first = Handle::anonymous(1);
        assert_eq!(first.close(), SHMKIT_OK);
        for _ in 0..1023 {
            assert_eq!(Handle::anonymous(1).close(), SHMKIT_OK);
        }
        assert_eq!(first.close(), SHMKIT_ERR_CLOSED);
        std::mem::forget(first);
    });
}

#[test]
fn one_of_many_concurrent_closes_succeeds() {
    for _ in 0..50 {
        let handle = Handle::anonymous(1);
        let address = handle.0 as usize;
        let closed = std::thread::scope(|scope| {
            let closing = || {
                // SAFETY: other threads close the handle too, and one of them succeeds; nothing else uses it.
                unsafe { shmkit_segment_close(address as *mut shmkit_segment) }
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(closing)).collect();
            let statuses = threads.into_iter().map(|thread| thread.join().unwrap());
            statuses.filter(|&status| status == SHMKIT_OK).count()
        });
        assert_eq!(closed, 1);
    }
}

#[test]
fn closing_a_handle_leaves_the_others_open() {
    let name = Name::new();
    let mut handles = [null_mut(), null_mut()];
    for out in &mut handles {
        // SAFETY: a name, no options, and an output that can be written.
        let status = unsafe { shmkit_segment_open_or_create(name.as_ptr(), 4096, null(), out) };
        assert_eq!(status, SHMKIT_OK);
    }
    let [one, other] = handles.map(Handle);
    assert_eq!(one.close(), SHMKIT_OK);
    let mut size = 0;
    // SAFETY: a handle, and an output that can be written.
    let status = unsafe { shmkit_segment_size(other.0, &raw mut size) };
    assert_eq!(status, SHMKIT_OK);
    assert_eq!(size, 4096);
    // SAFETY: a handle.
    assert_eq!(unsafe { shmkit_segment_unlink(other.0) }, SHMKIT_OK);
}

#[test]
fn a_child_forked_while_a_thread_closes_can_close() {
    alone(|| {
        let enough = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !enough.load(std::sync::atomic::Ordering::Relaxed) {
                    Handle::anonymous(1).close();
                }
            });
            for _ in 0..2000 {
                let handle = Handle::anonymous(1);
                // SAFETY: the child calls the library, which permits it, and _exit.
                match unsafe { libc::fork() } {
                    0 => {
                        handle.close();
                        // SAFETY: _exit takes any number.
                        unsafe { libc::_exit(0) };
                    }
                    child => {
                        let ended =
                            nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None);
                        assert!(matches!(
                            ended,
                            Ok(nix::sys::wait::WaitStatus::Exited(_, 0))
                        ));
                    }
                }
            }
            enough.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
}
