//! The life cycle of every noun through the C interface: bad handles, outputs, names, descriptors, segments and structs.
//! tests/object and tests/c/test_object.c test the successful calls.

use super::common::Folder;
use super::*;
use shmkit::capi::{
    barrier, condition, event, lock, object, once, queue, rlock, rwlock, semaphore,
};

/// The functions of a noun, without the types of its handle, options and info.
struct Noun {
    name: &'static str,
    /// The size of its options, and of its info.
    options: u32,
    info: u32,
    /// Flags of its options, besides those of all nouns.
    flags: u32,
    /// Makes options usual that are zeros but for their size.
    prepare: fn(*mut c_void),
    size: fn(*const c_void, *mut u64) -> shmkit_status,
    create: fn(*const c_char, *const c_void, Out) -> shmkit_status,
    open: fn(*const c_char, *const c_void, Out) -> shmkit_status,
    open_or_create: fn(*const c_char, *const c_void, Out) -> shmkit_status,
    create_at: fn(*const shmkit_segment, u64, *const c_void, Out) -> shmkit_status,
    open_at: fn(*const shmkit_segment, u64, *const c_void, Out) -> shmkit_status,
    open_fd: fn(i32, u64, *const c_void, Out) -> shmkit_status,
    fd: fn(*mut c_void, *mut i32, *mut u64) -> shmkit_status,
    segment: fn(*mut c_void, *mut *mut shmkit_segment) -> shmkit_status,
    unlink: fn(*mut c_void) -> shmkit_status,
    close: fn(*mut c_void) -> shmkit_status,
    stat: fn(*mut c_void, *mut c_void) -> shmkit_status,
}

/// The place for a handle.
type Out = *mut *mut c_void;

macro_rules! nouns {
    ($($name:ident, $handle:ty, $of:ident::$options:ident $({ $field:ident = $value:expr })?, $info:ty, $flags:expr,
        [$size:ident $create:ident $open:ident $open_or_create:ident $create_at:ident $open_at:ident $open_fd:ident
         $fd:ident $segment:ident $unlink:ident $close:ident $stat:ident];)*) => {
        // SAFETY, of each call below: the tests pass pointers that the functions promise to check, or that are valid.
        const NOUNS: &[Noun] = &[$(Noun {
            name: stringify!($name),
            options: size_of::<$of::$options>() as u32,
            info: size_of::<$info>() as u32,
            flags: $flags,
            prepare: |_options| {
                // SAFETY: as above.
                $(unsafe { (*_options.cast::<$of::$options>()).$field = $value };)?
            },
            // SAFETY: as above.
            size: |options, out| unsafe { $name::$size(options.cast(), out) },
            // SAFETY: as above.
            create: |name, options, out| unsafe { $name::$create(name, options.cast(), out.cast()) },
            // SAFETY: as above.
            open: |name, options, out| unsafe { $name::$open(name, options.cast(), out.cast()) },
            open_or_create: |name, options, out| {
                // SAFETY: as above.
                unsafe { $name::$open_or_create(name, options.cast(), out.cast()) }
            },
            create_at: |segment, offset, options, out| {
                // SAFETY: as above.
                unsafe { $name::$create_at(segment, offset, options.cast(), out.cast()) }
            },
            open_at: |segment, offset, options, out| {
                // SAFETY: as above.
                unsafe { $name::$open_at(segment, offset, options.cast(), out.cast()) }
            },
            open_fd: |fd, offset, options, out| {
                // SAFETY: as above.
                unsafe { $name::$open_fd(fd, offset, options.cast(), out.cast()) }
            },
            // SAFETY: as above.
            fd: |handle, fd, offset| unsafe { $name::$fd(handle.cast(), fd, offset) },
            // SAFETY: as above.
            segment: |handle, out| unsafe { $name::$segment(handle.cast(), out) },
            // SAFETY: as above.
            unlink: |handle| unsafe { $name::$unlink(handle.cast()) },
            // SAFETY: as above.
            close: |handle| unsafe { $name::$close(handle.cast()) },
            // SAFETY: as above.
            stat: |handle, out| unsafe { $name::$stat(handle.cast(), out.cast()) },
        }),*];
    };
}

