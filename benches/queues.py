"""Compare queues: rings, Boost, POSIX queues, pipes from C; multiprocessing and faster-fifo from Python.

This file is not named queue.py, because `import queue` would then find it instead of the standard module.
The environment variable QUEUE_GIB (default 1) sets the content of a full queue, at most a quarter of the free memory.
"""

import functools
import itertools
import multiprocessing
import signal
import time

import faster_fifo
import numpy
import pairs
import shmkit

SINGLE = "C: a message of 64 bytes, one to one"
BATCHES = "C: the same in batches of 64"
LARGE = "C: a message of 1 MiB, copied in and out"
READ = "C: a message of 1 MiB, copied in, and added up by the consumer"
TWO = "C: a message of 64 bytes, two to two"
CROWDED = "C: a message of 64 bytes, sixteen to sixteen"
SHARE = "C: smallest share of sixteen consumers, relative to an even share"
RUNNING = "C: round trip of 64 bytes between two processes that spin"
ASLEEP = "C: round trip of 64 bytes between two processes that sleep"
FAULTS = "C: page faults per million messages, with 100 in the queue"
CONTENT = "C: put and get of 64 bytes, by the content of the queue"
LEFT = "C: memory left after the queue was emptied and a million messages passed"
PY_BYTES = "Python: 64 bytes, one to one"
PY_BATCH = "Python: 64 bytes in batches of 64"
PY_OBJECT = "Python: a tuple of two numbers and two strings"
PY_OBJECTS = "Python: such tuples in batches of 64"
PY_ARRAY = "Python: a NumPy array of 64 MiB"
PY_TRIP = "Python: round trip of 64 bytes"

QUEUE, SIMPLE, PIPE, FIFO = "multiprocessing Queue", "SimpleQueue", "Pipe", "faster-fifo"
CLOUDTOID = "cloudtoid's algorithm"
IN_PLACE = "shmkit, lease"

