"""Every status of segments, caused from Python: the class of its exception and its number.

The statuses of locks: test_lock.py.
"""

import errno
import os
import resource
import socket

import pytest
import shmkit
from conftest import refused
from shmkit import SharedMemory

INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS, PERMISSION, UNTRUSTED, NO_SPACE, NO_MEMORY = range(-1, -10, -1)
TOO_LARGE, CORRUPT, UNSUPPORTED, SYSTEM = -18, -21, -23, -24
PAGE = resource.getpagesize()


# --- bad arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, -(1 << 63), -(1 << 70), 1 << 63, 1 << 64, 1 << 70])
@pytest.mark.parametrize("create", [True, None])
def test_impossible_sizes_are_refused(name, size, create):
    with pytest.raises(ValueError, match=r"size|at least one byte"):
        SharedMemory(name, create=create, size=size)
    assert SharedMemory.names() == []


@pytest.mark.parametrize("size", [1.5, 1.0, "1", b"1", None, [1], 1j])
@pytest.mark.parametrize("create", [True, None, False])
def test_the_size_must_be_an_integer(name, size, create):
    with pytest.raises(TypeError):
        SharedMemory(name, create=create, size=size)


@pytest.mark.parametrize("argument", ["capacity", "mode"])
@pytest.mark.parametrize("value", [1.5, "1", b"1", [1]])
def test_other_numbers_must_be_integers(name, argument, value):
    with pytest.raises(TypeError):
        SharedMemory(name, create=True, size=1, **{argument: value})
    assert SharedMemory.names() == []


@pytest.mark.parametrize("size", [True, pytest.param("numpy", id="numpy")])
def test_any_integer_type_is_accepted_as_a_size(name, size):
    if size == "numpy":
        size = pytest.importorskip("numpy").uint16(1)
    with SharedMemory(name, create=True, size=size) as shm:
        shm.unlink()
        assert shm.size == 1
        assert type(shm.size) is int


@pytest.mark.parametrize("bad", ["", "/", ".", "..", "/.", "/..", "a/b", "//a", "a/", "../a", "x" * 256, "ü" * 128])
def test_impossible_names_are_refused(bad):
    refused(ValueError, INVALID, SharedMemory, bad, match="the name", create=True, size=1)
    refused(ValueError, INVALID, SharedMemory, bad, match="the name")
    refused(ValueError, INVALID, SharedMemory.unlink_name, bad, match="the name")


def test_names_with_a_nul_are_refused():
    for call in (SharedMemory, SharedMemory.unlink_name):
        with pytest.raises(ValueError, match="NUL"):
            call("a\0b")


@pytest.mark.parametrize("bad", [b"bytes", 7, 1.5, ["a"], ("a",), object()])
def test_the_name_must_be_text(bad):
    with pytest.raises(TypeError):
        SharedMemory(bad, create=True, size=1)
    with pytest.raises(TypeError):
        SharedMemory(bad)


@pytest.mark.parametrize("length", [1, 254, 255])
def test_names_may_have_255_bytes(length):
    longest = "n" * length
    with SharedMemory(longest, create=True, size=1) as shm, SharedMemory("/" + longest) as same:
        assert shm.name == same.name == longest
        shm.unlink()


def test_unknown_arguments_are_refused(name):
    with pytest.raises(TypeError):
        SharedMemory(name, create=True, size=1, colour="red")


# --- other files of the name ------------------------------------------------------------------------------------------


@pytest.fixture
def instead(path):
    """Return a function that creates another kind of file in place of the segment; it is removed after the test."""
    made = []

    def instead(make):
        made.append(make())

    yield instead
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()


def test_a_directory_is_refused(name, path, instead):
    instead(path.mkdir)
    refused(ValueError, WRONG_KIND, SharedMemory, name)
    refused(ValueError, WRONG_KIND, SharedMemory, name, readonly=True)
    refused(ValueError, WRONG_KIND, SharedMemory.unlink_name, name)
    refused(FileExistsError, EXISTS, SharedMemory, name, create=True, size=1)
    assert path.is_dir()


