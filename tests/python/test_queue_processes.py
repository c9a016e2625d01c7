"""Queues in other processes: if a process is killed, the others continue."""

import contextlib
import itertools
import os
import pickle
import queue as standard
import random
import signal
import threading
import time
from contextlib import closing

import pytest
from child import wait_until
from shmkit import JoinableQueue, Queue, ShutDown

PREFACE = """
import multiprocessing
from shmkit import JoinableQueue, Queue, SimpleQueue
"""


def test_spawned_process_gets_and_puts(run):
    code = """
def work(there, back):
    for i in range(3):
        back.put((i, there.get(timeout=60)))
    there.close()
    back.close()

if __name__ == "__main__":
    there, back = Queue(), SimpleQueue()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(there, back))
    process.start()
    there.put_many("abc")
    print(*(back.get(timeout=60) for _ in range(3)))
    process.join()
    print(process.exitcode, there.empty())
"""
    assert run(PREFACE + code).out == "(0, 'a') (1, 'b') (2, 'c')\n0 True\n"


def test_queue_is_sent_through_a_queue(run):
    code = """
def work(connection):
    queue = connection.recv()
    inner = queue.get(timeout=60)
    inner.put(type(queue).__name__)
    queue.task_done()
    connection.recv()

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    mine, yours = context.Pipe()
    process = context.Process(target=work, args=(yours,))
    process.start()
    queue, inner = JoinableQueue(), Queue()
    mine.send(queue)
    queue.put(inner)
    print(inner.get(timeout=60), queue.join(60))
    mine.send(None)
    process.join()
    print(process.exitcode)
"""
    assert run(PREFACE + code).out == "JoinableQueue True\n0\n"


def test_pickle_keeps_bounds_and_overflow():
    with closing(Queue(3, max_bytes=500, capacity=4096, overflow="overwrite")) as queue:
        same = pickle.loads(pickle.dumps(queue))
        assert (same.maxsize, same.max_bytes, same.capacity, same.overflow) == (3, 500, 4096, "overwrite")
        same.close()


# --- visibility -------------------------------------------------------------------------------------------------------


def test_message_is_visible_when_put_returns(where, fork):
    """A thread of multiprocessing.Queue puts the message later. The message is lost if the process calls os._exit."""
    with closing(Queue(**where)) as queue:

        def work(child):
            queue.put("put")
            os._exit(0)

        fork(work).end()
        assert (queue.qsize(), queue.get(False)) == (1, "put")


def test_forked_child_uses_the_queue_of_its_parent(where, fork):
    with closing(Queue(**where)) as queue:
        queue.put("before")
        child = fork(lambda child: (child.send(queue.get()), queue.put("after")))
        assert child.receive() == "before"
        assert queue.get(timeout=60) == "after"
        child.end()


def test_processes_get_each_message_once(where, fork):
    """Each consumer gets the messages of a producer in the order of their puts."""
    each, producers = 400, 3

    def produce(number):
        for i in range(each):
            queue.put((number, i))

    def consume(child):
        got = []
        while (message := queue.get(timeout=60)) is not None:
            got.append(message)
        child.send(got)

    with closing(Queue(20, **where)) as queue:
        consumers = [fork(consume) for _ in range(2)]
        makers = [fork(lambda child, n=n: produce(n)) for n in range(producers)]
        for maker in makers:
            maker.end()
        for _ in consumers:
            queue.put(None)
        parts = [consumer.receive() for consumer in consumers]
        for part in parts:
            for number in range(producers):
                own = [i for n, i in part if n == number]
                assert own == sorted(own)
        everything = sorted(itertools.chain(*parts))
        assert everything == [(n, i) for n in range(producers) for i in range(each)]


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_consumer_killed_during_a_wait_does_not_block_others(where, fork):
    """With multiprocessing.Queue the victim holds the lock of the readers, and every later get() blocks forever."""
    with closing(Queue(**where)) as queue:
        for _ in range(3):
            child = fork(lambda child: queue.get())
            waits = queue.stat().get_waits
            wait_until(lambda waits=waits: queue.stat().get_waits > waits)
            child.kill()
        queue.put("for the living")
        assert queue.get(timeout=60) == "for the living"


def test_message_of_a_killed_consumer_is_redelivered(where, fork):
    def work(child):
        child.send(queue.get())
        child.pause()

    with closing(JoinableQueue(**where)) as queue:
        queue.put_many(["first", "second"])
        child = fork(work)
        assert child.receive() == "first"
        child.kill()
        assert {queue.get(timeout=60), queue.get(timeout=60)} == {"first", "second"}
        queue.task_done()
        queue.task_done()
        assert queue.join(60)


def test_producer_killed_during_a_wait_puts_nothing(where, fork):
    with closing(Queue(1, **where)) as queue:
        queue.put("full")
        child = fork(lambda child: queue.put("never"))
        wait_until(lambda: queue.stat().put_waits)
        child.kill()
        assert queue.get() == "full"
        queue.put("next")
        assert (queue.get(timeout=60), queue.empty()) == ("next", True)


@pytest.mark.parametrize("size", [10, 200_000])
def test_queue_stays_valid_if_producers_and_consumers_are_killed_at_random(fork, size):
    """Every message that is left in the queue is whole."""
    numbers = random.Random(7)
    body = os.urandom(16) * (size // 16)

    def produce(child):
        for i in itertools.count():
            queue.put((os.getpid(), i, body))

    def consume(child):
        while True:
            queue.get(timeout=60)

    with closing(Queue(8)) as queue:
        for _ in range(12):
            children = [fork(produce), fork(consume)]
            time.sleep(numbers.uniform(0, 0.02))
            children[0].kill()
            children[1].kill()
        queue.shutdown()
        with contextlib.suppress(ShutDown):
            while True:
                pid, i, got = queue.get(timeout=60)
                assert (pid > 0, i >= 0, got) == (True, True, body)
        assert queue.stat().messages == 0


def test_survivors_make_progress_while_others_are_killed(fork):
    with closing(Queue(4)) as queue:

        def hammer(child):
            while True:
                queue.put(b"noise", timeout=60)
                queue.get(timeout=60)

        done = []

        def work():
            for _ in range(300):
                queue.put(b"noise", timeout=60)
                done.append(queue.get(timeout=60))

        queue.put(b"noise")
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            victim = fork(hammer)
            time.sleep(0.005)
            victim.kill()
            # A victim that died after its get has removed a message. This put replaces it.
            with contextlib.suppress(standard.Full):
                queue.put(b"noise", False)
        thread.join()
        assert len(done) == 300


def test_lease_of_a_stopped_process_is_not_redelivered(fork):
    def work(child):
        message = queue.lease()
        child.send(message.get())
        child.pause()
        message.ack()

    with closing(Queue()) as queue:
        queue.put("mine")
        child = fork(work)
        assert child.receive() == "mine"
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(standard.Empty):
            queue.get(timeout=0.1)
        os.kill(child.pid, signal.SIGCONT)
        child.go()
        child.end()
        assert queue.join(60)
