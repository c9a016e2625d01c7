"""Messages that are filled and read in place: what is seen of them, how they end, and what if nobody ends them."""

import ctypes
import gc
import os
import pickle
import queue as standard
import struct
import threading
from contextlib import closing

import pytest
from child import wait_until
from conftest import mappings, refused
from shmkit import JoinableQueue, Lease, NotOwner, Queue, Reservation, SharedMemory

INVALID, CLOSED, TIMEOUT, NOT_OWNER, EMPTY, FULL = -1, -2, -10, -13, -16, -17


@pytest.fixture(params=["unnamed", "placed"])
def queue(request, name):
    """Return a queue in each place."""
    if request.param == "placed":
        with SharedMemory(name, create=True, size=1 << 17, managed=True) as shm:
            shm.unlink()
            with closing(Queue(segment=shm, offset=64)) as queue:
                yield queue
    else:
        with closing(Queue()) as queue:
            yield queue


def address(buffer):
    """Return where a writable buffer lies."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


# --- reservations -----------------------------------------------------------------------------------------------------


def test_fill_in_place(queue):
    with queue.reserve(16) as buffer:
        assert isinstance(buffer, memoryview)
        assert (buffer.nbytes, buffer.readonly, buffer.format) == (16, False, "B")
        assert address(buffer) % 32 == 0
        struct.pack_into("<dd", buffer, 0, 1.5, 2.5)
        assert (queue.qsize(), queue.stat().reserved) == (0, 1)
    assert struct.unpack("<dd", queue.get_bytes()) == (1.5, 2.5)
    with pytest.raises(ValueError, match="released"):
        buffer[0] = 1


def test_less_than_was_reserved(queue):
    place = queue.reserve(100)
    with place as buffer:
        buffer[:3] = b"abc"
        place.commit(3)
        refused(NotOwner, NOT_OWNER, place.commit)
        refused(NotOwner, NOT_OWNER, place.abort)
    assert queue.get_bytes() == b"abc"
    place = queue.reserve(2)
    for wrong in (3, 2**62):
        refused(ValueError, INVALID, place.commit, wrong)
    refused(ValueError, INVALID, place.commit, -1)
    with pytest.raises(TypeError):
        place.commit("1")
    place.commit(0)
    assert queue.get_bytes() == b""


def test_given_up(queue):
    with pytest.raises(KeyError), queue.reserve(5):
        raise KeyError
    place = queue.reserve(5)
    place.abort()
    refused(NotOwner, NOT_OWNER, place.abort)
    refused(NotOwner, NOT_OWNER, lambda: place.data)
    with queue.reserve(5) as buffer:
        buffer[:] = b"there"
    queue.reserve(5)  # dropped
    queue.put_bytes(b"behind")
    assert [queue.get_bytes(), queue.get_bytes(False)] == [b"there", b"behind"]
    assert queue.stat().skipped == 3


def test_what_is_reserved_holds_up_what_is_behind(queue):
    first, second = queue.reserve(1), queue.reserve(1)
    queue.put_bytes(b"3")
    second.data[:] = b"2"
    second.commit()
    refused(standard.Empty, EMPTY, queue.get_bytes, False)
    first.data[:] = b"1"
    first.commit()
    assert queue.get_bytes_many() == [b"1", b"2", b"3"]


def test_room_for_a_reservation():
    with closing(Queue(1)) as one:
        with one.reserve(0):
            refused(standard.Full, FULL, one.reserve, 0, False)
            refused(standard.Full, TIMEOUT, one.reserve, 0, timeout=0.001)
        waiter = threading.Thread(target=lambda: one.reserve(1).commit())
        waiter.start()
        wait_until(lambda: one.stat().put_waits > 1)
        one.get_bytes()
        waiter.join()
        assert len(one.get_bytes()) == 1
    for wrong in (-1, 2**64):
        with closing(Queue()) as queue:
            refused(ValueError, INVALID, queue.reserve, wrong)


# --- leases -----------------------------------------------------------------------------------------------------------


def test_read_in_place(queue):
    queue.put_bytes(b"hello")
    with queue.lease() as message:
        assert isinstance(message, Lease)
        data = message.data
        assert (bytes(data), data.readonly, message.attempts, len(message)) == (b"hello", True, 1, 5)
        assert bytes(message) == b"hello"
        assert (queue.qsize(), queue.stat().leased) == (0, 1)
        refused(standard.Empty, EMPTY, queue.get, False)
        with pytest.raises(TypeError):
            data[0] = 1
    assert queue.stat().leased == 0
    assert queue.empty()
    with pytest.raises(ValueError, match="released"):
        data[0]
    for call in (message.ack, message.nack, message.get, lambda: message.data, lambda: bytes(message)):
        refused(NotOwner, NOT_OWNER, call)


def test_given_back(queue):
    queue.put("work")
    with pytest.raises(KeyError), queue.lease() as message:
        raise KeyError
    message = queue.lease()
    assert message.attempts == 2
    message.nack()
    refused(NotOwner, NOT_OWNER, message.ack)
    message = queue.lease()
    del message  # dropped
    with queue.lease() as message:
        assert (message.get(), message.attempts) == ("work", 4)
        message.ack()
    assert queue.join(60)
    assert queue.stat().redelivered == 3


def test_others_go_on_behind_a_lease(queue):
    queue.put_many([1, 2, 3])
    with queue.lease() as message:
        assert queue.get() == 2
        with queue.lease() as other:
            assert (message.get(), other.get()) == (1, 3)
        assert queue.empty()


def test_what_cannot_be_unpickled_stays_leased(queue):
    queue.put_bytes(b"\x80\x05nonsense")
    with pytest.raises(pickle.UnpicklingError), queue.lease() as message:
        message.get()
    assert queue.get_bytes() == b"\x80\x05nonsense"


def test_a_child_has_not_leased_what_its_parent_has(queue, fork):
    queue.put_bytes(b"parent's")
    lease, place = queue.lease(), queue.reserve(1)

    def work(child):
        for call in (lease.ack, lease.nack, place.commit, place.abort):
            refused(NotOwner, NOT_OWNER, call)
        child.send(bytes(lease.data))

    child = fork(work)
    assert child.receive() == b"parent's"
    child.end()
    lease.ack()
    place.commit()


@pytest.mark.parametrize("kind", [Lease, Reservation])
def test_without_a_queue(kind):
    with pytest.raises(TypeError, match="is made by Queue"):
        kind()
    empty = kind.__new__(kind)
    for call in ("ack", "nack") if kind is Lease else ("commit", "abort"):
        refused(NotOwner, NOT_OWNER, getattr(empty, call))
    refused(NotOwner, NOT_OWNER, lambda: empty.data)
    with pytest.raises(TypeError):
        pickle.dumps(empty)


# --- what outlives what -----------------------------------------------------------------------------------------------


def test_views_outlive_their_queue():
    """What is read there may be anything, but no address is left without memory."""
    before = mappings()
    queue = Queue()
    queue.put_bytes(b"x" * 100_000)
    with queue.reserve(10) as buffer:
        part = buffer[5:]
    with queue.lease() as message:
        view = message.data[10:]
        assert view[0] == ord("x")
    slot = queue.reserve(5)
    queue.close()
    assert len(bytes(view)) == 99_990
    assert len(bytes(part)) == 5
    slot.data[:] = b"12345"
    slot.commit()
    assert mappings() != before
    del view, part, message, buffer, slot
    gc.collect()
    assert mappings() == before


def test_closing_inside_of_a_block():
    queue = Queue()
    queue.put("there")
    with queue.lease() as message:
        queue.close()
        assert message.get() == "there"
        refused(ValueError, CLOSED, queue.lease)
        refused(ValueError, INVALID, queue.__init__)
    del message
    queue.__init__()
    with queue.reserve(5):
        queue.close()


def test_a_process_that_ends_with_open_places(run):
    code = """
