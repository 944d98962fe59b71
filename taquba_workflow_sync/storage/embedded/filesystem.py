"""Directories made private and durable, and the refusal of filesystems whose locks lie."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from taquba_workflow_sync.errors import StorageError, UnsupportedFilesystemError

#: Names filesystem types, comma-separated, that are to be trusted although SQLite's locks are not safe on them.
ALLOW_VARIABLE: Final = "TAQUBA_ALLOW_FILESYSTEMS"

# Where byte-range locks or shared memory are unreliable across clients: sqlite.org/howtocorrupt.html, section 2.1,
# and sqlite.org/wal.html: "WAL does not work over a network filesystem".
_UNSAFE: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "afs", "ceph", "glusterfs", "lustre", "ncpfs", "vboxsf",
     "prl_fs", "drvfs", "davfs", "beegfs", "orangefs", "pvfs2"}
)  # fmt: skip
_MOUNTS: Final = Path("/proc/self/mountinfo")


def make_directory(path: Path) -> None:
    """Create ``path`` and its missing parents, 0700 each, and make the creation durable.

    Raises:
        StorageError: something that is no directory stands there, or anybody may write to it.
    """
    missing: list[Path] = []
    at = path
    while not at.exists():
        if at.is_symlink():
            raise StorageError(f"{at} is a symbolic link to nothing; remove it or make its target")
        missing.append(at)
        at = at.parent
    for each in reversed(missing):
        try:
            each.mkdir(mode=0o700)
        except FileExistsError:
            continue  # another process opens the same store; its directory is as good as ours
        sync_directory(each.parent)


def check_private(path: Path) -> None:
    """Refuse a directory that is none, or that others than its owner may write to.

    Raises:
        StorageError: it is no directory, or its mode lets others plant files in it.
    """
    mode = path.stat().st_mode
    if not stat.S_ISDIR(mode):
        raise StorageError(f"{path} is not a directory; a store is a directory")
    if mode & (stat.S_IWOTH | stat.S_IWGRP):
        who = "every user" if mode & stat.S_IWOTH else "its group"
        raise StorageError(
            f"{path} is writable by {who} (mode {stat.S_IMODE(mode):04o}); whoever writes there controls the"
            f" store: chmod 0700 it, or choose a private directory"
        )


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_path(path: Path) -> None:
    """Make the entries of a directory and of everything on the way to it durable, whoever made them."""
    sync_directory(path)
    sync_directory(path.parent)
    for each in path.resolve().parent.parents:
        try:
            sync_directory(each)
        except OSError:  # not ours to open or to sync; it was there before the store
            return


def check_filesystem(path: Path) -> None:
    """Refuse network and virtual filesystems.

    Raises:
        UnsupportedFilesystemError: naming the type, and how to insist.
    """
    kind = filesystem_of(path)
    if kind is None or not is_unsafe(kind):
        return
    if kind in {each.strip() for each in os.environ.get(ALLOW_VARIABLE, "").split(",")}:
        return
    raise UnsupportedFilesystemError(
        f"{path} lies on a {kind} filesystem, where SQLite's locks cannot be trusted; choose a local directory, or"
        f" set {ALLOW_VARIABLE}={kind} if you know that its locks and shared memory work"
    )


def is_unsafe(kind: str) -> bool:
    """Whether SQLite's locks cannot be trusted on filesystems of a type."""
    return kind in _UNSAFE or kind == "fuse" or kind.startswith(("fuse.", "fuseblk"))


def filesystem_of(path: Path) -> str | None:
    """Return the type of the filesystem that holds ``path``; None where the system does not tell."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    real = os.path.realpath(path)
    best, kind = "", None
    for line in lines:
        fields = line.split()
        mount = fields[4].encode("latin-1", "backslashreplace").decode("unicode_escape")
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        # The last of equals: a later mount on the same place hides the earlier one.
        if inside and len(mount) >= len(best):
            best, kind = mount, fields[fields.index("-") + 1]
    return kind