def test_a_fifo_is_refused(name, path, instead):
    instead(lambda: os.mkfifo(path))
    refused(ValueError, WRONG_KIND, SharedMemory, name)
    refused(ValueError, WRONG_KIND, SharedMemory, name, readonly=True)
    refused(ValueError, WRONG_KIND, SharedMemory.unlink_name, name)
    assert path.is_fifo()


def test_a_socket_is_refused(name, path, instead):
    with socket.socket(socket.AF_UNIX) as listener:
        instead(lambda: listener.bind(str(path)))
        refused(ValueError, WRONG_KIND, SharedMemory, name)
        refused(ValueError, WRONG_KIND, SharedMemory.unlink_name, name)
    assert path.is_socket()


def test_a_device_is_refused(name, path, instead):
    try:
        instead(lambda: os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5)))  # /dev/zero
    except PermissionError:
        path.touch()
        pytest.skip("NOT TESTED without root: a device under the name")
    refused(ValueError, WRONG_KIND, SharedMemory, name)
    refused(ValueError, WRONG_KIND, SharedMemory.unlink_name, name)


@pytest.mark.parametrize("target", ["nowhere", "/dev/zero", "other"])
def test_a_symbolic_link_is_refused(name, path, instead, target):
    with SharedMemory(name + "other", create=True, size=1) as other:
        instead(lambda: path.symlink_to(other.name if target == "other" else target))
        for how in ({}, {"trust": True}, {"readonly": True}):
            refused(PermissionError, UNTRUSTED, SharedMemory, name, match="symbolic link", number=errno.EPERM, **how)
        refused(PermissionError, UNTRUSTED, SharedMemory, name, create=None, size=1)
        refused(FileExistsError, EXISTS, SharedMemory, name, create=True, size=1)
        refused(ValueError, WRONG_KIND, SharedMemory.unlink_name, name)
        assert path.is_symlink()
        other.unlink()


def test_an_empty_file_is_corrupt(name, path, instead):
    instead(path.touch)
    refused(shmkit.Corrupt, CORRUPT, SharedMemory, name, match="no bytes")
    refused(shmkit.Corrupt, CORRUPT, SharedMemory, name, create=None, size=1)
    assert path.stat().st_size == 0


def test_a_file_that_is_too_short_is_refused(name, path, instead):
    instead(lambda: path.write_bytes(b"12345"))
    refused(ValueError, INVALID, SharedMemory, name, match="has 5 bytes, not the 6", create=None, size=6)
    with SharedMemory(name, create=None, size=5) as shm:
        assert bytes(shm.buf) == b"12345"


def test_a_missing_file_or_directory_is_not_found(name):
    refused(FileNotFoundError, NOT_FOUND, SharedMemory, name, number=errno.ENOENT)
    refused(FileNotFoundError, NOT_FOUND, SharedMemory.unlink_name, name)
    refused(FileNotFoundError, NOT_FOUND, SharedMemory.names, "/dev/shm/" + name)
    refused(FileNotFoundError, NOT_FOUND, shmkit.limits, "/dev/shm/" + name)


def test_an_existing_name_is_refused(name):
    with SharedMemory(name, create=True, size=1) as shm:
        refused(FileExistsError, EXISTS, SharedMemory, name, create=True, size=1, number=errno.EEXIST)
        shm.unlink()


# --- truncated while it is mapped -------------------------------------------------------------------------------------


def test_a_mapped_file_that_was_truncated_is_corrupt(name, path):
    with SharedMemory(name, create=True, size=3 * PAGE) as shm:
        shm.buf[0] = 1
        os.truncate(path, PAGE)
        refused(shmkit.Corrupt, CORRUPT, lambda: shm.size, match="truncated")
        refused(shmkit.Corrupt, CORRUPT, memoryview, shm, match="truncated")
        refused(shmkit.Corrupt, CORRUPT, shm.view, match="truncated")
        assert shm.buf[0] == 1
        refused(ValueError, INVALID, SharedMemory, name, create=None, size=3 * PAGE)
        shm.unlink()
    assert shm.size == 3 * PAGE


