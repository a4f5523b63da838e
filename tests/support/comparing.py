"""Everything that a store or a scan says, to be compared with another."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from scanstore import Store

ROWS = {
    "files": "SELECT file_path, file_hash, status, error FROM scan_files WHERE scan_id = ?1",
    "symbols": "SELECT file_path, ordinal, name, qualified_name, symbol_type, start_line, end_line, metadata"
    " FROM symbols WHERE scan_id = ?1",
    "references": "SELECT r.from_file, r.ordinal, r.from_line, r.reference_type, r.name, r.resolution, r.confidence,"
    " o.qualified_name, o.start_line, s.qualified_name, s.file_path, s.start_line, r.symbol_id IS NULL"
    " FROM symbol_references AS r"
    " LEFT JOIN symbols AS s ON s.file_id = r.symbol_file_id AND s.ordinal = r.symbol_ordinal"
    " LEFT JOIN symbols AS o ON o.file_id = r.file_id AND o.ordinal = r.from_ordinal WHERE r.scan_id = ?1",
    "targets": "SELECT f.file_path, t.ordinal, t.nth, s.qualified_name, s.file_path, s.start_line, t.resolution,"
    " t.confidence FROM reference_targets AS t JOIN scan_files AS f ON f.id = t.file_id"
    " JOIN symbols AS s ON s.file_id = t.symbol_file_id AND s.ordinal = t.symbol_ordinal WHERE t.scan_id = ?1",
    "imports": "SELECT importer_file, ordinal, line, imported_module, imported_names, resolved_file, resolution"
    " FROM import_relations WHERE scan_id = ?1",
    "chunks": "SELECT f.file_path, c.chunk_index, c.chunk_type, c.symbol_name, c.start_line, c.end_line,"
    " c.content_hash, c.status FROM scan_file_chunks AS c JOIN scan_files AS f ON f.id = c.scan_file_id"
    " WHERE c.scan_id = ?1",
}


def rows(path: Path) -> dict[str, list[Any]]:
    """Every row of every table and view, without what says when it was upgraded."""
    connection = sqlite3.connect(path)
    names = [
        name
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%'"
        )
    ]
    found = {}
    for name in set(names) - {"migratehistory", "file_identity"}:
        columns = [f'"{row[1]}"' for row in connection.execute(f"PRAGMA table_info({name})") if row[1] != "updated_at"]
        found[name] = sorted(map(repr, connection.execute(f"SELECT {', '.join(columns)} FROM {name}")))
    connection.close()
    return found


def version(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def shown(store: Store, scan: int, *, questions: bool = True) -> dict[str, Any]:
    """Everything that a scan says about its tree, free of ids, in a fixed order; with or without the slow answers."""
    found: dict[str, Any] = {
        part: sorted(store.database.execute_sql(sql, (scan,)).fetchall(), key=repr) for part, sql in ROWS.items()
    }
    found["edges"] = [tuple(e) for e in store.symbols.edges(scan)]
    found["summary"] = store.scans.summary(scan)._replace(scan=0, target="", indexed=0, reused=0)
    if questions:
        found["cycles"] = store.symbols.import_cycles(scan=scan)
        found["unresolved"] = [
            (i.importer_file, i.line, i.imported_module) for i in store.symbols.unresolved_imports(scan=scan)
        ]
        found["unreferenced"] = [(s.qualified_name, s.file_path) for s in store.symbols.unreferenced(scan=scan)]
        found["importers"] = {path: store.symbols.importers(path, scan=scan) for path, *_ in found["files"]}
    return found


def assert_same(one: dict[str, Any], other: dict[str, Any], about: str) -> None:
    for part in one:
        assert one[part] == other[part], f"{about}: {part} differ"
