"""A forked child of a test, and a wait for what other processes do."""

import os
import pickle
import select
import signal
import time
import traceback

# A process that runs for more seconds than this counts as hung; none needs nearly as many.
HANG_SECONDS = 60


def wait_until(condition):
    """Wait until `condition()` is true."""
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.0005)


class Child:
    """A forked child of the test, which sends values to the test and pauses until the test calls go().

    `work` gets this object in the child and calls `send` and `pause` there. The test calls the other methods.
    """

    def __init__(self, work):
        (self._input, self._output), (self._pause_end, self._go_end) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(self._output)
            os.close(self._pause_end)
            return
        os.close(self._input)
        os.close(self._go_end)
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
        os.write(self._output, len(data).to_bytes(4, "little") + data)

    def pause(self):
        """Wait for go(); exit if the test ends first."""
        if not os.read(self._pause_end, 1):
            os._exit(2)

    def _read(self, count):
        assert select.select([self._input], [], [], HANG_SECONDS)[0], "the child hangs"
        return os.read(self._input, count)

    def receive(self):
        """Return the next value that the child sends."""
        data = self._read(int.from_bytes(self._read(4), "little"))
        assert data, "the child has ended"
        return pickle.loads(data)

    def go(self):
        """Resume the child from its pause."""
        os.write(self._go_end, b"x")

    def kill(self, number=signal.SIGKILL):
        """Kill the child and wait for its end."""
        os.kill(self.pid, number)
        return self.end(-number)

    def end(self, status=0):
        """Wait for the end of the child: its exit status, or minus the signal that kills it, must be `status`."""
        wait_until(lambda: self.reaped(os.WNOHANG))
        assert self.status == status, self.receive()

    def reaped(self, flags=0):
        """Return whether the child has ended."""
        pid, status = os.waitpid(self.pid, flags)
        if pid:
            self.pid, self.status = 0, os.waitstatus_to_exitcode(status)
        return pid != 0

    def close(self):
        """Kill the child if it still runs."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.reaped()
        os.close(self._input)
        os.close(self._go_end)
