"""The type stubs describe the package: type checks of programs that use it, and a comparison with the package."""

import pathlib
import re
import subprocess
import sys

import pytest
import shmkit
from conftest import COMPILER_SECONDS

pytest.importorskip("mypy")
HERE = pathlib.Path(__file__).parent

USE = """
from __future__ import annotations
import os
import pathlib
import socket
from multiprocessing import get_context
from typing import Optional
import shmkit
from shmkit import (
    Barrier, BarrierInfo, BoundedSemaphore, Condition, ConditionInfo, Corrupt, Event, EventInfo, JoinableQueue, Lease,
    Limits, Lock, LockInfo, NotOwner, Once, OnceInfo, OwnerDied, Queue, QueueInfo, RLock, RWLock, RWLockInfo,
    Reservation, SegmentInfo, Semaphore, SemaphoreInfo, SharedMemory, ShmkitError, ShutDown, SimpleQueue,
    VersionMismatch,
)

class Frames(SharedMemory):
    def __init__(self, count: int) -> None:
        super().__init__(create=True, size=count)

def use(name: str) -> Optional[int]:
    with SharedMemory(name, create=None, size=8, directory=pathlib.Path("/x"), mode=0o600, capacity=1 << 20) as shm:
        grid: memoryview = shm.view("d", (2, 3), offset=8)
        shm.resize(100, no_space_check=True, sparse=False)
        info: SegmentInfo = shm.stat()
        size: int = info.size + shm.size + shm.capacity + shm.huge_bytes + shm.fileno()
        bytes(shm), memoryview(shm), os.write(1, shm)
        text: str = str(shmkit.limits("/dev/shm").line) + shmkit.library_path() + shmkit.__version__
        names: list[str] = SharedMemory.names(b"/dev/shm")
        SharedMemory.unlink_name(names[0], directory=None)
        buf = shm.buf
        if buf is None:
            return None
        buf[0] = 1
        shm.unlink()
        with Frames(4) as frames:
            again: Frames = frames
        return size
    return None

def event(name: str) -> bool:
    one = Event(name, create=True, mode=0o600, participants=9, trust=False)
    one.set()
    one.clear()
    happened: bool = one.wait() or one.wait(0.5) or one.wait(timeout=None) or one.is_set()
    info: EventInfo = one.stat()
    with SharedMemory(create=True, size=64, managed=True) as shm:
        Event(segment=shm, offset=0, create=None).close()
    return happened and info.set and info.sets + info.waits > 0

def table(name: str) -> int:
    one = RWLock(name, create=None, on_owner_death="recover", readers=9, mode=0o600, participants=9, trust=False)
    with one.reader() as held, one.reader(timeout=0.5):
        held.upgrade(timeout=None)
        held.downgrade()
    with one.writer():
        one.mark_consistent()
    with one.recover(5) as died:
        owner_died: bool = died or one.owner_died
    taken: bool = one.acquire_read(block=False) and one.acquire_write(True, timeout=1.5)
    one.upgrade(0)
    one.downgrade()
    one.release_read()
    one.release_write()
    info: RWLockInfo = one.stat()
    return info.readers if taken or owner_died else info.writes + (info.owner or 0)

def barrier(name: str) -> int:
    one = Barrier(2, name=name, create=True, mode=0o600, participants=9, trust=False)
    two = Barrier(2, print, 0.5)
    place: int = one.wait() + two.wait(0.5) + two.wait(timeout=None)
    one.abort()
    one.reset()
    info: BarrierInfo = one.stat()
    with SharedMemory(create=True, size=192, managed=True) as shm:
        Barrier(None, segment=shm, offset=0, create=False).close()
    return place + one.parties + one.n_waiting + info.turns + int(one.broken or info.broken)

def condition(name: str) -> int:
    one = Condition(RLock(name + ".lock"), name=name, create=True, cells=9, mode=0o600, participants=9, trust=False)
    with one as entered:
        woken: bool = one.wait() or one.wait(0.5) or entered
        found: list[int] = one.wait_for(lambda: [1], timeout=None)
        one.notify()
        one.notify(n=2)
        one.notify_all()
    info: ConditionInfo = one.stat()
    one.acquire(False, 1)
    one.release()
    with Condition().recover(timeout=1.5) as owner_died:
        woken = owner_died
    one.lock.close()
    return info.cells + info.waiting + len(found) + woken

def semaphore(name: str) -> int:
    one = Semaphore(3, undo=True, name=name, create=True, processes=4, mode=0o600, trust=False)
    pool: Semaphore = BoundedSemaphore(value=2, undo=False)
    got: bool = one.acquire(False) or one.acquire(timeout=0.5) or one.acquire(n=2) or one.locked()
    one.release(2)
    pool.release(n=1)
    with pool as inside:
        assert inside
    info: SemaphoreInfo = one.stat()
    held: Optional[int] = one.held
    return info.value + info.maximum + one.get_value() + (held or 0) + (info.holders or 0)

def handed_over(channel: socket.socket) -> int:
    fd, offset = Lock().fd()
    lock: Lock = Lock.from_fd(fd, offset, on_owner_death="recover", trust=True)
    table: RWLock = RWLock.from_fd(channel, 0, on_owner_death="raise")
    meeting: Barrier = Barrier.from_fd(fd, action=print, timeout=1.5)
    condition: Condition = Condition.from_fd(fd, offset=offset, lock=lock)
    numbers: Queue[int] = Queue.from_fd(fd)
    frames: SharedMemory = SharedMemory.from_fd(fd, readonly=True, capacity=1 << 20, trust=False, managed=None)
    for opened in (table, meeting, condition, Event.from_fd(fd), Once.from_fd(fd)):
        opened.close()
    return Semaphore.from_fd(fd).get_value() + numbers.get() + frames.size

async def items(numbers: Queue[int], words: JoinableQueue[str], anything: SimpleQueue) -> int:
    total = 0
    with numbers as same, numbers.lease() as lease:
        total += lease.get() + sum(same.get_many())
    for word in words:
        total += len(word)
        words.task_done()
    async for number in numbers:
        total += number
    for item in anything:
        item.whatever()
    return total

async def queue(name: str) -> int:
    one = Queue(5, name=name, create=True, max_bytes=100, capacity=4096, overflow="fail", mode=0o600, participants=9)
    one.put([1], False)
    one.put({}, block=True, timeout=0.5)
    one.put_nowait(None)
    count: int = one.put_many(range(5), partial=True) + one.put_bytes_many([b"x", bytearray(5)], timeout=1)
    one.put_bytes(memoryview(b"x"))
    got: list[bytes] = one.get_bytes_many(5) + [one.get_bytes(), one.peek_bytes(False)]
    count += one.get_bytes_into(bytearray(5)) + one.fileno() + one.qsize() + len(one.get_many(max_items=None))
    with one.reserve(8) as buffer, one.lease(timeout=1) as message:
        buffer[:] = message.data
        count += message.attempts + message.get()
        bytes(message)
    slot: Reservation = one.reserve(5, block=False)
    slot.commit(size=3)
    lease: Lease = one.lease()
    lease.nack()
    await one.aput(1, timeout=None)
    count += await one.aget(0.5)
    info: QueueInfo = one.stat()
    work = JoinableQueue(name=name)
    work.task_done()
    done: bool = work.join(timeout=5) and one.empty() and one.full()
    try:
        SimpleQueue(create=True).get()
    except ShutDown:
        one.shutdown()
    one.join_thread()
    return count + info.messages + len(got) + (info.held_up_by or 0) + done + one.maxsize

def once(name: str) -> bool:
    one = Once(name, create=True, mode=0o600, participants=9, trust=False)
    with one as mine:
        ours: bool = mine and one.owner_died
    called: bool = one.call(print, "x", sep="") or one.call(lambda: 3) or one.begin(timeout=0.5)
    if called:
        one.done()
        one.abort()
    info: OnceInfo = one.stat()
    owner: Optional[int] = info.owner or info.owner_ticket
    return ours and one.is_done() and info.done and info.attempts + info.recoveries > 0

class Journal(RLock):
    def __init__(self) -> None:
        super().__init__(on_owner_death="recover")

def lock(name: str) -> bool:
    one = Lock(name, create=True, on_owner_death="raise", transferable=True, mode=0o600, participants=9, trust=False)
    with SharedMemory(create=True, size=64, managed=True, participants=7, ephemeral=True) as shm:
        two: Lock = shm.lock
        three = RLock(segment=shm, offset=0, create=None)
        removed: int = SharedMemory.gc() + SharedMemory.gc(pathlib.Path("/x"))
    with one as got, Journal() as journal:
        held: bool = got and journal and one.acquire(False) and two.acquire(timeout=0.5) and three.acquire(True, None)
    with one.recover(timeout=1) as owner_died:
        if owner_died:
            one.mark_consistent()
    try:
        one.release()
    except (OwnerDied, NotOwner, AssertionError):
        pass
    info: LockInfo = one.stat()
    owner: Optional[int] = info.owner or one.owner
    place: Optional[int] = one.offset
    since: Optional[int] = info.contended_since
    called: Optional[str] = one.name
    one.close()
    one.unlink()
    return held and one.owner_died and one.locked() and one.transferable and three.depth > removed + info.recoveries

def fail() -> Limits:
    try:
        return shmkit.limits()
    except (Corrupt, VersionMismatch, ShmkitError) as error:
        number: int = error.status
        raise SystemExit(number)
"""

