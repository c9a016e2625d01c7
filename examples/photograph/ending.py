"""End the demo and clean up after a signal or the death of a worker."""

import contextlib
import os
import signal
import subprocess
import sys

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal requested the end. It is no Exception, so that no library handles it as an error of its own."""


class DemoError(Exception):
    """A check of the demo failed; the text describes the failure."""


class Ending:
    """Raise Stopped for a signal and DemoError for the death of a worker, but not inside a block of held()."""

    def __init__(self):
        self.asked = 0
        self._holds = 0
        self._workers = []
        self._commands = []

    def listen(self):
        """Install the signal handlers, except for signals that the parent process set to be ignored."""
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, self._on_child)
        sys.unraisablehook = self._on_lost

    def ignore(self):
        """Ignore the signals, so that they do not interrupt the clean-up."""
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _on_signal(self, number, frame):
        first = not self.asked
        self.asked = self.asked or number
        if first:
            self.check()

    def _on_child(self, number, frame):
        self.check()

    @staticmethod
    def _on_lost(lost):
        # An exception that a signal raises inside a destructor is lost; the next check() raises it again.
        if not isinstance(lost.exc_value, (Stopped, DemoError)):
            sys.__unraisablehook__(lost)

    def check(self):
        """Raise Stopped after a signal, or DemoError after the death of a worker."""
        if self._holds:
            return
        if self.asked:
            raise Stopped
        for worker in self._workers:
            if worker.exitcode:
                how = f"signal {-worker.exitcode}" if worker.exitcode < 0 else f"exit status {worker.exitcode}"
                raise DemoError(f"{worker.name} (process {worker.pid}) has ended with {how}")

    @contextlib.contextmanager
    def held(self):
        """Postpone the exceptions of signals while the block creates a resource and registers its removal."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        self.check()

    def start(self, workers):
        """Start workers with SIGINT and SIGHUP blocked, so that only this process ends them."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        try:
            for worker in workers:
                worker.start()
                self._workers.append(worker)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def expect_death(self, worker):
        """Accept the death of this worker; the caller kills it and waits for it."""
        self._workers.remove(worker)

    def kill(self, workers):
        """Kill workers and wait for their end."""
        for worker in workers:
            if worker in self._workers:
                self._workers.remove(worker)
                worker.kill()
                worker.join()

    def run(self, command, **how):
        """Run a command in a session of its own and return what it printed."""
        with self.held():
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **how
            )
            self._commands.append(process)
        output, errors = process.communicate()
        self._commands.remove(process)
        if process.returncode != 0:
            raise DemoError(f"{command[0]} ended with {process.returncode}:\n{output}{errors}")
        return output

    def kill_commands(self):
        """Kill commands that an exception left running, with all processes of their sessions."""
        for process in self._commands:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
