"""What the scheduler's side and the worker's side tell each other, once a step each way."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Run:
    """Blocks [first_block, first_block + len(pages)) of one group, and where they are or go."""

    first_block: int
    pages: np.ndarray


@dataclass
class Load:
    """The end of a cached prefix: a run of each group, of which those with a window are shorter."""

    request_id: str
    key: str
    runs: tuple[Run, ...]
    blocks: int  # of the longest run
    dram_blocks: int  # of them in DRAM when they were matched


@dataclass
class Store:
    """Blocks [first_block, end) of `tokens`: full, computed when this step's forward is.

    `pages`: of each group, from block 0 on. Those below first_block may hold something else by
    now: they are not read.
    """

    job: int
    request_id: str
    tokens: np.ndarray
    extras: dict[int, bytes] | None
    first_block: int
    pages: tuple[np.ndarray, ...]


@dataclass
class Step:
    """Scheduler to worker. `flush`: stores whose pages are about to be written again. `ended`:
    stores that are over, which ranks that only take part in them do not know by themselves.
    `computes`: whether the step has a forward. `loaded`: requests whose first step after their
    load it is; `gone`: those that have ended without one, or whose load failed."""

    loads: list[Load] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    flush: set[int] = field(default_factory=set)
    ended: list[int] = field(default_factory=list)
    computes: bool = False
    loaded: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)


@dataclass
class Loaded:
    """A load that succeeded, for the learning of speeds."""

    blocks: int
    dram_blocks: int
    seconds: float


@dataclass
class Report:
    """Worker to scheduler."""

    stored: list[int] = field(default_factory=list)  # jobs that have ended, well or not
    lost: list[str] = field(default_factory=list)  # requests whose next store begins at block 0
    refused: list[str] = field(default_factory=list)  # of these: whose next store is not now
    cut: list[str] = field(default_factory=list)  # requests of which no more can be stored
    failed: list[str] = field(default_factory=list)  # requests whose load failed
    loaded: list[Loaded] = field(default_factory=list)
    stored_blocks: int = 0  # published by these stores
    unusable: bool = False  # a rank has no use of the cache, and never will

    def __bool__(self) -> bool:
        return self != Report()

    def add(self, other: Report) -> Report:
        self.stored += other.stored
        self.lost += other.lost
        self.refused += other.refused
        self.cut += other.cut
        self.failed += other.failed
        self.loaded += other.loaded
        self.stored_blocks += other.stored_blocks
        self.unusable = self.unusable or other.unusable
        return self
