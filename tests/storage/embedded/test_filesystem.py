"""Filesystems whose locks lie are refused by name, before anything of the database is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from taquba_workflow_sync.errors import UnsupportedFilesystemError
from taquba_workflow_sync.storage.embedded import filesystem
from taquba_workflow_sync.storage.embedded.filesystem import ALLOW_VARIABLE, check_filesystem

from .conftest import open_at

ROOT_MOUNT = "22 1 252:0 / / rw,relatime shared:1 - ext4 /dev/root rw"


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for /proc/self/mountinfo."""
    file = tmp_path / "mountinfo"
    file.write_text(f"{ROOT_MOUNT}\n")
    monkeypatch.setattr(filesystem, "_MOUNTS", file)
    monkeypatch.delenv(ALLOW_VARIABLE, raising=False)
    return file


def mount(file: Path, place: Path | str, kind: str, *optional: str) -> None:
    escaped = str(place).replace("\\", "\\134").replace(" ", "\\040")
    fields = ["36", "22", "0:30", "/", escaped, "rw,noatime", *optional, "-", kind, "source", "rw"]
    with file.open("a") as out:
        out.write(" ".join(fields) + "\n")


UNSAFE = ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse", "fuse.sshfs", "fuse.s3fs", "fuseblk", "ceph",
          "glusterfs", "lustre", "vboxsf", "afs"]  # fmt: skip


@pytest.mark.parametrize("kind", UNSAFE)
def test_an_unsafe_filesystem_is_refused_by_name(tmp_path: Path, mounts: Path, kind: str) -> None:
    mount(mounts, tmp_path, kind)
    with pytest.raises(UnsupportedFilesystemError) as caught:
        open_at(tmp_path / "store")
    assert f" {kind} " in str(caught.value) and f"{ALLOW_VARIABLE}={kind}" in str(caught.value)
    assert not (tmp_path / "store" / "db").exists()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "apfs", "fusectl"])
def test_a_local_filesystem_is_taken(tmp_path: Path, mounts: Path, kind: str) -> None:
    mount(mounts, tmp_path, kind)
    check_filesystem(tmp_path)


@pytest.mark.parametrize("allowed", ["nfs4", "9p, nfs4", "nfs4,"])
def test_one_may_insist_by_name(tmp_path: Path, mounts: Path, monkeypatch: pytest.MonkeyPatch, allowed: str) -> None:
    mount(mounts, tmp_path, "nfs4")
    monkeypatch.setenv(ALLOW_VARIABLE, allowed)
    open_at(tmp_path / "store").close()


@pytest.mark.parametrize("allowed", ["", "nfs", "all", "*"])
def test_insisting_on_another_name_does_not_help(
    tmp_path: Path, mounts: Path, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    mount(mounts, tmp_path, "nfs4")
    monkeypatch.setenv(ALLOW_VARIABLE, allowed)
    with pytest.raises(UnsupportedFilesystemError):
        check_filesystem(tmp_path)


def test_the_longest_mount_point_decides(tmp_path: Path, mounts: Path) -> None:
    (tmp_path / "local").mkdir()
    mount(mounts, tmp_path / "local", "ext4")
    mount(mounts, tmp_path, "nfs4")
    check_filesystem(tmp_path / "local")
    with pytest.raises(UnsupportedFilesystemError):
        check_filesystem(tmp_path)


def test_of_two_mounts_on_one_place_the_later_hides_the_earlier(tmp_path: Path, mounts: Path) -> None:
    mount(mounts, tmp_path, "ext4")
    mount(mounts, tmp_path, "nfs4")
    with pytest.raises(UnsupportedFilesystemError):
        check_filesystem(tmp_path)


def test_a_neighbour_with_the_same_beginning_does_not_count(tmp_path: Path, mounts: Path) -> None:
    (tmp_path / "data2").mkdir()
    mount(mounts, tmp_path / "data", "nfs4")
    check_filesystem(tmp_path / "data2")


def test_a_mount_point_with_a_space_and_optional_fields_is_understood(tmp_path: Path, mounts: Path) -> None:
    place = tmp_path / "with space"
    place.mkdir()
    mount(mounts, place, "cifs", "shared:7", "master:1")
    with pytest.raises(UnsupportedFilesystemError, match="cifs"):
        check_filesystem(place)


@pytest.mark.parametrize("name", ["größe", "ホーム", "back\\slash"])
def test_a_mount_point_with_unusual_characters_is_understood(tmp_path: Path, mounts: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    mount(mounts, place, "cifs")
    with pytest.raises(UnsupportedFilesystemError, match="cifs"):
        check_filesystem(place)


def test_a_link_into_an_unsafe_filesystem_is_seen_through(tmp_path: Path, mounts: Path) -> None:
    (tmp_path / "remote").mkdir()
    mount(mounts, tmp_path / "remote", "nfs")
    (tmp_path / "link").symlink_to(tmp_path / "remote")
    with pytest.raises(UnsupportedFilesystemError):
        check_filesystem(tmp_path / "link")


def test_a_system_that_does_not_tell_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "_MOUNTS", tmp_path / "not there")
    check_filesystem(tmp_path)


def test_the_mounts_of_this_machine_can_be_read(tmp_path: Path) -> None:
    assert filesystem.filesystem_of(tmp_path) is not None
