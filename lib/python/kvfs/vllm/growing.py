"""An int32 array that grows at its end."""

from __future__ import annotations

import numpy as np

import kvfs


class Growing:
    """Views of it stay as they are when it grows: memory is replaced, never moved or rewritten."""

    def __init__(self, values=()):
        self._data = kvfs.as_int32(values)
        self._size = len(values)

    def __len__(self) -> int:
        return self._size

    def extend(self, values) -> None:
        end = self._size + len(values)
        if end > len(self._data):
            larger = _empty(max(2 * self._size, end, 16))
            larger[: self._size] = self._data[: self._size]
            self._data = larger
        self._data[self._size : end] = values
        self._size = end

    def first(self, count: int) -> np.ndarray:
        return self._data[:count]


def _empty(size: int) -> np.ndarray:
    return np.empty(size, np.int32)
