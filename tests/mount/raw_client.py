"""The mount's ABI by hand: ioctls and control files, without the client library.

Shows that lib/format/ioctls.h and control.md are enough to write a client, and lets the tests of
the mount populate it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import mmap
import os
import struct
from dataclasses import dataclass

ABI_VERSION = 4
MAX_IOCTL_BYTES = 16376
NOT_RESIDENT = 0xFFFFFFFF
PRESENT = 0xFFFFFFFE
PROMOTE = 1
ZERO_KEY = bytes(16)

HELLO, MATCH, SLABS, PREFETCH, EXTENTS, RESERVE, JOIN, COMMIT, REPORT = range(1, 10)


def command(number: int, size: int) -> int:
    """_IOC(_IOC_READ | _IOC_WRITE, 'K', number, size)"""
    return (3 << 30) | (size << 16) | (ord("K") << 8) | number


def ioctl(fd: int, number: int, message: bytes | bytearray) -> bytes:
    buffer = bytearray(message)
    fcntl.ioctl(fd, command(number, len(buffer)), buffer, True)
    return bytes(buffer)


def control(path: str, **request) -> dict:
    """One request to a control file; an answer that is not ok becomes an exception."""
    fd = os.open(path, os.O_RDWR)
    try:
        os.write(fd, json.dumps(request).encode())
        answer = b""
        while piece := os.read(fd, 65536):
            answer += piece
    finally:
        os.close(fd)
    parsed = json.loads(answer)
    if not parsed["ok"]:
        raise ControlError(parsed["code"], parsed["error"])
    return parsed


class ControlError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def hex_of(key: bytes) -> str:
    low, high = struct.unpack("<QQ", key)
    return f"{high:016x}{low:016x}"


def key_of(text: str) -> bytes:
    return struct.pack("<QQ", int(text[16:], 16), int(text[:16], 16))


@dataclass(frozen=True)
class Extent:
    slab: int
    slot: int


class Reservation:
    """An open .kvfs/reserve."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.fd = os.open(f"{namespace.path}/.kvfs/reserve", os.O_RDWR)
        self.extents: list[Extent] = []
        self.id = 0

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reserve(
        self, tokens: list[int], parent: bytes = ZERO_KEY, extras: list[tuple[int, bytes]] = ()
    ) -> list[Extent]:
        block_tokens = self.namespace.block_tokens
        blocks = len(tokens) // block_tokens
        groups = len(self.namespace.block_bytes)
        body = struct.pack("<16sIIIIQ", parent, blocks, len(extras), 0, 0, 0)
        body += struct.pack(f"<{len(tokens)}i", *tokens)
        body += bytes(-len(body) % 8)
        for block, extra in extras:
            body += struct.pack("<II16s", block, 0, extra)
        size = max(len(body), 40 + 8 * blocks * groups)
        answer = ioctl(self.fd, RESERVE, body + bytes(size - len(body)))
        self.id = struct.unpack_from("<Q", answer, 32)[0]
        new = [
            Extent(*struct.unpack_from("<II", answer, 40 + 8 * i)) for i in range(blocks * groups)
        ]
        self.extents += new
        return new

    def join(
        self, reservation_id: int, first: int = 0, capacity: int = 1000
    ) -> tuple[list[Extent], int]:
        message = struct.pack("<QIIII", reservation_id, first, capacity, 0, 0) + bytes(8 * capacity)
        answer = ioctl(self.fd, JOIN, message)
        _, _, filled, blocks, _ = struct.unpack_from("<QIIII", answer)
        return [
            Extent(*struct.unpack_from("<II", answer, 24 + 8 * i)) for i in range(filled)
        ], blocks

    def commit(self, blocks: int) -> tuple[int, int, bytes]:
        answer = ioctl(self.fd, COMMIT, struct.pack("<IIII16s", blocks, 0, 0, 0, ZERO_KEY))
        _, committed, present, _, tip = struct.unpack("<IIII16s", answer)
        return committed, present, tip


class Lease:
    """An open prefix file."""

    def __init__(self, namespace: Namespace, key: bytes) -> None:
        self.namespace = namespace
        self.fd = os.open(namespace.file(key), os.O_RDONLY)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def extents(
        self,
        first: int = 0,
        capacity: int = 1000,
        group: int = 0,
        flags: int = PROMOTE,
        timeout_ms: int = 10000,
        done_before: int = 0,
        missed: int = 0,
    ) -> tuple[list[Extent], int]:
        message = struct.pack(
            "<8I", first, group, flags, timeout_ms, done_before, missed, capacity, 0
        )
        answer = ioctl(self.fd, EXTENTS, message + bytes(8 * capacity))
        filled, blocks = struct.unpack_from("<II", answer, 24)
        return [
            Extent(*struct.unpack_from("<II", answer, 32 + 8 * i)) for i in range(filled)
        ], blocks