#[rustfmt::skip]
nouns! {
    lock, lock::shmkit_lock, object::shmkit_object_options, lock::shmkit_lock_info, lock::SHMKIT_LOCK_TRANSFERABLE,
        [shmkit_lock_size shmkit_lock_create shmkit_lock_open shmkit_lock_open_or_create shmkit_lock_create_at shmkit_lock_open_at shmkit_lock_open_fd shmkit_lock_fd shmkit_lock_segment shmkit_lock_unlink shmkit_lock_close shmkit_lock_stat];
    rlock, rlock::shmkit_rlock, object::shmkit_object_options, lock::shmkit_lock_info, 0,
        [shmkit_rlock_size shmkit_rlock_create shmkit_rlock_open shmkit_rlock_open_or_create shmkit_rlock_create_at shmkit_rlock_open_at shmkit_rlock_open_fd shmkit_rlock_fd shmkit_rlock_segment shmkit_rlock_unlink shmkit_rlock_close shmkit_rlock_stat];
    rwlock, rwlock::shmkit_rwlock, rwlock::shmkit_rwlock_options, rwlock::shmkit_rwlock_info, 0,
        [shmkit_rwlock_size shmkit_rwlock_create shmkit_rwlock_open shmkit_rwlock_open_or_create shmkit_rwlock_create_at shmkit_rwlock_open_at shmkit_rwlock_open_fd shmkit_rwlock_fd shmkit_rwlock_segment shmkit_rwlock_unlink shmkit_rwlock_close shmkit_rwlock_stat];
    semaphore, semaphore::shmkit_semaphore, semaphore::shmkit_semaphore_options, semaphore::shmkit_semaphore_info, semaphore::SHMKIT_SEMAPHORE_UNDO,
        [shmkit_semaphore_size shmkit_semaphore_create shmkit_semaphore_open shmkit_semaphore_open_or_create shmkit_semaphore_create_at shmkit_semaphore_open_at shmkit_semaphore_open_fd shmkit_semaphore_fd shmkit_semaphore_segment shmkit_semaphore_unlink shmkit_semaphore_close shmkit_semaphore_stat];
    condition, condition::shmkit_condition, condition::shmkit_condition_options, condition::shmkit_condition_info, 0,
        [shmkit_condition_size shmkit_condition_create shmkit_condition_open shmkit_condition_open_or_create shmkit_condition_create_at shmkit_condition_open_at shmkit_condition_open_fd shmkit_condition_fd shmkit_condition_segment shmkit_condition_unlink shmkit_condition_close shmkit_condition_stat];
    event, event::shmkit_event, object::shmkit_object_options, event::shmkit_event_info, 0,
        [shmkit_event_size shmkit_event_create shmkit_event_open shmkit_event_open_or_create shmkit_event_create_at shmkit_event_open_at shmkit_event_open_fd shmkit_event_fd shmkit_event_segment shmkit_event_unlink shmkit_event_close shmkit_event_stat];
    barrier, barrier::shmkit_barrier, barrier::shmkit_barrier_options { parties = 2 }, barrier::shmkit_barrier_info, 0,
        [shmkit_barrier_size shmkit_barrier_create shmkit_barrier_open shmkit_barrier_open_or_create shmkit_barrier_create_at shmkit_barrier_open_at shmkit_barrier_open_fd shmkit_barrier_fd shmkit_barrier_segment shmkit_barrier_unlink shmkit_barrier_close shmkit_barrier_stat];
    once, once::shmkit_once, object::shmkit_object_options, once::shmkit_once_info, 0,
        [shmkit_once_size shmkit_once_create shmkit_once_open shmkit_once_open_or_create shmkit_once_create_at shmkit_once_open_at shmkit_once_open_fd shmkit_once_fd shmkit_once_segment shmkit_once_unlink shmkit_once_close shmkit_once_stat];
    queue, queue::shmkit_queue, queue::shmkit_queue_options, queue::shmkit_queue_info, queue::SHMKIT_QUEUE_FAIL | queue::SHMKIT_QUEUE_OVERWRITE,
        [shmkit_queue_size shmkit_queue_create shmkit_queue_open shmkit_queue_open_or_create shmkit_queue_create_at shmkit_queue_open_at shmkit_queue_open_fd shmkit_queue_fd shmkit_queue_segment shmkit_queue_unlink shmkit_queue_close shmkit_queue_stat];
}

/// Options or an info: a size and the fields after it, with room for those of a newer version.
#[repr(C)]
#[derive(Clone, Copy)]
struct Struct([u64; 32]);

impl Struct {
    fn of(size: u32, rest: u64) -> Struct {
        let mut new = Struct([rest; 32]);
        new.set(0, size);
        new
    }

