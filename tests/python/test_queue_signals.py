"""Ctrl-C ends a wait for a queue, and nothing is lost; a handler that does not raise ends nothing."""

import pytest

# `when_blocked(work)` does something when somebody sleeps for messages, or for room.
PREFACE = """
import os, signal, sys, threading, time
from shmkit import JoinableQueue, Queue
queue = Queue(1)

def when_blocked(work, waits=1):
    def run():
        while queue.stat().get_waits + queue.stat().put_waits < waits:
            time.sleep(0.001)
        work()
    thread = threading.Thread(target=run)
    thread.start()
    return thread

def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)
"""
GETTING = [
    "get()",
    "get(True, 1000)",
    "get_bytes()",
    "get_bytes_into(bytearray(5))",
    "peek_bytes()",
    "get_many()",
    "lease()",
]
PUTTING = [
    "put(2)",
    "put(2, True, 1000)",
    "put_bytes(b'x')",
    "put_bytes(b'x' * 100_000)",
    "put(bytearray(100_000))",
    "put_many([2])",
    "reserve(5)",
]


@pytest.mark.parametrize("how", GETTING)
def test_ctrl_c_while_getting(run, how):
    code = f"""
when_blocked(interrupt)
try:
    queue.{how}
except KeyboardInterrupt:
    print("interrupted")
queue.put("there")
print(queue.get(), queue.stat().gets)
"""
    assert run(PREFACE + code).out == "interrupted\nthere 1\n"


@pytest.mark.parametrize("how", PUTTING)
def test_ctrl_c_while_putting(run, how):
    code = f"""
queue.put(1)
when_blocked(interrupt)
try:
    queue.{how}
except KeyboardInterrupt:
    print("interrupted")
print(queue.qsize(), queue.get(), queue.stat().puts)
queue.put("next")
print(queue.get())
"""
    assert run(PREFACE + code).out == "interrupted\n1 1 1\nnext\n"


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_ctrl_c_while_joining(run, kind):
    code = f"""
queue = {kind}()
queue.put(1)
threading.Timer(0.1, interrupt).start()
try:
    queue.join()
except KeyboardInterrupt:
    print("interrupted", queue.get())
"""
    assert run(PREFACE + code).out == "interrupted 1\n"


def test_ctrl_c_while_awaiting(run):
    code = """
import asyncio
async def main():
    threading.Timer(0.2, interrupt).start()
    await queue.aget()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
queue.put(1)
print(queue.get())
"""
    assert run(PREFACE + code).out == "interrupted\n1\n"


def test_what_a_handler_raises_comes_out(run):
    code = """
class Alarm(Exception):
    pass
def handler(*_):
    raise Alarm("now")
signal.signal(signal.SIGUSR1, handler)
for waits in (1, 2, 3):
    try:
        thread = when_blocked(lambda: interrupt(signal.SIGUSR1), waits)
        queue.get()
    except Alarm as error:
        print(error)
    thread.join()
"""
    assert run(PREFACE + code).out == "now\nnow\nnow\n"


def test_handlers_that_do_not_raise_end_nothing(run):
    code = """
ran, enough = [], threading.Event()
def handler(*_):
    ran.append(1)
    if len(ran) == 20:
        enough.set()
signal.signal(signal.SIGUSR1, handler)
def pester():
    while not enough.is_set():
        interrupt(signal.SIGUSR1)
        time.sleep(0.001)
    queue.put("at last")
when_blocked(pester)
print(queue.get(), len(ran) >= 20)
begun = time.monotonic()
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
signal.signal(signal.SIGALRM, handler)
try:
    queue.get(timeout=0.2)
except Exception as error:
    print(type(error).__name__, time.monotonic() - begun >= 0.2)
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    assert run(PREFACE + code).out == "at last True\nEmpty True\n"


def test_a_handler_may_put(run):
    code = """
signal.signal(signal.SIGUSR1, lambda *_: queue.put("by the handler"))
when_blocked(lambda: interrupt(signal.SIGUSR1))
print(queue.get())
"""
    assert run(PREFACE + code).out == "by the handler\n"


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_messages_under_a_storm_of_interrupts(run, kind):
    """Each is got once, or is still there, wherever an interrupt hits; at most the one in hand is gone."""
    code = f"""
queue = {kind}()
count, got, interrupted, armed, running = 3000, [], 0, False, True

def handler(*_):
    global armed, interrupted
    if armed:
        armed, interrupted = False, interrupted + 1
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, handler)
child = os.fork()
if child == 0:
    for i in range(count):
        queue.put(i)
    os._exit(0)

def pester():
    while running:
        interrupt()
        time.sleep(0.002)

thread = threading.Thread(target=pester)
thread.start()
while len(got) + interrupted < count:
    try:
        armed = True
        while len(got) < count:
            got.append(queue.get(timeout=5))
        armed = False
    except KeyboardInterrupt:
        continue
    except Exception:
        break  # nothing came any more
armed = running = False
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
while not queue.empty():
    got.append(queue.get())
print(len(set(got)) == len(got), got == sorted(got), count - len(got) <= interrupted)
"""
    assert run(PREFACE + code).out == "0\nTrue True True\n"