def test_reading_a_truncated_page_is_sigbus(run, name):
    code = """
        import os, sys
        from shmkit import SharedMemory
        shm = SharedMemory(sys.argv[1], create=True, size=3 * 65536)
        view = shm.buf
        os.truncate(os.path.join(shm.directory, shm.name), 0)
        try:
            SharedMemory(sys.argv[1])
        except ValueError:
            raise
        except Exception as error:
            print(type(error).__name__, error.status)
        shm.unlink()
        sys.stdout.flush()
        view[65536]
    """
    done = run(code, name, status=-7, err=None)
    assert done.out == "Corrupt -21\n"


# --- permissions ------------------------------------------------------------------------------------------------------


def test_access_without_permission_is_refused(name, as_other_user):
    code = """
        import os, sys
        from shmkit import SharedMemory
        def report(call, *arguments, **how):
            try:
                call(*arguments, **how)
            except PermissionError as error:
                print(type(error).__name__, error.status, error.errno)
        become_other_user()
        report(SharedMemory, sys.argv[1])
        report(SharedMemory, sys.argv[1], readonly=True)
        report(SharedMemory, sys.argv[1], trust=True)
        report(SharedMemory, sys.argv[1], create=None, size=1)
        report(SharedMemory.unlink_name, sys.argv[1])
        report(SharedMemory, sys.argv[1], create=True, size=1, directory="/proc")
        report(SharedMemory, sys.argv[1], create=True, size=1, directory="/")
    """
    with SharedMemory(name, create=True, size=1) as shm:
        lines = as_other_user(code, name).out.splitlines()
        assert lines[:4] == ["PermissionError -6 13"] * 4
        assert lines[4] == "PermissionError -6 1"  # the directory is sticky
        assert lines[-1] == "PermissionError -6 13"
        shm.unlink()


def test_a_readonly_handle_cannot_resize(name):
    with SharedMemory(name, create=True, size=1) as made, SharedMemory(name, readonly=True) as shm:
        made.unlink()
        refused(PermissionError, PERMISSION, shm.resize, 2, match="read-only", number=errno.EACCES)


def test_a_segment_of_another_user_needs_trust(name, as_other_user):
    code = """
        import sys
        from shmkit import SharedMemory
        become_other_user()
        with SharedMemory(sys.argv[1], create=True, size=1, mode=0o666) as shm:
            print("made", flush=True)
            sys.stdin.read(1)
            shm.unlink()
    """
    with as_other_user.start(code, name) as process:
        assert process.stdout.readline() == "made\n"
        refused(PermissionError, UNTRUSTED, SharedMemory, name, match="belongs to user 65534", number=errno.EPERM)
        refused(PermissionError, UNTRUSTED, SharedMemory, name, readonly=True)
        with SharedMemory(name, trust=True) as shm:
            shm.buf[0] = 1
        assert process.communicate("x") == ("", "")


# --- no space ---------------------------------------------------------------------------------------------------------


def test_more_than_the_free_memory_is_refused(name):
    free = shmkit.limits().largest_named
    refused(OSError, NO_SPACE, SharedMemory, name, create=True, size=1 << 62, number=errno.ENOSPC, match=str(1 << 62))
    refused(OSError, NO_SPACE, SharedMemory, name, create=True, size=free + (1 << 34), match="bytes are free in")
    refused(OSError, NO_SPACE, SharedMemory, create=True, size=1 << 62, anonymous=True, match="memory")
    assert SharedMemory.names() == []


