"""The header of a managed segment: other versions, and corrupt bytes."""

import os
import resource
import struct

import pytest
import shmkit
from conftest import refused
from shmkit import SharedMemory

WRONG_KIND, CORRUPT, VERSION_MISMATCH = -3, -21, -22
PAGE = resource.getpagesize()
MAGIC = b"shmkit\r\x1a"


def crc32c(data):
    """Return the checksum of a header: CRC-32C, which zlib lacks."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def rewrite(path, at, data, fix_checksum=True):
    """Change bytes of a header, and correct its checksum unless `fix_checksum` is false."""
    with open(path, "r+b") as file:
        header = bytearray(file.read(128))
        header[at : at + len(data)] = data
        if fix_checksum:
            header[48:52] = struct.pack("=I", crc32c(header[:48]))
        file.seek(0)
        file.write(header)


@pytest.fixture
def managed_name(name):
    """Return the name of a managed segment that no process has open."""
    with SharedMemory(name, create=True, size=100, managed=True) as shm:
        shm.buf[0] = 42
    yield name
    SharedMemory.unlink_name(name)


def test_the_checksum_is_crc32c(managed_name, path):
    rewrite(path, 0, MAGIC)
    with SharedMemory(managed_name) as shm:
        assert shm.buf[0] == 42
    assert crc32c(b"123456789") == 0xE3069283


def test_another_major_version_is_refused(managed_name, path):
    for major in (0, 1, 3, 255):
        rewrite(path, 8, struct.pack("=H", major))
        for how in ({}, {"managed": True}, {"create": None, "size": 100}, {"readonly": True}):
            refused(shmkit.VersionMismatch, VERSION_MISMATCH, SharedMemory, managed_name, match="layout", **how)
    with SharedMemory(managed_name, managed=False) as raw:
        assert raw.buf[8] == 255


def test_a_greater_minor_version_is_accepted(managed_name, path):
    rewrite(path, 10, struct.pack("=H", 99))
    with SharedMemory(managed_name) as shm, shm.lock:
        assert shm.buf[0] == 42


@pytest.mark.parametrize("at", [12, 16, 20, 24, 32, 40, 44, 48])
def test_a_header_with_a_wrong_checksum_is_corrupt(managed_name, path, at):
    rewrite(path, at, b"\xff\x5a", fix_checksum=False)
    refused(shmkit.Corrupt, CORRUPT, SharedMemory, managed_name)
    refused(shmkit.Corrupt, CORRUPT, SharedMemory, managed_name, managed=True)


@pytest.mark.parametrize(
    ("at", "data"),
    [
        (16, struct.pack("=Q", 0)),
        (16, struct.pack("=Q", 128)),
        (16, struct.pack("=Q", PAGE + 1)),
        (16, struct.pack("=Q", 1 << 40)),
        (16, struct.pack("=Q", (1 << 64) - PAGE)),
        (40, struct.pack("=I", 0)),
        (40, struct.pack("=I", 4097)),
        (40, struct.pack("=I", 0xFFFF_FFFF)),
        (64, struct.pack("=Q", 0)),
        (64, struct.pack("=Q", 1 << 40)),
        (64, struct.pack("=Q", (1 << 64) - 1)),
    ],
)
def test_impossible_sizes_in_a_header_are_corrupt(managed_name, path, at, data):
    rewrite(path, at, data)
    refused(shmkit.Corrupt, CORRUPT, SharedMemory, managed_name)
    refused(shmkit.Corrupt, CORRUPT, SharedMemory, managed_name, managed=True)


def test_an_impossible_size_in_a_mapped_header_is_corrupt(managed_name, path):
    with SharedMemory(managed_name) as shm:
        rewrite(path, 64, struct.pack("=Q", 1 << 40))
        refused(shmkit.Corrupt, CORRUPT, lambda: shm.size)
        refused(shmkit.Corrupt, CORRUPT, memoryview, shm)
        rewrite(path, 64, struct.pack("=Q", 100))
        assert shm.size == 100


def test_an_unknown_kind_is_refused(managed_name, path):
    rewrite(path, 12, struct.pack("=I", 77))
    with pytest.raises((ValueError, shmkit.Corrupt)) as caught:
        SharedMemory(managed_name)
    assert caught.value.status in (WRONG_KIND, CORRUPT)


def test_a_truncated_managed_segment_is_corrupt(managed_name, path):
    for size in (PAGE, 128, 64, 9):
        os.truncate(path, size)
        refused(shmkit.Corrupt, CORRUPT, SharedMemory, managed_name)


def test_a_plain_file_that_begins_with_the_magic_bytes_is_refused(name, path):
    path.write_bytes(MAGIC + bytes(1000))
    with pytest.raises(shmkit.ShmkitError) as caught:
        SharedMemory(name)
    assert caught.value.status in (CORRUPT, VERSION_MISMATCH)
    with SharedMemory(name, managed=False) as raw:
        assert raw.size == 1008
        raw.unlink()
