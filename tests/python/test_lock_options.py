"""The constructors of locks: where they stand, what contradicts itself, and what stands there already."""

import os
from contextlib import closing

import pytest
import shmkit
from conftest import NOBODY, refused
from shmkit import Lock, RLock, SharedMemory

INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS, PERMISSION, UNTRUSTED = range(-1, -8, -1)
PARTICIPANTS = -19


# --- where it stands --------------------------------------------------------------------------------------------------


def test_without_arguments(kind):
    lock = kind()
    assert (lock.name, lock.offset, lock.owner, lock.locked(), lock.recovered) == (None, None, None, False, False)
    assert repr(lock) == f"<{kind.__name__} unnamed unlocked>"
    assert not lock.transferable
    lock.close()


def test_by_name(kind, name, path):
    with closing(kind(name)) as lock:
        assert (lock.name, lock.offset) == (name, None)
        assert repr(lock) == f"<{kind.__name__} {name!r} unlocked>"
        assert SharedMemory.names() == [name]
        assert path.stat().st_mode & 0o777 == 0o600
        with closing(kind("/" + name, create=False)) as same:
            assert same.name == name
            with lock:
                assert same.locked()
                assert same.owner == os.getpid()
        lock.unlink()


def test_create(kind, name):
    refused(FileNotFoundError, NOT_FOUND, kind, name, create=False)
    with closing(kind(name, create=True)) as made:
        refused(FileExistsError, EXISTS, kind, name, create=True)
        with closing(kind(name)) as one, closing(kind(name, create=False)) as other, made:
            assert one.locked()
            assert other.locked()
        made.unlink()


def test_at_a_place(kind, full):
    lock = kind(segment=full, offset=192)
    assert (lock.name, lock.offset) == (None, 192)
    assert repr(lock) == f"<{kind.__name__} in {full.name!r} at 192 unlocked>"
    assert bytes(full.buf[192:196]) == bytes([2 if kind is Lock else 3, 0, 0, 0])
    assert not any(full.buf[:192])
    assert not any(full.buf[256:])
    refused(FileExistsError, EXISTS, kind, segment=full, offset=192, create=True)
    refused(FileNotFoundError, NOT_FOUND, kind, segment=full, offset=256, create=False)
    same, other = kind(segment=full, offset=192, create=False), kind(segment=full, offset=256, create=True)
    with lock:
        assert same.locked()
        assert not other.locked()
        assert not full.lock.locked()
    for each in (lock, same, other):
        each.close()


def test_a_lock_keeps_its_segment(kind, full):
    lock = kind(segment=full, offset=0)
    full.close()
    with lock:
        assert lock.locked()
    lock.close()


def test_built_in(full):
    lock = Lock(segment=full)
    assert (lock.name, lock.offset) == (None, None)
    assert repr(lock) == f"<Lock built into {full.name!r} unlocked>"
    with lock:
        assert full.lock.locked()
        assert full.lock.owner == os.getpid()
    refused(FileExistsError, EXISTS, Lock, segment=full, create=True)
    same = Lock(segment=full, create=False)
    same.close()
    lock.close()
    refused(ValueError, INVALID, RLock, segment=full, match="'offset'")


def test_the_last_place_and_those_beyond(kind, full):
    kind(segment=full, offset=4096 - 64).close()
    for offset in (4096 - 63, 4096, 4096 + 64, 1 << 40, 1 << 63, (1 << 64) - 64, (1 << 64) - 1):
        refused(ValueError, INVALID, kind, segment=full, offset=offset, match="inside the segment")
        refused(ValueError, INVALID, kind, segment=full, offset=offset, create=False)
    for offset in (-1, -64, 1 << 64, 1 << 70, -(1 << 70)):
        refused(ValueError, INVALID, kind, segment=full, offset=offset, match="does not lie inside")
    for offset in (1, 8, 63, 65, 1000):
        refused(ValueError, INVALID, kind, segment=full, offset=offset, match="multiple of 64")
    assert not any(full.buf[: 4096 - 64])


def test_a_place_that_came_by_growth(kind):
    with SharedMemory(create=True, size=64, anonymous=True, managed=True, capacity=1 << 20) as shm:
        refused(ValueError, INVALID, kind, segment=shm, offset=1 << 16)
        shm.resize(1 << 17)
        with closing(kind(segment=shm, offset=1 << 16)) as lock, lock:
            assert lock.locked()


