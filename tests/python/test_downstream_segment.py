"""Downstream packages that use segments from Cython, built against the installed shmkit outside its sources.

downstream/ contains a folder for each way of using shmkit from Cython, each with its own setup.py.
"""

import os
import pathlib
import pickle
import re
import shutil
import subprocess

import pytest
import shmkit
from shmkit import SharedMemory

pytest.importorskip("Cython")


@pytest.fixture
def bare(build):
    """Return the module that uses `cimport shmkit` alone."""
    return build("bare")


@pytest.fixture
def linked(build):
    """Return the module that links to the library."""
    return build("linked")


@pytest.fixture
def classes(build):
    """Return the module that uses and extends the classes."""
    return build("classes")


@pytest.fixture
def memoryviews(build):
    """Return the module that takes typed memoryviews."""
    return build("memoryviews")


def shared_libraries(module):
    """Return the output of ldd for a module."""
    if shutil.which("ldd") is None:
        pytest.skip("NOT TESTED without ldd: the libraries of a module")
    return subprocess.run(["ldd", module.__file__], capture_output=True, text=True, check=True).stdout


# --- cimport shmkit ---------------------------------------------------------------------------------------------------


def test_bare_functions_run_without_the_gil(bare, name):
    assert bare.add_up(name, 1000) == 499500
    assert SharedMemory.names() == []


def test_bare_functions_return_statuses_and_texts(bare, name):
    assert bare.open_nothing(name) == (True, "the name, the directory or the object does not exist", True)
    with SharedMemory(name, create=True, size=1) as shm:
        with pytest.raises(FileExistsError) as caught:
            bare.add_up(name, 1000)
        assert name in caught.value.strerror
        assert caught.value.filename == -5
        shm.unlink()
    with pytest.raises(OSError, match="at least one byte"):
        bare.add_up(name, 0)


def test_bare_structs_and_constants_are_those_of_the_library(bare):
    assert bare.anonymous(12345) == (12345, 0, True)
    number, fits, text = bare.version()
    assert fits
    assert text == shmkit.__version__
    assert number % 1_000_000 // 1000 == int(text.split(".")[1])


def test_bare_callback_gets_each_name(bare, name):
    with SharedMemory(name, create=True, size=1) as shm:
        assert bare.names() == [name]
        shm.unlink()


def test_bare_is_not_linked_to_the_library(bare):
    assert "shmkit" not in shared_libraries(bare)


def test_import_of_bare_fails_if_a_function_is_missing(bare, run, tmp_path):
    """If the installed version lacks a function, the import fails and names the function."""
    code = f"""
        import sys
        sys.path.insert(0, {str(pathlib.Path(bare.__file__).parent)!r})
        import shmkit
        del shmkit.__pyx_capi__["shmkit_segment_create"]
        try:
            import bare
        except ImportError as error:
            print(error)
    """
    assert "shmkit_segment_create" in run(code).out


# --- cimport shmkit.libshmkit -----------------------------------------------------------------------------------------


def test_linked_functions_return_results_and_statuses(linked, name):
    assert linked.add_up(name, 1000) == 499500
    assert linked.version() == shmkit.__version__
    with SharedMemory(name, create=True, size=1) as shm:
        assert linked.add_up(name, 1000) == -5
        shm.unlink()


def test_linked_is_linked_to_the_copy_of_the_package(linked):
    soname = re.escape(os.path.basename(shmkit.library_path()))
    path = re.search(rf"{soname} => (\S+)", shared_libraries(linked)).group(1)
    assert os.path.samefile(path, shmkit.library_path())
    with open("/proc/self/maps") as maps:
        assert len({line.split()[4] for line in maps if "libshmkit" in line}) == 1


def test_linked_takes_handles_of_the_package(linked):
    with SharedMemory(create=True, size=777, anonymous=True) as shm:
        assert linked.size_of(shm) == 777
    assert linked.size_of(shm) == -1
    with pytest.raises(TypeError):
        linked.size_of(object())


# --- from shmkit.segment cimport SharedMemory -------------------------------------------------------------------------


def test_c_methods_of_a_segment_follow_its_state(classes):
    with SharedMemory(create=True, size=10, anonymous=True, capacity=1 << 20) as shm:
        shm.buf[:] = bytes(range(10))
        assert classes.add_up(shm) == (10, 45)
        shm.resize(1000)
        shm.buf[999] = 5
        assert classes.add_up(shm) == (1000, 50)
        assert classes.capacity(shm) == 1 << 20
        assert not classes.is_closed(shm)
    assert classes.is_closed(shm)
    assert classes.is_closed(SharedMemory.__new__(SharedMemory))
    with pytest.raises(ValueError, match="closed"):
        classes.capacity(shm)


