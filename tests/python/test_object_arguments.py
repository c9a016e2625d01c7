"""Constructors of all classes refuse impossible names, contradictory arguments and wrong types."""

import itertools

import pytest
import shmkit
from conftest import refused
from shmkit import SharedMemory

INVALID = -1

BAD_NAMES = ["", "/", ".", "..", "a/b", "//a", "a/", "../a", "x" * 256, "ü" * 128, "a\0b"]


def test_impossible_name_is_refused(noun):
    for bad, create in itertools.product(BAD_NAMES, (None, True, False)):
        refused(ValueError, INVALID, noun.make, name=bad, create=create, match="name")


def test_error_for_a_name_with_a_nul_mentions_it(noun):
    refused(ValueError, INVALID, noun.make, name="a\0b", match="NUL")


# Contradictory arguments, and a word of the message. True is replaced by an unused name or by a segment.
CONTRADICTIONS = [
    ({"offset": 64}, "segment"),
    ({"name": True, "offset": 64}, "segment"),
    ({"create": False}, "nothing to open"),
    ({"create": 0}, "nothing to open"),
    ({"mode": 0o600}, "name"),
    ({"directory": "/dev/shm"}, "name"),
    ({"segment": True, "mode": 0o600}, "name"),
    ({"segment": True, "offset": 0, "mode": 0o600}, "name"),
    ({"segment": True, "offset": 0, "directory": "/dev/shm"}, "name"),
    ({"segment": True, "offset": 0, "participants": 2}, "name|segment"),
    ({"segment": True, "offset": 0, "name": True}, "not both"),
    ({"segment": True, "name": True}, "not both"),
    ({"name": True, "mode": 0}, "mode"),
    ({"name": True, "mode": 0o1000}, "mode"),
    ({"name": True, "mode": -1}, "mode"),
    ({"name": True, "mode": 1 << 70}, "mode"),
    ({"name": True, "participants": 0}, "participants"),
    ({"name": True, "participants": -1}, "participants"),
    ({"name": True, "participants": 4097}, "participants"),
    ({"name": True, "participants": 1 << 70}, "participants"),
]


def given(how, name, shm):
    """Return the arguments with a name and a segment in place of True."""
    those = {"name": name + ".object", "segment": shm}
    return {key: those[key] if value is True else value for key, value in how.items()}


def test_contradictory_arguments_are_refused(noun, name, shm):
    for how, words in CONTRADICTIONS:
        refused(ValueError, INVALID, noun.make, **given(how, name, shm), match=words)
    assert SharedMemory.names() == [shm.name]
    assert not any(shm.buf)


def test_participants_need_an_object_with_its_own_file(noun):
    if noun.own_file:
        noun.make(participants=2).close()
    else:
        refused(ValueError, INVALID, noun.make, participants=2, match="name")


WRONG_TYPES = [
    {"name": b"bytes"},
    {"name": 7},
    {"name": ["x"]},
    {"name": True, "mode": "600"},
    {"name": True, "mode": 1.5},
    {"name": True, "participants": "2"},
    {"name": True, "participants": 2.0},
    {"name": True, "directory": 5},
    {"segment": "psm_1", "offset": 0},
    {"segment": 5, "offset": 0},
    {"segment": bytearray(128), "offset": 0},
    {"segment": shmkit.SharedMemory, "offset": 0},
    {"segment": True, "offset": "0"},
    {"segment": True, "offset": 0.0},
    {"segment": True, "offset": b"0"},
    {"segment": True, "offset": [0]},
    {"colour": "red"},
]


def test_wrong_type_is_refused(noun, name, shm):
    for how in WRONG_TYPES:
        with pytest.raises(TypeError):
            noun.make(**given(how, name, shm))
    assert SharedMemory.names() == [shm.name]
    assert not any(shm.buf)


def test_further_arguments_must_be_keywords(noun):
    arguments = [*noun.arguments(), *[None] * noun.positional][: noun.positional]
    with pytest.raises(TypeError, match="positional"):
        noun.kind(*arguments, None)
