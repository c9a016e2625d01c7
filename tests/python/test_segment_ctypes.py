"""The C ABI through ctypes: its tables, and segments by integers and pointers, with the library of the package."""

import ctypes
import os
import re
from ctypes import POINTER, byref, c_char_p, c_int32, c_uint32, c_uint64, c_void_p

import pytest
import shmkit

from capi import (
    CLOSED,
    CREATED,
    HEADER,
    INVALID,
    LIB,
    NOT_FOUND,
    OK,
    READONLY,
    SEALED,
    STRUCTS,
    TABLE,
    TOO_LARGE,
    UNSUPPORTED,
    VERSION_MISMATCH,
    VISIT,
    WRONG_KIND,
    Info,
    Limits,
    Options,
    got,
    last_error,
    options,
)


def stat(handle):
    """Return the shmkit_segment_info of a segment."""
    info = Info(struct_size=ctypes.sizeof(Info))
    assert LIB.shmkit_segment_stat(handle, byref(info)) == OK
    return info


@pytest.fixture
def segment(name):
    """Return the handle of a segment of 100 bytes with a capacity of 1 MiB."""
    handle = c_void_p()
    assert LIB.shmkit_segment_create(name.encode(), 100, options(capacity=1 << 20), byref(handle)) == OK
    yield handle
    assert LIB.shmkit_segment_unlink(handle) in (OK, NOT_FOUND)
    assert LIB.shmkit_segment_close(handle) == OK


def test_the_table_contains_every_function_of_the_header():
    assert set(TABLE) == set(re.findall(r"^[\w ]+?[ *](shmkit_\w+)\(", HEADER, re.MULTILINE))


@pytest.mark.parametrize("name", STRUCTS)
def test_structs_equal_those_of_the_header(name):
    body = re.search(rf"typedef struct {name} {{(.*?)}}", HEADER, re.DOTALL).group(1)
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    kinds = {"uint32_t": c_uint32, "uint64_t": c_uint64, "const char *": c_char_p, "const void *": c_void_p}
    declared = [(field, kinds[kind.strip()]) for kind, field in re.findall(r"([\w ]+ \*?)(\w+);", body)]
    assert declared == list(STRUCTS[name]._fields_)


def test_ctypes_uses_the_copy_of_the_library_of_the_package(name):
    with open("/proc/self/maps") as maps:
        copies = {line.split()[5] for line in maps if "libshmkit" in line}
    assert copies == {os.path.realpath(shmkit.library_path())}
    # ctypes reads the error of a call that the package made on this thread.
    with pytest.raises(FileNotFoundError) as caught:
        shmkit.SharedMemory(name)
    code, number, text = last_error()
    assert (code, number) == (caught.value.status, caught.value.errno)
    assert text == caught.value.strerror


def test_a_segment_is_created_opened_and_removed(name):
    made, same, data, seen = c_void_p(), c_void_p(), c_void_p(), c_void_p()
    assert LIB.shmkit_segment_create(name.encode(), 8 * 100, None, byref(made)) == OK
    assert LIB.shmkit_segment_data(made, byref(data)) == OK
    numbers = (ctypes.c_double * 100).from_address(data.value)
    numbers[:] = range(100)
    assert LIB.shmkit_segment_open(name.encode(), 800, options(flags=READONLY), byref(same)) == OK
    assert LIB.shmkit_segment_data(same, byref(seen)) == OK
    assert sum((ctypes.c_double * 100).from_address(seen.value)) == 4950
    with shmkit.SharedMemory(name) as python:
        assert sum(python.view("d")) == 4950
    assert LIB.shmkit_segment_unlink(made) == OK
    assert LIB.shmkit_segment_close(same) == OK
    assert LIB.shmkit_segment_close(made) == OK
    assert LIB.shmkit_segment_open(name.encode(), 0, None, byref(same)) == NOT_FOUND


def test_the_version_is_that_of_the_package():
    text = LIB.shmkit_version_string().decode()
    assert text == shmkit.__version__
    major, minor, patch = (int(part) for part in text.split("."))
    assert LIB.shmkit_version() == major * 1_000_000 + minor * 1000 + patch
    assert LIB.shmkit_check_version(LIB.shmkit_version()) == OK
    for other in (LIB.shmkit_version() + 1000, LIB.shmkit_version() + 1_000_000):
        assert LIB.shmkit_check_version(other) == VERSION_MISMATCH
        assert last_error()[0] == VERSION_MISMATCH


