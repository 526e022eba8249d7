"""Whether loading cached blocks is faster than computing them."""

from __future__ import annotations

# How much the latest measurement counts.
_WEIGHT = 0.25
# Where loading was found too slow, every so many hits one is loaded all the same, to measure again.
_TRY_AGAIN = 32
# Shorter ones say more about what surrounds them than about the speed.
_MIN_PREFILL_TOKENS = 256


def _mix(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)


class BreakEven:
    """Learns the speeds of prefill and of loads from DRAM and from below; answers worth().

    What has not been measured yet counts as fast: the first hits are always taken.
    """

    def __init__(self, block_tokens: int):
        self._block_tokens = block_tokens
        self.prefill_tokens_per_s: float | None = None
        self.dram_blocks_per_s: float | None = None
        self.lower_blocks_per_s: float | None = None
        self._refused = 0

    def computed(self, tokens: int, seconds: float) -> None:
        if tokens >= _MIN_PREFILL_TOKENS and seconds > 0:
            self.prefill_tokens_per_s = _mix(self.prefill_tokens_per_s, tokens / seconds)

    def loaded(self, blocks: int, dram_blocks: int, seconds: float) -> None:
        lower_blocks = blocks - dram_blocks
        if lower_blocks == 0:
            self.dram_blocks_per_s = _mix(self.dram_blocks_per_s, dram_blocks / max(seconds, 1e-9))
            return
        if self.dram_blocks_per_s:
            seconds -= dram_blocks / self.dram_blocks_per_s
        if seconds <= 0:  # quicker than those from DRAM alone mostly are: it says nothing
            return
        self.lower_blocks_per_s = _mix(self.lower_blocks_per_s, lower_blocks / seconds)

    def worth(self, blocks: int, dram_blocks: int) -> int:
        """How many of `blocks` to load: all, those in DRAM (the first of a prefix), or none."""
        keep = 0
        if self._pays(self.dram_blocks_per_s):
            keep = blocks if self._pays(self.lower_blocks_per_s) else min(dram_blocks, blocks)
        if keep == blocks:
            return blocks
        self._refused += 1
        return blocks if self._refused % _TRY_AGAIN == 0 else keep

    def _pays(self, blocks_per_s: float | None) -> bool:
        if blocks_per_s is None or self.prefill_tokens_per_s is None:
            return True
        return blocks_per_s * self._block_tokens > self.prefill_tokens_per_s