def test_more_than_the_file_size_limit_is_refused(name, run):
    code = """
        import resource, sys
        from shmkit import SharedMemory
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        for how in ({}, {"no_space_check": True}, {"sparse": True}):
            try:
                SharedMemory(sys.argv[1], create=True, size=(1 << 20) + 1, **how)
            except OSError as error:
                print(error.status, error.errno, "RLIMIT_FSIZE" in str(error))
        with SharedMemory(sys.argv[1], create=True, size=1 << 20, capacity=2 << 20) as shm:
            shm.unlink()
            try:
                shm.resize(2 << 20)
            except OSError as error:
                print(error.status, error.errno, shm.size)
    """
    assert run(code, name).out == "-8 28 True\n" * 3 + f"-8 28 {1 << 20}\n"


def test_more_than_the_address_space_is_refused(name, run):
    refused(MemoryError, NO_MEMORY, SharedMemory, name, create=True, size=1, capacity=1 << 60, match="address space")
    refused(ValueError, TOO_LARGE, SharedMemory, name, create=True, size=1, capacity=(1 << 63) - 1)
    assert SharedMemory.names() == []
    code = """
        import resource, sys
        from shmkit import SharedMemory
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        try:
            SharedMemory(sys.argv[1], create=True, size=1, capacity=8 << 30)
        except MemoryError as error:
            print(error.status, "RLIMIT_AS" in str(error), SharedMemory.names())
    """
    assert run(code, name).out == "-9 True []\n"


def test_more_than_the_capacity_is_refused(name):
    with SharedMemory(name, create=True, size=1) as shm:
        shm.unlink()
        refused(ValueError, TOO_LARGE, shm.resize, PAGE + 1, match="capacity")
        refused(ValueError, INVALID, shm.resize, 0, match="cannot shrink")
        refused(ValueError, INVALID, SharedMemory, name, create=True, size=10, capacity=9, match="capacity")


def test_a_full_file_system_is_an_error(name, on_small_file_system):
    code = """
        import os, sys
        from shmkit import SharedMemory, limits
        name = sys.argv[1]
        def report(call, *arguments, **how):
            try:
                call(*arguments, **how)
                print("done")
            except OSError as error:
                print(error.errno, error.status, error)
        print(limits().largest_named, limits().directory_total, SharedMemory.names())
        shm = SharedMemory(name, create=True, size=512 << 10, capacity=1 << 30)
        shm.buf[-1] = 7
        report(SharedMemory, name + "2", create=True, size=600 << 10)  # small: only the kernel reports it
        report(SharedMemory, name + "2", create=True, size=2 << 20)
        report(SharedMemory, name + "2", create=True, size=2 << 20, no_space_check=True)
        report(shm.resize, 900 << 20)
        report(shm.resize, 4 << 20, no_space_check=True)
        report(SharedMemory, name + "2", create=None, size=2 << 20)
        print(shm.size, shm.stat().allocated, shm.buf[(512 << 10) - 1], SharedMemory.names() == [name])
        report(shm.resize, 1 << 20)
        print(shm.size, limits().directory_free)
        shm.unlink(); shm.close()
        print(limits().directory_free, os.listdir(os.environ["SHMKIT_DIR"]))
    """
    first, *refusals, kept, grown, full, gone = on_small_file_system(code, name).out.splitlines()
    assert first == f"{1 << 20} {1 << 20} []"
    assert len(refusals) == 6
    for line in refusals:
        assert line.startswith("28 -8 [Errno 28] asked for ")
        assert "bytes are free in" in line
    assert kept == f"{512 << 10} {512 << 10} 7 True"
    assert (grown, full, gone) == ("done", f"{1 << 20} 0", f"{1 << 20} []")


