"""Any thread may use a segment while other threads read, resize, create or close it."""

import threading

from shmkit import SharedMemory

MIB = 1 << 20


def gather(work, count):
    """Run `work(number)` in `count` threads that start together; raise the exception of any of them."""
    barrier, raised = threading.Barrier(count), []

    def run(number):
        barrier.wait()
        try:
            work(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def test_threads_may_read_while_another_closes():
    for _ in range(20):
        shm = SharedMemory(create=True, size=MIB, anonymous=True)
        shm.buf[:] = b"\7" * MIB

        def work(number, shm=shm):
            if number == 0:
                shm.close()
                return
            while shm.buf is not None:
                try:
                    with memoryview(shm) as view:
                        assert view[MIB - 1] == 7
                    assert shm.view("Q")[-1] == 0x0707070707070707
                    shm.stat()
                except ValueError as closed:
                    assert "closed" in str(closed)
            assert shm.size == MIB

        gather(work, 6)


def test_threads_may_read_while_another_resizes():
    steps = 200
    with SharedMemory(create=True, size=4096, anonymous=True, capacity=(steps + 1) * 4096) as shm:
        shm.buf[:] = b"\7" * 4096

        def work(number):
            if number == 0:
                for step in range(2, steps + 2):
                    shm.resize(step * 4096)
                    shm.buf[-1] = 9
                return
            last = 0
            while last < (steps + 1) * 4096:
                view = shm.buf
                assert len(view) >= last
                assert (view[0], view[4095]) == (7, 7)
                assert view[-1] in (0, 7, 9)
                last = len(view)

        gather(work, 4)
        assert bytes(shm.buf[4095::4096]) == b"\7" + b"\x09" * steps


def test_threads_may_resize_at_once():
    with SharedMemory(create=True, size=1, anonymous=True, capacity=64 * MIB) as shm:

        def work(number):
            for step in range(1, 40):
                try:
                    shm.resize(step * MIB + number)
                except ValueError as smaller:
                    assert "cannot shrink" in str(smaller)

        gather(work, 4)
        assert shm.size == 39 * MIB + 3


def test_one_of_several_threads_creates_a_name(name):
    made = []

    def work(number):
        del number
        shm = SharedMemory(name, create=None, size=100)
        made.append(shm)

    gather(work, 8)
    assert sum(shm.stat().created for shm in made) == 1
    assert len({shm.stat().inode for shm in made}) == 1
    made[0].unlink()
    for shm in made:
        shm.close()


def test_threads_may_close_the_same_object():
    for _ in range(50):
        shm = SharedMemory(create=True, size=100, anonymous=True)
        gather(lambda number, shm=shm: shm.close(), 4)
        assert shm.buf is None


def test_other_threads_run_while_memory_is_allocated(run):
    # The counting thread must count while the main thread creates a segment.
    out = run("""
        import threading
        from shmkit import SharedMemory
        counted, done = 0, threading.Event()
        def count():
            global counted
            while not done.is_set():
                counted += 1
        thread = threading.Thread(target=count)
        thread.start()
        seen = []
        for _ in range(3):
            before = counted
            SharedMemory(create=True, size=256 << 20, anonymous=True).close()
            seen.append(counted - before)
        done.set()
        thread.join()
        print(min(seen) > 0)
    """).out
    assert out == "True\n"


def test_a_daemon_thread_may_create_segments_while_the_interpreter_exits(run, name):
    code = """
        import sys, threading, time
        from shmkit import SharedMemory
        class Slow:
            def __init__(self):
                self.sleep = time.sleep
            def __del__(self):
                self.sleep(0.2)  # the interpreter is ending, and other threads may hold the GIL
        keep, started = Slow(), threading.Event()
        def work():
            started.set()
            while True:
                SharedMemory(create=True, size=256 << 20, anonymous=True).close()
        threading.Thread(target=work, daemon=True).start()
        started.wait()
    """
    run(code, name)
