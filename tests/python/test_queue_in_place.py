"""Reservations and leases, which fill and read messages in place: their data, their ends and their owners' deaths."""

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
    """Return a queue at each place."""
    if request.param == "placed":
        with SharedMemory(name, create=True, size=1 << 17, managed=True) as shm:
            shm.unlink()
            with closing(Queue(segment=shm, offset=64)) as queue:
                yield queue
    else:
        with closing(Queue()) as queue:
            yield queue


def address(buffer):
    """Return the address of a writable buffer."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


# --- reservations -----------------------------------------------------------------------------------------------------


def test_reservation_is_filled_in_place(queue):
    with queue.reserve(16) as buffer:
        assert isinstance(buffer, memoryview)
        assert (buffer.nbytes, buffer.readonly, buffer.format) == (16, False, "B")
        assert address(buffer) % 32 == 0
        struct.pack_into("<dd", buffer, 0, 1.5, 2.5)
        assert (queue.qsize(), queue.stat().reserved) == (0, 1)
    assert struct.unpack("<dd", queue.get_bytes()) == (1.5, 2.5)
    with pytest.raises(ValueError, match="released"):
        buffer[0] = 1


def test_commit_may_use_less_than_was_reserved(queue):
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


def test_aborted_reservation_is_skipped(queue):
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


def test_reservation_holds_up_the_messages_behind_it(queue):
    first, second = queue.reserve(1), queue.reserve(1)
    queue.put_bytes(b"3")
    second.data[:] = b"2"
    second.commit()
    refused(standard.Empty, EMPTY, queue.get_bytes, False)
    first.data[:] = b"1"
    first.commit()
    assert queue.get_bytes_many() == [b"1", b"2", b"3"]


def test_reserve_waits_for_room():
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


def test_lease_is_read_in_place(queue):
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


def test_message_is_redelivered_unless_its_lease_is_acked(queue):
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


def test_messages_behind_a_lease_can_be_got(queue):
    queue.put_many([1, 2, 3])
    with queue.lease() as message:
        assert queue.get() == 2
        with queue.lease() as other:
            assert (message.get(), other.get()) == (1, 3)
        assert queue.empty()


def test_message_that_cannot_be_unpickled_is_redelivered(queue):
    queue.put_bytes(b"\x80\x05nonsense")
    with pytest.raises(pickle.UnpicklingError), queue.lease() as message:
        message.get()
    assert queue.get_bytes() == b"\x80\x05nonsense"


def test_forked_child_cannot_end_leases_of_its_parent(queue, fork):
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
def test_lease_and_reservation_cannot_be_created_without_a_queue(kind):
    with pytest.raises(TypeError, match="is made by Queue"):
        kind()
    empty = kind.__new__(kind)
    for call in ("ack", "nack") if kind is Lease else ("commit", "abort"):
        refused(NotOwner, NOT_OWNER, getattr(empty, call))
    refused(NotOwner, NOT_OWNER, lambda: empty.data)
    with pytest.raises(TypeError):
        pickle.dumps(empty)


# --- lifetimes --------------------------------------------------------------------------------------------------------


def test_views_stay_readable_after_close():
    """The content of the views is undefined after close(), but their memory stays mapped."""
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


def test_queue_may_be_closed_inside_a_block():
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


def test_interpreter_ends_with_open_leases_and_reservations(run):
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


def test_lease_keeps_its_queue_alive():
    queue = Queue()
    queue.put_bytes(b"alone")
    message = queue.lease()
    del queue
    gc.collect()
    assert bytes(message.data) == b"alone"
    message.ack()


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_message_leased_by_a_dead_process_is_redelivered(queue, fork):
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


def test_reservation_of_a_dead_process_is_skipped(queue, fork):
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


def test_join_waits_for_a_message_whose_consumer_died(fork):
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


def test_task_done_fails_in_a_process_that_got_no_message(fork):
    with closing(JoinableQueue()) as queue:
        queue.put(os.getpid())
        queue.get()
        child = fork(lambda child: refused(ValueError, INVALID, queue.task_done))
        child.end()
        queue.task_done()
        assert queue.join(60)


@pytest.mark.parametrize("begin", [lambda queue: queue.lease(), lambda queue: queue.reserve(5)])
def test_forked_child_gets_the_exception_of_its_block(queue, begin):
    queue.put_bytes(b"message")
    held = begin(queue)
    child = os.fork()
    if not child:
        try:
            with held:
                raise KeyError
        except KeyError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    with held:
        pass