def test_strerror_has_a_text_for_every_status_of_the_header():
    numbers = [int(number) for number in re.findall(r"#define SHMKIT_ERR_\w+ \((-\d+)\)", HEADER)]
    assert numbers == list(range(-1, -30, -1))
    texts = {LIB.shmkit_strerror(number) for number in [OK, *numbers]}
    assert len(texts) == 30
    for nothing in (1, -30, -(1 << 31), (1 << 31) - 1):
        assert LIB.shmkit_strerror(nothing)


def test_stat_and_getters_describe_a_segment(segment, name):
    info = stat(segment)
    assert (info.struct_size, info.size, info.capacity, info.links) == (ctypes.sizeof(Info), 100, 1 << 20, 1)
    assert (info.flags, info.user, info.mode) == (CREATED, os.geteuid(), 0o600)
    assert got(LIB.shmkit_segment_size, segment, c_uint64) == 100
    assert got(LIB.shmkit_segment_capacity, segment, c_uint64) == 1 << 20
    assert got(LIB.shmkit_segment_name, segment, c_char_p) == name.encode()
    assert got(LIB.shmkit_segment_directory, segment, c_char_p) == os.environ["SHMKIT_DIR"].encode()
    assert got(LIB.shmkit_segment_huge, segment, c_uint64) == 0
    fd = got(LIB.shmkit_segment_fd, segment, c_int32)
    assert os.fstat(fd).st_ino == info.inode
    assert os.fstat(fd).st_dev == info.device


def test_resize_grows_up_to_the_capacity(segment):
    assert LIB.shmkit_segment_resize(segment, 1 << 20, 0) == OK
    assert got(LIB.shmkit_segment_size, segment, c_uint64) == 1 << 20
    assert LIB.shmkit_segment_resize(segment, 1, 0) == INVALID
    assert LIB.shmkit_segment_resize(segment, (1 << 20) + 1, 0) == TOO_LARGE
    assert LIB.shmkit_segment_resize(segment, 1 << 20, 1 << 31) == INVALID


def test_a_descriptor_opens_an_anonymous_segment():
    made, same = c_void_p(), c_void_p()
    assert LIB.shmkit_segment_create(None, 10, None, byref(made)) == OK
    assert got(LIB.shmkit_segment_name, made, c_char_p) is None
    assert got(LIB.shmkit_segment_directory, made, c_char_p) is None
    assert stat(made).flags == CREATED | SEALED
    fd = got(LIB.shmkit_segment_fd, made, c_int32)
    assert LIB.shmkit_segment_open_fd(fd, 10, None, byref(same)) == OK
    assert stat(same).inode == stat(made).inode
    assert stat(same).flags == SEALED
    assert LIB.shmkit_segment_unlink(made) == OK
    assert LIB.shmkit_segment_close(made) == OK
    assert stat(same).size == 10
    assert LIB.shmkit_segment_close(same) == OK
    assert LIB.shmkit_segment_open_fd(-1, 0, None, byref(same)) == INVALID


def test_open_or_create_creates_once(name):
    first, second = c_void_p(), c_void_p()
    for handle in (first, second):
        assert LIB.shmkit_segment_open_or_create(name.encode(), 50, None, byref(handle)) == OK
    assert (stat(first).flags, stat(second).flags) == (CREATED, 0)
    assert LIB.shmkit_segment_unlink(second) == OK
    assert LIB.shmkit_segment_unlink(first) == NOT_FOUND
    for handle in (first, second):
        assert LIB.shmkit_segment_close(handle) == OK


def test_unlink_name_checks_device_and_inode(segment, name):
    info = stat(segment)
    assert LIB.shmkit_segment_unlink_name(name.encode(), None, info.device, info.inode + 1, 0) == NOT_FOUND
    assert LIB.shmkit_segment_unlink_name(name.encode(), b"/none", 0, 0, 0) == NOT_FOUND
    assert LIB.shmkit_segment_unlink_name(name.encode(), None, 0, 0, 1 << 30) == INVALID
    assert LIB.shmkit_segment_unlink_name(name.encode(), None, info.device, info.inode, 0) == OK
    assert LIB.shmkit_segment_unlink_name(name.encode(), None, 0, 0, 0) == NOT_FOUND


