"""An int32 array that grows at its end."""

from __future__ import annotations

from array import array

import numpy as np


class Growing:
    """Views of it stay as they are when it grows: memory is replaced, never moved or rewritten."""

    def __init__(self, values=()):
        # array() reads a list of int in half of numpy's time.
        self._data = np.frombuffer(array("i", values), np.int32) if len(values) else _empty(16)
        self._size = len(values)

    def __len__(self) -> int:
        return self._size

    def extend(self, values) -> None:
        end = self._size + len(values)
        if end > len(self._data) or not self._data.flags.writeable:
            larger = _empty(max(2 * self._size, end, 16))
            larger[: self._size] = self._data[: self._size]
            self._data = larger
        self._data[self._size : end] = values
        self._size = end

    def first(self, count: int) -> np.ndarray:
        return self._data[:count]


def _empty(size: int) -> np.ndarray:
    return np.empty(size, np.int32)