from shmkit import Queue
queue = Queue()
queue.put_bytes(b"x")
lease, place = queue.lease(), queue.reserve(5)
view, part = lease.data, place.data[1:]
cycle = [lease, place, view]
cycle.append(cycle)
print("end")
"""
    assert run(code).out == "end\n"


def test_places_of_a_queue_that_is_dropped():
    queue = Queue()
    queue.put_bytes(b"alone")
    message = queue.lease()
    del queue
    gc.collect()
    assert bytes(message.data) == b"alone"
    message.ack()


# --- who dies ---------------------------------------------------------------------------------------------------------


def test_who_dies_with_a_lease(queue, fork):
    queue.put("dangerous")

    def work(child):
        message = queue.lease()
        child.send((message.get(), message.attempts))
        child.pause()

    for attempt in (1, 2):
        child = fork(work)
        assert child.receive() == ("dangerous", attempt)
        child.kill()
    with queue.lease(timeout=60) as message:
        assert (message.get(), message.attempts) == ("dangerous", 3)
    assert queue.stat().redelivered == 2


def test_who_dies_with_a_reservation(queue, fork):
    def work(child):
        place = queue.reserve(10)
        child.send("reserved")
        child.pause()
        place.commit()

    child = fork(work)
    assert child.receive() == "reserved"
    queue.put("behind")
    refused(standard.Empty, EMPTY, queue.get, False)
    pid = child.pid
    assert queue.stat().held_up_by == pid
    child.kill()
    assert queue.get(timeout=60) == "behind"
    assert queue.stat().skipped == 1


def test_join_survives_who_dies_before_task_done(fork):
    with closing(JoinableQueue()) as queue:
        queue.put_many(["a", "b"])

        def work(child):
            child.send(queue.get())
            child.pause()

        child = fork(work)
        assert child.receive() == "a"
        joiner = fork(lambda child: child.send(queue.join()))
        assert queue.get() == "b"
        queue.task_done()
        child.kill()
        assert queue.get(timeout=60) == "a"
        assert queue.join(0) is False
        queue.task_done()
        assert joiner.receive() is True
        joiner.end()


def test_task_done_is_for_what_this_process_has_got(fork):
    with closing(JoinableQueue()) as queue:
        queue.put(os.getpid())
        queue.get()
        child = fork(lambda child: refused(ValueError, INVALID, queue.task_done))
        child.end()
        queue.task_done()
        assert queue.join(60)