class Namespace:
    def __init__(self, path: str) -> None:
        self.path = path
        with open(f"{path}/.kvfs/geometry.json") as file:
            self.geometry = json.load(file)
        self.block_tokens = self.geometry["block_tokens"]
        item = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}[self.geometry["dtype"]]
        self.block_bytes = [
            g["kv_factor"] * g["layers"] * g["kv_heads"] * g["head_dim"] * self.block_tokens * item
            for g in self.geometry["groups"]
        ]
        self.slot_bytes = [-(-b // 4096) * 4096 for b in self.block_bytes]
        self.dir_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._slabs: dict[int, tuple[int, mmap.mmap]] = {}

    def close(self) -> None:
        for fd, mapping in self._slabs.values():
            mapping.close()
            os.close(fd)
        self._slabs = {}
        os.close(self.dir_fd)

    def file(self, key: bytes) -> str:
        return f"{self.path}/{hex_of(key)}.safetensors"

    def hello(self) -> tuple[int, int, int]:
        return struct.unpack(
            "<IIQ", ioctl(self.dir_fd, HELLO, struct.pack("<IIQ", ABI_VERSION, 0, 0))
        )

    def match(self, keys: list[bytes]) -> int:
        answer = ioctl(self.dir_fd, MATCH, struct.pack("<II", len(keys), 0) + b"".join(keys))
        return struct.unpack_from("<II", answer)[1]

    def prefetch(self, key: bytes) -> None:
        ioctl(self.dir_fd, PREFETCH, key)

    def slabs(self, capacity: int = 16) -> list[tuple[int, int, int, int, int, int]]:
        found, cursor = [], 0
        while True:
            answer = ioctl(
                self.dir_fd, SLABS, struct.pack("<II", cursor, capacity) + bytes(32 * capacity)
            )
            cursor, filled = struct.unpack_from("<II", answer)
            found += [struct.unpack_from("<IIQQII", answer, 8 + 32 * i) for i in range(filled)]
            if cursor == 0:
                return found

    def slab(self, number: int) -> mmap.mmap:
        if number not in self._slabs:
            fd = os.open(f"{self.path}/.kvfs/slabs/{number}", os.O_RDWR)
            size = next(slab[2] for slab in self.slabs() if slab[0] == number)
            self._slabs[number] = (fd, mmap.mmap(fd, size))
        return self._slabs[number][1]

    def control(self, **request) -> dict:
        return control(f"{self.path}/.kvfs/control", **request)

    def write_blocks(
        self, reservation: Reservation, blocks: list[list[bytes]], first: int = 0
    ) -> None:
        """Puts blocks[i][group] into the reserved slots: by the mapping, else by pwrite."""
        passthrough = self.hello()[1]
        groups = len(self.block_bytes)
        for i, block in enumerate(blocks):
            for group, data in enumerate(block):
                assert len(data) == self.block_bytes[group]
                extent = reservation.extents[(first + i) * groups + group]
                if extent.slab == PRESENT:
                    continue
                if passthrough:
                    at = extent.slot * self.slot_bytes[group]
                    self.slab(extent.slab)[at : at + len(data)] = data
                else:
                    at = (first + i) * sum(self.block_bytes) + sum(self.block_bytes[:group])
                    assert os.pwrite(reservation.fd, data, at) == len(data)

    def store(
        self,
        tokens: list[int],
        blocks: list[list[bytes]],
        parent: bytes = ZERO_KEY,
        per_call: int = 64,
    ) -> bytes:
        """Reserves, writes and commits; returns the tip's key."""
        with Reservation(self) as reservation:
            count = len(tokens) // self.block_tokens
            for first in range(0, count, per_call):
                step = min(per_call, count - first)
                reservation.reserve(
                    tokens[first * self.block_tokens : (first + step) * self.block_tokens], parent
                )
            self.write_blocks(reservation, blocks)
            return reservation.commit(count)[2]

    def load(self, key: bytes, first: int = 0) -> list[bytes]:
        """Group 0's blocks through the mapped slabs."""
        out = []
        with Lease(self, key) as lease:
            blocks = first + 1
            while first < blocks:
                extents, blocks = lease.extents(first)
                for extent in extents:
                    at = extent.slot * self.slot_bytes[0]
                    out.append(bytes(self.slab(extent.slab)[at : at + self.block_bytes[0]]))
                first += len(extents)
        return out


@contextlib.contextmanager
def expect_errno(number: int):
    """with expect_errno(errno.EACCES): ..."""
    try:
        yield
    except OSError as error:
        got = errno.errorcode.get(error.errno, error.errno)
        if error.errno != number:
            raise AssertionError(f"{got} instead of {errno.errorcode[number]}") from error
    else:
        raise AssertionError(f"nothing failed; {errno.errorcode[number]} was expected")
