"""Managed segments: with a control area before byte 0, and a built-in lock."""

import gc
import os
import pickle
import resource
import weakref

import pytest
import shmkit
from conftest import refused
from shmkit import Lock, SharedMemory
from test_segment_standard import STANDARD

INVALID, CLOSED, WRONG_KIND = range(-1, -4, -1)
PAGE = resource.getpagesize()
MAGIC = b"shmkit\r\x1a"


@pytest.fixture(params=["named", "anonymous"])
def shm(request, name):
    """Return a managed segment of 100 bytes."""
    how = {"name": name} if request.param == "named" else {"anonymous": True}
    with SharedMemory(create=True, size=100, managed=True, capacity=1 << 20, **how) as made:
        yield made
        made.unlink()


# --- properties -------------------------------------------------------------------------------------------------------


def test_segments_are_plain_by_default(name, path):
    with SharedMemory(name, create=True, size=100) as plain:
        info = plain.stat()
        assert (info.managed, info.ephemeral, info.participants, info.control_bytes, info.id) == (False, False, 0, 0, 0)
        assert path.stat().st_size == 100
        plain.unlink()
    with SharedMemory(name, create=True, size=100, managed=False) as plain:
        assert not plain.stat().managed
        plain.unlink()


def test_stat_describes_a_managed_segment(shm):
    info = shm.stat()
    assert (info.managed, info.ephemeral, info.size, info.participants) == (True, False, 100, 128)
    assert info.control_bytes > 0
    assert info.control_bytes % PAGE == 0
    assert info.id != 0
    assert (info.size, shm.size, len(shm.buf), len(memoryview(shm))) == (100, 100, 100, 100)
    assert bytes(shm.buf) == bytes(100)
    assert os.fstat(shm.fileno()).st_size == info.control_bytes + 100
    assert info.allocated >= info.control_bytes + 100
    assert shm.capacity == 1 << 20


def test_each_segment_has_another_id():
    made = [SharedMemory(create=True, size=1, anonymous=True, managed=True) for _ in range(20)]
    assert len({shm.stat().id for shm in made}) == 20


def test_the_size_excludes_the_control_area_after_growth_too(name):
    with SharedMemory(name, create=True, size=100, managed=True, capacity=1 << 20) as shm, SharedMemory(name) as same:
        shm.unlink()
        before = same.buf
        before[99] = 7
        for size in (101, PAGE, PAGE + 1, 1 << 20):
            shm.resize(size)
            assert shm.size == same.size == shm.stat().size == len(shm.buf) == size
            assert os.fstat(shm.fileno()).st_size == shm.stat().control_bytes + size
            shm.buf[size - 1] = 9
        assert shm.buf[99] == 7
        with SharedMemory(create=True, size=1, anonymous=True) as other:
            assert other.size == 1
        with pytest.raises(ValueError, match="capacity"):
            shm.resize((1 << 20) + 1)
        with pytest.raises(ValueError, match="shrink"):
            shm.resize(1)
        with shm.lock:
            assert shm.lock.locked()


def test_attaching_recognises_a_managed_segment(name):
    with SharedMemory(name, create=True, size=100, managed=True, participants=7) as made:
        for how in (
            {},
            {"managed": True},
            {"create": None, "size": 100},
            {"create": None, "size": 50, "managed": True},
        ):
            with SharedMemory(name, **how) as same:
                assert same.stat().managed
                assert (same.size, same.stat().participants, same.stat().id) == (100, 7, made.stat().id)
                made.buf[5] += 1
                assert same.buf[5] == made.buf[5]
                with made.lock:
                    assert same.lock.locked()
        made.unlink()


def test_managed_true_refuses_a_plain_segment(name):
    with SharedMemory(name, create=True, size=100) as plain:
        refused(ValueError, WRONG_KIND, SharedMemory, name, managed=True, match="plain")
        refused(ValueError, WRONG_KIND, SharedMemory, name, create=None, size=100, managed=True)
        refused(ValueError, WRONG_KIND, SharedMemory, name, create=None, size=100, participants=5)
        plain.unlink()


def test_managed_false_maps_the_whole_file(name):
    with SharedMemory(name, create=True, size=100, managed=True) as made:
        made.buf[0] = 77
        with SharedMemory(name, managed=False) as raw:
            info = made.stat()
            assert not raw.stat().managed
            assert raw.size == info.control_bytes + 100
            assert bytes(raw.buf[:8]) == MAGIC
            assert raw.buf[info.control_bytes] == 77
            refused(ValueError, WRONG_KIND, lambda: raw.lock)
            with pickle.loads(pickle.dumps(raw)) as same:
                assert same.size == raw.size
                assert not same.stat().managed
        made.unlink()