WRONG = {
    "SharedMemory(b'name')": "arg-type",
    "SharedMemory('n', True, 1, True)": "misc|call-arg",
    "SharedMemory('n', size='1')": "arg-type",
    "SharedMemory('n').colour": "attr-defined",
    "SharedMemory('n').size = 1": "misc",
    "SharedMemory('n').buf[0]": "index",
    "SharedMemory('n').view('d', 'x')": "arg-type",
    "Lock(b'name')": "arg-type",
    "Lock('n', True)": "misc|call-arg",
    "Lock(on_owner_death='ignore')": "arg-type",
    "Lock(segment='n', offset=0)": "arg-type",
    "Lock(offset='0')": "arg-type",
    "Lock().depth": "attr-defined",
    "Lock().acquire('x', 'y')": "arg-type",
    "Lock().owner_died = True": "misc",
    "RLock(transferable=True)": "call-arg",
    "RLock().depth + 'x'": "operator",
    "RLock().owner + 1": "operator",
    "SharedMemory('n').lock.depth": "attr-defined",
    "SharedMemory('n', participants='5')": "arg-type",
    "shmkit.Queue(overflow='drop')": "arg-type",
    "shmkit.Queue('5')": "arg-type",
    "shmkit.Queue().put_bytes('text')": "arg-type",
    "shmkit.Queue().task_done()": "attr-defined",
    "shmkit.SimpleQueue(5)": "misc|call-arg",
    "shmkit.Queue[int]().put('x')": "arg-type",
    "shmkit.Queue[int]().get().upper()": "attr-defined",
    "shmkit.SimpleQueue[int]().put_many(['x'])": "list-item",
    "shmkit.JoinableQueue[str]().lease().get() + 1": "operator",
    "shmkit.Condition.from_fd(3)": "call-arg",
    "shmkit.Lock.from_fd('n')": "arg-type",
    "shmkit.limits(7)": "arg-type",
    "shmkit.limits().nothing": "attr-defined",
}


