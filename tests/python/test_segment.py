"""SharedMemory behaves as multiprocessing.shared_memory.SharedMemory, so that it can replace it."""

import errno
import gc
import os
import weakref

import pytest
from shmkit import SharedMemory


@pytest.fixture
def shm(name):
    """Return a segment of 512 bytes, which is removed after the test."""
    with SharedMemory(name, create=True, size=512) as made:
        yield made
        made.unlink()


def test_bytes_can_be_read_and_written(shm):
    assert len(shm.buf) == 512
    assert shm.size == 512
    shm.buf[0] = 42
    assert shm.buf[0] == 42
    assert shm.buf[:] == bytes([42]) + bytes(511)


def test_another_attachment_sees_each_write(shm):
    with SharedMemory(shm.name) as same:
        shm.buf[7] = 1
        assert same.buf[7] == 1
        same.buf[511] = 2
        assert shm.buf[511] == 2


def test_another_process_sees_each_write(shm, run):
    shm.buf[:5] = b"howdy"
    code = """
        import sys
        from shmkit import SharedMemory
        with SharedMemory(sys.argv[1]) as same:
            print(bytes(same.buf[:5]), same.size)
            same.buf[:5] = b"hello"
    """
    assert run(code, shm.name).out == "b'howdy' 512\n"
    assert bytes(shm.buf[:5]) == b"hello"


def test_a_leading_slash_is_ignored(shm):
    assert not shm.name.startswith("/")
    with SharedMemory("/" + shm.name) as same:
        assert same.name == shm.name


def test_a_segment_without_a_name_gets_a_generated_name(path):
    with SharedMemory(create=True, size=1) as made, SharedMemory(create=True, size=1) as other:
        assert made.name != other.name
        assert made.name.startswith("psm_")
        assert (path.parent / made.name).exists()
        made.unlink()
        other.unlink()


def test_the_first_three_arguments_may_be_positional(name):
    with SharedMemory(name, True, 10) as made, SharedMemory(name, False, 0) as same:
        assert made.size == same.size == 10
        made.unlink()


@pytest.mark.parametrize("track", [True, False])
def test_track_is_accepted(name, track):
    with SharedMemory(name, create=True, size=1, track=track) as made, SharedMemory(name, track=track):
        made.unlink()


def test_the_other_arguments_must_be_keywords(name):
    with pytest.raises(TypeError):
        SharedMemory(name, True, 1, True)


def test_the_size_is_exact_and_equals_the_size_of_the_file(shm, name, path):
    with SharedMemory(name, size=100_000) as same:
        assert same.size == 512  # attaching ignores the size, as the standard class does
    assert path.stat().st_size == 512


def test_a_new_segment_contains_zeros(name):
    with SharedMemory(name, create=True, size=100_000) as made:
        made.unlink()
        assert bytes(made.buf) == bytes(100_000)


@pytest.mark.parametrize("size", [0, -1, -(1 << 70)])
def test_an_impossible_size_is_a_value_error(name, size):
    with pytest.raises(ValueError, match="size"):
        SharedMemory(name, create=True, size=size)


def test_creating_without_a_size_is_a_value_error(name):
    with pytest.raises(ValueError, match="size"):
        SharedMemory(name, create=True)


def test_attaching_without_a_name_is_a_value_error():
    with pytest.raises(ValueError, match="name must not be None with create=False"):
        SharedMemory(create=False)
    with pytest.raises(ValueError, match="name"):
        SharedMemory()


@pytest.mark.parametrize("false", [0, ""])
def test_any_false_value_of_create_attaches(name, false):
    with pytest.raises(ValueError, match="name"):
        SharedMemory(create=false, size=1)
    with pytest.raises(FileNotFoundError):
        SharedMemory(name, create=false, size=1)


def test_creating_a_name_that_exists_fails(shm):
    with pytest.raises(FileExistsError) as caught:
        SharedMemory(shm.name, create=True, size=10)
    assert caught.value.errno == errno.EEXIST
    assert caught.value.filename == os.path.join(shm.directory, shm.name)
    with SharedMemory(shm.name) as same:
        assert same.size == 512


def test_creating_a_large_segment_with_a_name_that_exists_fails(shm):
    with pytest.raises(FileExistsError):
        SharedMemory(shm.name, create=True, size=2 << 20)


def test_attaching_to_an_unused_name_fails(name):
    with pytest.raises(FileNotFoundError) as caught:
        SharedMemory(name)
    assert caught.value.errno == errno.ENOENT


def test_buf_is_always_the_same_object(shm):
    assert shm.buf is shm.buf
    assert isinstance(shm.buf, memoryview)
    assert (shm.buf.format, shm.buf.itemsize, shm.buf.ndim, shm.buf.readonly) == ("B", 1, 1, False)


def test_attributes_cannot_be_set(shm):
    for attribute in ("name", "size", "buf", "capacity"):
        with pytest.raises(AttributeError):
            setattr(shm, attribute, 1)


def test_repr_contains_the_class_the_name_and_the_size(shm):
    assert repr(shm) == f"<SharedMemory {shm.name!r} 512 bytes>"
    assert str(shm) == repr(shm)


def test_close_releases_the_memory_and_keeps_the_name(name):
    made = SharedMemory(name, create=True, size=10)
    made.close()
    assert made.buf is None
    assert made.name == name
    assert made.size == 10
    assert name in repr(made)
    with SharedMemory(name) as same:
        same.unlink()


