"""What the scheduler's side and the worker's side tell each other, once a step each way."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Load:
    """Blocks [first_block, first_block + len(pages)) of a cached prefix, to these pages."""

    request_id: str
    key: str
    first_block: int
    pages: np.ndarray
    dram_blocks: int  # of them in DRAM when they were matched


@dataclass
class Store:
    """Blocks [first_block, len(pages)) of `tokens`: full, computed when this step's forward is.

    Pages below first_block may hold something else by now: they are not read.
    """

    job: int
    request_id: str
    tokens: np.ndarray
    extras: dict[int, bytes] | None
    first_block: int
    pages: np.ndarray


@dataclass
class Step:
    """Scheduler to worker. `flush`: stores whose pages are about to be written again."""

    loads: list[Load] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    flush: set[int] = field(default_factory=set)


@dataclass
class Loaded:
    """A load that succeeded, for the learning of speeds."""

    bytes: int
    dram_bytes: int
    seconds: float


@dataclass
class Report:
    """Worker to scheduler."""

    stored: list[int] = field(default_factory=list)  # jobs that have ended, well or not
    lost: list[str] = field(default_factory=list)  # requests whose next store begins at block 0
    failed: list[str] = field(default_factory=list)  # requests whose load failed
    loaded: list[Loaded] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.stored or self.lost or self.failed or self.loaded)

    def add(self, other: Report) -> Report:
        self.stored += other.stored
        self.lost += other.lost
        self.failed += other.failed
        self.loaded += other.loaded
        return self
