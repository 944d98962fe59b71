"""Counters and latencies of many processes in bounded memory: files mapped into memory, which outlive a kill -9."""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections import Counter
from pathlib import Path

THREADS = 8
COUNTERS = (
    "executions", "first attempts", "wrong trails", "hooks", "wrong endings",
    "repeated submits", "repeated submits that were new", "unknown submits", "slots given up", "times held back",
)  # fmt: skip
LATENCIES = ("submit", "claim", "settle")

_BUCKETS = 256
_PER_OCTAVE = 8  # a bucket is 9 % wide; the last one begins at 70 minutes
_HISTOGRAMS = len(COUNTERS) + 2 * THREADS
_WORDS = _HISTOGRAMS + _BUCKETS * len(LATENCIES)


class Words:
    """Numbers of 64 bits in a file, shared by every process that maps it; each is stored by one copy of 8 bytes."""

    def __init__(self, path: Path, size: int) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(fd, size * 8)
        self._map = mmap.mmap(fd, size * 8)
        os.close(fd)
        self.words = memoryview(self._map).cast("Q")

    def close(self) -> None:
        self.words.release()
        self._map.close()


class Meter(Words):
    """What the lives of one process after another count; each goes on where its killed predecessor was."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _WORDS)
        self.lock = threading.Lock()

    def count(self, name: str, number: int = 1) -> None:
        """Add; the caller holds the lock."""
        self.words[COUNTERS.index(name)] += number

    def observe(self, name: str, nanoseconds: int) -> None:
        """Add one latency; the caller holds the lock."""
        bucket = int(math.log2(max(1.0, nanoseconds / 1000)) * _PER_OCTAVE)
        self.words[_HISTOGRAMS + LATENCIES.index(name) * _BUCKETS + min(bucket, _BUCKETS - 1)] += 1

    def begun(self, thread: int) -> int:
        """Return how many submits of that thread were begun."""
        return self.words[len(COUNTERS) + thread]

    def begin(self, thread: int, number: int) -> None:
        self.words[len(COUNTERS) + thread] = number

    def acknowledged(self, thread: int) -> int:
        """Return how many submits of that thread have returned."""
        return self.words[len(COUNTERS) + THREADS + thread]

    def acknowledge(self, thread: int, number: int) -> None:
        self.words[len(COUNTERS) + THREADS + thread] = number


class Reading:
    """The sum of some meters at one instant."""

    def __init__(self, words: list[int]) -> None:
        self._words = words

    @classmethod
    def of(cls, meters: list[Meter]) -> Reading:
        return cls([sum(each) for each in zip(*(list(meter.words) for meter in meters), strict=True)])

    def since(self, earlier: Reading) -> Reading:
        return Reading([now - then for now, then in zip(self._words, earlier._words, strict=True)])

    @property
    def counts(self) -> Counter[str]:
        return Counter(dict(zip(COUNTERS, self._words, strict=False)))

    @property
    def begun(self) -> int:
        return sum(self._words[len(COUNTERS) : len(COUNTERS) + THREADS])

    @property
    def acknowledged(self) -> int:
        return sum(self._words[len(COUNTERS) + THREADS : _HISTOGRAMS])

    def quantile(self, name: str, share: float) -> float:
        """Return the upper end, in milliseconds, of the bucket that holds the quantile."""
        start = _HISTOGRAMS + LATENCIES.index(name) * _BUCKETS
        buckets = self._words[start : start + _BUCKETS]
        left = share * sum(buckets)
        for bucket, number in enumerate(buckets):
            left -= number
            if number and left <= 0:
                return float(2 ** ((bucket + 1) / _PER_OCTAVE)) / 1000
        return 0.0
