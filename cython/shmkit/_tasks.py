"""Makes tasks of asyncio wait for the descriptors of a queue."""

import asyncio
import contextlib

from ._status import ShutDown


def _wake(futures):
    """Wake the first waiter that is not woken yet. If the descriptor stays readable, the next call wakes the next."""
    for future in futures:
        if not future.done():
            future.set_result(None)
            return


def _settle(future):
    if not future.done():
        future.set_result(None)


def _wake_all(futures):
    for future in futures:
        _settle(future)


class Tasks:
    """The tasks that wait for one queue handle."""

    def __init__(self):
        # A list of futures for each loop and descriptor with waiters. The first waiter is first.
        self._waiting = {}

    async def attempt(self, ref, what, attempt, nothing, timeout):
        """Call `attempt` until it does not raise `nothing`, for at most `timeout` seconds; return its result.

        `attempt` runs without an await behind it. So a cancelled task has made no successful attempt. `ref` returns the
        descriptor for `what`, and keeps it open.
        """
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        again = False
        while True:
            try:
                return attempt()
            except nothing:
                if end is not None and loop.time() >= end:
                    raise
            await self._readable(loop, ref.fileno(what), end, again)
            again = True

    async def _readable(self, loop, fd, end, again):
        """Wait until the descriptor is readable, or the time of the loop is `end`."""
        futures = self._waiting.setdefault((loop, fd), [])
        if not futures:
            loop.add_reader(fd, _wake, futures)
        future = loop.create_future()
        futures.insert(0 if again else len(futures), future)
        timer = None if end is None else loop.call_at(end, _settle, future)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()
            futures.remove(future)
            if not futures:
                del self._waiting[loop, fd]
                if not loop.is_closed():
                    loop.remove_reader(fd)

    def wake(self):
        """Wake all waiters, in any thread: the queue is closed."""
        for (loop, _), futures in list(self._waiting.items()):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_wake_all, futures)


async def iterate(queue):
    """Yield the messages of a queue until it is shut down and empty."""
    while True:
        try:
            obj = await queue.aget()
        except ShutDown:
            return
        yield obj