    /// Sets a field of 32 bits.
    fn set(&mut self, index: usize, value: u32) {
        let [low, high] = [self.0[index / 2] as u32, (self.0[index / 2] >> 32) as u32];
        let halves = if index.is_multiple_of(2) {
            [value, high]
        } else {
            [low, value]
        };
        self.0[index / 2] = u64::from(halves[0]) | u64::from(halves[1]) << 32;
    }

    fn size(&self) -> u32 {
        self.0[0] as u32
    }

    fn pointer(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }
}

/// The place of flags and mode, in numbers of 32 bits, and of the directory, in numbers of 64.
const FLAGS: usize = 1;
const MODE: usize = 2;
const DIRECTORY: usize = 2;

impl Noun {
    /// Returns the usual options.
    fn usual(&self) -> Struct {
        let mut options = Struct::of(self.options, 0);
        (self.prepare)(options.pointer());
        options
    }

    /// Returns the usual options of a file in this folder, whose path must outlive them.
    fn within(&self, directory: &CStr) -> Struct {
        let mut options = self.usual();
        options.0[DIRECTORY] = directory.as_ptr() as u64;
        options
    }

    fn unnamed(&self) -> *mut c_void {
        let mut out = null_mut();
        let status = (self.create)(null(), self.usual().pointer(), &raw mut out);
        assert_eq!(status, SHMKIT_OK, "{}: {}", self.name, last_text());
        out
    }

    /// Calls each function of a handle but close, and checks that it fails with this status and writes nothing.
    fn refuses(&self, handle: *mut c_void, expected: shmkit_status, text: &str) {
        let (mut fd, mut number) = (-77, UNTOUCHED);
        let mut segment = UNTOUCHED as *mut shmkit_segment;
        let mut info = Struct::of(self.info, UNTOUCHED);
        info.set(1, 0);
        let before = info.0;
        let calls: [&mut dyn FnMut() -> shmkit_status; 4] = [
            &mut || (self.fd)(handle, &raw mut fd, &raw mut number),
            &mut || (self.segment)(handle, &raw mut segment),
            &mut || (self.unlink)(handle),
            &mut || (self.stat)(handle, info.pointer()),
        ];
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call(), expected, "{} {number}", self.name);
            assert!(last_text().contains(text), "{}: {}", self.name, last_text());
        }
        assert_eq!((fd, number, segment as u64), (-77, UNTOUCHED, UNTOUCHED));
        assert_eq!(info.0, before);
    }

    /// Calls each function that returns a handle, with these options and this place for it.
    fn makers(&self, options: *const c_void, out: Out) -> [(&'static str, shmkit_status); 6] {
        let segment = Handle::managed(1 << 16);
        let object = self.unnamed();
        let (mut fd, mut offset) = (-1, 0);
        assert_eq!((self.fd)(object, &raw mut fd, &raw mut offset), SHMKIT_OK);
        let a = c"a".as_ptr();
        let made = [
            ("create", (self.create)(a, options, out)),
            ("open", (self.open)(a, options, out)),
            ("open_or_create", (self.open_or_create)(a, options, out)),
            ("create_at", (self.create_at)(segment.0, 0, options, out)),
            ("open_at", (self.open_at)(segment.0, 0, options, out)),
            ("open_fd", (self.open_fd)(fd, offset, options, out)),
        ];
        assert_eq!((self.close)(object), SHMKIT_OK);
        made
    }

    /// Checks that every function that takes options refuses these, and creates nothing.
    fn refuses_options(&self, options: &mut Struct, expected: shmkit_status) {
        let folder = Folder::new();
        let directory = folder.directory().unwrap();
        options.0[DIRECTORY] = directory.as_ptr() as u64;
        let (mut out, mut size) = (UNTOUCHED as *mut c_void, UNTOUCHED);
        for (maker, status) in self.makers(options.pointer(), &raw mut out) {
            assert_eq!(
                (status, out as u64),
                (expected, UNTOUCHED),
                "{} {maker}",
                self.name
            );
        }
        let status = (self.size)(options.pointer(), &raw mut size);
        assert_eq!((status, size), (expected, UNTOUCHED), "{}", self.name);
        assert!(folder.entries().is_empty());
    }
}

impl Handle {
    /// Creates an anonymous managed segment.
    fn managed(size: u64) -> Handle {
        let options = shmkit_segment_options {
            flags: SHMKIT_SEGMENT_MANAGED,
            ..options()
        };
        let mut out = null_mut();
        // SAFETY: no name, options, and an output that can be written.
        let status = unsafe { shmkit_segment_create(null(), size, &options, &raw mut out) };
        assert_eq!(status, SHMKIT_OK, "{}", last_text());
        Handle(out)
    }
}

