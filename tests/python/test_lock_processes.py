"""Locks that are passed to other processes by fork, spawn, forkserver, queues and pipes, from every place."""

import pickle

import pytest
from conftest import LOCKS
from shmkit import Lock, OwnerDied, SharedMemory

METHODS = ["fork", "spawn", "forkserver"]

# Every snippet begins with these lines. `make(which, name)` creates a lock and removes its name at the end.
PREFACE = """
import contextlib, multiprocessing, os, pickle, resource, sys
import shmkit
from shmkit import Lock, RLock, SharedMemory

@contextlib.contextmanager
def make(which, name, **how):
    kind, _, place = which.partition("-")
    kind = getattr(shmkit, kind)
    if place == "unnamed":
        yield kind(**how)
        return
    if place == "named":
        lock = kind(name, **how)
        try:
            yield lock
        finally:
            lock.unlink()
        return
    with SharedMemory(name, create=True, size=4096, managed=True) as shm:
        try:
            if place == "built-in":
                yield shm.lock
            else:
                yield kind(segment=shm, offset=64, **how)
        finally:
            shm.unlink()

def descriptors():
    return len(os.listdir("/proc/self/fd")) - 1
"""


@pytest.mark.parametrize("which", ["Lock-unnamed", "RLock-placed", "Lock-named"])
@pytest.mark.parametrize("method", METHODS)
def test_workers_of_a_pool_exclude_each_other(run, name, method, which):
    code = """
def start(given, segment):
    global lock, shm
    lock, shm = given, segment

def add(number):
    with lock:
        view = shm.view("Q")
        view[0] += number

if __name__ == "__main__":
    method, which, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with make(which, name) as lock, SharedMemory(create=True, size=8, anonymous=True) as shm:
        with context.Pool(3, initializer=start, initargs=(lock, shm)) as pool:
            pool.map(add, range(1000), chunksize=10)
            pool.close()
            pool.join()
        print(shm.view("Q")[0], lock.stat().acquisitions)
"""
    assert run(PREFACE + code, method, which, name).out == "499500 1000\n"


@pytest.mark.parametrize("which", ["Lock-unnamed", "RLock-unnamed", "Lock-placed"])
@pytest.mark.parametrize("method", METHODS)
def test_child_passes_the_lock_to_a_grandchild(run, name, method, which):
    code = """
def grandchild(lock, queue):
    queue.put((lock.acquire(False), lock.acquire(), lock.owner == os.getpid()))
    lock.release()

def child(method, lock, queue):
    process = multiprocessing.get_context(method).Process(target=grandchild, args=(lock, queue))
    process.start()
    process.join()
    os._exit(process.exitcode)

if __name__ == "__main__":
    method, which, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with make(which, name) as lock:
        queue = context.SimpleQueue()
        lock.acquire()
        process = context.Process(target=child, args=(method, lock, queue))
        process.start()
        while not lock.stat().contended_since:
            pass
        lock.release()
        print(queue.get())
        process.join()
        print(process.exitcode)
"""
    assert run(PREFACE + code, method, which, name).out == "(False, True, True)\n0\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_locks_sent_back_are_the_same_locks(run, method):
    """A child can pickle the locks that it received. It opens the arena of the sender once, for all locks in it."""
    code = """
def work(locks, queue, arrived):
    before = descriptors()
    locks += pickle.loads(pickle.dumps(locks))
    queue.put((descriptors() - before, locks))
    arrived.wait()

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    locks, queue = [Lock() for _ in range(20)], context.Queue()
    arrived = context.Event()
    process = context.Process(target=work, args=(list(locks), queue, arrived))
    process.start()
    more, back = queue.get()
    arrived.set()
    locks[3].acquire()
    print(more, [lock.locked() for lock in back] == 2 * [number == 3 for number in range(20)])
    process.join()
"""
    assert run(PREFACE + code, method).out == "0 True\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_child_uses_a_thousand_locks_with_few_descriptors(run, method, kind_name):
    code = """
def work(locks, queue):
    counted = descriptors()
    taken = [lock.acquire(False) for lock in locks]
    owners = {lock.owner for lock, got in zip(locks, taken) if got}
    queue.put((counted, taken, owners == {os.getpid()}))
    for lock, got in zip(locks, taken):
        if got:
            lock.release()
    queue.put(all(lock.acquire() for lock in locks))
    for lock in locks:
        lock.release()

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    method, kind = sys.argv[1], getattr(shmkit, sys.argv[2])
    context = multiprocessing.get_context(method)
    before = descriptors()
    locks = [kind() for _ in range(5000)]
    print(descriptors() - before)
    given = locks[::5]
    for lock in locks:
        assert lock.acquire(False)
    for lock in given[::2]:
        lock.release()
    queue = context.SimpleQueue()
    empty = context.Process(target=work, args=([], queue))
    empty.start()
    baseline = queue.get()[0]
    queue.get()
    process = context.Process(target=work, args=(given, queue))
    process.start()
    counted, taken, owns = queue.get()
    print(counted - baseline <= 3, len(taken), taken == 500 * [True, False], owns)
    for lock in given[1::2]:
        lock.release()
    print(queue.get())
    process.join()
    empty.join()
    print(process.exitcode, all(lock.acquire() for lock in given), {lock.stat().recoveries for lock in locks})
"""
    out = run(PREFACE + code, method, kind_name).out
    assert out.splitlines()[0] in ("1", "2")  # the arena
    assert out.splitlines()[1:] == ["True 1000 True True", "True", "0 True {0}"]


