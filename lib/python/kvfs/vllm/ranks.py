"""The tensor-parallel ranks of one engine, about the slots they fill together. No vLLM import.

Between processes of one machine, over an abstract socket that only those who know the engine's id
can use: per store the first rank sends (job, reservation, first block, count) to each of the others
and gets (job, filled) back.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import multiprocessing
import struct
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener

logger = logging.getLogger("vllm.kvfs")

_REQUEST = struct.Struct("<QQII")
_ANSWER = struct.Struct("<Q?")
# For the other ranks' copies of one store.
_ANSWER_S = 10.0
_CONNECT_S = 300.0
_CONNECT_AGAIN_S = 0.1


@dataclass(frozen=True)
class Share:
    """What one rank has of the model: heads from `first_head` on; `writers` ranks store theirs.

    Where there are fewer KV heads than ranks, several have the same head: one of them stores it.
    """

    rank: int
    first_head: int
    writes: bool
    writers: int

    @staticmethod
    def of(rank: int, ranks: int, total_heads: int, heads: int) -> Share:
        """`heads`: of each rank. ValueError where the heads are not spread evenly."""
        copies = max(ranks // total_heads, 1)
        if heads * ranks != total_heads * copies:
            raise ValueError(f"{total_heads} KV heads on {ranks} ranks of {heads} heads each")
        return Share(rank, rank // copies * heads, rank % copies == 0, ranks // copies)


def _address(engine_id: str) -> tuple[str, bytes]:
    digest = hashlib.sha256(engine_id.encode()).hexdigest()
    return f"\0kvfs-{digest[:32]}", digest[32:].encode()


class Asked:
    """A store that the other ranks were asked to fill."""

    def __init__(self, connections: list[Connection], job: int):
        self._connections = connections
        self._job = job

    def wait(self) -> bool:
        """Whether each has filled its share in time."""
        deadline = time.monotonic() + _ANSWER_S
        return all([self._answer(connection, deadline) for connection in self._connections])

    def _answer(self, connection: Connection, deadline: float) -> bool:
        try:
            while connection.poll(max(deadline - time.monotonic(), 0)):
                job, filled = _ANSWER.unpack(connection.recv_bytes(_ANSWER.size))
                if job == self._job:
                    return filled
                # else of an earlier store that was given up
        except (OSError, EOFError, struct.error) as error:
            logger.debug("kvfs: a rank is gone: %s", error)
        return False


class Leader:
    """The first rank's end. Before the others are `connected` nothing can be stored."""

    def __init__(self, engine_id: str, others: int):
        self._others = others
        self.connected = threading.Event()
        self._connections: list[Connection] = []
        address, key = _address(engine_id)
        self._listener = Listener(address, "AF_UNIX", authkey=key)
        threading.Thread(target=self._accept, name="kvfs-ranks", daemon=True).start()

    def ask(self, job: int, reservation) -> Asked:
        message = _REQUEST.pack(job, reservation.id, reservation.first_block, reservation.count)
        for connection in self._connections:
            with contextlib.suppress(OSError):  # gone: there will be no answer
                connection.send_bytes(message)
        return Asked(self._connections, job)

    def close(self) -> None:
        self._listener.close()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        while len(self._connections) < self._others:
            try:
                self._connections.append(self._listener.accept())
            except multiprocessing.AuthenticationError:
                continue
            except (OSError, EOFError) as error:
                logger.debug("kvfs: ranks: %s", error)  # closed
                return
        self.connected.set()


class Follower:
    """Another rank's end: calls `take_part(job, reservation, first, count) -> bool` when asked."""

    def __init__(self, engine_id: str):
        self._address = _address(engine_id)
        self._ended = threading.Event()
        self._connection: Connection | None = None

    def start(self, take_part) -> None:
        self._take_part = take_part
        threading.Thread(target=self._serve, name="kvfs-ranks", daemon=True).start()

    def close(self) -> None:
        self._ended.set()

    def _serve(self) -> None:
        connection = self._connect()
        if connection is None:
            return
        with connection, contextlib.suppress(OSError, EOFError):  # the first rank has ended
            while not self._ended.is_set():
                request = _REQUEST.unpack(connection.recv_bytes(_REQUEST.size))
                connection.send_bytes(_ANSWER.pack(request[0], self._take_part(*request)))

    def _connect(self) -> Connection | None:
        address, key = self._address
        deadline = time.monotonic() + _CONNECT_S
        while not self._ended.wait(_CONNECT_AGAIN_S):
            try:
                return Client(address, "AF_UNIX", authkey=key)
            except (OSError, EOFError) as error:
                if time.monotonic() > deadline:
                    logger.warning(
                        "kvfs: the first rank is not there, nothing is stored: %s", error
                    )
                    return None
        return None
