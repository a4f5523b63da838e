"""The kept figures of scans: when they are kept, and that they are those that counting gives."""

from __future__ import annotations

from pathlib import Path

from scanstore import Store


def kept(store: Store) -> set[int]:
    return {scan for (scan,) in store.database.execute_sql("SELECT scan_id FROM scan_figures").fetchall()}


def test_a_scan_with_few_new_files_is_counted_until_the_store_is_optimized(store: Store, tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"m{number}.py").write_text(f"def f{number}():\n    return g{number}()\n")
    first = store.scans.record(tmp_path, jobs=1)
    assert kept(store) == {first.id}
    (tmp_path / "m7.py").write_text("def changed():\n    return f8()\n")
    second = store.scans.record(tmp_path, jobs=1)
    assert kept(store) == {first.id}
    before = store.scans.summary(second)
    assert before.symbols > 30 and before.indexed == 1
    store.optimize()
    assert kept(store) == {first.id, second.id} and store.scans.summary(second) == before
    store.optimize()
    assert kept(store) == {first.id, second.id} and store.check() == []
    store.database.execute_sql("DELETE FROM scan_figures")
    store.optimize()  # counts only the latest scan of each target
    assert kept(store) == {second.id}
