"""Places where a store must not live are known by the mount table and by their names."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from scanstore import Store
from scanstore.db import filesystems

TABLE = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /home rw shared:5 master:3 - nfs4 server:/home rw,vers=4.2
31 30 0:26 / /home/ann/local rw - ext4 /dev/vdb rw
32 22 0:27 / /mnt/c rw - 9p drvfs rw
33 22 0:28 / /mnt/far\\040away rw - fuse.rclone remote: rw
34 22 0:29 / /mnt/joined rw - fuse.mergerfs a:b rw
35 22 0:30 / /mnt/c rw - ext4 /dev/vdc rw
36 22 0:31 / /media/usb rw - fuseblk /dev/sdb1 rw
37 22 0:32 / /shared rw - virtiofs share rw
38 22 0:33 / /win rw - cifs //server/share rw
39 short
"""


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_text(TABLE)
    monkeypatch.setattr(filesystems, "MOUNTS", str(tmp_path / "mountinfo"))


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", None),
        ("/tmp/x", None),
        ("/home", "nfs4"),
        ("/home/ann", "nfs4"),
        ("/homestead", None),
        ("/home/ann/local/x", None),
        ("/mnt/c/x", None),  # hidden by a later mount
        ("/mnt/far away/x", "fuse.rclone"),
        ("/mnt/joined", None),
        ("/media/usb", None),
        ("/shared/a", "virtiofs"),
        ("/win", "cifs"),
    ],
)
def test_the_mount_table_tells(mounts: None, folder: str, kind: str | None) -> None:
    reason = filesystems.describe(folder)
    assert reason is None if kind is None else reason is not None and f" {kind} " in reason


@pytest.mark.parametrize(
    ("folder", "known"),
    [
        ("/Users/ann/Library/Mobile Documents/com~apple~CloudDocs/x", True),
        ("/Users/ann/Library/CloudStorage/OneDrive-Personal", True),
        ("C:/Users/ann/OneDrive - Contoso/x", True),
        ("/home/ann/Dropbox", True),
        ("/home/ann/Dropbox (Personal)/x", True),
        ("/home/ann/dropboxes", False),
        ("\\\\server\\share\\x", True),
        ("//server/share", True),
        ("\\\\?\\UNC\\server\\share", True),
        ("\\\\?\\C:\\x", False),
        ("/home/ann/projects", False),
    ],
)
def test_names_of_folders_tell(mounts: None, folder: str, known: bool) -> None:
    table = Path(filesystems.MOUNTS)
    table.write_text(TABLE.replace("nfs4", "ext4"))
    assert (filesystems.describe(folder) is not None) == known


def test_without_a_mount_table_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "MOUNTS", "/nowhere/mountinfo")
    assert filesystems.file_system("/home") == "" and filesystems.describe("/home") is None


def test_opening_warns_once(tmp_path: Path) -> None:
    folder = tmp_path / "Dropbox"
    folder.mkdir()
    with pytest.warns(filesystems.PlaceWarning, match="Dropbox synchronises.*local disk") as caught:
        Store(folder / "a.db").close()
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Store(folder / "b.db").close()
        Store(tmp_path / "c.db").close()
