"""The C functions of every noun refuse NULL, misaligned pointers, wrong handles and impossible options."""

import contextlib
import ctypes
import re
from ctypes import POINTER, byref, c_char_p, c_int32, c_int64, c_uint32, c_uint64, c_void_p

import pytest
from nouns import C_ROWS, ROWS
from shmkit import SharedMemory

from capi import (
    CLOSE_NULL,
    CLOSED,
    HEADER,
    INTERRUPTIBLE,
    INVALID,
    LIB,
    NOT_FOUND,
    NOWAIT,
    OK,
    UNSUPPORTED,
    WRONG_KIND,
    Calls,
    QueueMessage,
    last_error,
)

TRUST, EXCLUSIVE = 0x20000, 0x100000
NOUNS = re.findall(r"shmkit_(\w+)_create_at\(", HEADER)
# Options that create an object of each noun.
OPTIONS = {row.noun: row.c_options for row in reversed(ROWS)}
MAKING = ["create", "open", "open_or_create", "create_at", "open_at", "open_fd"]
LIFE = ["size", *MAKING, "fd", "segment", "stat", "unlink", "close"]


@pytest.fixture(params=C_ROWS, ids=lambda row: row.kind.__name__)
def row(request):
    """Return the row of each kind of object."""
    return request.param


@pytest.fixture
def calls(row):
    """Return the functions of the noun."""
    return Calls(row.noun)


@pytest.fixture
def valid(calls, row, shm):
    """Return valid arguments for each function of the life cycle."""
    given, out, fd, offset = calls.options(**row.c_options), c_void_p(77), c_int32(), c_uint64()
    segment, named, placed = c_void_p(), c_void_p(), c_void_p()
    name = f"{shm.name}.object"
    assert LIB.shmkit_segment_open(shm.name.encode(), 0, None, byref(segment)) == OK
    assert calls.create_at(segment, 0, given, byref(placed)) == OK
    assert calls.create(name.encode(), given, byref(named)) == OK
    assert calls.fd(named, byref(fd), byref(offset)) == OK
    info = calls.info_type(struct_size=ctypes.sizeof(calls.info_type))
    yield {
        "size": [given, byref(c_uint64())],
        "create": [f"{shm.name}.fresh".encode(), given, byref(out)],
        "open": [name.encode(), given, byref(out)],
        "open_or_create": [name.encode(), given, byref(out)],
        "create_at": [segment, 0, given, byref(out)],
        "open_at": [segment, 0, given, byref(out)],
        "open_fd": [fd, offset, given, byref(out)],
        "fd": [named, byref(c_int32()), byref(c_uint64())],
        "segment": [named, byref(out)],
        "stat": [named, byref(info)],
        "unlink": [named],
        "close": [named],
    }
    assert calls.close(named) in (OK, CLOSED)
    assert calls.close(placed) == OK
    assert LIB.shmkit_segment_close(segment) == OK
    with contextlib.suppress(FileNotFoundError):
        SharedMemory.unlink_name(name)


def is_pointer(kind):
    """Return whether an argument of this type is a pointer to an aligned type."""
    return kind is c_void_p or isinstance(kind, type(POINTER(c_int32)))


def places(calls, wanted):
    """Yield the function, the position and the type of each wanted argument."""
    for verb in LIFE:
        for place, kind in enumerate(calls.table[verb]):
            if wanted(verb, kind):
                yield verb, place, kind


def status_with(calls, valid, verb, place, argument):
    """Return the status of a function of whose arguments all but one are valid."""
    arguments = list(valid[verb])
    arguments[place] = argument
    return getattr(calls, verb)(*arguments)


def test_null_pointer_is_refused(calls, valid):
    def wanted(verb, kind):
        may_be_null = kind is POINTER(calls.options_type) or (verb == "create" and kind is c_char_p)
        return not may_be_null and (kind is c_char_p or is_pointer(kind))

    for verb, place, _ in places(calls, wanted):
        expected = CLOSE_NULL if verb == "close" else INVALID
        assert status_with(calls, valid, verb, place, None) == expected, (verb, place)
        if expected == INVALID:
            assert last_error()[0] == INVALID
            assert "NULL" in last_error()[2]


def test_misaligned_pointer_is_refused(calls, valid):
    memory = ctypes.create_string_buffer(256)
    for verb, place, kind in places(calls, lambda _, kind: is_pointer(kind)):
        misaligned = ctypes.cast(ctypes.addressof(memory) | 1, kind)
        assert status_with(calls, valid, verb, place, misaligned) == INVALID, (verb, place)
        assert last_error()[0] == INVALID
        assert "aligned" in last_error()[2]


