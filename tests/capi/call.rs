//! What the functions return on success.

use super::common::{Folder, Name};
use super::*;
use shmkit::capi::interrupt::SHMKIT_INTERRUPTIBLE;
use shmkit::limits;

#[test]
fn a_segment_can_be_created_used_resized_and_unlinked() {
    let folder = Folder::new();
    let directory = folder.directory().unwrap();
    let given = shmkit_segment_options {
        capacity: 1 << 20,
        mode: 0o640,
        directory: directory.as_ptr(),
        ..options()
    };
    let mut out = null_mut();
    // SAFETY: a name, options, and an output that can be written.
    let status = unsafe { shmkit_segment_create(c"/a".as_ptr(), 5000, &given, &raw mut out) };
    assert_eq!(status, SHMKIT_OK, "{}", last_text());
    let made = Handle(out);
    let reading = shmkit_segment_options {
        flags: SHMKIT_SEGMENT_READONLY,
        ..given
    };
    // SAFETY: as above.
    let status = unsafe { shmkit_segment_open(c"a".as_ptr(), 5000, &reading, &raw mut out) };
    assert_eq!(status, SHMKIT_OK, "{}", last_text());
    let opened = Handle(out);

    /// Calls a function that has one output.
    macro_rules! ask {
        ($function:ident, $handle:expr, $out:expr) => {{
            let mut out = $out;
            // SAFETY: a handle, and an output that can be written.
            let status = unsafe { $function($handle.0, &raw mut out) };
            assert_eq!(status, SHMKIT_OK, "{}", last_text());
            out
        }};
    }
    let data = ask!(shmkit_segment_data, made, null_mut()).cast::<u8>();
    // SAFETY: 4999 < 5000 bytes.
    let last = unsafe { data.add(4999) };
    // SAFETY: as above.
    unsafe { last.write_volatile(42) };
    let data = ask!(shmkit_segment_data, opened, null_mut()).cast::<u8>();
    // SAFETY: 4999 < 5000 bytes.
    let last = unsafe { data.add(4999) };
    // SAFETY: as above.
    assert_eq!(unsafe { last.read_volatile() }, 42);

    assert_eq!(ask!(shmkit_segment_size, opened, 0), 5000);
    assert_eq!(ask!(shmkit_segment_capacity, opened, 0), 1 << 20);
    assert_eq!(text_at(ask!(shmkit_segment_name, opened, null())), "a");
    let answer = text_at(ask!(shmkit_segment_directory, opened, null()));
    assert_eq!(answer.as_bytes(), directory.as_bytes());
    assert_eq!(ask!(shmkit_segment_huge, opened, 1), 0);
    assert!(ask!(shmkit_segment_fd, opened, -1) >= 0);

    let flags = SHMKIT_SEGMENT_NO_SPACE_CHECK | SHMKIT_INTERRUPTIBLE;
    // SAFETY: a handle.
    let status = unsafe { shmkit_segment_resize(made.0, 8192, flags) };
    assert_eq!(status, SHMKIT_OK);
    // SAFETY: as above.
    let status = unsafe { shmkit_segment_resize(opened.0, 9000, 0) };
    assert_eq!(status, SHMKIT_ERR_PERMISSION);
    let (one, other) = (
        ask!(shmkit_segment_stat, made, info()),
        ask!(shmkit_segment_stat, opened, info()),
    );
    assert_eq!(
        (one.flags, other.flags),
        (SHMKIT_SEGMENT_CREATED, SHMKIT_SEGMENT_READONLY)
    );
    assert_eq!(
        (one.size, one.capacity, one.links, one.mode),
        (8192, 1 << 20, 1, 0o640)
    );
    assert!(one.allocated >= 8192);
    assert_eq!(one.user, nix::unistd::geteuid().as_raw());
    assert_eq!((one.device, one.inode), (other.device, other.inode));

    let unlink = |device, inode| {
        // SAFETY: a name and a directory.
        unsafe { shmkit_segment_unlink_name(c"a".as_ptr(), directory.as_ptr(), device, inode, 0) }
    };
    assert_eq!(unlink(one.device, one.inode + 1), SHMKIT_ERR_NOT_FOUND);
    assert_eq!(unlink(0, one.inode), SHMKIT_ERR_NOT_FOUND);
    assert_eq!(folder.entries(), ["a"]);
    assert_eq!(unlink(one.device, one.inode), SHMKIT_OK);
    assert!(folder.entries().is_empty());
    // SAFETY: a handle.
    let status = unsafe { shmkit_segment_unlink(made.0) };
    assert_eq!(status, SHMKIT_ERR_NOT_FOUND);
}

