"""Queues in event loops: descriptors for select and poll, and tasks that await messages and may be cancelled."""

import asyncio
import gc
import multiprocessing.connection
import queue as standard
import select
import selectors
import threading
import time
from contextlib import closing

import pytest
from child import wait_until
from conftest import refused, threads
from shmkit import JoinableQueue, Queue, ShutDown

CLOSED, TIMEOUT, EMPTY, FULL, SHUT_DOWN = -2, -10, -16, -17, -27
HANG_SECONDS = 60


def run(main):
    """Run a coroutine to its end, under a watchdog."""

    async def watched():
        return await asyncio.wait_for(main, HANG_SECONDS)

    return asyncio.run(watched())


@pytest.fixture(params=[Queue, JoinableQueue], ids=["Queue", "JoinableQueue"])
def queue(request):
    """Return a queue of each kind for at most two messages."""
    with closing(request.param(2)) as queue:
        yield queue


def readable(queue, timeout):
    """Return whether poll reports a message."""
    poll = select.poll()
    poll.register(queue, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


# --- descriptors ------------------------------------------------------------------------------------------------------


def test_descriptor_is_readable_while_the_queue_has_a_message(queue):
    assert queue.fileno() == queue.fileno()
    assert not readable(queue, 0)
    queue.put(1)
    assert readable(queue, HANG_SECONDS)
    assert queue.get() == 1
    refused(standard.Empty, EMPTY, queue.get_nowait)
    assert not readable(queue, 0)
    queue.put(2)
    assert select.select([queue], [], [], HANG_SECONDS)[0] == [queue]
    with selectors.DefaultSelector() as selector:
        selector.register(queue, selectors.EVENT_READ, "queue")
        assert [key.data for key, _ in selector.select(HANG_SECONDS)] == ["queue"]


def test_multiprocessing_waits_for_a_queue_and_a_connection(queue, fork):
    mine, yours = multiprocessing.Pipe()

    def work(child):
        child.pause()
        queue.put("from a child")

    child = fork(work)
    assert multiprocessing.connection.wait([queue, mine], 0) == []
    child.go()
    assert multiprocessing.connection.wait([queue, mine], HANG_SECONDS) == [queue]
    assert queue.get() == "from a child"
    refused(standard.Empty, EMPTY, queue.get_nowait)
    yours.send(1)
    assert multiprocessing.connection.wait([queue, mine], HANG_SECONDS) == [mine]
    child.end()
    mine.close()
    yours.close()


def test_forked_child_has_its_own_descriptor(queue, fork):
    queue.fileno()

    def work(child):
        child.send(readable(queue, 0))
        child.pause()
        child.send((readable(queue, HANG_SECONDS), queue.get()))

    child = fork(work)
    assert child.receive() is False
    queue.put("for the child")
    child.go()
    assert child.receive() == (True, "for the child")
    child.end()


def test_close_ends_the_thread_of_the_descriptor():
    before = threads()
    queue = Queue()
    queue.fileno()
    assert threads() == before + 1
    queue.close()
    wait_until(lambda: threads() == before)


def test_add_reader_calls_back_for_messages(queue):
    async def main():
        loop, got, enough = asyncio.get_running_loop(), [], asyncio.Event()

        def take():
            try:
                while True:
                    got.append(queue.get_nowait())
            except standard.Empty:
                if len(got) >= 5:
                    enough.set()

        loop.add_reader(queue, take)
        thread = threading.Thread(target=lambda: [queue.put(i) for i in range(5)])
        thread.start()
        await enough.wait()
        loop.remove_reader(queue)
        thread.join()
        return got

    assert run(main()) == [0, 1, 2, 3, 4]


# --- aget, aput -------------------------------------------------------------------------------------------------------


def test_aget_returns_a_message_that_is_put_later(queue):
    async def main():
        queue.put("there")
        assert await queue.aget() == "there"
        task = asyncio.ensure_future(queue.aget())
        await asyncio.sleep(0.01)
        assert not task.done()
        assert await queue.aput("later") is None
        return await task

    assert run(main()) == "later"
    queue.put(1)
    assert queue.get() == 1


def test_aput_waits_for_room():
    async def main(one):
        await one.aput(1)
        task = asyncio.ensure_future(one.aput(2))
        await asyncio.sleep(0.01)
        assert (task.done(), one.qsize()) == (False, 1)
        assert await one.aget() == 1
        await task
        return await one.aget()

    with closing(Queue(1)) as one:
        assert run(main(one)) == 2


def test_expired_timeouts_raise_empty_and_full(queue):
    async def main():
        for timeout in (0, -1, 0.02):
            begun = time.monotonic()
            with pytest.raises(standard.Empty):
                await queue.aget(timeout)
            assert time.monotonic() - begun >= timeout
        await queue.aput(1, timeout=5)
        await queue.aput(2, timeout=None)
        for timeout in (0, -1, 0.02):
            with pytest.raises(standard.Full):
                await queue.aput(3, timeout)
        assert [await queue.aget(timeout=5), await queue.aget()] == [1, 2]
        with pytest.raises(ValueError, match="timeout"):
            await queue.aget(float("nan"))
        with pytest.raises(TypeError):
            await queue.aget("1")

    run(main())


def test_loop_runs_other_tasks_while_aget_waits(queue, fork):
    def work(child):
        child.pause()
        queue.put("from a child")

    child = fork(work)

    async def main():
        task, ticks = asyncio.ensure_future(queue.aget()), 0
        while not task.done():
            await asyncio.sleep(0.001)
            ticks += 1
            if ticks == 20:
                child.go()
        return ticks, await task

    ticks, got = run(main())
    assert ticks >= 20
    assert got == "from a child"
    child.end()


def test_every_waiting_task_gets_a_message(queue):
    async def main():
        order = []

        async def take(number):
            order.append((number, await queue.aget()))

        tasks = [asyncio.ensure_future(take(number)) for number in range(5)]
        await asyncio.sleep(0.02)
        for i in range(5):
            await queue.aput(i)
        await asyncio.gather(*tasks)
        return sorted(order)

    assert len(run(main())) == 5


def test_tasks_and_processes_get_each_message_once(fork):
    each = 200

    def produce(number):
        for i in range(each):
            queue.put((number, i))

    async def main():
        got = []

        async def take():
            while len(got) < 4 * each:
                try:
                    got.append(await queue.aget(0.5))
                except standard.Empty:
                    assert len(got) == 4 * each

        async def make(number):
            for i in range(each):
                await queue.aput((number, i))

        await asyncio.gather(*(take() for _ in range(3)), make(0), make(1))
        return got

    with closing(Queue(5)) as queue:
        children = [fork(lambda child, n=n: produce(n)) for n in (2, 3)]
        got = run(main())
        for child in children:
            child.end()
    assert sorted(got) == [(n, i) for n in range(4) for i in range(each)]


def test_cancelled_aget_loses_no_message(queue):
    """The cancellation comes at several moments between the put and the get of the message."""

    async def main():
        for turns in range(12):
            task = asyncio.ensure_future(queue.aget())
            for _ in range(3):
                await asyncio.sleep(0)
            queue.put("message")
            assert await asyncio.get_running_loop().run_in_executor(None, readable, queue, HANG_SECONDS)
            for _ in range(turns % 4):
                await asyncio.sleep(0)
            task.cancel()
            try:
                got = await task
            except asyncio.CancelledError:
                got = queue.get_nowait()
            assert got == "message"
            refused(standard.Empty, EMPTY, queue.get_nowait)

    run(main())


def test_message_of_a_cancelled_aget_goes_to_the_next_task(queue):
    async def main():
        first, second = (asyncio.ensure_future(queue.aget()) for _ in range(2))
        await asyncio.sleep(0.01)
        queue.put("message")
        first.cancel()
        assert await second == "message"
        with pytest.raises(asyncio.CancelledError):
            await first

    run(main())


def test_cancelled_aput_puts_nothing():
    async def main(one):
        one.put(1)
        first = asyncio.ensure_future(one.aput("never"))
        second = asyncio.ensure_future(one.aput("then"))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        assert await one.aget() == 1
        await second
        return await one.aget(), one.empty()

    with closing(Queue(1)) as one:
        assert run(main(one)) == ("then", True)


def test_close_and_shutdown_wake_awaiting_tasks():
    async def main(how):
        queue = Queue(1)
        queue.put(1)
        tasks = [asyncio.ensure_future(queue.aput(2))]
        await asyncio.sleep(0.01)
        await queue.aget()
        await tasks[0]
        await queue.aget()
        tasks = [asyncio.ensure_future(queue.aget()) for _ in range(3)]
        await asyncio.sleep(0.01)
        if how == "thread":
            thread = threading.Thread(target=queue.close)
            thread.start()
            thread.join()
        elif how == "shutdown":
            queue.shutdown()
        else:
            queue.close()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        queue.close()
        return [(type(error), error.status) for error in errors]

    assert run(main("thread")) == run(main("here")) == [(ValueError, CLOSED)] * 3
    assert run(main("shutdown")) == [(ShutDown, SHUT_DOWN)] * 3


def test_loops_use_one_queue_in_turn(queue):
    """A loop that ends with pending tasks does not affect the next loop."""

    async def leave():
        task = asyncio.ensure_future(queue.aget())
        await asyncio.sleep(0.01)
        return task

    for turn in range(3):
        task = run(leave())  # asyncio.run cancels the pending task
        assert task.cancelled()
        loop = asyncio.new_event_loop()
        task = loop.create_task(queue.aget())
        loop.run_until_complete(asyncio.sleep(0.01))
        queue.put(turn)
        assert loop.run_until_complete(task) == turn
        loop.close()


def test_queue_works_after_a_loop_is_closed_with_a_pending_task(queue):
    loop = asyncio.new_event_loop()
    coroutine = queue.aget()
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    coroutine.close()
    task._log_destroy_pending = False
    del task, coroutine
    gc.collect()
    queue.put("next")
    assert run(queue.aget()) == "next"


def test_loops_of_two_threads_get_each_message_once(queue):
    got = []

    def take():
        for _ in range(50):
            got.append(run(queue.aget()))

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(100):
        queue.put(i)
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(100))


def test_coroutine_that_is_never_awaited_has_no_effect(queue):
    for coroutine in (queue.aget(), queue.aput(1)):
        coroutine.close()
    assert queue.empty()