def test_valid_arguments_succeed(calls, valid):
    """This ensures that the other tests fail for their invalid argument alone."""
    for verb in LIFE:
        assert getattr(calls, verb)(*valid[verb]) == OK, verb
        made = [argument._obj for argument in valid[verb] if isinstance(getattr(argument, "_obj", None), c_void_p)]
        if verb == "segment":
            assert LIB.shmkit_segment_close(made[0]) == OK
        elif made:
            if verb == "create":
                assert calls.unlink(made[0]) == OK
            assert calls.close(made[0]) == OK


@pytest.mark.parametrize("noun", NOUNS)
def test_null_for_every_pointer_is_refused(noun):
    numbers = (c_int32, c_uint32, c_uint64, c_int64)
    calls = Calls(noun)
    for verb, takes in calls.table.items():
        status = getattr(calls, verb)(*(0 if kind in numbers else None for kind in takes))
        assert status == (CLOSE_NULL if verb == "close" else INVALID), verb
        if status == INVALID:
            assert last_error()[0] == INVALID
            assert "NULL" in last_error()[2]


@pytest.mark.parametrize("noun", NOUNS)
def test_handle_that_is_closed_or_of_another_kind_is_refused(noun):
    """Each function of a noun gets a closed handle, and a handle of every other kind."""
    handles, calls, memory = {}, Calls(noun), ctypes.create_string_buffer(64)
    for each in NOUNS:
        handles[each] = c_void_p()
        assert Calls(each).create(None, Calls(each).options(**OPTIONS[each]), byref(handles[each])) == OK
    handles["segment"] = c_void_p()
    assert LIB.shmkit_segment_create(None, 64, None, byref(handles["segment"])) == OK
    for verb, takes in calls.table.items():
        if takes[0] is c_void_p:
            own = "segment" if verb in ("create_at", "open_at") else noun
            others = [handle for each, handle in handles.items() if each != own]
            outputs = [byref(kind._type_()) if is_pointer(kind) and kind is not c_void_p else 0 for kind in takes[1:]]
            if own == "segment":
                outputs[1] = calls.options(**OPTIONS[noun])
            for wrong in (*others, ctypes.cast(memory, c_void_p)):
                assert getattr(calls, verb)(wrong, *outputs) == WRONG_KIND, verb
    for each in ("segment", *NOUNS):
        assert getattr(LIB, f"shmkit_{each}_close")(handles[each]) == OK
    for verb, takes in calls.table.items():
        if takes[0] is c_void_p:
            own = "segment" if verb in ("create_at", "open_at") else noun
            outputs = [byref(kind._type_()) if is_pointer(kind) and kind is not c_void_p else 0 for kind in takes[1:]]
            if own == "segment":
                outputs[1] = None
            assert getattr(calls, verb)(handles[own], *outputs) == CLOSED, verb


# --- options and infos ------------------------------------------------------------------------------------------------


def statuses_with(calls, valid, options):
    """Return the statuses of all functions that take options, with these options."""
    return {status_with(calls, valid, verb, -2, options) for verb in ("size", *MAKING)}


def test_options_of_impossible_size_are_refused(calls, valid):
    kind = calls.options_type
    for size in (0, 4, ctypes.sizeof(kind) - 1, 4097, 0xFFFFFFFF):
        assert statuses_with(calls, valid, byref(kind(struct_size=size))) == {INVALID}
        assert "struct_size" in last_error()[2]


def newer(kind, **fields):
    """Return a struct of a later version, which has one more field."""
    later = type("Newer", (kind,), {"_fields_": [("more", c_uint64)]})
    return later(struct_size=ctypes.sizeof(later), **fields)


def test_options_of_a_later_version_are_accepted_if_the_new_field_is_zero(calls, row, name):
    handle, options_pointer = c_void_p(), POINTER(calls.options_type)
    for fields, status in (({"more": 0}, OK), ({"more": 1}, UNSUPPORTED)):
        options = newer(calls.options_type, **row.c_options, **fields)
        assert calls.create(None, ctypes.cast(byref(options), options_pointer), byref(handle)) == status
        if status == OK:
            assert calls.close(handle) == OK


