"""Once in other processes, which begin at the same time or die, and Ctrl-C in the function."""

PREFACE = """
import multiprocessing, os, signal, time
from shmkit import Once, SharedMemory
"""


def test_one_of_many_processes_runs_the_function(run):
    code = """
def work(once, view):
    view.view("Q")[1] += once.call(lambda: view.view("Q").__setitem__(0, view.view("Q")[0] + 1))

if __name__ == "__main__":
    context, once = multiprocessing.get_context("spawn"), Once()
    with SharedMemory(create=True, size=16, anonymous=True) as view:
        children = [context.Process(target=work, args=(once, view)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        print([child.exitcode for child in children], view.view("Q")[0], once.is_done(), once.stat().attempts)
"""
    assert run(PREFACE + code).out == "[0, 0, 0] 1 True 1\n"


def test_begin_after_the_death_of_a_receiver_sets_owner_died(run):
    code = """
def work(connection):
    once = connection.recv()
    connection.send(once.begin())
    connection.recv()
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    context, once = multiprocessing.get_context("spawn"), Once()
    mine, yours = context.Pipe()
    process = context.Process(target=work, args=(yours,))
    process.start()
    mine.send(once)
    print(mine.recv(), once.stat().owner == process.pid)
    mine.send("go")
    process.join()
    print(process.exitcode, once.begin(60), once.owner_died)
    once.done()
"""
    assert run(PREFACE + code).out == "True True\n-9 True True\n"


def test_ctrl_c_in_the_function_aborts_the_once(run):
    code = """
once = Once()
def work():
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        time.sleep(1)
try:
    once.call(work)
except KeyboardInterrupt:
    print("interrupted", once.is_done(), once.stat().owner)
print(once.call(print, "called"), once.is_done())
"""
    assert run(PREFACE + code).out == "interrupted False None\ncalled\nTrue True\n"