def test_classes_can_be_extended(classes, name):
    with classes.Counters(name, 4) as counters:
        assert isinstance(counters, SharedMemory)
        assert (len(counters), counters.size, counters.count) == (4, 32, 4)
        assert counters.add(3, 7) == 7
        assert counters.add(3, 5) == 12
        counters.note = counters  # a cycle through a field of the subclass
        with classes.Counters(name, 4, create=False) as same:
            assert [same[i] for i in range(4)] == [0, 0, 0, 12]
        assert counters.view("Q")[3] == 12
        with pytest.raises(IndexError):
            counters.add(4, 1)
        assert classes.add_up(counters)[0] == 32
        with pickle.loads(pickle.dumps(counters)) as plain:
            assert type(plain) is classes.Counters
            assert plain.view("Q")[3] == 12
        counters.unlink()
    assert classes.is_closed(counters)


def test_python_class_extends_a_cython_subclass(classes, name):
    class Named(classes.Counters):
        """Adds an attribute."""

        def __init__(self, name):
            super().__init__(name, 2)
            self.label = "two"

    with Named(name) as counters:
        counters.unlink()
        assert counters.add(1, 3) == 3
        assert counters.label == "two"


# --- typed memoryviews ------------------------------------------------------------------------------------------------


def test_memoryviews_may_have_three_dimensions(memoryviews):
    shape = (2, 3, 4)
    with SharedMemory(create=True, size=2 * 24 * 8, anonymous=True) as shm:
        one, other = shm.view("d", shape), shm.view("d", shape, offset=24 * 8)
        for i in range(2):
            for j in range(3):
                for k in range(4):
                    one[i, j, k] = 3 * (100 * i + 10 * j + k)
        assert memoryviews.blur(one, other) == 24
        assert other.tolist()[1][2] == [3 * 120 + 1, 3 * 121, 3 * 122, 3 * 123 - 1]
        assert one[1, 2, 3] == 3 * 123


def test_memoryviews_take_the_object_itself(memoryviews):
    with SharedMemory(create=True, size=5000, anonymous=True) as shm:
        assert memoryviews.fill(shm, 7) == 5000
        assert memoryviews.fill(memoryview(shm)[10:20], 9) == 10
        assert memoryviews.count(shm, 7) == 4990
        assert memoryviews.count(shm.buf, 9) == 10


def test_memoryviews_of_a_readonly_segment_cannot_be_written(memoryviews, name):
    with SharedMemory(name, create=True, size=8 * 6) as made, SharedMemory(name, readonly=True) as shm:
        made.unlink()
        for number in range(6):
            made.view("d")[number] = number
        assert memoryviews.add_up(shm.view("d", (2, 3))) == 15
        assert memoryviews.count(shm, 0) > 0
        for writable in (lambda: memoryviews.fill(shm, 1), lambda: memoryviews.fill(shm.buf, 1)):
            with pytest.raises((BufferError, ValueError), match=r"not writable|read-only"):
                writable()
        with pytest.raises((BufferError, ValueError), match=r"not writable|read-only"):
            memoryviews.keep(shm.view("d"))
        assert memoryviews.add_up(shm.view("d", (3, 2))) == 15


def test_memoryviews_refuse_another_type_or_shape(memoryviews):
    with SharedMemory(create=True, size=48, anonymous=True) as shm:
        with pytest.raises(ValueError, match="Buffer dtype mismatch"):
            memoryviews.keep(shm)
        with pytest.raises(ValueError, match="wrong number of dimensions"):
            memoryviews.add_up(shm.view("d"))


def test_memoryviews_may_have_strides(memoryviews):
    numpy = pytest.importorskip("numpy")
    with SharedMemory(create=True, size=2 * 4 * 6, anonymous=True) as shm:
        numbers, target = shm.view("i", (2, 3)), numpy.ndarray((3, 2), "i4", buffer=shm.buf, offset=24, order="F")
        for i in range(6):
            numbers[i // 3, i % 3] = i
        memoryviews.transpose(numbers, target)
        assert target.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_memoryviews_keep_the_mapping(memoryviews):
    shm = SharedMemory(create=True, size=80, anonymous=True)
    shm.view("d")[9] = 2.5
    read = memoryviews.keep(shm.view("d"))
    shm.close()
    assert read(9) == 2.5
    with pytest.raises(IndexError):
        read(10)
    del read


def test_memoryviews_do_not_move_when_the_segment_grows(memoryviews):
    with SharedMemory(create=True, size=80, anonymous=True, capacity=1 << 24) as shm:
        read = memoryviews.keep(shm.view("d"))
        shm.resize(1 << 24)
        shm.view("d")[9] = 1.5
        assert read(9) == 1.5
        del read
