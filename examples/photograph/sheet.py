"""The layout of the demo's segment; `struct sheet` in look.c must match it.

    0       64          64 (workers + 1)       4096                   4096 + picture
    | sheet | counter 0 | ... one per worker | ...  | one picture      | another picture |

A picture is height * width * 3 doubles, row by row. Each round of the filter reads one picture and writes the other.
"""

import struct
from typing import NamedTuple

import numpy

MAGIC = b"picture\0"
HEAD = struct.Struct("=8s6Q")
# Each counter has a cache line of its own, so that the workers do not slow each other down.
LINE = 64
PICTURES = 4096
MAX_WORKERS = PICTURES // LINE - 1


class Sheet(NamedTuple):
    """The height and width of the picture, which determine the layout."""

    height: int
    width: int

    @property
    def shape(self):
        """The shape of one picture as an array."""
        return self.height, self.width, 3

    @property
    def picture_bytes(self):
        """The size of one picture in bytes."""
        return self.height * self.width * 3 * 8

    @property
    def size(self):
        """The size of the segment in bytes."""
        return PICTURES + 2 * self.picture_bytes

    def offset(self, which):
        """Return the offset of the first (0) or the second (1) picture."""
        return PICTURES + which * self.picture_bytes

    def picture(self, shm, which):
        """Return one of the pictures as an array over the segment, without a copy."""
        return numpy.ndarray(self.shape, numpy.float64, buffer=shm.buf, offset=self.offset(which))

    def band(self, worker, workers):
        """Return the first row of a worker's band and the first row after it."""
        return self.height * worker // workers, self.height * (worker + 1) // workers

    def write_head(self, shm, shown):
        """Write the header: the layout, and the index of the picture that look.c reads."""
        head = (MAGIC, self.height, self.width, 3, self.offset(0), self.offset(1), shown)
        HEAD.pack_into(shm.buf, 0, *head)

    @classmethod
    def read_head(cls, shm):
        """Return the sheet that the header of a segment describes."""
        magic, height, width, *_ = HEAD.unpack_from(shm.buf)
        sheet = cls(height, width)
        if magic != MAGIC or sheet.size > shm.size:
            raise ValueError(f"{shm.name} must contain a picture")
        return sheet


def counter_offset(worker):
    """Return the offset of a worker's counter."""
    return LINE * (worker + 1)


def read_counter(shm, worker):
    """Return a worker's counter, through any kind of SharedMemory."""
    return struct.unpack_from("=Q", shm.buf, counter_offset(worker))[0]