def test_list_calls_the_visitor_for_each_name(name):
    handles = [c_void_p() for _ in range(3)]
    for number, handle in enumerate(handles):
        assert LIB.shmkit_segment_create(f"{name}.{number}".encode(), 1, None, byref(handle)) == OK
    seen = []

    def visit(found, argument):
        seen.append((found.decode(), argument))
        return len(seen) == argument

    assert LIB.shmkit_segment_list(None, VISIT(visit), 77) == OK
    assert sorted(seen) == [(f"{name}.{number}", 77) for number in range(3)]
    seen.clear()
    assert LIB.shmkit_segment_list(os.environ["SHMKIT_DIR"].encode(), VISIT(visit), 2) == OK
    assert len(seen) == 2
    assert LIB.shmkit_segment_list(b"/none", VISIT(visit), None) == NOT_FOUND
    assert LIB.shmkit_segment_list(None, VISIT(), None) == INVALID
    for handle in handles:
        assert LIB.shmkit_segment_unlink(handle) == OK
        assert LIB.shmkit_segment_close(handle) == OK


def test_limits_are_those_of_the_package():
    info = Limits(struct_size=ctypes.sizeof(Limits))
    assert LIB.shmkit_limits(None, byref(info)) == OK
    now = shmkit.limits()
    for field in ("memory_total", "swap_total", "page_size", "huge_page_size", "overcommit_policy"):
        assert getattr(info, field) == getattr(now, field)
    assert info.flags == 1
    assert LIB.shmkit_limits(b"/none", byref(info)) == NOT_FOUND
    line = ctypes.create_string_buffer(1024)
    assert LIB.shmkit_limits_line(None, line, 1024) == OK
    assert line.value.decode().startswith("largest segment now: ")
    short = ctypes.create_string_buffer(b"untouched", 10)
    assert LIB.shmkit_limits_line(None, short, 10) == TOO_LARGE
    assert short.value == b"untouched"


@pytest.mark.parametrize("kind", [Options, Info, Limits])
def test_too_small_structs_are_refused_and_newer_ones_accepted(segment, kind):
    class Newer(kind):
        """Has a field that this library does not know."""

        _fields_ = (("more", c_uint64),)

    def call(structure):
        if isinstance(structure, Options):
            handle, as_known = c_void_p(), ctypes.cast(byref(structure), POINTER(Options))
            status = LIB.shmkit_segment_create(None, 1, as_known, byref(handle))
            return LIB.shmkit_segment_close(handle) if status == OK else status
        if isinstance(structure, Info):
            return LIB.shmkit_segment_stat(segment, ctypes.cast(byref(structure), POINTER(Info)))
        return LIB.shmkit_limits(None, ctypes.cast(byref(structure), POINTER(Limits)))

    for size in (0, 4, ctypes.sizeof(kind) - 1):
        assert call(kind(struct_size=size)) == INVALID
        assert "struct_size" in last_error()[2]
    newer = Newer(struct_size=ctypes.sizeof(Newer))
    assert call(newer) == OK
    if kind is Options:
        assert call(Newer(struct_size=ctypes.sizeof(Newer), more=1)) == UNSUPPORTED
    else:
        assert newer.struct_size == ctypes.sizeof(kind)  # the size of the filled part


@pytest.mark.parametrize("fields", [{"flags": 1 << 31}, {"flags": CREATED}, {"mode": 0o1777}, {"participants": 4097}])
def test_impossible_options_are_refused(fields):
    handle = c_void_p(77)
    assert LIB.shmkit_segment_create(None, 1, options(**fields), byref(handle)) == INVALID
    assert handle.value == 77


NULLS = {
    "shmkit_limits": (None, None),
    "shmkit_limits_line": (None, None, 100),
    "shmkit_segment_create": (b"name", 1, None, None),
    "shmkit_segment_open": (None, 1, None, byref(c_void_p())),
    "shmkit_segment_open_or_create": (None, 1, None, None),
    "shmkit_segment_open_fd": (0, 1, None, None),
    "shmkit_segment_resize": (None, 1, 0),
    "shmkit_segment_unlink_name": (None, None, 0, 0, 0),
    "shmkit_segment_list": (None, VISIT(), None),
    "shmkit_segment_unlink": (None,),
    "shmkit_segment_lock": (None, None),
    **{
        f"shmkit_segment_{what}": (None, None)
        for what in ("data", "size", "capacity", "fd", "name", "directory", "huge", "stat")
    },
}