fn misaligned<T>(block: &mut [u64; 16]) -> *mut T {
    (&raw mut *block).cast::<u8>().wrapping_add(1).cast()
}

#[test]
fn each_noun_has_a_row() {
    let list = include_str!("../../src/capi/objects.txt").lines();
    let nouns: Vec<_> = list
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let rows: Vec<_> = NOUNS.iter().map(|noun| noun.name).collect();
    assert_eq!(rows, nouns);
}

#[test]
fn null_and_misaligned_handles_are_invalid() {
    let mut block = [UNTOUCHED; 16];
    for noun in NOUNS {
        noun.refuses(null_mut(), SHMKIT_ERR_INVALID, "NULL");
        noun.refuses(misaligned(&mut block), SHMKIT_ERR_INVALID, "aligned");
        assert_eq!((noun.close)(null_mut()), SHMKIT_OK);
        assert_eq!((noun.close)(misaligned(&mut block)), SHMKIT_ERR_INVALID);
    }
    assert_eq!(block, [UNTOUCHED; 16]);
}

#[test]
fn handles_of_another_kind_are_the_wrong_kind() {
    let segment = Handle::anonymous(4096);
    let mut block = [UNTOUCHED; 16];
    let objects: Vec<_> = NOUNS.iter().map(Noun::unnamed).collect();
    for (number, noun) in NOUNS.iter().enumerate() {
        let others = objects
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != number);
        let others = others.map(|(_, object)| *object);
        for other in others.chain([segment.0.cast(), (&raw mut block).cast()]) {
            noun.refuses(other, SHMKIT_ERR_WRONG_KIND, "");
            assert_eq!((noun.close)(other), SHMKIT_ERR_WRONG_KIND, "{}", noun.name);
        }
        // SAFETY: a handle of another kind, which the function promises to recognize.
        let status = unsafe { shmkit_segment_close(objects[number].cast()) };
        assert_eq!(status, SHMKIT_ERR_WRONG_KIND);
        let mut out = UNTOUCHED as *mut c_void;
        for make in [noun.create_at, noun.open_at] {
            let status = make(objects[0].cast(), 0, null(), &raw mut out);
            assert_eq!(
                (status, out as u64),
                (SHMKIT_ERR_WRONG_KIND, UNTOUCHED),
                "{}",
                noun.name
            );
        }
    }
    for (noun, object) in NOUNS.iter().zip(objects) {
        assert_eq!((noun.close)(object), SHMKIT_OK);
    }
    assert_eq!(block, [UNTOUCHED; 16]);
}

#[test]
fn closed_handles_are_closed_for_every_function() {
    for noun in NOUNS {
        let object = noun.unnamed();
        assert_eq!((noun.close)(object), SHMKIT_OK);
        noun.refuses(object, SHMKIT_ERR_CLOSED, "");
        assert_eq!((noun.close)(object), SHMKIT_ERR_CLOSED, "{}", noun.name);
    }
}

#[test]
fn null_and_misaligned_outputs_are_invalid_and_nothing_is_created() {
    let mut block = [UNTOUCHED; 16];
    for noun in NOUNS {
        let folder = Folder::new();
        let directory = folder.directory().unwrap();
        let mut options = noun.within(&directory);
        for out in [null_mut(), misaligned(&mut block)] {
            for (maker, status) in noun.makers(options.pointer(), out) {
                assert_eq!(status, SHMKIT_ERR_INVALID, "{} {maker}", noun.name);
                assert!(last_text().contains("out must"), "{}", last_text());
            }
            assert_eq!(
                (noun.size)(options.pointer(), out.cast()),
                SHMKIT_ERR_INVALID
            );
        }
        assert!(folder.entries().is_empty(), "{}", noun.name);
        let object = noun.unnamed();
        let (mut fd, mut offset) = (-77, UNTOUCHED);
        for status in [
            (noun.fd)(object, null_mut(), &raw mut offset),
            (noun.fd)(object, misaligned(&mut block), &raw mut offset),
            (noun.fd)(object, &raw mut fd, null_mut()),
            (noun.fd)(object, &raw mut fd, misaligned(&mut block)),
            (noun.segment)(object, null_mut()),
            (noun.segment)(object, misaligned(&mut block)),
            (noun.stat)(object, null_mut()),
            (noun.stat)(object, misaligned(&mut block)),
        ] {
            assert_eq!(status, SHMKIT_ERR_INVALID, "{}", noun.name);
        }
        assert_eq!((fd, offset), (-77, UNTOUCHED));
        assert_eq!((noun.close)(object), SHMKIT_OK);
    }
    assert_eq!(block, [UNTOUCHED; 16]);
}

