"""Events that are passed to other processes."""

PREFACE = """
import multiprocessing
from shmkit import Event
"""


def test_running_process_waits_for_events_that_it_receives(run):
    code = """
def work(connection):
    while True:
        event = connection.recv()
        if event is None:
            return
        connection.send(event.wait(60))
        event.clear()
        event.close()
        connection.send("cleared")

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    mine, yours = context.Pipe()
    process = context.Process(target=work, args=(yours,))
    process.start()
    event = Event()
    for _ in range(3):
        mine.send(event)
        event.set()
        print(mine.recv(), mine.recv(), event.is_set())
    mine.send(None)
    process.join()
    print(process.exitcode)
"""
    assert run(PREFACE + code).out == "True cleared False\n" * 3 + "0\n"
