"""A forked child of a test, and how to wait for what others do."""

import os
import pickle
import select
import signal
import time
import traceback

# How many seconds a process may take before it is taken for hung: far more than any needs.
HANG_SECONDS = 60


def wait_until(condition):
    """Wait until `condition()` is true."""
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.0005)


class Child:
    """A forked child of the test, which tells what it does and waits where it is told to.

    What the child runs gets this object: there `say` and `pause` are to be called, here all the others.
    """

    def __init__(self, work):
        (self._hear, self._say), (self._waits, self._goes_on) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(self._say)
            os.close(self._waits)
            return
        os.close(self._hear)
        os.close(self._goes_on)
        status = 1
        try:
            work(self)
            status = 0
        except BaseException:
            self.send(traceback.format_exc())
        finally:
            os._exit(status)

    def send(self, value=None):
        """Send a value to the test."""
        data = pickle.dumps(value)
        os.write(self._say, len(data).to_bytes(4, "little") + data)

    def pause(self):
        """Wait for go(), or end with the test."""
        if not os.read(self._waits, 1):
            os._exit(2)

    def _read(self, count):
        assert select.select([self._hear], [], [], HANG_SECONDS)[0], "the child hangs"
        return os.read(self._hear, count)

    def receive(self):
        """Return what it says next."""
        data = self._read(int.from_bytes(self._read(4), "little"))
        assert data, "the child has ended"
        return pickle.loads(data)

    def go(self):
        """Have it go on from its pause."""
        os.write(self._goes_on, b"x")

    def kill(self, number=signal.SIGKILL):
        """Kill it and see its end."""
        os.kill(self.pid, number)
        return self.end(-number)

    def end(self, status=0):
        """See its end: how it exits, or negative the signal that kills it."""
        wait_until(lambda: self.reaped(os.WNOHANG))
        assert self.status == status, self.receive()

    def reaped(self, flags=0):
        """Say whether it has ended."""
        pid, status = os.waitpid(self.pid, flags)
        if pid:
            self.pid, self.status = 0, os.waitstatus_to_exitcode(status)
        return pid != 0

    def close(self):
        """Kill it if it still runs."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.reaped()
        os.close(self._hear)
        os.close(self._goes_on)
