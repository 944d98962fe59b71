"""Stops a checkpoint in the window of SQLite's fault: it has read the WAL's header, and has not yet looked at the rest.

In ``sqlite3WalCheckpoint`` the only call between the two that leaves SQLite's own code is ``xUnfetch`` of the file's
methods, made when the header is news to this connection. So a copy of the default VFS becomes the default, whose files
have a copy of their methods in which that one stops first. SQLite itself stays as it is.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sqlite3
from collections.abc import Callable
from typing import Final

# sqlite3_vfs: two ints, an int and a pointer, a name, its data, then xOpen. sqlite3_io_methods: an int, then pointers.
_VFS_WORDS: Final = 22
_NAME, _OPEN = 3, 5
_METHODS_WORDS: Final = 19
_UNFETCH: Final = 18
_MAIN_DATABASE: Final = 0x100

_Open = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_Unfetch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
_kept: list[object] = []  # SQLite holds pointers to these for as long as the process lives


def is_affected(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> bool:
    """Whether this SQLite can lose committed pages when a commit resets the WAL during a checkpoint."""
    is_mended = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    return version >= (3, 7, 0) and not is_mended


def missing() -> str | None:
    """Return why the window cannot be held open here, None where it can."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return "the layout of SQLite's structures is known for 64 bits only"
    if _library() is None:
        return "this Python's sqlite3 is not linked to a shared libsqlite3"
    return None


def _library() -> ctypes.CDLL | None:
    """The very library that the sqlite3 module uses; another copy would have VFSs of its own."""
    try:
        import _sqlite3

        library = ctypes.CDLL(_sqlite3.__file__)  # dlsym looks into what it is linked to, too
        library.sqlite3_libversion.restype = ctypes.c_char_p
        found: bytes = library.sqlite3_libversion()
    except (AttributeError, ImportError, OSError):
        return None
    return library if found.decode() == sqlite3.sqlite_version else None


def stop_in_window(stop: Callable[[], None]) -> None:
    """Call ``stop`` whenever a checkpoint of this process is in the window; for connections opened from now on."""
    library = _library()
    assert library is not None
    library.sqlite3_vfs_find.restype = ctypes.c_void_p
    library.sqlite3_vfs_find.argtypes = [ctypes.c_void_p]
    library.sqlite3_vfs_register.argtypes = [ctypes.c_void_p, ctypes.c_int]
    original = (ctypes.c_void_p * _VFS_WORDS).from_address(library.sqlite3_vfs_find(None))
    stopping = (ctypes.c_void_p * _VFS_WORDS)(*original)
    open_original = _Open(original[_OPEN])
    methods: dict[int, ctypes.Array[ctypes.c_void_p]] = {}

    def methods_like(address: int) -> ctypes.Array[ctypes.c_void_p]:
        copy = (ctypes.c_void_p * _METHODS_WORDS)(*(ctypes.c_void_p * _METHODS_WORDS).from_address(address))
        unfetch_original = _Unfetch(copy[_UNFETCH])

        def unfetch(file: int, offset: int, page: int | None) -> int:
            if page is None:
                stop()
            code: int = unfetch_original(file, offset, page)
            return code

        callback = _Unfetch(unfetch)
        _kept.append(callback)
        copy[_UNFETCH] = ctypes.cast(callback, ctypes.c_void_p)
        return copy

    def open_file(vfs: int, name: int, file: int, flags: int, out: int) -> int:
        code: int = open_original(vfs, name, file, flags, out)
        if code == 0 and flags & _MAIN_DATABASE:
            first = ctypes.c_void_p.from_address(file)
            if first.value not in methods:
                assert first.value is not None
                methods[first.value] = methods_like(first.value)
            first.value = ctypes.addressof(methods[first.value])
        return code

    name = ctypes.create_string_buffer(b"stopping")
    callback = _Open(open_file)
    stopping[_NAME] = ctypes.addressof(name)
    stopping[_OPEN] = ctypes.cast(callback, ctypes.c_void_p)
    _kept.extend([name, callback, stopping, methods])
    assert library.sqlite3_vfs_register(ctypes.addressof(stopping), 1) == 0