# --- contradictions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"offset": 64}, "name the segment too"),
        ({"create": False}, "nothing to open"),
        ({"create": 0}, "nothing to open"),
        ({"mode": 0o600}, "name it"),
        ({"directory": "/dev/shm"}, "name it"),
        ({"participants": 2}, "name it"),
        ({"segment": True, "mode": 0o600}, "name it"),
        ({"segment": True, "offset": 0, "directory": "/dev/shm"}, "name it"),
        ({"segment": True, "offset": 0, "participants": 2}, "name it"),
        ({"segment": True, "name": True, "offset": 0}, "not both"),
        ({"segment": True, "name": True}, "not both"),
        ({"name": True, "offset": 64}, "name the segment too"),
        ({"on_owner_death": "ignore"}, "on_owner_death"),
        ({"on_owner_death": None}, "on_owner_death"),
        ({"on_owner_death": "Raise"}, "on_owner_death"),
        ({"on_owner_death": b"raise"}, "on_owner_death"),
        ({"name": True, "mode": 0}, "mode"),
        ({"name": True, "mode": 0o1000}, "mode"),
        ({"name": True, "mode": -1}, "mode"),
        ({"name": True, "mode": 1 << 70}, "mode"),
        ({"name": True, "participants": 0}, "participants"),
        ({"name": True, "participants": -1}, "participants"),
        ({"name": True, "participants": 4097}, "participants"),
        ({"name": True, "participants": 1 << 70}, "participants"),
    ],
)
def test_arguments_that_contradict_each_other(kind, full, name, how, told):
    given = {"name": name, "segment": full}
    how = {key: given[key] if value is True else value for key, value in how.items()}
    refused(ValueError, INVALID, kind, **how, match=told)
    assert SharedMemory.names() == []


def test_the_built_in_lock_is_not_transferable(full):
    refused(ValueError, INVALID, Lock, segment=full, transferable=True, match="built in")


@pytest.mark.parametrize(
    "how",
    [
        {"name": b"bytes"},
        {"name": 7},
        {"name": ["x"]},
        {"name": "n", "mode": "600"},
        {"name": "n", "mode": 1.5},
        {"name": "n", "participants": "2"},
        {"name": "n", "participants": 2.0},
        {"name": "n", "directory": 5},
        {"segment": "psm_1", "offset": 0},
        {"segment": 5, "offset": 0},
        {"segment": bytearray(128), "offset": 0},
        {"segment": True, "offset": "0"},
        {"segment": True, "offset": 0.0},
        {"segment": True, "offset": b"0"},
        {"colour": "red"},
    ],
)
def test_arguments_of_a_wrong_type(kind, full, how):
    with pytest.raises(TypeError):
        kind(**{key: full if key == "segment" and value is True else value for key, value in how.items()})
    assert SharedMemory.names() == []


def test_all_but_the_name_are_keywords(kind, name):
    with pytest.raises(TypeError):
        kind(name, True)
    with pytest.raises(TypeError):
        RLock(transferable=True)


@pytest.mark.parametrize("bad", ["", "/", ".", "..", "a/b", "//a", "a/", "../a", "x" * 256, "ü" * 128, "a\0b"])
def test_names_that_cannot_be(kind, bad):
    for create in (None, True, False):
        refused(ValueError, INVALID, kind, bad, create=create, match="name")


def test_the_longest_name(kind):
    with closing(kind("n" * 255)) as lock:
        assert lock.name == "n" * 255
        lock.unlink()


def test_a_directory(kind, name, tmp_path):
    for directory in (tmp_path, str(tmp_path), bytes(tmp_path)):
        with closing(kind(name, directory=directory)) as lock:
            assert (tmp_path / name).is_file()
            refused(FileNotFoundError, NOT_FOUND, kind, name, create=False)
            lock.unlink()
            assert not (tmp_path / name).exists()
    refused(FileNotFoundError, NOT_FOUND, kind, name, directory=tmp_path / "none")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o777])
def test_the_mode_is_exactly_that(kind, name, path, mode):
    before = os.umask(0o077)
    try:
        with closing(kind(name, mode=mode)) as lock:
            assert path.stat().st_mode & 0o7777 == mode
            lock.unlink()
    finally:
        os.umask(before)


# --- what stands there already ----------------------------------------------------------------------------------------


def test_a_plain_segment(kind, name):
    with SharedMemory(name, create=True, size=4096) as plain:
        refused(ValueError, WRONG_KIND, kind, segment=plain, offset=64)
        refused(ValueError, WRONG_KIND, kind, segment=plain, offset=64, create=False)
        refused(ValueError, WRONG_KIND, Lock, segment=plain)
        refused(ValueError, WRONG_KIND, kind, name)
        refused(ValueError, WRONG_KIND, kind, name, create=False)
        assert not any(plain.buf)
        plain.unlink()


def test_a_readonly_segment(kind, name):
    with SharedMemory(name, create=True, size=4096, managed=True) as made, SharedMemory(name, readonly=True) as reader:
        made.unlink()
        refused(PermissionError, PERMISSION, kind, segment=reader, offset=64)
        kind(segment=made, offset=64).close()
        refused(PermissionError, PERMISSION, kind, segment=reader, offset=64, create=False)
        refused(PermissionError, PERMISSION, lambda: reader.lock)


def test_a_closed_segment(kind, full):
    full.close()
    refused(ValueError, CLOSED, kind, segment=full, offset=64, match="closed")
    refused(ValueError, CLOSED, Lock, segment=full, match="closed")
    refused(ValueError, CLOSED, lambda: full.lock, match="closed")
    refused(ValueError, CLOSED, kind, segment=SharedMemory.__new__(SharedMemory), offset=64)


