"""The life cycle of every noun through ctypes: size, create, open, fd, segment, unlink, close, and their errors."""

import itertools
import os
import re
from contextlib import closing
from ctypes import byref, c_int32, c_uint64, c_void_p

import pytest
from nouns import C_ROWS, ROWS, use
from shmkit import SharedMemory

from capi import CLOSED, EXISTS, HEADER, INVALID, LIB, NOT_FOUND, OK, WRONG_KIND, Calls

UNTRUSTED = -7
TRUST, EXCLUSIVE = 0x20000, 0x100000
NOUNS = re.findall(r"shmkit_(\w+)_create_at\(", HEADER)
# Options that create an object of each noun.
OPTIONS = {row.noun: row.c_options for row in reversed(ROWS)}


@pytest.fixture(params=C_ROWS, ids=lambda row: row.kind.__name__)
def row(request):
    """Return the row of each kind of object."""
    return request.param


@pytest.fixture
def calls(row):
    """Return the functions of the noun."""
    return Calls(row.noun)


@pytest.fixture
def given(calls, row):
    """Return the options that create an object."""
    return calls.options(**row.c_options)


@pytest.fixture
def segment(shm):
    """Return the handle of a managed segment in which the object fits."""
    segment = c_void_p()
    assert LIB.shmkit_segment_open(shm.name.encode(), 0, None, byref(segment)) == OK
    yield segment
    assert LIB.shmkit_segment_close(segment) in (OK, CLOSED)


@pytest.fixture
def handle(calls, given):
    """Return the handle of an unnamed object."""
    handle = c_void_p()
    assert calls.create(None, given, byref(handle)) == OK
    yield handle
    assert calls.close(handle) in (OK, CLOSED)


@pytest.fixture
def named(calls, given, name):
    """Return the handle of an object named `name`.object."""
    handle = c_void_p()
    assert calls.create(f"{name}.object".encode(), given, byref(handle)) == OK
    yield handle
    if calls.unlink(handle) != CLOSED:
        assert calls.close(handle) == OK
    else:
        SharedMemory.unlink_name(f"{name}.object")


@pytest.fixture
def other(row):
    """Return the functions of another noun."""
    return Calls(next(noun for noun in NOUNS if noun != row.noun))


def test_every_noun_has_a_row():
    assert set(NOUNS) == {row.noun for row in ROWS}
    assert len(C_ROWS) > len(NOUNS) > 8


# --- places -----------------------------------------------------------------------------------------------------------


def test_size_is_the_one_in_the_table(calls, row, given):
    size = c_uint64(77)
    assert calls.size(given, byref(size)) == OK
    assert size.value == row.size
    fields = dict(row.c_options, flags=row.c_options.get("flags", 0) | TRUST | EXCLUSIVE)
    assert calls.size(calls.options(**fields), byref(size)) == OK
    assert size.value == row.size


def test_named_object_is_created_and_opened(calls, row, other, name, path):
    given = calls.options(**row.c_options)
    c_name, first, second, third = name.encode(), c_void_p(), c_void_p(), c_void_p()
    assert calls.open(c_name, given, byref(first)) == NOT_FOUND
    assert first.value is None
    fields = dict(row.c_options, mode=0o640, participants=9)
    assert calls.create(c_name, calls.options(**fields), byref(first)) == OK
    assert path.stat().st_mode & 0o7777 == 0o640
    assert calls.create(c_name, given, byref(second)) == EXISTS
    for open_ in (other.open, other.open_or_create):
        assert open_(c_name, other.options(**OPTIONS[other.noun]), byref(second)) == WRONG_KIND
    assert second.value is None
    assert calls.open(c_name, None, byref(second)) == OK
    assert calls.open_or_create(c_name, given, byref(third)) == OK
    unused = bytes(calls.info(first))
    with closing(row.make(name=name, create=False)) as one:
        use(one)
    infos = {bytes(calls.info(handle)) for handle in (first, second, third)}
    assert len(infos | {unused}) == 2
    assert calls.unlink(second) == OK
    assert not path.exists()
    assert calls.unlink(second) == calls.unlink(first) == NOT_FOUND
    for handle in (first, second, third):
        assert calls.close(handle) == OK


def test_open_or_create_creates(calls, given, name, path):
    handle = c_void_p()
    assert calls.open_or_create(name.encode(), given, byref(handle)) == OK
    assert path.stat().st_mode & 0o7777 == 0o600
    assert calls.unlink(handle) == OK
    assert calls.close(handle) == OK


def test_file_is_created_in_the_given_directory(calls, row, name, tmp_path):
    handle, options = c_void_p(), calls.options(**row.c_options, directory=bytes(tmp_path))
    assert calls.create(name.encode(), options, byref(handle)) == OK
    assert (tmp_path / name).is_file()
    assert calls.unlink(handle) == OK
    assert calls.close(handle) == OK
    assert list(tmp_path.iterdir()) == []


def test_impossible_name_is_refused(calls, given):
    for name, make in itertools.product((b"", b"/", b"a/b", b"..", b"x" * 256), ("create", "open", "open_or_create")):
        handle = c_void_p(77)
        assert getattr(calls, make)(name, given, byref(handle)) == INVALID
        assert handle.value == 77


