"""Views of a segment: their shapes and their lifetimes."""

import array
import ctypes
import gc
import os
import pickle
import re
import struct
import weakref

import pytest
from shmkit import SharedMemory

MIB = 1 << 20


@pytest.fixture
def shm():
    """Return an anonymous segment of 96 bytes."""
    with SharedMemory(create=True, size=96, anonymous=True) as made:
        yield made


def is_mapped(inode):
    """Return whether this process has mapped the file."""
    with open("/proc/self/maps") as maps:
        return any(int(line.split()[4]) == inode for line in maps)


# --- view() -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", "bBcdfhHiIlLnNPqQ?")
def test_view_accepts_every_native_format(shm, letter):
    view = shm.view(letter)
    assert (view.format, view.itemsize) == (letter, struct.calcsize(letter))
    assert (view.shape, view.nbytes) == ((96 // view.itemsize,), 96)
    assert view.c_contiguous
    assert not view.readonly


@pytest.mark.parametrize(
    ("shape", "offset", "expected"),
    [
        (None, 0, (12,)),
        (None, 8, (11,)),
        (None, 88, (1,)),
        (None, 80 + 4, (1,)),
        (12, 0, (12,)),
        (3, 72, (3,)),
        ((12,), 0, (12,)),
        ([3, 4], 0, (3, 4)),
        ((2, 2, 3), 0, (2, 2, 3)),
        ((1, 2, 1, 3), 48, (1, 2, 1, 3)),
    ],
)
def test_view_has_the_shape_and_begins_at_the_offset(shm, shape, offset, expected):
    view = shm.view("d", shape, offset)
    assert view.shape == expected
    shm.buf[offset : offset + 8] = struct.pack("d", 2.5)
    assert view[(0,) * view.ndim] == 2.5


def test_view_rows_are_contiguous(shm):
    grid = shm.view("i", (4, 6))
    for row in range(4):
        for column in range(6):
            grid[row, column] = 10 * row + column
    assert shm.view("i").tolist() == [10 * row + column for row in range(4) for column in range(6)]


@pytest.mark.parametrize(
    ("letter", "shape", "offset"),
    [
        ("d", 13, 0),
        ("d", (3, 5), 0),
        ("d", 12, 1),
        ("d", None, 96),
        ("d", None, 89),
        ("B", None, 97),
        ("B", None, -1),
        ("B", 0, 0),
        ("B", (), 0),
        ("B", (3, 0), 0),
        ("B", (-1, 3), 0),
        ("B", (1 << 62, 1 << 62), 0),
        ("", None, 0),
        ("0d", None, 0),
        ("2d", None, 0),
        ("dd", None, 0),
        ("x", None, 0),
        ("<d", None, 0),
        ("z", None, 0),
    ],
)
def test_view_refuses_impossible_shapes_offsets_and_formats(shm, letter, shape, offset):
    with pytest.raises(ValueError, match=r"offset|shape|wants|format"):
        shm.view(letter, shape, offset)


@pytest.mark.parametrize("arguments", [("d", 1.5), ("d", "12"), (8,), ("d", None, "0")])
def test_view_refuses_wrong_types(shm, arguments):
    with pytest.raises(TypeError):
        shm.view(*arguments)


def test_view_sees_a_grown_segment():
    with SharedMemory(create=True, size=10, anonymous=True, capacity=MIB) as shm:
        assert shm.view().nbytes == 10
        shm.resize(1000)
        assert shm.view().nbytes == 1000
        assert shm.view("B", 10, 990).nbytes == 10


# --- the buffer protocol ----------------------------------------------------------------------------------------------


def test_the_object_itself_is_a_buffer(shm):
    view = memoryview(shm)
    assert (view.nbytes, view.format, view.readonly) == (96, "B", False)
    view[3] = 7
    assert shm.buf[3] == 7
    assert bytes(shm) == bytes(shm.buf)


def test_functions_that_take_buffers_take_a_segment(shm):
    shm.buf[:4] = b"abcd"
    assert bytearray(shm)[:4] == b"abcd"
    assert b"".join([shm])[:4] == b"abcd"
    assert ctypes.c_char.from_buffer(shm).value == b"a"
    assert (ctypes.c_char * 4).from_buffer(shm.buf).raw == b"abcd"
    words = array.array("B")
    words.frombytes(shm)
    assert len(words) == 96
    assert struct.unpack_from("2s", shm, 2) == (b"cd",)
    read, write = os.pipe()
    try:
        assert os.write(write, shm) == 96
        assert os.readv(read, [shm]) == 96
    finally:
        os.close(read)
        os.close(write)


def test_numpy_arrays_share_the_memory_of_a_segment(shm):
    numpy = pytest.importorskip("numpy")
    flat = numpy.frombuffer(shm, dtype="f8")
    grid = numpy.ndarray((3, 4), dtype="f8", buffer=shm.buf)
    same = numpy.asarray(shm.view("d", (3, 4)))
    flat[:] = range(12)
    assert grid[2, 3] == same[2, 3] == 11
    assert flat.flags.writeable and same.flags.writeable
    assert flat.flags.aligned


# --- closing with live views ------------------------------------------------------------------------------------------


def test_views_survive_close_and_the_last_view_unmaps():
    shm = SharedMemory(create=True, size=100, anonymous=True)
    inode = shm.stat().inode
    view = memoryview(shm)
    part = view[10:20]
    shm.close()
    assert shm.buf is None
    view[15] = 4
    assert part[5] == 4
    # The object also keeps the memory mapped, for np.ndarray: see its test.
    del shm
    assert is_mapped(inode)
    view.release()
    assert is_mapped(inode)
    del part
    assert not is_mapped(inode)


def test_exported_buffers_of_buf_do_not_prevent_close():
    shm = SharedMemory(create=True, size=100, anonymous=True)
    inode, held = shm.stat().inode, pickle.PickleBuffer(shm.buf)
    matches = re.finditer(rb"\0", shm.buf)
    next(matches)
    with pytest.raises(BufferError):
        shm.buf.release()  # close() of the standard class would raise this error
    shm.close()
    held.raw()[99] = 1
    assert sum(1 for _ in matches) == 98
    del matches
    assert is_mapped(inode)
    held.release()
    assert not is_mapped(inode)


@pytest.mark.parametrize("buffer", ["shm", "shm.buf", "shm.view('d')", "memoryview(shm)"])
@pytest.mark.parametrize("end", ["shm.close()", "del shm", "shm.__init__(create=True, size=1, anonymous=True)"])
def test_np_ndarray_survives_close(run, buffer, end):
    """np.ndarray releases the buffer at once, but uses the memory for as long as it refers to the object."""
    pytest.importorskip("numpy")
    code = f"""
        import gc, numpy
        from shmkit import SharedMemory
        shm = SharedMemory(create=True, size=800, anonymous=True)
        array = numpy.ndarray(100, dtype="f8", buffer={buffer})
        array[:] = 1
        {end}
        gc.collect()
        array[99] = 2
        print(array.sum())
        del array
        shm = None
        with open("/proc/self/maps") as maps:
            print([line for line in maps if "memfd" in line])
    """
    assert run(code).out == "101.0\n[]\n"


def test_a_slice_of_buf_survives_close():
    shm = SharedMemory(create=True, size=100, anonymous=True)
    inode = shm.stat().inode
    part = shm.buf[10:20]
    shm.close()
    part[0] = 1
    assert part[0] == 1
    part.release()
    assert not is_mapped(inode)


def test_numpy_arrays_survive_close():
    numpy = pytest.importorskip("numpy")
    shm = SharedMemory(create=True, size=800, anonymous=True)
    inode = shm.stat().inode
    over_object = numpy.frombuffer(shm, dtype="f8")
    over_buf = numpy.frombuffer(shm.buf, dtype="f8")
    over_view = numpy.asarray(shm.view("d"))
    shm.close()
    over_object[99] = 1.5
    assert over_buf[99] == over_view[99] == 1.5
    del over_object, over_view, shm
    assert is_mapped(inode)
    del over_buf
    assert not is_mapped(inode)


def test_a_view_survives_the_object():
    shm = SharedMemory(create=True, size=100, anonymous=True)
    inode, gone, view = shm.stat().inode, weakref.ref(shm), shm.view("B", (10, 10))
    del shm
    gc.collect()
    assert gone() is None
    view[9, 9] = 1
    assert view[9, 9] == 1
    del view
    assert not is_mapped(inode)


def test_a_with_block_may_end_while_views_exist():
    with SharedMemory(create=True, size=100, anonymous=True) as shm:
        inode, words = shm.stat().inode, ctypes.c_uint64.from_buffer(shm)
    words.value = 1
    assert words.value == 1
    del words, shm
    gc.collect()
    assert not is_mapped(inode)


def test_the_descriptor_is_closed_with_the_mapping():
    shm = SharedMemory(create=True, size=100, anonymous=True)
    fd, view = shm.fileno(), memoryview(shm)
    shm.close()
    del shm
    os.fstat(fd)
    view.release()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_the_interpreter_may_exit_while_views_exist(run):
    run("""
        import ctypes
        from shmkit import SharedMemory
        shm = SharedMemory(create=True, size=100, anonymous=True)
        view, slice_ = memoryview(shm), shm.buf[3:]
        word = ctypes.c_int.from_buffer(shm)
        closed = SharedMemory(create=True, size=100, anonymous=True)
        kept = closed.buf[:]
        closed.close()
    """)