def test_the_other_class(kind, name, full):
    other = RLock if kind is Lock else Lock
    with closing(kind(name)) as lock:
        refused(ValueError, WRONG_KIND, other, name)
        refused(ValueError, WRONG_KIND, other, name, create=False)
        refused(ValueError, WRONG_KIND, SharedMemory, name)
        lock.unlink()
    with closing(kind(segment=full, offset=0)):
        for create in (None, False):
            refused(ValueError, WRONG_KIND, other, segment=full, offset=0, create=create)
        refused(FileExistsError, EXISTS, other, segment=full, offset=0, create=True)


def test_a_full_segment_is_no_lock(kind, name):
    with SharedMemory(name, create=True, size=4096, managed=True) as shm:
        refused(ValueError, WRONG_KIND, kind, name)
        shm.unlink()


@pytest.mark.parametrize("number", [1, 4, 99, 0x0102_0304_0506_0708, 1 << 63])
def test_garbage_at_that_place(kind, full, number):
    full.view("Q")[8] = number
    for create in (None, False):
        refused(ValueError, WRONG_KIND, kind, segment=full, offset=64, create=create, match="stands there")
    refused(FileExistsError, EXISTS, kind, segment=full, offset=64, create=True)
    assert full.view("Q")[8] == number
    full.view("Q")[8] = 0
    kind(segment=full, offset=64).close()


def test_garbage_behind_it(full):
    lock = Lock(segment=full, offset=64)
    full.view("Q")[9:16] = memoryview(b"\xff" * 56).cast("Q")
    assert lock.stat().held
    assert lock.owner is None
    with pytest.raises((shmkit.OwnerDied, shmkit.Corrupt)):  # whose it is said to be has never lived
        lock.acquire()
    with lock.recover():
        assert lock.owner == os.getpid()
    with lock:
        pass
    lock.close()


def test_made_in_another_way(name, full):
    with closing(Lock(name, transferable=True)) as lock:
        assert lock.transferable
        refused(ValueError, INVALID, Lock, name, match="other options")
        with closing(Lock(name, create=False)) as same:  # for what it is
            assert same.transferable
        lock.unlink()
    with closing(Lock(segment=full, offset=0)) as lock:
        assert not lock.transferable
        refused(ValueError, INVALID, Lock, segment=full, offset=0, transferable=True)


def test_no_permission_and_another_user(kind, name, as_nobody):
    code = f"""
        import os, sys
        from shmkit import Lock, RLock
        become_nobody()
        for create in (None, False):
            try:
                {kind.__name__}(sys.argv[1], create=create)
            except PermissionError as error:
                print(error.status)
        mine = {kind.__name__}(sys.argv[1] + "2", mode=0o666)
        print("made", flush=True)
        sys.stdin.read(1)
        print(mine.owner == int(sys.argv[2]), mine.acquire(False))
        sys.stdout.flush()
        sys.stdin.read(1)
        mine.unlink()
    """
    with closing(kind(name)) as lock, as_nobody.start(code, name, os.getpid()) as process:
        assert [process.stdout.readline() for _ in range(3)] == [f"{PERMISSION}\n", f"{PERMISSION}\n", "made\n"]
        refused(PermissionError, UNTRUSTED, kind, name + "2", match=f"belongs to user {NOBODY}")
        refused(PermissionError, UNTRUSTED, kind, name + "2", create=False)
        theirs = kind(name + "2", trust=True)
        theirs.acquire()
        process.stdin.write("x")
        process.stdin.flush()
        assert process.stdout.readline() == "True False\n"
        theirs.release()
        theirs.close()
        assert process.communicate("x") == ("", "")
        lock.unlink()


def test_a_symbolic_link(kind, name, path):
    path.symlink_to("nowhere")
    refused(PermissionError, UNTRUSTED, kind, name, create=False)
    refused(FileExistsError, EXISTS, kind, name, create=True)
    path.unlink()


def test_a_full_file_system(kind, name, on_small_file_system):
    code = f"""
        import os, sys
        from shmkit import Lock, RLock, SharedMemory, limits
        fill = SharedMemory("fill", create=True, size=limits().directory_free)
        for create in (None, True):
            try:
                {kind.__name__}(sys.argv[1], create=create)
            except OSError as error:
                print(error.errno, error.status, SharedMemory.names())
        {kind.__name__}().acquire()  # stands elsewhere
        fill.unlink(); fill.close()
        lock = {kind.__name__}(sys.argv[1])
        print(lock.acquire())
        lock.unlink()
    """
    assert on_small_file_system(code, name).out == "28 -8 ['fill']\n" * 2 + "True\n"


def test_a_table_of_one_participant(kind, name, fork):
    with closing(kind(name, participants=1)) as lock:
        lock.acquire()

        def work(child):
            try:
                lock.acquire(False)
            except shmkit.ShmkitError as error:
                child.say(error.status)

        assert fork(work).said() == PARTICIPANTS
        lock.release()
        lock.unlink()
