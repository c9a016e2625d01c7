"""Ends the demo in good order: at a signal, and when a worker has died."""

import contextlib
import os
import signal
import subprocess
import sys

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked for the end. Not an Exception, so that no library takes it for an error of its own."""


class DemoError(Exception):
    """Something is not as it should be: the text says what."""


class Ending:
    """Turns signals into Stopped and the death of a worker into DemoError, but never while something is being made."""

    def __init__(self):
        self.asked = 0
        self._holds = 0
        self._workers = []
        self._commands = []

    def listen(self):
        """Take over the signals, except those that whoever started us wants ignored."""
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, self._on_child)
        sys.unraisablehook = self._on_lost

    def ignore(self):
        """Let nothing interrupt the clean-up any more."""
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
        # Python cannot raise out of a destructor, and a signal can come in the middle of one: check() raises it again.
        if not isinstance(lost.exc_value, (Stopped, DemoError)):
            sys.__unraisablehook__(lost)

    def check(self):
        """Raise what there is to be raised."""
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
        """Put signals off while something is made and noted for removal."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        self.check()

    def start(self, workers):
        """Start processes that a Ctrl-C at the terminal does not reach: this process ends them."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        try:
            for worker in workers:
                worker.start()
                self._workers.append(worker)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def expect_death(self, worker):
        """Let this worker die without ending the demo; whoever says so kills it and waits for it."""
        self._workers.remove(worker)

    def kill(self, workers):
        """End processes, whatever they are doing."""
        for worker in workers:
            if worker in self._workers:
                self._workers.remove(worker)
                worker.kill()
                worker.join()

    def run(self, command, **how):
        """Run a command and return what it printed; it ends with us, and so does what it has started."""
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
        """End commands that an exception has left running, with what they have started."""
        for process in self._commands:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