COMPARISONS = [
    pairs.Comparison("queue single", "shmkit", "ring", 1 / 0.4, SINGLE),
    pairs.Comparison("queue single", "shmkit", CLOUDTOID, 1, SINGLE),
    pairs.Comparison("queue single", "shmkit", "Boost", None, SINGLE),
    pairs.Comparison("queue single", "shmkit", "POSIX mq", None, SINGLE),
    pairs.Comparison("queue single", "shmkit", "pipe", None, SINGLE),
    pairs.Comparison("queue batch", "shmkit", "ring", 1 / 0.7, BATCHES),
    pairs.Comparison("queue batch", "shmkit", "ring, batches", None, BATCHES),
    pairs.Comparison("queue batch", "shmkit", CLOUDTOID, 1, BATCHES),
    pairs.Comparison("queue batch", "shmkit", "pipe", None, BATCHES),
    pairs.Comparison("queue large", "shmkit", "ring", 1 / 0.9, LARGE),
    pairs.Comparison("queue large", "shmkit", "memcpy", None, LARGE),
    pairs.Comparison("queue large", "shmkit", CLOUDTOID, None, LARGE),
    pairs.Comparison("queue large", "shmkit", "Boost", None, LARGE),
    pairs.Comparison("queue large", "shmkit", "pipe", None, LARGE),
    pairs.Comparison("queue read", "shmkit, lease", "ring", 1, READ),
    pairs.Comparison("queue read", "shmkit, lease", "shmkit", None, READ),
    pairs.Comparison("queue read", "shmkit, lease", "ring, in place", None, READ),
    pairs.Comparison("queue two to two", "shmkit", CLOUDTOID, 1, TWO),
    pairs.Comparison("queue two to two", "shmkit", "Boost", None, TWO),
    pairs.Comparison("queue two to two", "shmkit", "POSIX mq", None, TWO),
    pairs.Comparison("queue two to two", "shmkit", "pipe", None, TWO),
    pairs.Comparison("queue crowded", "shmkit", "shmkit, two to two", 2, CROWDED),
    pairs.Comparison("queue crowded", "shmkit", CLOUDTOID, None, CROWDED),
    pairs.Comparison("queue crowded", "shmkit", "Boost", None, CROWDED),
    pairs.Comparison("queue crowded", "shmkit", "POSIX mq", None, CROWDED),
    pairs.Comparison("queue crowded", "shmkit", "pipe", None, CROWDED),
    pairs.Comparison("queue running", "shmkit", "ring", None, RUNNING),
    pairs.Comparison("queue running", "shmkit", CLOUDTOID, None, RUNNING),
    pairs.Comparison("queue running", "shmkit", "Boost", None, RUNNING),
    pairs.Comparison("queue running", "shmkit", "POSIX mq", None, RUNNING),
    pairs.Comparison("queue running", "shmkit", "pipe", None, RUNNING),
    pairs.Comparison("queue asleep", "shmkit", "futex ring, deadline", 1, ASLEEP),
    pairs.Comparison("queue asleep", "shmkit", "futex ring", None, ASLEEP),
    pairs.Comparison("queue asleep", "shmkit", f"{CLOUDTOID}, asleep", None, ASLEEP),
    pairs.Comparison("queue asleep", "shmkit", "Boost", None, ASLEEP),
    pairs.Comparison("queue asleep", "shmkit", "POSIX mq", None, ASLEEP),
    pairs.Comparison("queue asleep", "shmkit", "pipe", None, ASLEEP),
    pairs.Comparison("queue content", "shmkit, full", "shmkit, 1 message", 1.5, CONTENT),
    pairs.Comparison("queue content", "shmkit, 64 MiB", "shmkit, 1 message", None, CONTENT),
    pairs.Comparison("queue content", "shmkit, 1 MiB", "shmkit, 1 message", None, CONTENT),
    pairs.Comparison("queue content", "ring, full", "ring, 1 message", None, CONTENT),
    pairs.Comparison("python queue bytes", "shmkit", QUEUE, 1 / 10, PY_BYTES),
    pairs.Comparison("python queue bytes", "shmkit", SIMPLE, None, PY_BYTES),
    pairs.Comparison("python queue bytes", "shmkit", PIPE, None, PY_BYTES),
    pairs.Comparison("python queue bytes", "shmkit", FIFO, None, PY_BYTES),
    pairs.Comparison("python queue batch", "shmkit", QUEUE, 1 / 15, PY_BATCH),
    pairs.Comparison("python queue batch", "shmkit", FIFO, None, PY_BATCH),
    pairs.Comparison("python queue object", "shmkit", QUEUE, 1 / 4, PY_OBJECT),
    pairs.Comparison("python queue object", "shmkit", SIMPLE, None, PY_OBJECT),
    pairs.Comparison("python queue object", "shmkit", PIPE, None, PY_OBJECT),
    pairs.Comparison("python queue object", "shmkit", FIFO, None, PY_OBJECT),
    pairs.Comparison("python queue objects", "shmkit", QUEUE, None, PY_OBJECTS),
    pairs.Comparison("python queue objects", "shmkit", FIFO, None, PY_OBJECTS),
    pairs.Comparison("python queue array", IN_PLACE, QUEUE, 1 / 10, PY_ARRAY),
    pairs.Comparison("python queue array", "shmkit", QUEUE, 1 / 10, PY_ARRAY),
    pairs.Comparison("python queue array", "shmkit", SIMPLE, None, PY_ARRAY),
    pairs.Comparison("python queue array", "shmkit", PIPE, None, PY_ARRAY),
    pairs.Comparison("python queue array", "shmkit", FIFO, None, PY_ARRAY),
    pairs.Comparison("python queue trip", "shmkit", QUEUE, 0.3, PY_TRIP),
    pairs.Comparison("python queue trip", "shmkit", SIMPLE, None, PY_TRIP),
    pairs.Comparison("python queue trip", "shmkit", PIPE, None, PY_TRIP),
    pairs.Comparison("python queue trip", "shmkit", FIFO, None, PY_TRIP),
]
FIGURES = [
    pairs.Figure("queue crowded, share", "shmkit", "%", 0.01, SHARE, least=True),
    pairs.Figure("queue crowded, share", CLOUDTOID, "%", None, SHARE, least=True),
    pairs.Figure("queue crowded, share", "Boost", "%", None, SHARE, least=True),
    pairs.Figure("queue running", "shmkit", "s", 1e-6, RUNNING),
    pairs.Figure("queue running", CLOUDTOID, "s", None, RUNNING),
    pairs.Figure("queue faults", "shmkit", "", 0, FAULTS, worst=True),
    pairs.Figure("queue faults", "ring", "", None, FAULTS, worst=True),
    pairs.Figure("queue faults", "Boost", "", None, FAULTS, worst=True),
    pairs.Figure("queue content, left", "shmkit", "%", 0.05, LEFT),
]

