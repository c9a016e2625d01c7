# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The work of the demo: filters over pictures of doubles, and the progress counters of the workers.

Every filter reads `source` and writes the rows `first` to `last` of `result`. A pixel's value depends only on `source`,
so bands give exactly the result of one run over the whole picture. The filters release the GIL.
"""

from libc.math cimport floor, fmax, fmin, sqrt, tanh
from libc.signal cimport SIGKILL
from libc.stdint cimport int64_t, uint64_t
from posix.unistd cimport getppid
from shmkit.segment cimport SharedMemory

cdef extern from "<sys/prctl.h>":
    int PR_SET_PDEATHSIG
    int prctl(int option, ...)

cdef extern from *:
    """
    /* Other processes read the counters. A process that sees a row counted must also see its pixels. */
    #define counter_store(counter, value) __atomic_store_n(counter, value, __ATOMIC_RELEASE)
    #define counter_load(counter) __atomic_load_n(counter, __ATOMIC_ACQUIRE)
    """
    void counter_store(uint64_t *counter, uint64_t value) nogil
    uint64_t counter_load(uint64_t *counter) nogil

# Binomial weights of seven pixels in a line.
cdef double[7] BELL = [1 / 64.0, 6 / 64.0, 15 / 64.0, 20 / 64.0, 15 / 64.0, 6 / 64.0, 1 / 64.0]
# Colours further apart than this (squared distance in RGB) do not mix. This keeps edges sharp.
cdef double FAR = 0.035
# The number of levels from black to white in the drawing, and the sharpness of the transition between two levels.
cdef double LEVELS = 9.0
cdef double SHARPNESS = 3.2
# Slopes of brightness from FAINT to STRONG draw a line, from invisible to dark.
cdef double FAINT = 0.22
cdef double STRONG = 0.75


cdef inline Py_ssize_t inside(Py_ssize_t index, Py_ssize_t extent) noexcept nogil:
    return 0 if index < 0 else extent - 1 if index >= extent else index


cdef inline double brightness(const double[:, :, ::1] picture, Py_ssize_t y, Py_ssize_t x) noexcept nogil:
    return 0.299 * picture[y, x, 0] + 0.587 * picture[y, x, 1] + 0.114 * picture[y, x, 2]


cdef void smooth_rows(const double[:, :, ::1] source, double[:, :, ::1] result, Py_ssize_t first, Py_ssize_t last,
                      Py_ssize_t spacing) noexcept nogil:
    cdef Py_ssize_t height = source.shape[0], width = source.shape[1], y, x, i, j, v, u
    cdef double red, green, blue, sum_red, sum_green, sum_blue, total, a, b, c, near, weight
    for y in range(first, last):
        for x in range(width):
            red, green, blue = source[y, x, 0], source[y, x, 1], source[y, x, 2]
            sum_red = sum_green = sum_blue = total = 0.0
            for i in range(7):
                v = inside(y + (i - 3) * spacing, height)
                for j in range(7):
                    u = inside(x + (j - 3) * spacing, width)
                    a, b, c = source[v, u, 0], source[v, u, 1], source[v, u, 2]
                    near = 1.0 - ((a - red) ** 2 + (b - green) ** 2 + (c - blue) ** 2) / FAR
                    near = fmax(near, 0.0)
                    weight = BELL[i] * BELL[j] * near * near
                    sum_red += weight * a
                    sum_green += weight * b
                    sum_blue += weight * c
                    total += weight
            result[y, x, 0] = sum_red / total
            result[y, x, 1] = sum_green / total
            result[y, x, 2] = sum_blue / total


cdef inline double slope(const double[:, :, ::1] source, Py_ssize_t y, Py_ssize_t x, Py_ssize_t spacing) noexcept nogil:
    # The Sobel operator: the magnitude of the slope of brightness.
    cdef Py_ssize_t above = inside(y - spacing, source.shape[0]), below = inside(y + spacing, source.shape[0])
    cdef Py_ssize_t left = inside(x - spacing, source.shape[1]), right = inside(x + spacing, source.shape[1])
    cdef double nw = brightness(source, above, left), ne = brightness(source, above, right)
    cdef double sw = brightness(source, below, left), se = brightness(source, below, right)
    cdef double across = ne - nw + se - sw + 2 * (brightness(source, y, right) - brightness(source, y, left))
    cdef double down = sw - nw + se - ne + 2 * (brightness(source, below, x) - brightness(source, above, x))
    return sqrt(across * across + down * down)


cdef void draw_rows(const double[:, :, ::1] source, double[:, :, ::1] result, Py_ssize_t first, Py_ssize_t last,
                    Py_ssize_t spacing) noexcept nogil:
    cdef Py_ssize_t y, x, channel
    cdef double light, level, ink, factor
    for y in range(first, last):
        for x in range(source.shape[1]):
            light = brightness(source, y, x)
            level = (floor(light * LEVELS) + 0.5) / LEVELS
            level += 0.5 / LEVELS * tanh(SHARPNESS * LEVELS * (light - level))
            ink = fmin(fmax((slope(source, y, x, spacing) - FAINT) / (STRONG - FAINT), 0.0), 1.0)
            factor = level / fmax(light, 1e-3) * (1.0 - 0.8 * ink * ink * (3.0 - 2.0 * ink))
            for channel in range(3):
                # Increase the saturation slightly, then apply the level and the line.
                result[y, x, channel] = fmin(fmax(
                    (light + 1.25 * (source[y, x, channel] - light)) * factor, 0.0), 1.0)


cdef void tone_rows(const double[:, :, ::1] source, double[:, :, ::1] result, Py_ssize_t first,
                    Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t y, x
    cdef double light
    for y in range(first, last):
        for x in range(source.shape[1]):
            light = brightness(source, y, x)
            result[y, x, 0] = fmin(1.08 * light, 1.0)
            result[y, x, 1] = 0.92 * light
            result[y, x, 2] = 0.70 * light


cdef uint64_t *counter(SharedMemory shm, Py_ssize_t offset) except NULL:
    # Returns the address of a counter in the segment: no copy, and no view that would block close().
    if offset < 0 or offset % sizeof(uint64_t) or shm.length() < <int64_t> (offset + sizeof(uint64_t)):
        raise ValueError(f"the offset of a counter must be a multiple of 8 within the segment, not {offset}")
    return <uint64_t *> (<char *> shm.pointer() + offset)


def store(SharedMemory shm, Py_ssize_t offset, uint64_t value):
    """Set the counter at `offset` with release ordering: earlier writes become visible with it."""
    counter_store(counter(shm, offset), value)


def load(SharedMemory shm, Py_ssize_t offset):
    """Return the counter at `offset` with acquire ordering: writes before its store are visible."""
    return counter_load(counter(shm, offset))


def end_with_parent(int parent):
    """Ask the kernel to kill this process when its parent `parent` ends."""
    if prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 or getppid() != parent:
        raise SystemExit("the parent has ended")


cdef int check(const double[:, :, ::1] source, double[:, :, ::1] result, Py_ssize_t first, Py_ssize_t last) except -1:
    cdef int axis
    for axis in range(3):
        if source.shape[axis] != result.shape[axis]:
            raise ValueError("source and result must have the same shape")
    if source.shape[2] != 3:
        raise ValueError("a picture must have three channels")
    if not 0 <= first <= last <= source.shape[0]:
        raise ValueError(f"rows {first} to {last} must be within 0 to {source.shape[0]}")
    return 0


def smooth(const double[:, :, ::1] source, double[:, :, ::1] result, Py_ssize_t first, Py_ssize_t last,
           Py_ssize_t spacing):
    """Apply a bilateral filter of seven by seven pixels, `spacing` apart: average pixels near in place and colour."""
    check(source, result, first, last)
    with nogil:
        smooth_rows(source, result, first, last, spacing)


def draw(const double[:, :, ::1] source, double[:, :, ::1] result, Py_ssize_t first, Py_ssize_t last,
         Py_ssize_t spacing):
    """Reduce brightness to a few levels, and draw dark lines where it changes steeply over `spacing` pixels."""
    check(source, result, first, last)
    with nogil:
        draw_rows(source, result, first, last, spacing)


def tone(const double[:, :, ::1] source, double[:, :, ::1] result, Py_ssize_t first, Py_ssize_t last):
    """Convert colour to sepia. This is so cheap that transporting the pixels is most of the work."""
    check(source, result, first, last)
    with nogil:
        tone_rows(source, result, first, last)
