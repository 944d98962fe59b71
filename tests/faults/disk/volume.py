"""A small filesystem of a test's own, which can be filled to the page, run out of inodes, and turn read-only."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PAGE: Final = 4096
_READ_ONLY: Final = 1
_REMOUNT: Final = 32
_LAZILY: Final = 2
_BALLAST: Final = "ballast"


class Volume:
    """A mounted tmpfs; what it gives out is counted in pages and inodes, exactly."""

    def __init__(self, place: Path, *, size: int, inodes: int) -> None:
        self.place = place
        self._options = f"size={size},nr_inodes={inodes},mode=0700"
        self._ballast: list[Path] = []
        _mount(place, 0, self._options)

    @property
    def free_pages(self) -> int:
        return os.statvfs(self.place).f_bfree

    @property
    def free_inodes(self) -> int:
        return os.statvfs(self.place).f_ffree

    def fill(self, leaving: int = 0, *, is_alone: bool = True) -> None:
        """Leave so many pages and no more, whatever is free now; about so many if others write meanwhile."""
        with (self.place / _BALLAST).open("ab", buffering=0) as file:
            at = file.seek(0, os.SEEK_END)
            os.truncate(file.fileno(), max(0, at - max(0, leaving - self.free_pages) * PAGE))
            while (more := self.free_pages - leaving) > 0:
                try:
                    file.write(bytes(more * PAGE))
                except OSError as error:  # somebody was quicker
                    if error.errno != errno.ENOSPC or is_alone:
                        raise
        assert self.free_pages == leaving or not is_alone, f"{self.free_pages} pages are free, not {leaving}"

    def give_back(self) -> None:
        """Let there be room again."""
        (self.place / _BALLAST).unlink(missing_ok=True)
        while self._ballast:
            self._ballast.pop().unlink()

    def use_up_inodes(self, leaving: int = 0) -> None:
        """Leave so many inodes and no more."""
        while self.free_inodes > leaving:
            self._ballast.append(self.place / f"inode-{len(self._ballast)}")
            self._ballast[-1].touch()

    def turn_read_only(self) -> None:
        """Remount; the kernel refuses (EBUSY) while anybody has a file open for writing."""
        _mount(self.place, _REMOUNT | _READ_ONLY, self._options)

    def turn_writable(self) -> None:
        _mount(self.place, _REMOUNT, self._options)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount(place: Path, flags: int, options: str) -> None:
    path = os.fsencode(place)
    if _libc().mount(b"tmpfs", path, b"tmpfs", ctypes.c_ulong(flags), options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(place))


def _unmount(place: Path) -> None:
    if _libc().umount2(os.fsencode(place), 0) and ctypes.get_errno() == errno.EBUSY:
        _libc().umount2(os.fsencode(place), _LAZILY)


@contextmanager
def mounted(place: Path, *, size: int = 2 << 20, inodes: int = 64) -> Iterator[Volume]:
    """Mount one at an empty directory, which is made; it is unmounted at the end, however that comes."""
    place.mkdir()
    volume = Volume(place, size=size, inodes=inodes)
    try:
        yield volume
    finally:
        _unmount(place)


@functools.cache
def missing() -> str | None:
    """Return why nothing can be mounted here, None where it can: a reason to skip."""
    if not sys.platform.startswith("linux"):
        return "mounting a tmpfs needs Linux"
    with tempfile.TemporaryDirectory(prefix="volume-") as directory:
        try:
            with mounted(Path(directory) / "volume"):
                return None
        except OSError as error:
            return f"mounting a tmpfs is not permitted here: {error}"