#[test]
fn an_anonymous_segment_can_be_opened_by_its_descriptor() {
    let made = Handle::anonymous(5000);
    let (mut fd, mut name, mut answer) = (-1, c"x".as_ptr(), info());
    // SAFETY: a handle, and an output that can be written.
    assert_eq!(unsafe { shmkit_segment_fd(made.0, &raw mut fd) }, SHMKIT_OK);
    // SAFETY: as above.
    let status = unsafe { shmkit_segment_name(made.0, &raw mut name) };
    assert_eq!(status, SHMKIT_OK);
    assert!(name.is_null());
    name = c"x".as_ptr();
    // SAFETY: as above.
    let status = unsafe { shmkit_segment_directory(made.0, &raw mut name) };
    assert_eq!(status, SHMKIT_OK);
    assert!(name.is_null());
    let mut out = null_mut();
    // SAFETY: a descriptor, no options, and an output that can be written.
    let status = unsafe { shmkit_segment_open_fd(fd, 5000, null(), &raw mut out) };
    assert_eq!(status, SHMKIT_OK);
    let opened = Handle(out);
    // SAFETY: a handle, and an output that can be written.
    let status = unsafe { shmkit_segment_stat(opened.0, &raw mut answer) };
    assert_eq!(status, SHMKIT_OK);
    assert_eq!(
        (answer.flags, answer.size, answer.links),
        (SHMKIT_SEGMENT_SEALED, 5000, 0)
    );
    // SAFETY: a handle.
    assert_eq!(unsafe { shmkit_segment_unlink(opened.0) }, SHMKIT_OK);
}

#[test]
fn open_or_create_reports_whether_it_created() {
    let name = Name::new();
    for expected in [SHMKIT_SEGMENT_CREATED, 0] {
        let mut out = null_mut();
        // SAFETY: a name, no options, and an output that can be written.
        let status =
            unsafe { shmkit_segment_open_or_create(name.as_ptr(), 10, null(), &raw mut out) };
        assert_eq!(status, SHMKIT_OK);
        let (handle, mut answer) = (Handle(out), info());
        // SAFETY: a handle, and an output that can be written.
        let status = unsafe { shmkit_segment_stat(handle.0, &raw mut answer) };
        assert_eq!(status, SHMKIT_OK);
        assert_eq!(answer.flags, expected);
    }
}

unsafe extern "C" fn collect(name: *const c_char, names: *mut c_void) -> i32 {
    // SAFETY: the test below passes a vector that lives during the call and that nothing else uses.
    let names = unsafe { &mut *names.cast::<Vec<String>>() };
    names.push(text_at(name));
    i32::from(names.len() == 2)
}

#[test]
fn list_calls_for_each_name_until_the_visitor_stops() {
    let folder = Folder::new();
    let directory = folder.directory().unwrap();
    let list = |names: &mut Vec<String>| {
        // SAFETY: a directory, and a function that takes the vector.
        unsafe { shmkit_segment_list(directory.as_ptr(), Some(collect), (&raw mut *names).cast()) }
    };
    let mut names = Vec::new();
    assert_eq!(list(&mut names), SHMKIT_OK);
    assert!(names.is_empty());
    for (made, expected) in [("one", 1), ("two", 2), ("three", 2)] {
        std::fs::write(folder.path().join(made), "x").unwrap();
        names.clear();
        assert_eq!(list(&mut names), SHMKIT_OK);
        assert_eq!(names.len(), expected);
        assert!(
            names.iter().all(|name| folder.entries().contains(name)),
            "{names:?}"
        );
    }
    // SAFETY: a missing directory, and a function that takes the vector.
    let status = unsafe {
        shmkit_segment_list(c"/nowhere".as_ptr(), Some(collect), (&raw mut names).cast())
    };
    assert_eq!(status, SHMKIT_ERR_NOT_FOUND);
}

#[test]
fn limits_returns_the_figures_of_the_core() {
    let mut answer = limits_info();
    // SAFETY: no directory, and an output that can be written.
    let status = unsafe { shmkit_limits(c"/dev/shm".as_ptr(), &raw mut answer) };
    assert_eq!(status, SHMKIT_OK);
    let core = limits::limits(c"/dev/shm").unwrap();
    assert_eq!(answer.struct_size as usize, size_of::<shmkit_limits_info>());
    assert_eq!(answer.flags, SHMKIT_LIMITS_IN_MEMORY);
    assert_eq!(
        (answer.directory_total, answer.memory_total),
        (core.space.total, core.machine.total)
    );
    assert_eq!(
        (answer.swap_total, answer.huge_page_size),
        (core.machine.swap_total, core.machine.huge_page_size)
    );
    assert_eq!(
        (answer.file_size_limit, answer.locked_memory_limit),
        (core.file_size, core.locked_memory)
    );
    assert_eq!(
        (answer.address_space_limit, answer.open_files_limit),
        (core.address_space, core.open_files)
    );
    assert_eq!(
        (answer.page_size, answer.overcommit_policy),
        (core.page_size, core.machine.overcommit)
    );
    assert_eq!(
        answer.commit_free == u64::MAX,
        core.machine.commit_free == u64::MAX
    );
    assert_eq!(
        answer.cgroup_limit,
        core.cgroup.map_or(u64::MAX, |cgroup| cgroup.limit)
    );
    assert_eq!(answer.reserved, 0);
    // Other processes may change these figures meanwhile, but they must be plausible.
    assert!(answer.largest_named <= answer.directory_free.max(answer.directory_total));
    assert!(
        answer.largest_anonymous > 0 && answer.largest_anonymous.is_multiple_of(answer.page_size)
    );
    assert!(
        answer.memory_available <= answer.memory_total && answer.cgroup_free <= answer.cgroup_limit
    );
    // SAFETY: a directory on a disk, or at least not in memory.
    let status = unsafe { shmkit_limits(c"/proc".as_ptr(), &raw mut answer) };
    assert_eq!(status, SHMKIT_OK);
    assert_eq!(answer.flags, 0);
}
