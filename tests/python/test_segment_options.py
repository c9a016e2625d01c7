"""SharedMemory beyond the standard class: open or create, permissions, directories, anonymous segments, listing."""

import os
import resource
import stat

import pytest
import shmkit
from shmkit import SharedMemory

PAGE = resource.getpagesize()
MIB = 1 << 20


# --- open or create ---------------------------------------------------------------------------------------------------


def test_create_none_creates_or_attaches(name):
    with SharedMemory(name, create=None, size=100) as first, SharedMemory(name, create=None, size=50) as second:
        assert (first.size, second.size) == (100, 100)
        assert (first.stat().created, second.stat().created) == (True, False)
        first.unlink()


def test_create_none_refuses_a_segment_that_is_too_small(name):
    with SharedMemory(name, create=True, size=100) as made:
        with pytest.raises(ValueError, match="not the 200"):
            SharedMemory(name, create=None, size=200)
        made.unlink()


def test_create_none_requires_a_size(name):
    with pytest.raises(ValueError, match="at least one byte"):
        SharedMemory(name, create=None)


def test_exactly_one_of_several_racing_processes_creates_a_segment(name, run):
    code = """
        import sys
        from shmkit import SharedMemory
        sys.stdin.read(1)
        with SharedMemory(sys.argv[1], create=None, size=4096) as shm:
            print(shm.stat().created, shm.size)
            sys.stdout.flush()
            sys.stdin.read()
    """
    racers = [run.start(code, name) for _ in range(4)]
    for racer in racers:
        racer.stdin.write("x")
        racer.stdin.flush()
    lines = sorted(racer.stdout.readline() for racer in racers)
    for racer in racers:
        assert racer.communicate() == ("", "")
    assert lines == ["False 4096\n"] * 3 + ["True 4096\n"]
    SharedMemory.unlink_name(name)


# --- readonly ---------------------------------------------------------------------------------------------------------


def test_a_readonly_segment_cannot_be_written(name):
    with SharedMemory(name, create=True, size=16) as made, SharedMemory(name, readonly=True) as shm:
        made.unlink()
        made.buf[0] = 5
        assert (shm.readonly, made.readonly, shm.stat().readonly) == (True, False, True)
        assert shm.buf.readonly
        assert memoryview(shm).readonly
        assert shm.view("d").readonly
        assert shm.buf[0] == 5
        with pytest.raises(TypeError):
            shm.buf[0] = 1
        with pytest.raises(TypeError):
            shm.buf[:2] = b"xx"
        with pytest.raises(PermissionError):
            shm.resize(PAGE)


def test_readonly_numpy_arrays_cannot_be_written(name):
    numpy = pytest.importorskip("numpy")
    with SharedMemory(name, create=True, size=16) as made, SharedMemory(name, readonly=True) as shm:
        made.unlink()
        array = numpy.frombuffer(shm, dtype="u1")
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_a_new_segment_is_not_readonly(name):
    with pytest.raises(ValueError, match="read-only"):
        SharedMemory(name, create=True, size=1, readonly=True)


def test_readonly_needs_no_write_permission(name, as_other_user):
    code = """
        import sys
        from shmkit import SharedMemory
        become_other_user()
        try:
            SharedMemory(sys.argv[1], trust=True)
        except PermissionError as error:
            print(error.status)
        with SharedMemory(sys.argv[1], trust=True, readonly=True) as shm:
            print(bytes(shm.buf))
    """
    with SharedMemory(name, create=True, size=3, mode=0o644) as made:
        made.buf[:] = b"abc"
        assert as_other_user(code, name).out == "-6\nb'abc'\n"
        made.unlink()


# --- mode, owner, directory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o22, 0o777])
@pytest.mark.parametrize(("mode", "expected"), [(None, 0o600), (0o666, 0o666), (0o640, 0o640), (0o001, 0o001)])
def test_the_mode_does_not_depend_on_the_umask(name, path, umask, mode, expected):
    old = os.umask(umask)
    try:
        made = SharedMemory(name, create=True, size=1, mode=mode)
    finally:
        os.umask(old)
    with made:
        assert stat.S_IMODE(path.stat().st_mode) == expected
        assert made.stat().mode == expected
        made.unlink()


@pytest.mark.parametrize("mode", [0, -1, 0o1000, 0o4600, 1 << 40])
def test_an_impossible_mode_is_a_value_error(name, mode):
    with pytest.raises(ValueError, match="mode"):
        SharedMemory(name, create=True, size=1, mode=mode)


def test_a_segment_of_another_user_needs_trust(name, path):
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED without root: a segment of another user")
    with SharedMemory(name, create=True, size=1) as made:
        os.chown(path, 65534, 65534)
        with pytest.raises(PermissionError, match="belongs to user 65534") as caught:
            SharedMemory(name)
        assert caught.value.status == -7
        with SharedMemory(name, trust=True) as shm:
            assert shm.stat().user == 65534
        made.unlink()


