"""Which blocks are in kvfs, for routers that follow an engine's KV events. No vLLM import."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

import kvfs

logger = logging.getLogger("vllm.kvfs")


@dataclass
class Stored:
    """Blocks that follow `parent` (None: the first of a prompt), and their tokens."""

    hashes: list
    parent: bytes | None
    tokens: list[int]
    lora: object


@dataclass
class Removed:
    hashes: list


@dataclass
class _Chain:
    """A prefix that has been told of."""

    tokens: np.ndarray
    extras: dict[int, bytes] | None
    hashes: list


class Events:
    """Tells of blocks as vLLM names them: by hashes that it made.

    What this engine stored or loaded is told of when that is over. That blocks have left, evicted
    or removed by whoever may, nobody tells an engine: with each take() one of the prefixes told of
    is looked up again, in turn. An engine without a step tells nothing. A prefix costs its tokens
    and hashes in memory while kvfs has it.
    """

    def __init__(self, namespace):
        self._namespace = namespace
        self._block_tokens = namespace.block_tokens
        self._told: set = set()  # hashes
        self._chains: OrderedDict[bytes, _Chain] = OrderedDict()  # by their last hash
        self._events: list[Stored | Removed] = []

    def seen(self, request, tokens: np.ndarray, extras) -> None:
        """A store or a load of these tokens is over, well or not."""
        hashes = list(request.block_hashes[: len(tokens) // self._block_tokens])
        end = min(self._found(tokens, extras), len(hashes))
        first = end
        while first and hashes[first - 1] not in self._told:
            first -= 1
        if first == end:
            return
        del hashes[end:]
        begin = first * self._block_tokens
        new = tokens[begin : end * self._block_tokens].tolist()
        parent = hashes[first - 1] if first else None
        lora = getattr(request, "lora_request", None)
        self._events.append(Stored(hashes[first:], parent, new, lora))
        self._told.update(hashes[first:])
        self._chains.pop(parent, None)  # this one is longer
        self._chains[hashes[-1]] = _Chain(tokens, extras, hashes)

    def take(self) -> list[Stored | Removed]:
        """What has happened since the last time."""
        self._look_again()
        events, self._events = self._events, []
        return events

    def reset(self) -> None:
        """Nothing that was told of is found any more."""
        if self._told:
            self._events.append(Removed(list(self._told)))
        self._told.clear()
        self._chains.clear()

    def _found(self, tokens, extras) -> int:
        try:
            return self._namespace.match(tokens, extras).blocks
        except kvfs.Error as error:
            logger.debug("kvfs: no match: %s", error)
            return 0

    def _look_again(self) -> None:
        if not self._chains:
            return
        _, chain = self._chains.popitem(last=False)
        tokens = chain.tokens[: len(chain.hashes) * self._block_tokens]
        found = self._found(tokens, chain.extras)
        gone = [one for one in chain.hashes[found:] if one in self._told]
        if gone:
            self._told.difference_update(gone)
            self._events.append(Removed(gone))
        del chain.hashes[found:]
        if found:
            self._chains.setdefault(chain.hashes[-1], chain)