def test_info_of_impossible_size_is_refused(calls, valid):
    handle = valid["stat"][0]
    for size in (0, 4, ctypes.sizeof(calls.info_type) - 1, 4097):
        info = calls.info_type(struct_size=size)
        assert calls.stat(handle, byref(info)) == INVALID
        assert "struct_size" in last_error()[2]
        assert bytes(info) == bytes(calls.info_type(struct_size=size))


def test_known_fields_of_an_info_of_a_later_version_are_filled(calls, valid):
    handle = valid["stat"][0]
    info = newer(calls.info_type, more=77)
    assert calls.stat(handle, ctypes.cast(byref(info), POINTER(calls.info_type))) == OK
    assert (info.struct_size, info.more) == (ctypes.sizeof(calls.info_type), 77)


def test_unknown_flags_are_refused(calls, row, valid):
    for bit in range(32):
        if not 1 << bit & (row.flags | TRUST | EXCLUSIVE):
            options = calls.options(**dict(row.c_options, flags=row.c_options.get("flags", 0) | 1 << bit))
            assert statuses_with(calls, valid, options) == {INVALID}, bit


def test_impossible_mode_is_refused(calls, row, valid):
    for mode in (0o1000, 0o1777, 1 << 31):
        assert statuses_with(calls, valid, calls.options(**row.c_options, mode=mode)) == {INVALID}


def test_impossible_number_of_participants_is_refused(calls, row, name):
    handle = c_void_p(77)
    for participants in (4097, 1 << 31):
        options = calls.options(**row.c_options, participants=participants)
        for make in (calls.create, calls.open_or_create):
            assert make(name.encode(), options, byref(handle)) == INVALID
    assert handle.value == 77
    assert SharedMemory.names() == []


def test_reserved_options_must_be_zero(calls, row, valid):
    if "reserved" in dict(calls.options_type._fields_):
        assert statuses_with(calls, valid, calls.options(**row.c_options, reserved=1)) == {INVALID}


def test_outputs_are_untouched_after_an_error(calls, row, name):
    handle, size, fd, offset = c_void_p(77), c_uint64(77), c_int32(77), c_uint64(77)
    assert calls.open(name.encode(), None, byref(handle)) == NOT_FOUND
    assert calls.size(calls.options(**dict(row.c_options, flags=1)), byref(size)) == INVALID
    assert calls.fd(None, byref(fd), byref(offset)) == INVALID
    assert calls.segment(None, byref(handle)) == INVALID
    assert (handle.value, size.value, fd.value, offset.value) == (77, 77, 77, 77)


# --- waits ------------------------------------------------------------------------------------------------------------

WAITS = [(noun, verb) for noun in NOUNS for verb, takes in Calls(noun).table.items() if c_int64 in takes]
# The flags of a call besides SHMKIT_INTERRUPTIBLE.
WAIT_FLAGS = {("barrier", "wait"): 2, ("queue", "put_many"): 0x200000}


@pytest.mark.parametrize(("noun", "verb"), WAITS, ids=".".join)
def test_impossible_timeout_and_flags_of_a_wait_are_refused(noun, verb):
    calls, memory = Calls(noun), ctypes.create_string_buffer(64)
    takes, own = calls.table[verb], WAIT_FLAGS.get((noun, verb), 0)
    place = takes.index(c_int64)

    with calls.made(**OPTIONS[noun]) as handle, Calls("lock").made() as lock:
        arguments, outputs = [handle], []
        for kind in takes[1:]:
            if kind is c_void_p:
                arguments.append(lock if noun == "condition" else ctypes.cast(memory, c_void_p))
            elif kind is POINTER(QueueMessage):
                arguments.append(byref(QueueMessage()))
            elif is_pointer(kind):
                outputs.append(kind._type_(77))
                arguments.append(byref(outputs[-1]))
            else:
                arguments.append(1)

        def status(timeout, flags):
            arguments[place : place + 2] = timeout, flags
            return getattr(calls, verb)(*arguments)

        unused = bytes(calls.info(handle))
        for timeout in (-2, -(1 << 63)):
            assert status(timeout, 0) == INVALID
        for bit in range(1, 32):
            if 1 << bit != own:
                assert status(NOWAIT, 1 << bit) == INVALID, bit
        assert bytes(calls.info(handle)) == unused
        assert [output.value for output in outputs] == [77] * len(outputs)
        for flags in (0, INTERRUPTIBLE | own):
            assert status(NOWAIT, flags) != INVALID