def test_a_segment_is_created_in_the_given_directory(name, tmp_path):
    with SharedMemory(name, create=True, size=1, directory=tmp_path) as made:
        assert made.directory == str(tmp_path)
        assert (tmp_path / name).exists()
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)
        with SharedMemory(name, directory=os.fsencode(tmp_path)) as same:
            assert same.directory == str(tmp_path)
        assert SharedMemory.names(tmp_path) == [name]
        made.unlink()
    assert SharedMemory.names(tmp_path) == []


def test_an_open_segment_keeps_its_directory_when_the_variable_changes(name, monkeypatch, tmp_path):
    made = SharedMemory(name, create=True, size=1)
    monkeypatch.setenv("SHMKIT_DIR", str(tmp_path))
    with made:
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)
        made.unlink()


def test_the_default_directory_is_dev_shm(name, default_directory):
    with SharedMemory(name, create=True, size=1) as made:
        assert made.directory == "/dev/shm"
        assert os.path.exists("/dev/shm/" + name)
        made.unlink()


def test_an_empty_variable_selects_the_default_directory(name, monkeypatch):
    monkeypatch.setenv("SHMKIT_DIR", "")
    with SharedMemory(name, create=True, size=1) as made:
        assert made.directory == "/dev/shm"
        made.unlink()


def test_an_impossible_directory_is_an_error(name, tmp_path):
    with pytest.raises(FileNotFoundError):
        SharedMemory(name, create=True, size=1, directory=tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        SharedMemory(name, directory=tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="Not a directory"):
        SharedMemory(name, create=True, size=1, directory=tmp_path / "file")
    with pytest.raises(ValueError, match="NUL"):
        SharedMemory(name, directory="a\0b")
    with pytest.raises(TypeError):
        SharedMemory(name, directory=7)


# --- anonymous --------------------------------------------------------------------------------------------------------


def test_an_anonymous_segment_has_no_name():
    with SharedMemory(create=True, size=100, anonymous=True, capacity=MIB) as shm:
        assert (shm.name, shm.directory, shm.size) == (None, None, 100)
        assert repr(shm) == "<SharedMemory unnamed 100 bytes>"
        info = shm.stat()
        assert (info.links, info.sealed, info.created) == (0, True, True)
        assert SharedMemory.names() == []
        shm.buf[99] = 1
        shm.resize(MIB)
        assert (shm.buf[99], len(shm.buf)) == (1, MIB)
        shm.unlink()
        with pytest.raises(PermissionError):
            os.ftruncate(shm.fileno(), 0)


def test_create_none_creates_an_anonymous_segment():
    with SharedMemory(create=None, size=5, anonymous=True) as shm:
        assert shm.stat().created


def test_anonymous_excludes_a_name_and_attaching(name):
    with pytest.raises(ValueError, match="anonymous"):
        SharedMemory(name, create=True, size=1, anonymous=True)
    with pytest.raises(ValueError, match="anonymous"):
        SharedMemory(size=1, anonymous=True)


def test_create_none_without_a_name_generates_a_name():
    with SharedMemory(create=None, size=1) as shm:
        assert shm.name in SharedMemory.names()
        shm.unlink()


# --- stat, names, unlink_name, fileno ---------------------------------------------------------------------------------


def test_stat_agrees_with_the_kernel(name, path):
    with SharedMemory(name, create=True, size=PAGE + 1) as shm:
        info, kernel = shm.stat(), path.stat()
        assert (info.size, info.capacity, info.allocated) == (PAGE + 1, 2 * PAGE, 2 * PAGE)
        assert (info.device, info.inode, info.links) == (kernel.st_dev, kernel.st_ino, 1)
        assert (info.user, info.mode) == (kernel.st_uid, 0o600)
        assert (info.readonly, info.created, info.sealed) == (False, True, False)
        assert isinstance(info, shmkit.SegmentInfo)
        assert isinstance(info, tuple)
        shm.unlink()
        assert shm.stat().links == 0


def test_names_lists_segments_alone(name, path):
    assert SharedMemory.names() == []
    with SharedMemory(name + "b", create=True, size=1) as b, SharedMemory(name + "a", create=True, size=1) as a:
        os.mkdir(path)
        os.symlink("nowhere", str(path) + "link")
        os.mkfifo(str(path) + "fifo")
        assert SharedMemory.names() == [name + "a", name + "b"]
        a.unlink()
        b.unlink()
    os.rmdir(path)
    os.unlink(str(path) + "link")
    os.unlink(str(path) + "fifo")


def test_unlink_name_removes_the_name(name, path):
    SharedMemory(name, create=True, size=1).close()
    SharedMemory.unlink_name("/" + name)
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        SharedMemory.unlink_name(name)


def test_unlink_name_removes_a_segment_that_cannot_be_opened(name, path):
    path.touch()
    with pytest.raises(shmkit.Corrupt):
        SharedMemory(name)
    SharedMemory.unlink_name(name)
    assert not path.exists()


def test_fileno_is_the_descriptor_of_the_segment(name, path):
    with SharedMemory(name, create=True, size=5) as shm:
        assert os.fstat(shm.fileno()).st_ino == path.stat().st_ino
        assert not os.get_inheritable(shm.fileno())
        os.pwrite(shm.fileno(), b"x", 4)
        assert shm.buf[4] == ord("x")
        shm.unlink()