def test_a_second_close_does_nothing(shm):
    with SharedMemory(shm.name) as same:
        same.close()
        same.close()


def test_close_releases_buf(name):
    made = SharedMemory(name, create=True, size=10)
    buf = made.buf
    made.close()
    made.unlink()
    with pytest.raises(ValueError, match="released"):
        buf[0]


CLOSED = {
    "capacity": lambda shm: shm.capacity,
    "readonly": lambda shm: shm.readonly,
    "huge_bytes": lambda shm: shm.huge_bytes,
    "view": lambda shm: shm.view(),
    "resize": lambda shm: shm.resize(100),
    "stat": lambda shm: shm.stat(),
    "fileno": lambda shm: shm.fileno(),
    "memoryview": memoryview,
    "pickle": lambda shm: shm.__reduce__(),
}


@pytest.mark.parametrize("use", CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize("never_opened", [False, True], ids=["closed", "never opened"])
def test_using_a_closed_segment_is_a_value_error(use, never_opened):
    if never_opened:
        shm = SharedMemory.__new__(SharedMemory)
    else:
        shm = SharedMemory(create=True, size=10)
        shm.unlink()
        shm.close()
    with pytest.raises(ValueError, match="closed"):
        use(shm)


def test_an_object_that_was_never_opened_can_be_closed():
    shm = SharedMemory.__new__(SharedMemory)
    assert (shm.name, shm.directory, shm.size, shm.buf) == (None, None, 0, None)
    assert "SharedMemory" in repr(shm)
    shm.close()
    shm.unlink()


def test_unlink_works_after_close(name, path):
    made = SharedMemory(name, create=True, size=10)
    made.close()
    assert path.exists()
    made.unlink()
    assert not path.exists()


def test_unlink_keeps_the_memory_of_open_segments(name):
    with SharedMemory(name, create=True, size=1) as first, SharedMemory(name) as same:
        first.unlink()
        same.buf[0] = 9
        assert first.buf[0] == 9
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)


def test_unlink_keeps_a_newer_segment_of_the_same_name(name):
    with SharedMemory(name, create=True, size=1) as first:
        first.unlink()
        with SharedMemory(name, create=True, size=1) as second:
            with pytest.raises(FileNotFoundError):
                first.unlink()
            with SharedMemory(name) as again:
                assert again.stat().inode == second.stat().inode
            second.unlink()


def test_a_second_unlink_fails(name):
    with SharedMemory(name, create=True, size=10) as made:
        made.unlink()
        with pytest.raises(FileNotFoundError):
            made.unlink()


def test_the_context_manager_closes_even_after_an_exception(name):
    with pytest.raises(KeyError), SharedMemory(name, create=True, size=10) as made:
        made.unlink()
        raise KeyError
    assert made.buf is None


def test_a_second_init_closes_the_first_segment(name):
    shm = SharedMemory(name, create=True, size=10)
    shm.unlink()
    first = shm.stat().inode
    shm.__init__(name, create=True, size=20)
    assert shm.size == 20
    assert shm.stat().inode != first
    shm.unlink()
    shm.close()


def test_a_second_init_that_fails_keeps_the_first_segment(shm):
    with pytest.raises(FileNotFoundError):
        shm.__init__(shm.name + "-none")
    assert shm.size == 512


def test_a_collected_object_is_unmapped_and_keeps_its_name(name, path):
    shm = SharedMemory(name, create=True, size=10)
    gone = weakref.ref(shm)
    del shm
    assert gone() is None
    assert path.exists()
    SharedMemory.unlink_name(name)


def test_a_reference_cycle_is_collected(name):
    class Node(SharedMemory):
        """Has a __dict__, so that it can refer to itself."""

    node = Node(name, create=True, size=10)
    node.unlink()
    node.itself = node
    gone = weakref.ref(node)
    del node
    gc.collect()
    assert gone() is None


def test_a_subclass_may_have_other_arguments_and_attributes(name):
    class Counted(SharedMemory):
        """Has other arguments and attributes."""

        def __init__(self, name, count):
            super().__init__(name, create=True, size=8 * count)
            self.count = count

        def first(self):
            return self.view("q")[0]

    with Counted(name, 4) as made:
        made.unlink()
        assert (made.count, made.size, made.first()) == (4, 32, 0)
        assert repr(made).startswith("<Counted ")


def test_a_subclass_may_override_close(name):
    class Careful(SharedMemory):
        """Uses in close() an attribute that __init__ sets last."""

        def __init__(self, name):
            super().__init__(name, create=True, size=1)
            self.closed = 0

        def close(self):
            self.closed += 1
            super().close()

    made = Careful(name)
    assert made.closed == 0
    made.unlink()
    made.close()
    assert made.closed == 1


def test_names_need_not_be_ascii(name):
    for odd in (name + "ü", name + "\udcff", name + " \n*"):
        with SharedMemory(odd, create=True, size=1) as made:
            assert made.name == odd
            assert odd in SharedMemory.names()
            made.unlink()


def test_equality_is_identity(shm):
    with SharedMemory(shm.name) as same:
        assert shm != same
        assert shm == shm  # noqa: PLR0124
        assert len({shm, same}) == 2