def test_a_full_memory_cgroup_is_an_error(name, run, small_cgroup):
    code = """
        import os, sys
        from shmkit import SharedMemory, limits
        with open(sys.argv[2], "w") as tasks:
            tasks.write(str(os.getpid()))
        now = limits()
        print(now.cgroup_limit, now.largest_named <= now.cgroup_limit, now.largest_anonymous <= now.cgroup_limit)
        for how in ({"name": sys.argv[1]}, {"anonymous": True}):
            try:
                SharedMemory(create=True, size=512 << 20, **how)
            except OSError as error:
                print(error.errno, error.status, "the cgroup" in str(error))
        with SharedMemory(sys.argv[1], create=True, size=16 << 20) as shm:
            shm.unlink()
            print(shm.size)
    """
    out = run(code, name, small_cgroup).out
    assert out == f"{256 << 20} True True\n28 -8 True\n28 -8 True\n{16 << 20}\n"


# --- other statuses ---------------------------------------------------------------------------------------------------


def test_too_many_open_files_are_a_system_error(run, name):
    code = """
        import os, resource, sys
        from shmkit import SharedMemory
        with SharedMemory(sys.argv[1], create=True, size=1) as shm:
            used = len(os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used - 1, used - 1))  # less the descriptor of the listing
            new = {"create": True, "size": 1}
            for how in ({"name": sys.argv[1]}, new, {**new, "anonymous": True}):
                try:
                    SharedMemory(**how)
                except OSError as error:
                    print(type(error).__name__, error.status, error.errno)
            print(shm.buf[0])
            os.unlink(os.path.join(shm.directory, shm.name))
    """
    line = f"OSError {SYSTEM} {errno.EMFILE}\n"
    assert run(code, name).out == line * 3 + "0\n"


def test_a_foreign_interrupt_hook_raises_interrupted_error(run):
    # The hook interrupts the call and sets no Python exception.
    out = run("""
        import ctypes, shmkit
        library = ctypes.CDLL(shmkit.library_path())
        hook = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(lambda argument: 1)
        library.shmkit_set_interrupt(hook, None)
        try:
            shmkit.SharedMemory(create=True, size=256 << 20, anonymous=True)
        except InterruptedError as error:
            print(error.status)
    """).out
    assert out == "-12\n"


def test_a_closed_segment_is_refused():
    shm = SharedMemory(create=True, size=1, anonymous=True)
    shm.close()
    refused(ValueError, CLOSED, shm.stat, match="closed")


def test_every_error_has_a_status(name):
    """Errors that Python code detects have a status too, as the documentation of ShmkitError states."""
    refused(ValueError, INVALID, SharedMemory, name, create=True, size=0)
    refused(ValueError, INVALID, SharedMemory, name, create=True, size=-1)
    refused(ValueError, TOO_LARGE, SharedMemory, name, create=True, size=1 << 63)
    refused(ValueError, INVALID, SharedMemory, name, create=True, size=1, mode=0)
    refused(ValueError, INVALID, SharedMemory, "a\0b")
    refused(ValueError, INVALID, SharedMemory)
    refused(ValueError, INVALID, SharedMemory, name, create=True, size=1, anonymous=True)
    with SharedMemory(create=True, size=1, anonymous=True) as shm:
        refused(ValueError, INVALID, shm.view, "d", 1)
    refused(ValueError, INVALID, shmkit.Lock, offset=64)
    refused(ValueError, INVALID, shmkit.RLock, create=False)
    refused(ValueError, INVALID, shmkit.Lock, on_owner_death="maybe")


def test_exception_classes_have_the_documented_bases():
    assert issubclass(shmkit.Corrupt, shmkit.ShmkitError)
    assert issubclass(shmkit.VersionMismatch, shmkit.ShmkitError)
    assert issubclass(shmkit.OwnerDied, shmkit.ShmkitError)
    assert issubclass(shmkit.NotOwner, shmkit.ShmkitError)
    assert issubclass(shmkit.ShutDown, shmkit.ShmkitError)
    assert issubclass(shmkit.NotOwner, RuntimeError)
    assert issubclass(shmkit.NotOwner, AssertionError)
    assert issubclass(shmkit.ShmkitError, Exception)
    assert not issubclass(shmkit.ShmkitError, (OSError, ValueError))