SMALL = bytes(64)
OBJECT = (7, "left", 123456789, "frame")
ARRAY = numpy.arange(8 << 20, dtype=numpy.float64)
BATCH = 64
# All messages differ: pickle would store a repeated object only once.
SMALLS = [bytes([i]) * 64 for i in range(BATCH)]
OBJECTS = [(i, f"left {i}", 123456789 + i, f"frame {i}") for i in range(BATCH)]
# The capacity of a queue in arrays, and the number of arrays in a turn.
ARRAYS = 2
# Seconds: the timeout of a call, and the deadline of a turn.
FOREVER = 3600.0
DEADLINE = 120

context = multiprocessing.get_context("fork")


def too_long(number, frame):
    """End a turn that exceeded its deadline."""
    raise TimeoutError(f"timed out after {DEADLINE} s waiting for a turn")


def fifo(room=1_000_000, raw=False):
    """Return the blocking put, get, put_many and get_many of a faster-fifo, for raw bytes or for objects."""
    made = faster_fifo.Queue(room, **({"loads": bytes, "dumps": bytes} if raw else {}))
    calls = (made.put, made.get, made.put_many, made.get_many)
    return [functools.partial(call, timeout=FOREVER) for call in calls]


def single_bytes():
    """Return the functions that put and get bytes: a dict of name to put and get."""
    reader, writer = context.Pipe(duplex=False)
    ours, queue, simple = shmkit.Queue(), context.Queue(), context.SimpleQueue()
    return {
        "shmkit": (ours.put_bytes, ours.get_bytes),
        QUEUE: (queue.put, queue.get),
        SIMPLE: (simple.put, simple.get),
        PIPE: (writer.send_bytes, reader.recv_bytes),
        FIFO: fifo(raw=True)[:2],
    }


def single_objects(maxsize=0, room=1_000_000):
    """Return the functions that put and get objects: a dict of name to put and get."""
    reader, writer = context.Pipe(duplex=False)
    ours, queue, simple = shmkit.Queue(maxsize), context.Queue(maxsize), context.SimpleQueue()
    return {
        "shmkit": (ours.put, ours.get),
        QUEUE: (queue.put, queue.get),
        SIMPLE: (simple.put, simple.get),
        PIPE: (writer.send, reader.recv),
        FIFO: fifo(room)[:2],
    }


def produce(orders, put, item):
    """Put as many items as each order requests, forever."""
    while True:
        for _ in itertools.repeat(None, orders.recv()):
            put(item)


def answer(get, put):
    """Return each message to its sender, forever."""
    while True:
        put(get())


def consume_each(get, orders):
    """Return a contender that gets one by one; the clock starts after the first message."""

    def turn(rounds):
        signal.alarm(DEADLINE)
        orders.send(rounds + 1)
        get()
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            get()
        took = time.perf_counter() - begin
        signal.alarm(0)
        return took

    return turn


