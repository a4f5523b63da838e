"""A program that feeds one door of a store with what Atheris thinks up: ``python fuzzing.py reports -runs=1000``.

Atheris sees which lines of the package an input reaches, and keeps inputs that reach new ones. Each is tried in a
transaction that is rolled back. Anything but an error of ours ends the program, as do hangs and too much memory; what
comes after the name of the door are options of libFuzzer, and folders of inputs to begin with.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["scanstore"]):
    import scanstore.maintenance.dump  # noqa: F401
    from scanstore import ScanstoreError, Store, seed_db
    from scanstore.jobs import schedules

from hostile import TAG, as_json  # noqa: E402
from stressing import report  # noqa: E402

SAMPLE = b'[settings]\npage = 5\n[[schedules]]\nname = "n"\ntask_type = "t"\nschedule = "0 3 * * *"\n'
CODE = (
    b"import os\n\n\nclass A(os.PathLike):\n    def f(self, x=lambda: 1):\n        return self.f(x) + [y for y in x]\n"
)


class Undone(Exception):
    """Takes back what an input has done."""


def doors(store: Store, folder: Path) -> dict[str, tuple[bytes, Callable[[bytes], object]]]:
    """What to do with an input, by name, and one to begin with."""
    (folder / "tree").mkdir()
    stream = io.BytesIO()
    store.settings["page"] = 5
    store.dump(stream)
    store.settings.remove("page")

    def kept(data: bytes, name: str) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    def tags(data: bytes) -> None:
        kept(b"int f() {}\n", "tree/a.c")
        scan = store.scans.add("tags", root=folder / "tree")
        store.symbols.load_ctags(scan, kept(data, "tags"))

    def code(data: bytes) -> None:
        kept(data, "tree/a.py")
        scan = store.scans.record(folder / "tree", jobs=1)
        for each in store.symbols.list(scan=scan):
            store.symbols.callers(each, scan=scan)

    def records(data: bytes) -> None:
        with suppress(ValueError, RecursionError):
            for kind in ("scenes", "performers", "tags", "studios"):
                getattr(store.library, f"upsert_{kind}")(json.loads(data))

    def words(data: bytes) -> None:
        text = data.decode(errors="surrogateescape")
        store.search(text)
        with suppress(ScanstoreError):
            store.settings[text] = text
        schedules.next_run(text)

    scene = [{"id": "1", "title": "One", "date": "2026-01-02", "tags": [{"id": "t", "name": "T"}], "paths": ["/a"]}]
    return {
        "reports": (as_json(report()), lambda data: store.sarif.load(io.BytesIO(data), target="t")),
        "tags": (as_json(TAG) + b"\n", tags),
        "dumps": (stream.getvalue(), lambda data: store.load(io.BytesIO(data))),
        "rows": (SAMPLE, lambda data: seed_db(store, kept(data, "seed.toml"))),
        "records": (as_json(scene), records),
        "code": (CODE, code),
        "words": (b"0 3 * * *", words),
    }


def main(door: str, *options: str) -> None:
    with tempfile.TemporaryDirectory() as place, Store(":memory:") as store:
        first, take = doors(store, Path(place))[door]
        corpus = Path(place, "corpus")
        corpus.mkdir()
        (corpus / "first").write_bytes(first)

        @atheris.instrument_func
        def one(data: bytes) -> None:
            with suppress(Undone, ScanstoreError), store.transaction():
                take(data)
                raise Undone

        one(first)
        limits = ("-timeout=20", "-rss_limit_mb=1500", f"-artifact_prefix={os.getcwd()}/")
        atheris.Setup([sys.argv[0], *limits, *options, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
