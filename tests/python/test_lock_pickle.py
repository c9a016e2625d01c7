"""Locks are pickled: what travels, what is found again, and what is not. Other processes: test_lock_processes.py."""

import copy
import os
import pickle

import pytest
import shmkit
from conftest import refused
from shmkit import Lock, OwnerDied, RLock, SharedMemory, _handover

NOT_FOUND = -4
# --- within one process -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(lock, protocol):
    same = pickle.loads(pickle.dumps(lock, protocol))
    assert type(same) is type(lock)
    assert (same.name, same.offset) == (lock.name, lock.offset)
    with lock:
        assert same.locked()
        assert same.owner == os.getpid()
    with same:
        assert lock.locked()
    same.close()


def test_copies_are_handles(lock):
    one, other = copy.copy(lock), copy.deepcopy(lock)
    with lock:
        assert one.locked()
        assert other.locked()
    one.close()
    other.close()


def test_the_policy_and_the_way_it_was_made_travel(make):
    for how in ({"on_owner_death": "recover"}, {"transferable": True}, {"transferable": True, "trust": True}):
        for place in ("unnamed", "named"):
            lock = make(Lock, place, **how)
            same = pickle.loads(pickle.dumps(lock))
            assert same.transferable == lock.transferable == how.get("transferable", False)
            assert same.__reduce__()[1][2:] == lock.__reduce__()[1][2:]
            same.close()
            if place == "named":
                lock.unlink()


@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
@pytest.mark.parametrize("policy", ["raise", "recover"])
def test_the_policy_counts(make, kind, place, policy, held):
    lock = make(kind, place, on_owner_death=policy)
    same = pickle.loads(pickle.dumps(lock))
    held(lock).kill()
    if policy == "raise":
        with pytest.raises(OwnerDied):
            same.acquire()
    else:
        with same:
            assert same.recovered
    same.close()


class Named(Lock):
    """Has a constructor that takes something else, which unpickling does not call."""

    def __init__(self, number):
        super().__init__(on_owner_death="recover")
        self.number = number


class Sub(RLock):
    """Adds nothing."""

    __slots__ = ()


def test_subclasses_stay_what_they_are():
    for lock in (Named(3), Sub()):
        same = pickle.loads(pickle.dumps(lock))
        assert type(same) is type(lock)
        with lock:
            assert same.locked()
        same.close()
        lock.close()


def test_an_unnamed_lock_gets_no_descriptor_of_its_own():
    before = len(os.listdir("/proc/self/fd"))
    locks = [Lock() for _ in range(500)]
    same = [pickle.loads(pickle.dumps(lock)) for lock in locks]
    assert len(os.listdir("/proc/self/fd")) == before
    locks[7].acquire()
    assert [lock.locked() for lock in same].index(True) == 7
    locks[7].release()


def test_a_pickled_place_is_not_given_out_again():
    """Else the next lock here would be the one that others have heard of."""
    lock = Lock()
    pickled = pickle.dumps(lock)
    lock.close()
    del lock
    news = [Lock() for _ in range(50)]
    old = pickle.loads(pickled)
    with old:
        assert not any(lock.locked() for lock in news)
    old.close()


# --- what cannot be found ---------------------------------------------------------------------------------------------


def test_the_name_is_gone(kind, name):
    lock = kind(name)
    pickled = pickle.dumps(lock)
    lock.unlink()
    refused(FileNotFoundError, NOT_FOUND, pickle.loads, pickled)
    lock.close()


def test_another_lock_has_the_name_by_now(kind, name):
    lock = kind(name)
    pickled = pickle.dumps(lock)
    lock.unlink()
    other = kind(name, create=True)
    with pytest.raises(FileNotFoundError, match=f"another {kind.__name__} than the pickled one"):
        pickle.loads(pickled)
    other.unlink()
    other.close()
    lock.close()


def test_the_other_class_has_the_name_by_now(name):
    lock = Lock(name)
    pickled = pickle.dumps(lock)
    lock.unlink()
    other = RLock(name)
    with pytest.raises(ValueError, match="RLock"):
        pickle.loads(pickled)
    other.unlink()
    other.close()
    lock.close()


def test_the_sender_of_an_unnamed_one_is_gone(run, kind):
    out = run(f"""
        import pickle
        from shmkit import Lock, RLock
        print(pickle.dumps({kind.__name__}()).hex())
    """).out
    with pytest.raises(FileNotFoundError):
        pickle.loads(bytes.fromhex(out))


def test_another_pid_namespace(kind, monkeypatch):
    lock = kind()
    pickled = pickle.dumps(lock)
    monkeypatch.setattr(_handover, "_pid_namespace", lambda: 1)
    with pytest.raises(FileNotFoundError, match="another PID namespace"):
        pickle.loads(pickled)
    lock.close()


def test_a_segment_that_has_gone_from_under_its_lock(name):
    shm = SharedMemory(name, create=True, size=64, managed=True)
    shm.unlink()
    lock = shm.lock
    del shm
    with pytest.raises(ValueError, match="has gone"):
        pickle.dumps(lock)
    with lock:
        assert lock.locked()
    lock.close()


def test_a_closed_segment(kind, name):
    with SharedMemory(name, create=True, size=4096, managed=True) as shm:
        lock = kind(segment=shm, offset=0)
        shm.unlink()
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(lock)
    lock.close()


# --- the segment's own pickle -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("anonymous", [False, True])
def test_a_full_segment_brings_its_locks(name, anonymous):
    how = {"anonymous": True} if anonymous else {"name": name}
    with SharedMemory(create=True, size=4096, managed=True, **how) as shm:
        lock = Lock(segment=shm, offset=64)
        same_shm, same_lock = pickle.loads(pickle.dumps((shm, lock)))
        assert same_shm.stat().managed
        with lock, shm.lock:
            assert same_lock.locked()
            assert same_shm.lock.locked()
        place = "a segment" if anonymous else repr(name)
        assert repr(same_lock) == f"<Lock in {place} at 64 unlocked>"
        for thing in (lock, same_lock, same_shm):
            thing.close()
        if not anonymous:
            shm.unlink()
        assert shmkit.SharedMemory.names() == []
