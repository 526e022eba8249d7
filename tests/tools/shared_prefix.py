"""Tokens of the prefixes that the command shows."""

from __future__ import annotations


def make_tokens(blocks: int, seed: int) -> list[int]:
    return [(seed * 7919 + i * 31) % 32000 for i in range(blocks * 16)]
