"""Revisions of a real project: whatever was scanned before, a scan shows what a first scan of the same files shows.

Consecutive revisions are checked out in one folder, one after the other, and recorded into one store. After each of
them everything that the scan says about its tree, uses included, is compared with a scan into a store of its own. In
the end the older scans still show what they showed.

SCANSTORE_REPOSITORY names the repository, which may be a bare one; it is only read. `rounds` says how many revisions,
the newest ones of the first-parent history. The test is skipped without a repository, as none comes with the project.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from comparing import assert_same, shown
from stressing import rounds

from scanstore import Store

REPOSITORY = os.environ.get("SCANSTORE_REPOSITORY", "")
VIEWS = ("symbols", "symbol_references", "import_relations")

# A clean store has bindings of the paths that its files use; one that has seen other files may have more.
BINDINGS = """
SELECT n.text, f.file_path, {columns}
  FROM scans AS c
  CROSS JOIN bindings AS b ON b.lineage_id = c.lineage_id AND b.since <= c.revision
        AND (b.until IS NULL OR b.until > c.revision)
  JOIN names AS n ON n.id = b.path_id
  LEFT JOIN scan_files AS f ON f.version_id = b.version_id AND f.scan_id = c.id
 WHERE c.id = ?1 AND (
       EXISTS (SELECT 1 FROM reference_facts AS r JOIN scan_files AS u ON u.version_id = r.version_id
                WHERE r.path_id = b.path_id AND u.scan_id = c.id)
    OR EXISTS (SELECT 1 FROM import_facts AS i JOIN scan_files AS u ON u.version_id = i.version_id
                WHERE i.path_id = b.path_id AND u.scan_id = c.id))
"""


def columns(store: Store, table: str) -> list[str]:
    """The columns that are no ids; one that is added later is compared as well."""
    found = [row[1] for row in store.database.execute_sql(f"PRAGMA table_info({table})")]
    return [name for name in found if name != "id" and not name.endswith("_id")]


def everything(store: Store, scan: int) -> dict[str, Any]:
    """What a scan shows, with all columns of its views and its bindings."""
    found = shown(store, scan)
    for view in VIEWS:
        select = f"SELECT {', '.join(columns(store, view))} FROM {view} WHERE scan_id = ?"
        found[f"all of {view}"] = sorted(store.database.execute_sql(select, (scan,)).fetchall(), key=repr)
    kept = [f"b.{name}" for name in columns(store, "bindings") if name not in ("since", "until")]
    select = BINDINGS.format(columns=", ".join(kept))
    found["bindings"] = sorted(store.database.execute_sql(select, (scan,)).fetchall(), key=repr)
    return found


class Checkout:
    """A folder in which one revision after the other is checked out; unchanged files stay untouched."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        git_dir = repository / ".git" if (repository / ".git").exists() else repository
        own = {"GIT_DIR": git_dir, "GIT_WORK_TREE": folder, "GIT_INDEX_FILE": folder.with_name("index")}
        self.environment = {**os.environ, **{name: str(path) for name, path in own.items()}}

    def git(self, *arguments: str) -> list[str]:
        options = {"env": self.environment, "cwd": self.folder, "check": True, "capture_output": True, "text": True}
        done: subprocess.CompletedProcess[str] = subprocess.run(["git", *arguments], **options)  # type: ignore[call-overload]
        return done.stdout.split()

    def revisions(self, most: int) -> list[str]:
        """The newest revisions, the oldest of them first."""
        return self.git("rev-list", "--first-parent", f"--max-count={most}", "HEAD")[::-1]

    def take(self, revision: str) -> None:
        self.git("read-tree", "--reset", "-u", revision)


@pytest.mark.skipif(not REPOSITORY, reason="needs SCANSTORE_REPOSITORY=PATH of a git repository")
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_consecutive_revisions_equal_clean_scans(tmp_path: Path, new_file: Path) -> None:
    checkout = Checkout(Path(REPOSITORY).resolve(), tmp_path / "tree")
    most = rounds(5, 100)
    revisions = checkout.revisions(most)
    assert len(revisions) == most, f"{REPOSITORY} has only {len(revisions)} revisions"
    shutil.copy(new_file, tmp_path / "all.db")
    before: dict[int, dict[str, Any]] = {}
    read = references = uses = 0
    with Store(tmp_path / "all.db", durability="normal") as store:
        for number, revision in enumerate(revisions):
            checkout.take(revision)
            scan = store.scans.record(checkout.folder, jobs=1)
            now = everything(store, scan.id)
            shutil.copy(new_file, tmp_path / "clean.db")
            with Store(tmp_path / "clean.db", durability="normal") as clean:
                first = everything(clean, clean.scans.record(checkout.folder, jobs=1).id)
            assert_same(now, first, f"revision {number} ({revision}) and a clean scan of it")
            read += store.scans.summary(scan).indexed
            references += len(now["references"])
            uses += sum(row[3] == "use" for row in now["references"])
            if number % (most // 4 or 1) == 0:
                before[scan.id] = now
        for scan_id, was in before.items():
            assert_same(everything(store, scan_id), was, f"scan {scan_id} now and when it was made")
        assert store.check() == []
    assert uses and read < references
    print(f"\n{most} revisions equal clean scans: {references} references, {uses} of them uses; {read} files read")