def test_placed_object_is_created_and_opened(calls, row, other, shm, segment):
    given = calls.options(**row.c_options)
    first, second, third, home = c_void_p(), c_void_p(), c_void_p(), c_void_p()
    assert calls.open_at(segment, 64, None, byref(first)) == NOT_FOUND
    assert calls.create_at(segment, 64, given, byref(first)) == OK
    fields = dict(row.c_options, flags=row.c_options.get("flags", 0) | EXCLUSIVE)
    assert calls.create_at(segment, 64, calls.options(**fields), byref(second)) == EXISTS
    assert other.open_at(segment, 64, None, byref(second)) == WRONG_KIND
    assert second.value is None
    assert calls.open_at(segment, 64, None, byref(second)) == OK
    assert calls.create_at(segment, 64, given, byref(third)) == OK
    assert calls.info(second).offset == 64
    unused = bytes(calls.info(first))
    with closing(row.make(segment=shm, offset=64, create=False)) as one:
        use(one)
    infos = {bytes(calls.info(handle)) for handle in (first, second, third)}
    assert len(infos | {unused}) == 2
    # fd() and unlink() fail: the descriptor and the name belong to the segment.
    assert calls.fd(first, byref(c_int32()), byref(c_uint64())) == INVALID
    assert calls.unlink(first) == INVALID
    assert calls.segment(first, byref(home)) == OK
    size = c_uint64()
    assert LIB.shmkit_segment_size(home, byref(size)) == OK
    assert size.value == shm.size
    for handle in (first, second, third):
        assert calls.close(handle) == OK
    assert LIB.shmkit_segment_close(home) == OK


def test_impossible_offset_is_refused(calls, row, given, shm, segment):
    handle = c_void_p(77)
    beyond = shm.size - row.size + 64
    for offset in (1, 8, 63, 65, beyond, shm.size, 1 << 63, (1 << 64) - 64, (1 << 64) - 1):
        assert calls.create_at(segment, offset, given, byref(handle)) == INVALID
        if offset != beyond:
            assert calls.open_at(segment, offset, given, byref(handle)) == INVALID
    assert handle.value == 77
    assert not any(shm.buf)
    assert calls.create_at(segment, beyond - 64, given, byref(handle)) == OK
    assert calls.close(handle) == OK


def test_plain_segment_is_refused(calls, given):
    plain, handle = c_void_p(), c_void_p(77)
    assert LIB.shmkit_segment_create(None, 1 << 17, None, byref(plain)) == OK
    for make in (calls.create_at, calls.open_at):
        assert make(plain, 64, given, byref(handle)) == WRONG_KIND
    assert handle.value == 77
    assert LIB.shmkit_segment_close(plain) == OK
    assert calls.create_at(plain, 64, given, byref(handle)) == CLOSED


def test_options_that_contradict_an_existing_object_are_refused(calls, row, name, named):
    same = c_void_p(77)
    if row.c_contradiction:
        options = calls.options(**row.c_contradiction)
        assert calls.open_or_create(f"{name}.object".encode(), options, byref(same)) == INVALID
        assert same.value == 77


def test_descriptor_and_offset_open_it(calls, row, other, handle):
    fd, offset, same, home, arena = c_int32(), c_uint64(), c_void_p(), c_void_p(), c_void_p()
    assert calls.fd(handle, byref(fd), byref(offset)) == OK
    assert "memfd:shmkit" in os.readlink(f"/proc/self/fd/{fd.value}")
    assert calls.open_fd(fd, offset, None, byref(same)) == OK
    assert bytes(calls.info(same)) == bytes(calls.info(handle))
    assert calls.segment(same, byref(home)) == OK
    if not row.own_file:
        # The object is stored in the arena of this process.
        assert calls.open_at(home, offset, None, byref(arena)) == OK
        assert calls.close(arena) == OK
    # An object in the arena cannot be unlinked. An unnamed file of its own has no name to remove, which is OK.
    assert calls.unlink(same) == calls.unlink(handle) == (OK if row.own_file else INVALID)
    assert calls.close(same) == OK
    same.value = None
    for wrong in (offset.value + 1, 1 << 62, (1 << 64) - 1):
        assert calls.open_fd(fd, wrong, None, byref(same)) == INVALID
    assert calls.open_fd(-1, 0, None, byref(same)) == INVALID
    assert other.open_fd(fd, offset, None, byref(same)) == WRONG_KIND
    assert same.value is None
    # The descriptor belongs to the handle and stays open.
    assert LIB.shmkit_segment_close(home) == OK
    os.fstat(fd.value)


def test_handle_that_was_opened_by_descriptor_has_no_name(calls, named):
    fd, offset, same = c_int32(), c_uint64(), c_void_p()
    assert calls.fd(named, byref(fd), byref(offset)) == OK
    assert calls.open_fd(fd, 64, None, byref(same)) == INVALID
    assert calls.open_fd(fd, offset, None, byref(same)) == OK
    assert calls.unlink(same) == INVALID
    assert calls.unlink(named) == OK
    assert bytes(calls.info(same)) == bytes(calls.info(named))
    assert calls.close(same) == OK


def test_object_of_another_user_needs_trust(name, as_other_user):
    code = """
        import sys
        from nouns import ROWS
        become_other_user()
        made = [row.make(name=f"{sys.argv[1]}-{number}", mode=0o666) for number, row in enumerate(ROWS)]
        print("made", flush=True)
        sys.stdin.read(1)
        for one in made:
            one.unlink()
    """
    with as_other_user.start(code, name) as process:
        assert process.stdout.readline() == "made\n"
        for number, row in enumerate(ROWS):
            calls, c_name, handle = Calls(row.noun), f"{name}-{number}".encode(), c_void_p()
            assert calls.open(c_name, None, byref(handle)) == UNTRUSTED
            assert calls.open(c_name, calls.options(flags=TRUST), byref(handle)) == OK
            assert calls.close(handle) == OK
        assert process.communicate("x") == ("", "")


def test_segment_close_refuses_the_handle_of_an_object(handle):
    assert LIB.shmkit_segment_close(handle) == WRONG_KIND