def test_lock_of_a_process_that_is_not_dumpable_can_be_sent(as_other_user):
    # /proc/PID/fd of such a process belongs to root, so the resource sharer of multiprocessing sends the descriptor.
    code = """
        import ctypes, multiprocessing, multiprocessing.resource_sharer, os
        from shmkit import Lock

        def work(connection):
            lock = connection.recv()
            connection.send(lock.acquire(False))
            with lock:
                connection.send(lock.owner == os.getpid())

        PR_SET_DUMPABLE = 4
        become_other_user()
        context = multiprocessing.get_context("fork")
        mine, yours = context.Pipe()
        process = context.Process(target=work, args=(yours,))
        process.start()
        yours.close()
        assert ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
        lock = Lock()
        lock.acquire()
        mine.send(lock)
        print(mine.recv())
        lock.release()
        print(mine.recv())
        process.join()
        multiprocessing.resource_sharer.stop()
        print(process.exitcode)
    """
    assert as_other_user(code).out == "False\nTrue\n0\n"


def test_receiver_uses_the_lock_after_the_death_of_the_sender(run):
    code = """
def work(lock, connection):
    connection.recv()  # until the sender is dead
    try:
        lock.acquire()
    except shmkit.OwnerDied:
        with lock.recover() as owner_died:
            connection.send(owner_died)

def send(connection):
    lock = Lock()
    lock.acquire()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=work, args=(lock, connection))
    process.start()
    os.write(1, b"started\\n")
    os._exit(0)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    mine, yours = context.Pipe()
    sender = context.Process(target=send, args=(yours,))
    sender.start()
    sender.join()
    mine.send(None)
    print(mine.recv())
"""
    assert run(PREFACE + code).out == "started\nTrue\n"


@pytest.mark.parametrize("which", LOCKS)
def test_death_of_a_spawned_child_raises_owner_died(run, name, which):
    code = """
def work(lock):
    lock.acquire()
    os.kill(os.getpid(), 9)

if __name__ == "__main__":
    which, name = sys.argv[1:]
    context = multiprocessing.get_context("spawn")
    with make(which, name) as lock:
        process = context.Process(target=work, args=(lock,))
        process.start()
        process.join()
        try:
            lock.acquire()
        except shmkit.OwnerDied:
            with lock.recover():
                print(process.exitcode)
"""
    assert run(PREFACE + code, which, name).out == "-9\n"


# --- pickles ----------------------------------------------------------------------------------------------------------


def test_pickle_keeps_policy_and_transferable(make):
    for how in ({"on_owner_death": "recover"}, {"transferable": True}, {"transferable": True, "trust": True}):
        for place in ("unnamed", "named"):
            lock = make(Lock, place, **how)
            same = pickle.loads(pickle.dumps(lock))
            assert same.transferable == lock.transferable == how.get("transferable", False)
            assert same.__reduce__()[1][2:] == lock.__reduce__()[1][2:]
            same.close()
            if place == "named":
                lock.unlink()


@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
@pytest.mark.parametrize("policy", ["raise", "recover"])
def test_unpickled_lock_follows_the_policy_after_a_death(make, kind, place, policy, held):
    lock = make(kind, place, on_owner_death=policy)
    same = pickle.loads(pickle.dumps(lock))
    held(lock).kill()
    if policy == "raise":
        with pytest.raises(OwnerDied):
            same.acquire()
    else:
        with same:
            assert same.owner_died
    same.close()


def test_built_in_lock_whose_segment_is_gone_is_not_pickled(name):
    shm = SharedMemory(name, create=True, size=64, managed=True)
    shm.unlink()
    lock = shm.lock
    del shm
    with pytest.raises(ValueError, match="no longer exists"):
        pickle.dumps(lock)
    with lock:
        assert lock.locked()
    lock.close()