def test_the_table_of_nulls_covers_every_function_of_segments():
    allowed = {
        "shmkit_version",
        "shmkit_version_string",
        "shmkit_check_version",
        "shmkit_strerror",
        "shmkit_segment_gc",
        "shmkit_segment_close",
    }
    nouns = "|".join(re.findall(r"shmkit_(\w+)_create_at\(", HEADER))
    segments = {function for function in TABLE if not re.match(f"shmkit_({nouns})_", function)}
    assert set(NULLS) | allowed | {"shmkit_last_error", "shmkit_set_interrupt"} == segments
    assert LIB.shmkit_last_error(None, None, None) == OK


@pytest.mark.parametrize("function", NULLS)
def test_null_is_refused(function):
    assert getattr(LIB, function)(*NULLS[function]) == INVALID
    code, _, text = last_error()
    assert code == INVALID
    assert "NULL" in text


def test_closing_null_does_nothing():
    assert LIB.shmkit_segment_close(None) == OK


@pytest.mark.parametrize("what", ["data", "size", "capacity", "fd", "name", "directory", "huge", "stat"])
def test_null_outputs_and_closed_handles_are_refused(segment, what):
    function = getattr(LIB, f"shmkit_segment_{what}")
    assert function(segment, None) == INVALID
    handle = c_void_p()
    assert LIB.shmkit_segment_create(None, 1, None, byref(handle)) == OK
    assert LIB.shmkit_segment_close(handle) == OK
    out = Info(struct_size=ctypes.sizeof(Info)) if what == "stat" else TABLE[function.__name__][1][1]._type_()
    assert function(handle, byref(out)) == CLOSED


def test_other_functions_refuse_closed_and_wrong_handles():
    handle = c_void_p()
    assert LIB.shmkit_segment_create(None, 1, None, byref(handle)) == OK
    assert LIB.shmkit_segment_close(handle) == OK
    assert LIB.shmkit_segment_close(handle) == CLOSED
    assert LIB.shmkit_segment_resize(handle, 1, 0) == CLOSED
    assert LIB.shmkit_segment_unlink(handle) == CLOSED
    wrong = ctypes.create_string_buffer(64)
    assert LIB.shmkit_segment_unlink(ctypes.cast(wrong, c_void_p)) == WRONG_KIND


def test_outputs_are_untouched_after_an_error(name):
    handle, size = c_void_p(77), c_uint64(77)
    assert LIB.shmkit_segment_open(name.encode(), 0, None, byref(handle)) == NOT_FOUND
    assert LIB.shmkit_segment_size(None, byref(size)) == INVALID
    assert (handle.value, size.value) == (77, 77)


def test_the_last_error_is_kept_until_the_next_error(name, run):
    assert LIB.shmkit_segment_open(name.encode(), 0, None, byref(c_void_p())) == NOT_FOUND
    code, number, text = last_error()
    assert (code, number) == (NOT_FOUND, 2)
    assert name in text
    assert LIB.shmkit_version() and last_error() == (code, number, text)


def test_the_interrupt_hook_interrupts_a_create(run):
    """The test runs in another interpreter: this one needs the hook of the package for Ctrl-C."""
    code = """
        import ctypes, os, signal, sys
        sys.path.insert(0, sys.argv[1])
        import shmkit
        from capi import HOOK, INTERRUPTED, INTERRUPTIBLE, LIB, OK, byref, c_void_p, options
        calls, handle = [], c_void_p()
        def hook(argument):
            calls.append(argument)
            return len(calls) == 3
        kept = HOOK(hook)
        assert LIB.shmkit_set_interrupt(kept, 55) == OK
        create = lambda flags: LIB.shmkit_segment_create(None, 512 << 20, options(flags=flags), byref(handle))
        print(create(INTERRUPTIBLE) == INTERRUPTED, calls, handle.value)
        print(create(0) == OK, len(calls))
        assert LIB.shmkit_segment_close(handle) == OK
        assert LIB.shmkit_set_interrupt(HOOK(), None) == OK
        print(create(INTERRUPTIBLE) == OK, len(calls))
        assert LIB.shmkit_segment_close(handle) == OK
    """
    out = run(code, os.path.join(os.path.dirname(__file__), "support")).out
    assert out == "True [55, 55, 55] None\nTrue 3\nTrue 3\n"
