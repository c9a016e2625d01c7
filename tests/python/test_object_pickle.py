"""Objects of every class are pickled: copies, subclasses, objects that are gone, and other processes."""

import copy
import os
import pickle
from contextlib import closing

import pytest
from conftest import refused
from nouns import ROWS, assert_same, use
from shmkit import SharedMemory, _handover
from test_object_places import other_than

CLOSED, WRONG_KIND, NOT_FOUND = -2, -3, -4


def test_every_protocol_returns_another_handle(one):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with closing(pickle.loads(pickle.dumps(one, protocol))) as same:
            assert (type(same), same.name, same.offset) == (type(one), one.name, one.offset)
            assert_same(one, same)


def test_copies_are_handles(one):
    first = copy.copy(one)
    for copied in (copy.deepcopy(one), pickle.loads(pickle.dumps(first)), first):
        assert_same(one, copied)
        copied.close()


def test_pickling_takes_no_descriptor(noun):
    if noun.own_file:
        return
    many = [noun.make() for _ in range(100)]
    before = len(os.listdir("/proc/self/fd"))
    same = pickle.loads(pickle.dumps(many))
    assert len(os.listdir("/proc/self/fd")) == before
    unused = same[0].stat()
    use(many[7])
    assert [each for each in range(100) if same[each].stat() != unused] == [7]


def test_place_of_a_pickled_object_is_not_used_again(noun):
    """Otherwise, a pickle of the closed object would open the next object at its place."""
    if noun.own_file:
        return
    one = noun.make()
    pickled = pickle.dumps(one)
    one.close()
    del one
    fresh = [noun.make() for _ in range(50)]
    unused = fresh[0].stat()
    with closing(pickle.loads(pickled)) as old:
        use(old)
        assert all(each.stat() == unused for each in fresh)


def test_segment_and_object_are_pickled_together(noun, name):
    for how in ({"anonymous": True}, {"name": name}):
        with SharedMemory(create=True, size=1 << 17, managed=True, **how) as shm:
            one = noun.make(segment=shm, offset=64)
            same_shm, same = pickle.loads(pickle.dumps((shm, one)))
            assert_same(one, same)
            assert_same(shm.lock, same_shm.lock)
            assert same.offset == 64
            for thing in (one, same, same_shm):
                thing.close()
            if "name" in how:
                shm.unlink()


# --- subclasses -------------------------------------------------------------------------------------------------------

# A subclass of each class, which pickle finds by its name.
SUBCLASSES = {}


def define(noun):
    """Define a subclass with another constructor, which unpickling does not call."""

    def init(self, number):
        noun.kind.__init__(self, *noun.arguments(), **noun.options)
        self.number = number

    name = f"Own{noun.kind.__name__}"
    SUBCLASSES[noun.kind] = globals()[name] = type(name, (noun.kind,), {"__init__": init, "__module__": __name__})


for row in ROWS:
    define(row)


def test_subclass_keeps_its_class_and_its_attributes(noun):
    own = SUBCLASSES[noun.kind]
    one = own(3)
    one.label = ["ready"]
    with closing(one), closing(pickle.loads(pickle.dumps(one))) as same:
        assert (type(same), same.number, same.label) == (own, 3, ["ready"])
        assert_same(one, same)


def test_subclass_with_slots_has_no_attributes(noun, monkeypatch):
    own = type("Slotted", (noun.kind,), {"__slots__": (), "__module__": __name__})
    monkeypatch.setitem(globals(), "Slotted", own)
    with closing(own(*noun.arguments(), **noun.options)) as one, closing(pickle.loads(pickle.dumps(one))) as same:
        assert type(same) is own
        assert_same(one, same)


def test_class_itself_has_no_attributes(one):
    assert not hasattr(one, "__dict__")
    assert one.__reduce__()[-1] is None


# --- objects that cannot be found -------------------------------------------------------------------------------------


def test_name_that_is_gone_is_not_found(noun, name):
    with closing(noun.make(name=name)) as one:
        pickled = pickle.dumps(one)
        one.unlink()
        refused(FileNotFoundError, NOT_FOUND, pickle.loads, pickled)


