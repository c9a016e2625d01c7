"""Ctrl-C ends an asynchronous wait for a queue. An interrupt loses at most the message of the interrupted get()."""

import pytest

PREFACE = """
import os, signal, threading, time
from shmkit import JoinableQueue, Queue
queue = Queue(1)

def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)
"""


def test_ctrl_c_ends_an_await(run):
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


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_many_interrupts_lose_at_most_one_message_each(run, kind):
    """No message is got twice or out of order. An interrupt loses at most the message that the thread is getting."""
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

def send_interrupts():
    while running:
        interrupt()
        time.sleep(0.002)

thread = threading.Thread(target=send_interrupts)
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
        break  # no more messages
armed = running = False
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
while not queue.empty():
    got.append(queue.get())
print(len(set(got)) == len(got), got == sorted(got), count - len(got) <= interrupted)
"""
    assert run(PREFACE + code).out == "0\nTrue True True\n"
