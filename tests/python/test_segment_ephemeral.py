"""Ephemeral segments: the last user removes the name, and gc() removes the names that killed users have left."""

import os
import pickle

import pytest
import shmkit
from child import wait_until
from conftest import refused
from shmkit import Lock, SharedMemory

NOT_FOUND = -4
EPHEMERAL = {"create": True, "size": 100, "ephemeral": True}
MAGIC = b"shmkit\r\x1a"


def test_the_last_user_removes_the_name(name, path):
    made = SharedMemory(name, **EPHEMERAL)
    assert made.stat().ephemeral
    assert made.stat().managed
    same = SharedMemory(name)
    assert same.stat().ephemeral
    made.close()
    assert path.exists()
    with SharedMemory(name) as again:
        assert again.stat().id == same.stat().id
    assert path.exists()
    same.close()
    assert not path.exists()


@pytest.mark.parametrize("way", ["garbage", "view", "array", "reader"])
def test_any_mapping_counts_as_a_user(name, path, way):
    made = SharedMemory(name, **EPHEMERAL)
    if way == "garbage":
        del made
        assert not path.exists()
        return
    if way == "view":
        kept = memoryview(made)[10:20]
    elif way == "array":
        kept = pytest.importorskip("numpy").ndarray(100, "u1", buffer=made.buf)
    else:
        kept = SharedMemory(name, readonly=True)
    made.close()
    del made
    assert path.exists()
    assert SharedMemory.gc() == 0
    if way == "reader":
        kept.close()
    del kept
    assert not path.exists()


def test_a_forked_child_is_a_user(name, path, fork):
    made = SharedMemory(name, **EPHEMERAL)

    def work(child):
        child.send("attached")
        child.pause()
        child.send(made.buf[0])
        made.close()

    child = fork(work)
    assert child.receive() == "attached"
    made.buf[0] = 5
    made.close()
    assert path.exists()
    assert SharedMemory.gc() == 0
    child.go()
    assert child.receive() == 5
    child.end()
    assert not path.exists()


def test_close_after_unlink_keeps_another_segment_of_the_name(name, path):
    with SharedMemory(name, **EPHEMERAL) as made:
        made.unlink()
        assert not path.exists()
        with SharedMemory(name, create=True, size=1) as other:
            made.close()
            assert path.exists()  # the name belongs to the other segment
            other.unlink()


def test_a_killed_user_leaves_the_name_and_gc_removes_it(name, path, fork):
    def work(child):
        made = SharedMemory(name, **EPHEMERAL)
        child.send(made.size)
        child.pause()

    child = fork(work)
    assert child.receive() == 100
    assert SharedMemory.gc() == 0
    child.kill()
    assert path.exists()
    assert SharedMemory.gc() == 1
    assert not path.exists()
    assert SharedMemory.gc() == 0


def test_a_process_that_opens_an_abandoned_segment_is_its_user(name, path, fork):
    def leave(child):
        made = SharedMemory(name, **EPHEMERAL)
        child.send(made.lock.acquire())
        child.pause()

    child = fork(leave)
    assert child.receive() is True
    with SharedMemory(name) as same:
        child.kill()
        assert SharedMemory.gc() == 0
        assert path.exists()
        with pytest.raises(shmkit.OwnerDied):
            same.lock.acquire()
    assert not path.exists()


def test_gc_removes_only_ephemeral_segments(name, path, fork):
    others = [
        SharedMemory(name + ".plain", create=True, size=100),
        SharedMemory(name + ".full", create=True, size=100, managed=True),
    ]
    lock = Lock(name + ".lock")
    for other in others:
        other.close()
    lock.close()

    def leave(child):
        left = [SharedMemory(f"{name}.{number}", **EPHEMERAL) for number in range(5)]
        child.send(len(left))
        child.pause()

    child = fork(leave)
    assert child.receive() == 5
    with SharedMemory(f"{name}.3") as attached:
        child.kill()
        assert SharedMemory.gc() == 4
        assert SharedMemory.names() == sorted([f"{name}.3", f"{name}.full", f"{name}.lock", f"{name}.plain"])
        assert attached.size == 100
    for other in (*others, lock):
        other.unlink()
    assert SharedMemory.names() == []


def test_gc_takes_a_directory(name, tmp_path, fork):
    def leave(child):
        made = SharedMemory(name, directory=tmp_path, **EPHEMERAL)
        child.send(made.size)
        child.pause()

    child = fork(leave)
    child.receive()
    child.kill()
    assert SharedMemory.gc() == 0
    assert SharedMemory.gc(bytes(tmp_path)) == 1
    assert os.listdir(tmp_path) == []
    refused(FileNotFoundError, NOT_FOUND, SharedMemory.gc, tmp_path / "none")
    with pytest.raises(TypeError):
        SharedMemory.gc(5)
    with pytest.raises(ValueError, match="NUL"):
        SharedMemory.gc("a\0b")


def test_gc_keeps_files_that_are_no_segments(name, path):
    for content in (b"", b"x", MAGIC, MAGIC * 100, os.urandom(200)):
        path.write_bytes(content)
        assert SharedMemory.gc() == 0
        assert path.read_bytes() == content
    path.unlink()
    path.symlink_to("nowhere")
    assert SharedMemory.gc() == 0
    path.unlink()
    path.mkdir()
    assert SharedMemory.gc() == 0
    path.rmdir()


def test_gc_keeps_ephemeral_segments_of_another_user(name, path, as_other_user):
    code = """
        import sys
        from shmkit import SharedMemory
        become_other_user()
        made = SharedMemory(sys.argv[1], create=True, size=100, ephemeral=True, mode=0o666)
        os.kill(os.getpid(), 9)
    """
    as_other_user(code, name, status=-9)
    assert SharedMemory.gc() == 0
    assert path.exists()
    assert as_other_user("from shmkit import SharedMemory\nbecome_other_user()\nprint(SharedMemory.gc())").out == "1\n"
    assert not path.exists()


def test_gc_races_with_users(name, path, fork):
    """A process opens the segment or creates a new one, but never gets a segment whose name gc() has removed."""

    def work(child):
        for _ in range(200):
            with SharedMemory(name, create=None, size=100, ephemeral=True) as shm, SharedMemory(name) as same:
                assert same.stat().id == shm.stat().id
        child.send("done")

    children = [fork(work) for _ in range(3)]
    done = []
    while len(done) < 3:
        SharedMemory.gc()
        for child in children:
            if child.pid and child.reaped(os.WNOHANG):
                done.append(child.status)
    assert [child.receive() for child in children] == ["done"] * 3
    assert done == [0] * 3
    wait_until(lambda: not path.exists() or SharedMemory.gc())


def test_an_unpickled_copy_is_a_user(name, path):
    made = SharedMemory(name, **EPHEMERAL)
    same = pickle.loads(pickle.dumps(made))
    made.close()
    assert same.stat().ephemeral
    assert path.exists()
    same.close()
    assert not path.exists()
