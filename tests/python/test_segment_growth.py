"""Segments grow in place: no view moves, and every process that maps the segment sees the growth."""

import resource

import pytest
import shmkit
from shmkit import SharedMemory

PAGE = resource.getpagesize()
MIB = 1 << 20


def test_default_capacity_is_the_size_in_whole_pages(name):
    with SharedMemory(name, create=True, size=PAGE + 1) as made:
        made.unlink()
        assert made.capacity == 2 * PAGE


def test_resize_keeps_every_view_alive(name):
    with SharedMemory(name, create=True, size=10, capacity=64 * MIB) as shm:
        shm.unlink()
        before = shm.buf
        before[0] = 1
        shm.resize(MIB)
        assert (shm.size, len(shm.buf), shm.capacity) == (MIB, MIB, 64 * MIB)
        before[9] = 2
        assert (shm.buf[0], shm.buf[9], shm.buf[10]) == (1, 2, 0)
        assert bytes(shm.buf[10:]) == bytes(MIB - 10)
        shm.buf[MIB - 1] = 3
        assert len(before) == 10


def test_resize_under_numpy_arrays_moves_nothing(name):
    numpy = pytest.importorskip("numpy")
    with SharedMemory(name, create=True, size=8 * 100, capacity=MIB) as shm:
        shm.unlink()
        first = numpy.ndarray(100, dtype="f8", buffer=shm.buf)
        first[:] = range(100)
        shm.resize(8 * 1000)
        second = numpy.ndarray(1000, dtype="f8", buffer=shm.buf)
        assert first.ctypes.data == second.ctypes.data
        assert (second[:100] == first).all()
        assert not second[100:].any()
        second[0] = 7
        assert first[0] == 7


def test_buf_follows_a_resize_within_the_last_page(name):
    with SharedMemory(name, create=True, size=10) as shm:
        shm.unlink()
        assert len(shm.buf) == 10
        shm.resize(100)
        assert (shm.size, len(shm.buf)) == (100, 100)


def test_growth_by_another_process_is_visible(name, run):
    code = """
        import sys
        from shmkit import SharedMemory
        with SharedMemory(sys.argv[1], capacity=1 << 20) as shm:
            shm.resize(100_000)
            shm.buf[99_999] = 42
    """
    with SharedMemory(name, create=True, size=10, capacity=MIB) as shm:
        before = shm.buf
        run(code, name)
        assert shm.size == 100_000
        assert len(shm.buf) == 100_000
        assert shm.buf[99_999] == 42
        assert len(before) == 10
        shm.unlink()


def test_growth_beyond_the_capacity_of_this_handle_is_not_visible(name):
    with SharedMemory(name, create=True, size=PAGE, capacity=MIB) as shm, SharedMemory(name) as narrow:
        shm.unlink()
        shm.resize(MIB)
        assert (narrow.capacity, narrow.size, len(narrow.buf)) == (PAGE, PAGE, PAGE)
        assert narrow.stat().size == MIB


def test_resize_refuses_impossible_sizes(name):
    with SharedMemory(name, create=True, size=100, capacity=10_000) as shm:
        shm.unlink()
        with pytest.raises(ValueError, match="capacity"):
            shm.resize(shm.capacity + 1)
        with pytest.raises(ValueError, match="cannot shrink"):
            shm.resize(99)
        with pytest.raises(ValueError, match="at least 0"):
            shm.resize(-1)
        with pytest.raises(TypeError):
            shm.resize("100")
        shm.resize(100)
        assert shm.size == 100


def test_a_resize_without_enough_memory_changes_nothing(name):
    free = shmkit.limits().largest_named
    with SharedMemory(name, create=True, size=PAGE, capacity=1 << 46) as shm:
        shm.unlink()
        with pytest.raises(OSError, match=str(free + (1 << 44))):
            shm.resize(free + (1 << 44) + PAGE)
        assert shm.size == PAGE
        assert shm.stat().allocated == PAGE


def test_resize_may_be_sparse_or_skip_the_space_check(name):
    with SharedMemory(name, create=True, size=PAGE, capacity=64 * MIB) as shm:
        shm.unlink()
        shm.resize(32 * MIB, sparse=True)
        assert shm.stat().allocated == PAGE
        shm.resize(64 * MIB, no_space_check=True)
        assert shm.stat().allocated == PAGE + 32 * MIB


def test_a_capacity_below_the_size_is_refused(name):
    with pytest.raises(ValueError, match="capacity"):
        SharedMemory(name, create=True, size=100, capacity=99)
    with pytest.raises(ValueError, match="at least 0"):
        SharedMemory(name, create=True, size=100, capacity=-1)


def test_a_terabyte_of_capacity_uses_no_memory(name):
    with SharedMemory(name, create=True, size=1, capacity=1 << 40) as shm:
        shm.unlink()
        assert shm.capacity == 1 << 40
        assert shm.stat().allocated == PAGE
