"""Every call that blocks: a signal ends the wait if its handler raises, and only then."""

import contextlib
import os
import signal
import threading
import time
import traceback
from contextlib import closing

import pytest
from child import HANG_SECONDS, wait_until
from nouns import use
from shmkit import Forked, OwnerDied
from waits import WAITS, figures, is_asleep

TIMEOUT = -10
CALLS = [(wait, text) for wait in WAITS for text in wait.all_calls()]


class Alarm(Exception):  # noqa: N818
    """Raised by a signal handler."""


def raise_alarm(*_):
    """Handle a signal."""
    raise Alarm


def name_of(wait):
    """Return the name of a test case."""
    return f"{wait.name}: {next(iter(wait.calls))}"


@pytest.fixture(params=CALLS, ids=lambda case: f"{case[0].name}: {case[1]}")
def case(request):
    """Return each call that blocks."""
    return request.param


@pytest.fixture(params=WAITS, ids=name_of)
def wait(request):
    """Return a row of the table of waits."""
    return request.param


@pytest.fixture(params=["process", "thread"])
def occupied(request, fork):
    """Return a function that occupies an object and forks a child that runs `work`.

    This process or a thread of the child occupies the object. The function returns the child and a function that wakes
    it.
    """

    def occupied(wait, one, work):
        def beside_a_thread(child):
            ready = threading.Event()

            def occupy():
                wait.occupy(one)
                ready.set()
                child.pause()
                wait.wake(one)

            thread = threading.Thread(target=occupy)
            thread.start()
            ready.wait()
            work(child)
            thread.join()

        if request.param == "thread":
            child = fork(beside_a_thread)
            return child, child.go
        wait.occupy(one)
        return fork(work), lambda: wait.wake(one)

    return occupied


def await_block(wait, one, thread):
    """Wait until a thread is blocked."""
    wait_until(lambda: wait.is_blocked(one) and is_asleep(thread))


def assert_unused(one):
    """Assert that no waiter is left, and that the object works."""
    info = one.stat()
    assert not getattr(info, "contended_since", None)
    assert not getattr(info, "waiting", 0)
    if not getattr(info, "done", False):
        use(one)


def test_exception_from_a_signal_handler_ends_the_wait(case, occupied):
    wait, text = case

    def work(child):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGUSR1, raise_alarm)
        with wait.around(one):
            before = figures(one)
            for error in (KeyboardInterrupt, Alarm, Alarm):
                with pytest.raises(error):
                    child.send("blocks")
                    wait.block(one, text)
                assert figures(one) == before
            # A condition counts the interrupted waits as timeouts.
            assert getattr(one.stat(), "timeouts", 3) == 3
            child.send("blocks")
            wait.block(one, text)

    with closing(wait.make()) as one:
        child, wake = occupied(wait, one, work)
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR1):
            assert child.receive() == "blocks"
            await_block(wait, one, child.pid)
            os.kill(child.pid, number)
        assert child.receive() == "blocks"
        await_block(wait, one, child.pid)
        wake()
        child.end()
        assert_unused(one)


@pytest.mark.parametrize("ends", ["by Forked", "by an exception of the handler"])
def test_fork_in_a_signal_handler_ends_the_call_of_the_child_only(case, occupied, ends):
    wait, text = case

    def work(child):
        me = os.getpid()

        def handler(*_):
            forked = os.fork()
            if not forked and ends != "by Forked":
                raise Alarm
            if forked:
                assert os.waitpid(forked, 0)[1] == 0
                child.send("forked")

        signal.signal(signal.SIGUSR1, handler)
        try:
            with wait.around(one):
                child.send("blocks")
                wait.block(one, text)
            assert os.getpid() == me
        except (Alarm, Forked) as error:
            assert (type(error) is Forked) == (ends == "by Forked")
            assert os.getpid() != me
            os._exit(0)
        finally:
            if os.getpid() != me:
                traceback.print_exc()
                os._exit(1)

    with closing(wait.make()) as one:
        child, wake = occupied(wait, one, work)
        assert child.receive() == "blocks"
        await_block(wait, one, child.pid)
        os.kill(child.pid, signal.SIGUSR1)
        assert child.receive() == "forked"
        await_block(wait, one, child.pid)
        wake()
        child.end()
        assert_unused(one)


def test_signal_handler_that_returns_does_not_end_the_wait(wait, occupied):
    def work(child):
        signal.signal(signal.SIGUSR1, lambda *_: child.send("ran"))
        with wait.around(one):
            child.send("blocks")
            wait.block(one, next(iter(wait.calls)))
        child.send("woken")

    with closing(wait.make()) as one:
        child, wake = occupied(wait, one, work)
        assert child.receive() == "blocks"
        for _ in range(20):
            await_block(wait, one, child.pid)
            os.kill(child.pid, signal.SIGUSR1)
            os.kill(child.pid, signal.SIGCHLD)
            assert child.receive() == "ran"
        wake()
        assert child.receive() == "woken"
        child.end()
        assert_unused(one)


