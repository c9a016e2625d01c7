"""Signals during long calls: an exception of the handler ends the call, other signals do not affect it."""

import pytest
import shmkit

GIB = 1 << 30


@pytest.fixture
def large():
    """Return the size of a segment that takes long to create; skip if the machine has too little memory."""
    size = 3 * GIB
    if min(shmkit.limits().largest_named, shmkit.limits().largest_anonymous) < size + GIB:
        pytest.skip(f"NOT TESTED without {size + GIB} bytes of free memory: Ctrl-C during a long create")
    return size


# `interrupt_when` sends SIGINT to this process as soon as the kernel has begun to allocate, which `grown` detects.
PREFACE = """
import os, signal, sys, threading, time
from shmkit import SharedMemory, limits
name, size = sys.argv[1], int(sys.argv[2])
before = limits().directory_free
def interrupt_when(grown):
    def wait():
        while not grown():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=wait).start()
def came_out_of_the_call(error):
    # An exception that the interpreter raises after the call has no frame of Cython code.
    import traceback
    return any("segment.pyx" in frame.filename for frame in traceback.extract_tb(error.__traceback__))
def some_is_gone():
    return limits().directory_free < before - (128 << 20)
"""


@pytest.mark.parametrize("how", ["", "no_space_check=True", "prefault=True", "huge=True", "sparse=False"])
def test_ctrl_c_ends_a_long_create_and_leaves_nothing(run, name, large, how):
    code = f"""
interrupt_when(some_is_gone)
try:
    shm = SharedMemory(name, create=True, size=size, {how})
except KeyboardInterrupt as error:
    print("interrupted")
print(SharedMemory.names(), len(os.listdir("/proc/self/fd")))
"""
    assert run(PREFACE + code, name, large).out == "interrupted\n[] 4\n"


def test_ctrl_c_ends_a_long_resize_without_a_change(run, name, large):
    code = """
with SharedMemory(name, create=True, size=4096, capacity=size) as shm:
    shm.buf[0] = 42
    interrupt_when(lambda: shm.stat().allocated > 64 << 20)
    try:
        shm.resize(size)
    except KeyboardInterrupt as error:
        print("interrupted")
    print(shm.size, shm.stat().allocated, shm.buf[0])
    shm.resize(8192)
    shm.unlink()
"""
    assert run(PREFACE + code, name, large).out == "interrupted\n4096 4096 42\n"


def test_ctrl_c_ends_an_anonymous_create(run, name, large):
    code = """
def some_memory_is_gone():
    return limits().memory_available < available - (128 << 20)
available = limits().memory_available
interrupt_when(some_memory_is_gone)
try:
    SharedMemory(create=True, size=size, anonymous=True)
except KeyboardInterrupt as error:
    print("interrupted", len(os.listdir("/proc/self/fd")), came_out_of_the_call(error))
"""
    assert run(PREFACE + code, name, large).out == "interrupted 4 True\n"


def test_a_long_create_succeeds_during_many_signals(run, name):
    code = """
        import signal, sys
        from shmkit import SharedMemory
        ran = 0
        def handler(*_):
            global ran
            ran += 1
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        before = ran
        shm = SharedMemory(sys.argv[1], create=True, size=512 << 20)
        during = ran - before
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(during > 0, shm.stat().allocated == 512 << 20)
        shm.unlink()
    """
    assert run(code, name).out == "True True\n"


@pytest.mark.parametrize("call", ["SharedMemory(create=True, size=2 << 30, anonymous=True)", "small.resize(2 << 30)"])
def test_the_call_raises_the_exception_of_a_handler(run, large, call):
    del large  # there is room
    code = f"""
class Alarm(Exception):
    pass
def handler(*_):
    raise Alarm
small = SharedMemory(create=True, size=1, anonymous=True, capacity=2 << 30)
signal.signal(signal.SIGALRM, handler)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    {call}
except Alarm as error:
    print("raised", came_out_of_the_call(error), small.size)
"""
    assert run(PREFACE + code, "unused", 0).out == "raised True 1\n"


def test_signals_without_an_exception_do_not_affect_calls(run, name):
    # SIGCHLD without a handler interrupts no call; SIGUSR1 with one does.
    code = """
        import os, signal, sys, threading
        from shmkit import SharedMemory
        signal.signal(signal.SIGUSR1, lambda *_: None)
        done = threading.Event()
        def send():
            while not done.is_set():
                os.kill(os.getpid(), signal.SIGUSR1)
                os.kill(os.getpid(), signal.SIGCHLD)
        thread = threading.Thread(target=send)
        thread.start()
        for _ in range(100):
            with SharedMemory(sys.argv[1], create=True, size=1 << 20, capacity=4 << 20) as shm:
                shm.resize(4 << 20)
                assert shm.stat().allocated == 4 << 20
                with SharedMemory(sys.argv[1], prefault=True) as same:
                    assert same.size == 4 << 20
                shm.unlink()
        done.set()
        thread.join()
    """
    run(code, name)