def test_name_of_another_object_is_not_found(noun, name):
    with closing(noun.make(name=name)) as one:
        pickled = pickle.dumps(one)
        one.unlink()
        with closing(noun.make(name=name, create=True)) as other:
            with pytest.raises(FileNotFoundError, match=f"another {noun.kind.__name__}"):
                pickle.loads(pickled)
            other.unlink()


def test_name_of_another_kind_is_refused(noun, name):
    other = other_than(noun)
    with closing(noun.make(name=name)) as one:
        pickled = pickle.dumps(one)
        one.unlink()
        with closing(other.make(name=name)) as another:
            refused(ValueError, WRONG_KIND, pickle.loads, pickled)
            another.unlink()


def test_unnamed_objects_of_an_ended_process_are_not_found(run):
    out = run("""
        import pickle
        from nouns import ROWS
        for noun in ROWS:
            print(pickle.dumps(noun.make()).hex())
    """).out
    lines = out.splitlines()
    assert len(lines) == len(ROWS)
    for line in lines:
        with pytest.raises(FileNotFoundError):
            pickle.loads(bytes.fromhex(line))


def test_unnamed_object_of_another_pid_namespace_is_not_found(noun, monkeypatch):
    with closing(noun.make()) as one:
        pickled = pickle.dumps(one)
        monkeypatch.setattr(_handover, "_pid_namespace", lambda: 1)
        with pytest.raises(FileNotFoundError, match="another PID namespace"):
            pickle.loads(pickled)


def test_object_of_a_closed_segment_cannot_be_pickled(noun, name):
    with SharedMemory(name, create=True, size=1 << 17, managed=True) as shm:
        one = noun.make(segment=shm, offset=0)
        shm.unlink()
    with closing(one):
        with pytest.raises(ValueError, match="closed"):
            pickle.dumps(one)
        assert_same(one, one)


# --- other processes --------------------------------------------------------------------------------------------------

# `objects(shm, name)` creates an object of each class at each place. `seen(one)` must be equal in both processes.
TRAVEL = """
import contextlib, multiprocessing, sys
from nouns import ROWS, use
from shmkit import SharedMemory

def objects(shm, name):
    made, offset = [shm.lock], 64
    for number, noun in enumerate(ROWS):
        made += [noun.make(), noun.make(name=f"{name}-{number}"), noun.make(segment=shm, offset=offset)]
        offset += noun.size
    return made

def seen(one):
    return type(one).__name__, one.name, one.offset, tuple(one.stat())

def look_and_use(objects, connection):
    connection.send([seen(one) for one in objects])
    connection.recv()
    for one in objects:
        use(one)
    connection.send([seen(one) for one in objects])
    connection.recv()
    connection.send([seen(one) for one in objects])

def receive(connection):
    while True:
        objects = connection.recv()
        if not objects:
            return
        look_and_use(objects, connection)
        for one in objects:
            one.close()

def compare(objects, connection):
    '''Compare what both processes see at first, after the child has used all objects, and after this process has.'''
    unused = [seen(one) for one in objects]
    print([one for one, other in zip(unused, connection.recv()) if one != other])
    connection.send(None)
    theirs, used = connection.recv(), [seen(one) for one in objects]
    print([one for one, other in zip(used, theirs) if one != other], [one for one in used if one in unused])
    for one in objects:
        use(one)
    connection.send(None)
    theirs, again = connection.recv(), [seen(one) for one in objects]
    print([one for one, other in zip(again, theirs) if one != other], [one for one in again if one in used])

if __name__ == "__main__":
    how, method, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    mine, yours = context.Pipe()
    with SharedMemory(name, create=True, size=1 << 18, managed=True) as shm:
        if how == "argument":
            made = objects(shm, name)
            process = context.Process(target=look_and_use, args=(made, yours))
            process.start()
            compare(made, mine)
        else:
            process = context.Process(target=receive, args=(yours,))
            process.start()
            made = objects(shm, name)
            for _ in range(2):
                mine.send(made)
                compare(made, mine)
            mine.send(None)
        process.join()
        print(process.exitcode)
        for one in [shm, *made]:
            one.unlink()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("how", ["argument", "message"])
def test_objects_reach_another_process(run, name, how, method):
    """Send the objects as arguments of a new process, and by a pipe to a running process that has none of them."""
    rounds = 1 if how == "argument" else 2
    assert run(TRAVEL, how, method, name).out == "[]\n[] []\n[] []\n" * rounds + "0\n"
