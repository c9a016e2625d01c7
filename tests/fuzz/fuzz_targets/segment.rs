//! Opens any file under any name, with any size and options, through the C ABI.
//!
//! Each call must return a status, without a crash or a hang, and a mapping must have the bytes that it reports. A file
//! that existed before must exist afterwards.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::segment::*;
use shmkit::capi::status::*;
use shmkit_fuzz::*;
use std::ffi::{CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{fs, ptr};

/// The file that exists under the name before the call.
#[derive(Arbitrary, Debug)]
enum There {
    Nothing,
    File {
        bytes: Vec<u8>,
        longer: u16,
        mode: u16,
    },
    Directory,
    Link {
        to_itself: bool,
    },
    Socket,
}

#[derive(Arbitrary, Debug)]
enum Call {
    Open,
    OpenOrCreate,
    Create,
    OpenFd { fd: i32 },
    UnlinkName { inode: u64 },
}

#[derive(Arbitrary, Debug)]
struct Input {
    name: Vec<u8>,
    there: There,
    call: Call,
    size: u64,
    flags: u32,
    capacity: u64,
    mode: u32,
    participants: u32,
    struct_size: u8,
    then_size: u64,
    then_flags: u32,
}

/// Larger sizes are requested only as sparse segments, because the machine also runs other programs.
const LARGE: u64 = 8 << 20;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = PathBuf::from(format!("/dev/shm/shmkit-fuzz-{}", std::process::id()));
    fs::create_dir_all(&path).expect("a directory for the files");
    path
});

fn prepare(place: &Path, there: &There) {
    match there {
        There::Nothing => {}
        There::File {
            bytes,
            longer,
            mode,
        } => {
            let mut options = fs::OpenOptions::new();
            let options = options
                .write(true)
                .create_new(true)
                .mode(u32::from(*mode) & 0o777);
            if let Ok(mut file) = options.open(place) {
                let _ = std::io::Write::write_all(&mut file, bytes);
                let _ = file.set_len(bytes.len() as u64 + u64::from(*longer));
            }
        }
        There::Directory => drop(fs::create_dir(place)),
        There::Link { to_itself } => {
            drop(symlink(
                if *to_itself {
                    place
                } else {
                    Path::new("/etc/hostname")
                },
                place,
            ));
        }
        There::Socket => drop(UnixListener::bind(place)),
    }
}

/// Reads and writes an opened segment up to its last byte.
fn use_it(segment: *mut shmkit_segment, input: &Input, writable: bool) {
    let (mut data, mut size, mut capacity) = (ptr::null_mut::<c_void>(), 0, 0);
    // SAFETY: the handle has just been opened; the outputs are writable.
    assert_eq!(
        unsafe { shmkit_segment_data(segment, &mut data) },
        SHMKIT_OK
    );
    // SAFETY: as above.
    assert_eq!(
        unsafe { shmkit_segment_size(segment, &mut size) },
        SHMKIT_OK
    );
    // SAFETY: as above.
    assert_eq!(
        unsafe { shmkit_segment_capacity(segment, &mut capacity) },
        SHMKIT_OK
    );
    assert!(size > 0 && size <= capacity && capacity >= input.capacity);
    if input.flags & SHMKIT_SEGMENT_SPARSE != 0 && size > LARGE {
        size = LARGE;
    }
    for offset in [0, size / 2, size - 1] {
        // SAFETY: offset < size, and the library reports memory there; this access tests that.
        let byte = unsafe { data.cast::<u8>().add(offset as usize) };
        // SAFETY: as above.
        let value = unsafe { byte.read_volatile() };
        if writable {
            // SAFETY: as above, and the mapping is writable.
            unsafe { byte.write_volatile(value) };
        }
    }
    let then_flags = if input.then_size > LARGE {
        SHMKIT_SEGMENT_SPARSE
    } else {
        input.then_flags
    };
    // SAFETY: the handle is open.
    let resized = unsafe { shmkit_segment_resize(segment, input.then_size, then_flags) };
    if resized == SHMKIT_OK {
        let mut now = 0;
        // SAFETY: as above.
        assert_eq!(unsafe { shmkit_segment_size(segment, &mut now) }, SHMKIT_OK);
        assert_eq!(now, input.then_size);
    }
    // SAFETY: as above.
    unsafe { shmkit_segment_unlink(segment) };
    // SAFETY: as above; nothing uses the handle afterwards.
    assert_eq!(unsafe { shmkit_segment_close(segment) }, SHMKIT_OK);
    // SAFETY: the library recognizes a handle that was just closed.
    assert_eq!(unsafe { shmkit_segment_close(segment) }, SHMKIT_ERR_CLOSED);
}

fuzz_target!(|input: Input| {
    let directory = CString::new(DIRECTORY.as_os_str().as_bytes()).expect("no NUL");
    let bystander = DIRECTORY.join("bystander");
    fs::write(&bystander, b"untouched").expect("a writable directory");
    let mut bytes = input.name.clone();
    bytes.retain(|&byte| byte != 0);
    let file = std::ffi::OsStr::from_bytes(bytes.strip_prefix(b"/").unwrap_or(&bytes));
    let plain = !bytes.is_empty() && !file.as_bytes().contains(&b'/') && file != "bystander";
    if plain && file != "." && file != ".." && !file.is_empty() {
        prepare(&DIRECTORY.join(file), &input.there);
    }
    let name = CString::new(bytes.as_slice()).expect("no NUL is left");
    let mut flags = input.flags & !SHMKIT_SEGMENT_LOCK;
    if input.size > LARGE {
        flags |= SHMKIT_SEGMENT_SPARSE;
    }
    let options = shmkit_segment_options {
        struct_size: if input.struct_size < 32 {
            u32::from(input.struct_size)
        } else {
            32
        },
        flags,
        capacity: input.capacity,
        mode: input.mode,
        participants: match input.participants % 8 {
            0..4 => 0,
            4..7 => input.participants % 5000,
            _ => input.participants,
        },
        directory: directory.as_ptr(),
    };
    let mut segment = ptr::null_mut();
    let (c_name, size, options): (*const c_char, u64, *const _) =
        (name.as_ptr(), input.size, &options);
    // SAFETY: C strings, a struct whose struct_size is no larger than it is, and a writable output.
    let status = unsafe {
        match input.call {
            Call::Open => shmkit_segment_open(c_name, size, options, &mut segment),
            Call::OpenOrCreate => {
                shmkit_segment_open_or_create(c_name, size, options, &mut segment)
            }
            Call::Create => shmkit_segment_create(c_name, size, options, &mut segment),
            Call::OpenFd { fd } => shmkit_segment_open_fd(
                if fd % 2 == 0 { -1 } else { fd },
                size,
                options,
                &mut segment,
            ),
            Call::UnlinkName { inode } => {
                shmkit_segment_unlink_name(c_name, directory.as_ptr(), 0, inode % 2, 0)
            }
        }
    };
    assert!(
        check(status) || segment.is_null(),
        "an output was written on failure"
    );
    if !segment.is_null() {
        use_it(segment, &input, flags & SHMKIT_SEGMENT_READONLY == 0);
    }
    assert!(file == "bystander" || fs::read(&bystander).expect("the other file") == b"untouched");
    for entry in fs::read_dir(&*DIRECTORY)
        .expect("the directory of the files")
        .flatten()
    {
        let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir(entry.path()));
    }
});