def mypy(*arguments):
    """Run mypy and return the finished process."""
    line = [sys.executable, "-m", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=COMPILER_SECONDS, check=False)


def check(source, folder):
    """Check a program in strict mode."""
    (folder / "use.py").write_text(source)
    return mypy("mypy", "--strict", f"--cache-dir={folder}", "--show-error-codes", str(folder / "use.py"))


def test_a_strict_program_passes(tmp_path):
    done = check(USE, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_wrong_programs_are_refused(tmp_path):
    lines = "".join(f"{wrong}\n" for wrong in WRONG)
    done = check("import shmkit\nfrom shmkit import Lock, RLock, SharedMemory\n" + lines, tmp_path)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    for number, (wrong, code) in enumerate(WRONG.items(), 3):
        found = [line for line in errors if f"use.py:{number}:" in line]
        assert any(f"[{one}]" in line for line in found for one in code.split("|")), (wrong, code, done.stdout)


REVEALED = {
    "Queue[int]().get()": "int",
    "Queue().get()": "Any",
    "Queue[int]().get_many()": "list[int]",
    "JoinableQueue[str]().get_nowait()": "str",
    "SimpleQueue[bytes]().lease()": "shmkit._place.Lease[bytes]",
    "SimpleQueue[bytes]().lease().get()": "bytes",
    "[item for item in Queue[float]()]": "list[float]",
    "JoinableQueue[int]().__aiter__()": "AsyncIterator[int]",
    "Queue[int]().__enter__()": "shmkit.queue.Queue[int]",
    "Queue.from_fd(3)": "shmkit.queue.Queue[Any]",
    "Lock().fd()": "tuple[int, int]",
}


def test_queues_have_the_type_of_their_items(tmp_path):
    lines = "".join(f"reveal_type({expression})\n" for expression in REVEALED)
    done = check("from shmkit import JoinableQueue, Lock, Queue, SimpleQueue\n" + lines, tmp_path)
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    plain = [re.sub(r"\b(builtins|typing)\.", "", each) for each in revealed]
    assert plain == list(REVEALED.values()), done.stdout


def test_the_stubs_agree_with_the_installed_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    allow = f"--allowlist={HERE / 'stubtest_allowlist.txt'}"
    done = mypy("mypy.stubtest", "shmkit", allow, "--ignore-unused-allowlist")
    assert done.returncode == 0, done.stdout + done.stderr


def test_stubtest_finds_a_missing_method(tmp_path, monkeypatch):
    """This ensures that the comparison above checks this package: stubtest finds a method that a stub lacks."""
    copy = tmp_path / "stubs" / "shmkit"
    copy.mkdir(parents=True)
    for stub in pathlib.Path(shmkit.__file__).parent.glob("*.pyi"):
        text = stub.read_text()
        (copy / stub.name).write_text(
            text.replace("def fileno(self) -> int: ...", "pass") if stub.stem == "segment" else text
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MYPYPATH", str(tmp_path / "stubs"))
    done = mypy("mypy.stubtest", "shmkit", "--concise", f"--allowlist={HERE / 'stubtest_allowlist.txt'}")
    assert "shmkit.segment.SharedMemory.fileno is not present in stub" in done.stdout