def test_signals_neither_shorten_nor_prolong_a_timeout(wait, occupied):
    def work(child):
        ran = []
        signal.signal(signal.SIGALRM, lambda *_: ran.append(1))
        with wait.around(one):
            signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
            begun = time.monotonic()
            try:
                result = wait.call(one, wait.timed.format(0.1))
            except Exception as error:
                result = type(error)
                assert error.status == TIMEOUT
            waited = time.monotonic() - begun
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert result is wait.after_timeout
        assert waited >= 0.1
        assert ran
        child.send("timed out")
        child.pause()

    with closing(wait.make()) as one:
        child, _ = occupied(wait, one, work)
        assert child.receive() == "timed out"
        child.kill()


@contextlib.contextmanager
def waiting_thread(wait, one, child):
    """Check that a thread of the child blocks before and after the with block, and that it is woken afterwards."""
    woken = []

    def block():
        with wait.around(one):
            wait.block(one, next(iter(wait.calls)))
        woken.append(True)

    thread = threading.Thread(target=block)
    thread.start()
    await_block(wait, one, thread.native_id)
    yield thread
    await_block(wait, one, thread.native_id)
    assert woken == []
    child.send("waits")
    thread.join()
    assert woken == [True]


def test_waiting_thread_lets_the_main_thread_run_and_handle_signals(wait, occupied):
    """Python runs signal handlers in the main thread, even if another thread received the signal."""

    def work(child):
        ran = []
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGUSR1, lambda *_: ran.append(threading.get_ident()))
        with waiting_thread(wait, one, child) as thread:
            signal.pthread_kill(thread.ident, signal.SIGUSR1)
            wait_until(lambda: ran)
            assert ran == [threading.get_ident()]
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(HANG_SECONDS)

    with closing(wait.make()) as one:
        child, wake = occupied(wait, one, work)
        assert child.receive() == "waits"
        wake()
        child.end()
        assert_unused(one)


@pytest.mark.parametrize("wait", [wait for wait in WAITS if not wait.single], ids=name_of)
def test_interrupted_waiter_leaves_another_thread_waiting(wait, occupied):
    def work(child):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with waiting_thread(wait, one, child), wait.around(one), pytest.raises(KeyboardInterrupt):
            child.send("blocks")
            wait.block(one, next(iter(wait.calls)))

    with closing(wait.make()) as one:
        child, wake = occupied(wait, one, work)
        assert child.receive() == "blocks"
        await_block(wait, one, child.pid)
        os.kill(child.pid, signal.SIGINT)
        assert child.receive() == "waits"
        wake()
        child.end()
        assert_unused(one)


@pytest.fixture
def blocked(wait, fork):
    """Return a function that forks a child, waits until it blocks in an object, and returns the child."""

    def blocked(one):
        def work(child):
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with wait.around(one):
                child.send("blocks")
                try:
                    wait.block(one, next(iter(wait.calls)))
                except (KeyboardInterrupt, OwnerDied) as error:
                    child.send(type(error))

        child = fork(work)
        assert child.receive() == "blocks"
        await_block(wait, one, child.pid)
        return child

    return blocked


def test_killed_waiter_does_not_delay_the_others(wait, blocked):
    """In multiprocessing.Event and Condition, the other waiters would wait forever."""
    with closing(wait.make()) as one:
        wait.occupy(one)
        if wait.single:
            for number in (signal.SIGTERM, signal.SIGKILL):
                blocked(one).kill(number)
                wait.repair(one)
            living = blocked(one)
        else:
            first, living, last = blocked(one), blocked(one), blocked(one)
            first.kill(signal.SIGTERM)
            last.kill()
        wait.wake(one)
        living.end()
        assert_unused(one)


DYING = ("Lock", "RLock", "RWLock, written", "RWLock, read", "BoundedSemaphore", "Once")


@pytest.mark.parametrize("wait", [wait for wait in WAITS if wait.name in DYING], ids=name_of)
def test_waiter_behind_an_interrupted_one_continues_when_the_occupant_dies(wait, blocked, fork):
    def occupy(child):
        wait.occupy(one)
        child.send("occupied")
        child.pause()

    with closing(wait.make()) as one:
        occupant = fork(occupy)
        assert occupant.receive() == "occupied"
        interrupted = blocked(one)
        os.kill(interrupted.pid, signal.SIGINT)
        assert interrupted.receive() is KeyboardInterrupt
        interrupted.end()
        living = blocked(one)
        occupant.kill()
        if wait.raises_owner_died:
            assert living.receive() is OwnerDied
        living.end()


WOKEN_BY_ANY_THREAD = ("Event", "Semaphore", "BoundedSemaphore", "Queue, empty")


@pytest.mark.parametrize("wait", [wait for wait in WAITS if wait.name in WOKEN_BY_ANY_THREAD], ids=name_of)
def test_signal_handler_may_wake_the_wait_that_it_interrupts(wait, fork):
    def work(child):
        signal.signal(signal.SIGUSR1, lambda *_: wait.wake(one))
        wait.occupy(one)
        child.send("blocks")
        wait.block(one, next(iter(wait.calls)))

    with closing(wait.make()) as one:
        child = fork(work)
        assert child.receive() == "blocks"
        await_block(wait, one, child.pid)
        os.kill(child.pid, signal.SIGUSR1)
        child.end()
        assert_unused(one)
