"""The count of calls in progress in shmkit/_object.pxd: another operation runs at each atomic operation of a call."""

import pathlib
import re
import subprocess
import textwrap

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Runs an operation of `held_up`. Before its atomic operation number `at` it runs the operation `meanwhile`.
HARNESS = r"""
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

static void (*meanwhile)(void);
static int at;

static void step(void)
{
    if (meanwhile != NULL && at-- == 0) {
        void (*run)(void) = meanwhile;
        meanwhile = NULL;
        run();
    }
}

/* The name inside is not expanded once more. */
#define __atomic_add_fetch(to, number, order) (step(), __atomic_add_fetch(to, number, order))
#define __atomic_load_n(from, order) (step(), __atomic_load_n(from, order))
#define __atomic_exchange_n(to, value, order) (step(), __atomic_exchange_n(to, value, order))
#define __atomic_compare_exchange_n(to, expected, value, weak, one, other) \
    (step(), __atomic_compare_exchange_n(to, expected, value, weak, one, other))

@COUNTS@

static int64_t in_use;
static void *handle, *pending[2], *used_by_other;
static int closed;
static char it;

static void close_pending(void)
{
    void *second = shmkit_take(&pending[1]);
    void *first = shmkit_take(&pending[0]);
    assert(second == NULL && first == &it && used_by_other == NULL);
    closed++;
}

static void begin_other(void)
{
    used_by_other = shmkit_begin(&in_use, &handle);
}

static void end_other(void)
{
    used_by_other = NULL;
    if (shmkit_end(&in_use))
        close_pending();
}

static void call(void)
{
    void *used = shmkit_begin(&in_use, &handle);
    assert(used == NULL || !closed);
    if (shmkit_end(&in_use))
        close_pending();
}

static void close_it(void)
{
    shmkit_retire(&in_use, &handle, pending);
    if (shmkit_leave(&in_use))
        close_pending();
}

static void begin_and_close(void)
{
    begin_other();
    close_it();
}

static void close_and_begin(void)
{
    close_it();
    begin_other();
}

int main(void)
{
    void (*held_up[])(void) = {call, close_it};
    void (*others[])(void) = {begin_and_close, close_and_begin, begin_other};
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 12; k++) {
                handle = &it, pending[0] = pending[1] = NULL, in_use = 0, closed = 0;
                meanwhile = others[j], at = k;
                held_up[i]();
                at = 0;
                step();
                end_other();
                close_it();
                assert(closed == 1 && in_use == 0 && handle == NULL && pending[0] == NULL);
            }
    return 0;
}
"""


@pytest.mark.cython
def test_last_call_closes_the_handle_once_wherever_another_call_is_delayed(tmp_path):
    pxd = (ROOT / "cython/shmkit/_object.pxd").read_text()
    counts = textwrap.dedent(re.search(r'cdef extern from \*:\n    """\n(.*?)    """', pxd, re.DOTALL)[1])
    source, program = tmp_path / "counts.c", tmp_path / "counts"
    source.write_text(HARNESS.replace("@COUNTS@", counts))
    subprocess.run(["cc", "-std=gnu11", "-DSHMKIT_COUNT_CALLS=1", "-o", program, source], check=True)
    subprocess.run([program], check=True, timeout=60)