#[test]
fn names_segments_and_options_that_are_null_or_misaligned_are_invalid() {
    let mut block = [UNTOUCHED; 16];
    for noun in NOUNS {
        let mut out = UNTOUCHED as *mut c_void;
        for open in [noun.open, noun.open_or_create] {
            let status = open(null(), noun.usual().pointer(), &raw mut out);
            assert_eq!(status, SHMKIT_ERR_INVALID, "{}", noun.name);
            assert!(last_text().contains("name"), "{}", last_text());
        }
        for make in [noun.create_at, noun.open_at] {
            for segment in [null(), misaligned(&mut block) as *const _] {
                let status = make(segment, 0, noun.usual().pointer(), &raw mut out);
                assert_eq!(status, SHMKIT_ERR_INVALID, "{}", noun.name);
            }
        }
        for (maker, status) in noun.makers(misaligned::<c_void>(&mut block), &raw mut out) {
            assert_eq!(status, SHMKIT_ERR_INVALID, "{} {maker}", noun.name);
        }
        assert_eq!(out as u64, UNTOUCHED);
    }
    assert_eq!(block, [UNTOUCHED; 16]);
}

#[test]
fn options_of_an_unknown_size_are_invalid() {
    for noun in NOUNS {
        for size in [0, 1, 4, noun.options - 1, 4097, u32::MAX] {
            let mut options = noun.usual();
            options.set(0, size);
            noun.refuses_options(&mut options, SHMKIT_ERR_INVALID);
        }
    }
}

#[test]
fn options_of_a_newer_caller_are_unsupported_unless_their_new_fields_are_zero() {
    for noun in NOUNS {
        let mut options = noun.usual();
        options.set(0, noun.options + 32);
        let mut size = 0;
        assert_eq!((noun.size)(options.pointer(), &raw mut size), SHMKIT_OK);
        let mut out = null_mut();
        let status = (noun.create)(null(), options.pointer(), &raw mut out);
        assert_eq!(status, SHMKIT_OK, "{}", noun.name);
        assert_eq!((noun.close)(out), SHMKIT_OK);
        options.0[noun.options as usize / 8 + 3] = 1;
        noun.refuses_options(&mut options, SHMKIT_ERR_UNSUPPORTED);
    }
}

#[test]
fn unknown_flags_and_modes_are_invalid() {
    for noun in NOUNS {
        let known = noun.flags | SHMKIT_TRUST | object::SHMKIT_EXCLUSIVE;
        for flag in (0..32).map(|bit| 1 << bit).filter(|flag| known & flag == 0) {
            let mut options = noun.usual();
            options.set(FLAGS, flag);
            noun.refuses_options(&mut options, SHMKIT_ERR_INVALID);
        }
        for mode in [0o1000, 0o4755, u32::MAX] {
            let mut options = noun.usual();
            options.set(MODE, mode);
            noun.refuses_options(&mut options, SHMKIT_ERR_INVALID);
        }
    }
}

#[test]
fn infos_of_an_unknown_size_are_invalid_and_those_of_a_newer_caller_keep_their_new_fields() {
    for noun in NOUNS {
        let object = noun.unnamed();
        for size in [0, 4, noun.info - 1, 4097, u32::MAX] {
            let mut info = Struct::of(size, UNTOUCHED);
            let before = info.0;
            assert_eq!(
                (noun.stat)(object, info.pointer()),
                SHMKIT_ERR_INVALID,
                "{}",
                noun.name
            );
            assert_eq!(info.0, before);
        }
        let mut info = Struct::of(noun.info + 32, UNTOUCHED);
        assert_eq!(
            (noun.stat)(object, info.pointer()),
            SHMKIT_OK,
            "{}",
            noun.name
        );
        assert_eq!(info.size(), noun.info);
        let (filled, new) = info.0.split_at(noun.info as usize / 8);
        assert!(!filled.contains(&UNTOUCHED), "{}: {filled:x?}", noun.name);
        assert!(new.iter().all(|word| *word == UNTOUCHED), "{}", noun.name);
        assert_eq!((noun.close)(object), SHMKIT_OK);
    }
}