def consume_batches(get_many, orders):
    """Return a contender that gets batches; the clock starts after the first batch."""

    def turn(rounds):
        signal.alarm(DEADLINE)
        puts = 1 + -(-rounds // BATCH)
        orders.send(puts)
        left = counted = puts * BATCH - len(get_many())
        begin = time.perf_counter()
        while left:
            left -= len(get_many())
        took = time.perf_counter() - begin
        signal.alarm(0)
        return took * rounds / counted

    return turn


def consume_arrays(get, orders):
    """Return a contender that gets arrays; the clock runs from the order to the last array."""

    def turn(rounds):
        signal.alarm(DEADLINE)
        begin = time.perf_counter()
        orders.send(rounds)
        for _ in range(rounds):
            last = get()[-1]
        took = time.perf_counter() - begin
        signal.alarm(0)
        if last != ARRAY[-1]:
            raise ValueError("the received array differs from the sent one")
        return took

    return turn


def trips(put, get):
    """Return a contender that puts a message and waits for the answer."""

    def turn(rounds):
        signal.alarm(DEADLINE)
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            put(SMALL)
            get()
        took = time.perf_counter() - begin
        signal.alarm(0)
        return took

    return turn


def bench(title, count, samples, plays, rounds=None):
    """Measure contenders; plays is a list of (name, consume function, get, put, item)."""
    signal.signal(signal.SIGALRM, too_long)
    contenders = {}
    with pairs.helpers() as start:
        for name, consume, get, put, item in plays:
            ordered, orders = context.Pipe(duplex=False)
            start(produce, ordered, put, item)
            contenders[name] = consume(get, orders)
        samples.measure(title, contenders, count, rounds)


def bench_bytes(count, samples):
    """Measure 64 bytes, one by one."""
    plays = [(name, consume_each, get, put, SMALL) for name, (put, get) in single_bytes().items()]
    bench("python queue bytes", count, samples, plays)


def bench_batch(count, samples):
    """Measure 64 bytes in batches; a contender without batches puts and gets one by one."""
    ours, queue = shmkit.Queue(), context.Queue()
    _, _, put_many, get_many = fifo(raw=True)
    plays = [
        ("shmkit", consume_batches, functools.partial(ours.get_bytes_many, BATCH), ours.put_bytes_many, SMALLS),
        (QUEUE, consume_each, queue.get, queue.put, SMALL),
        (FIFO, consume_batches, functools.partial(get_many, max_messages_to_get=BATCH), put_many, SMALLS),
    ]
    bench("python queue batch", count, samples, plays)


def bench_object(count, samples):
    """Measure a small object, one by one."""
    plays = [(name, consume_each, get, put, OBJECT) for name, (put, get) in single_objects().items()]
    bench("python queue object", count, samples, plays)


def bench_objects(count, samples):
    """Measure small objects in batches; a contender without batches puts and gets one by one."""
    ours, queue = shmkit.Queue(), context.Queue()
    _, _, put_many, get_many = fifo()
    plays = [
        ("shmkit", consume_batches, functools.partial(ours.get_many, BATCH), ours.put_many, OBJECTS),
        (QUEUE, consume_each, queue.get, queue.put, OBJECT),
        (FIFO, consume_batches, functools.partial(get_many, max_messages_to_get=BATCH), put_many, OBJECTS),
    ]
    bench("python queue objects", count, samples, plays)


def leased(queue):
    """Return a function that leases an array and returns a copy of its last element."""

    def get():
        with queue.lease() as message:
            return message.get()[-1:].copy()

    return get


def bench_array(count, samples):
    """Measure large arrays in a queue with room for two."""
    made = single_objects(ARRAYS, ARRAYS * ARRAY.nbytes + (1 << 20))
    in_place = shmkit.Queue(ARRAYS)
    made[IN_PLACE] = (in_place.put, leased(in_place))
    plays = [(name, consume_arrays, get, put, ARRAY) for name, (put, get) in made.items()]
    bench("python queue array", count, samples, plays, ARRAYS)


def bench_trip(count, samples):
    """Measure round trips of 64 bytes to a process that answers."""
    signal.signal(signal.SIGALRM, too_long)
    there, back = single_bytes(), single_bytes()
    contenders = {}
    with pairs.helpers() as start:
        for name in there:
            start(answer, there[name][1], back[name][0])
            contenders[name] = trips(there[name][0], back[name][1])
        samples.measure("python queue trip", contenders, count)


FROM_PYTHON = {
    "python queue bytes": bench_bytes,
    "python queue batch": bench_batch,
    "python queue object": bench_object,
    "python queue objects": bench_objects,
    "python queue array": bench_array,
    "python queue trip": bench_trip,
}

if __name__ == "__main__":
    pairs.main(__doc__, "queues", from_python=FROM_PYTHON, comparisons=COMPARISONS, wanted=FIGURES)