def test_the_standard_class_sees_the_control_area(run, name, default_directory):
    with SharedMemory(name, create=True, size=100, managed=True) as shm:
        shm.buf[:5] = b"howdy"
        before = shm.stat().control_bytes
        code = """
shm = attach(sys.argv[1])
before = int(sys.argv[2])
print(bytes(shm.buf[:8]), shm.size, bytes(shm.buf[before : before + 5]))
shm.close()
"""
        assert run(STANDARD + code, name, before).out == f"{MAGIC} {before + 100} b'howdy'\n"
        shm.unlink()


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("participants", [1, 2, 128, 1000, 4096])
def test_participants_may_be_1_to_4096(name, participants):
    with SharedMemory(name, create=True, size=100, participants=participants) as shm:
        shm.unlink()
        assert shm.stat().managed
        assert shm.stat().participants == participants
        assert shm.stat().control_bytes >= 64 * participants
        with shm.lock:
            assert shm.lock.owner == os.getpid()


@pytest.mark.parametrize("participants", [0, -1, 4097, 1 << 31, 1 << 32, (1 << 32) + 5, 1 << 63, 1 << 70, -(1 << 70)])
def test_impossible_numbers_of_participants_are_refused(name, participants):
    with pytest.raises(ValueError, match="participants"):
        SharedMemory(name, create=True, size=100, participants=participants)
    assert SharedMemory.names() == []


@pytest.mark.parametrize("participants", ["5", 5.0, b"5", [5]])
def test_participants_must_be_an_integer(name, participants):
    with pytest.raises(TypeError):
        SharedMemory(name, create=True, size=100, participants=participants)


@pytest.mark.parametrize("how", [{"ephemeral": True}, {"participants": 5}])
def test_contradictory_arguments_are_refused(name, how):
    refused(ValueError, INVALID, SharedMemory, name, create=True, size=100, managed=False, **how)
    assert SharedMemory.names() == []


def test_a_process_beyond_the_participants_gets_an_error(name, held, fork):
    with SharedMemory(name, create=True, size=100, participants=2) as shm:
        shm.unlink()
        with shm.lock:
            pass
        child = held(shm.lock)

        def work(third):
            with pytest.raises(shmkit.ShmkitError) as caught:
                shm.lock.acquire(False)
            third.send((type(caught.value).__name__, caught.value.status, shm.size, shm.buf[0]))

        assert fork(work).receive() == ("ShmkitError", -19, 100, 0)
        child.kill()  # its slot is free now
        assert fork(lambda third: third.send(shm.lock.recover().__enter__())).receive() is True


# --- the built-in lock ------------------------------------------------------------------------------------------------


def test_the_lock_is_always_the_same_object(shm):
    lock = shm.lock
    assert type(lock) is Lock
    assert shm.lock is lock
    place = "a segment" if shm.name is None else repr(shm.name)
    assert repr(lock) == f"<Lock built into {place} unlocked>"
    with lock, pickle.loads(pickle.dumps(shm)) as same:
        assert same.lock is not lock
        assert same.lock.locked()


def test_a_plain_segment_has_no_lock(name):
    with SharedMemory(name, create=True, size=100) as plain:
        plain.unlink()
        refused(ValueError, WRONG_KIND, lambda: plain.lock, match="plain")


def test_a_closed_segment_has_no_lock(shm):
    lock = shm.lock
    shm.close()
    refused(ValueError, CLOSED, lambda: shm.lock)
    # The lock works while it is referenced: as every lock, it keeps its memory mapped.
    with lock:
        assert lock.locked()
    lock.close()


def test_the_lock_does_not_keep_the_segment_object(name):
    made = SharedMemory(name, create=True, size=100, managed=True)
    made.unlink()
    seen, lock = weakref.ref(made), made.lock
    gc.disable()
    try:
        del made
        assert seen() is None  # no reference cycle
    finally:
        gc.enable()
    assert repr(lock) == "<Lock built into a segment unlocked>"
    lock.close()


def test_a_segment_may_contain_many_locks():
    with SharedMemory(create=True, size=10_000 * 64, anonymous=True, managed=True) as shm:
        locks = [Lock(segment=shm, offset=64 * number) for number in range(10_000)]
        for lock in locks[::100]:
            lock.acquire()
        assert [number for number, lock in enumerate(locks) if lock.locked()] == list(range(0, 10_000, 100))
        for lock in locks:
            lock.close()


# --- pickling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anonymous", [False, True])
def test_a_pickled_segment_stays_managed(name, anonymous):
    how = {"anonymous": True} if anonymous else {"name": name}
    with SharedMemory(create=True, size=100, managed=True, participants=9, **how) as shm:
        with pickle.loads(pickle.dumps(shm)) as same:
            assert same.stat()[10:] == shm.stat()[10:]
            assert same.stat()[11:] == (True, False, 9, shm.stat().control_bytes, shm.stat().id)
            shm.buf[3] = 4
            assert same.buf[3] == 4
        shm.unlink()
