"""Review a source tree with language models: chunks, drafts, votes, published findings.

Shows three stages that work in parallel, answers that are paid for once, and findings that the votes confirmed.

    python examples/review_pipeline.py [STORE] [--rescan]

STORE defaults to review.db; the folder `sample_tree` is created beside it. Stop the script at any moment, even with
kill -9, and run it again: it continues with the latest scan. Only calls that had no answer yet are made again. With
--rescan it records the tree again, for example after an edit, and asks only about texts that it has not seen before.

Replace `find` and `judge` by calls of your models.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from scanstore import Store
from scanstore.models import Analyzer, DraftFinding, Scan
from scanstore.policies import Majority

AREA = "def area(w, h):\n    return w * h\n"
TREE = {
    "orders.py": 'def find(db, name):\n    return db.execute("SELECT * FROM orders WHERE name = " + name)\n',
    "admin.py": "def run(request):\n    return eval(request.args['code'])\n",
    "version.py": "def version():\n    return eval('1 + 1')\n",
    "area.py": AREA,
    "old/area.py": AREA,  # the same text, so one answer
}
RISKS = {"eval(": ("code injection", "critical", 95), "execute(": ("sql injection", "high", 89)}
TARGET = "sample"


def find(code: str) -> str:
    """Stand in for a model that reads code and reports problems."""
    time.sleep(0.05)
    found = []
    for number, line in enumerate(code.splitlines()):
        for call, (kind, severity, cwe) in RISKS.items():
            if call in line:
                about = {"title": f"Unsafe {call.rstrip('(')}", "vulnerability_type": kind, "severity": severity}
                found.append(about | {"cwe": cwe, "line_number": number, "snippet": line.strip()})
    return json.dumps(found)


def judge(draft: DraftFinding, *, strict: bool) -> str:
    """Stand in for a model that votes on a draft."""
    time.sleep(0.05)
    outside = "request" in draft.snippet or (not strict and "name" in draft.snippet)
    return json.dumps({"decision": "verified" if outside else "rejected", "confidence": 90 if outside else 70})


def record(store: Store, tree: Path, *, rescan: bool) -> Scan:
    """Return the latest complete scan of the tree; record one if there is none."""
    complete = [scan for scan in store.scans.list(target=TARGET) if scan.revision is not None]
    return complete[0] if complete and not rescan else store.scans.record(tree, target=TARGET)


def read_chunks(store: Store, scan: Scan, finder: Analyzer) -> None:
    for chunk in store.chunks.work(scan):
        code = store.chunks.text(chunk)
        answer = store.llm.ask(finder, chunk, partial(find, code))
        drafts = [draft | {"line_number": chunk.start_line + draft["line_number"]} for draft in json.loads(answer)]
        store.chunks.complete(chunk, drafts=drafts, analyzer=finder)
        print(f"read {chunk.file_path}", flush=True)


def judge_drafts(store: Store, scan: Scan, judges: list[Analyzer]) -> None:
    for draft in store.drafts.work(scan):
        votes = []
        for number, each in enumerate(judges):
            answer = store.llm.ask(each, draft, partial(judge, draft, strict=number == 0))
            votes.append({"model": each.model} | json.loads(answer))
        judgement = store.drafts.record_votes(draft, votes, policy=Majority(of=len(judges)))
        print(f"judged {draft.file_path}:{draft.line_number} {judgement.outcome}", flush=True)


def publish(store: Store, scan: Scan) -> None:
    for verified in store.verified.work(scan):
        finding = store.findings.publish(verified, remediation_steps="Do not build code or SQL from input.")
        print(f"published {finding.file_path}:{finding.line_number}", flush=True)


def main() -> None:
    names = [argument for argument in sys.argv[1:] if argument != "--rescan"]
    path = Path(names[0] if names else "review.db")
    tree = path.with_name("sample_tree")
    if not path.exists():  # the first run
        for name, text in TREE.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text, encoding="utf-8")

    with Store(path) as store:
        for model in ("finder", "judge-1", "judge-2", "judge-3"):
            store.llm.ensure(model, max_concurrent=2)  # holds for all processes together
        finder = store.llm.analyzer("finder", prompt="What is risky in this code?", temperature=0)
        judges = [store.llm.analyzer(f"judge-{n}", prompt="Is this a real problem?") for n in (1, 2, 3)]

        scan = store.scans.analyze(record(store, tree, rescan="--rescan" in sys.argv))
        store.chunks.reuse(scan, finder)  # texts of earlier scans are not read again
        with ThreadPoolExecutor() as pool:  # each stage ends when the stages before it are finished
            stages = [pool.submit(read_chunks, store, scan, finder) for _ in range(2)]
            stages += [pool.submit(judge_drafts, store, scan, judges) for _ in range(2)]
            for stage in (*stages, pool.submit(publish, store, scan)):
                stage.result()  # raises the stage's error

        progress = store.scans.progress(scan)
        for finding in store.findings.list(scan):
            print(finding.severity, finding.cwe, finding.title, f"{finding.file_path}:{finding.line_number}")
        print("scan", progress.status, "chunks", progress.chunks, "drafts", progress.drafts)
        print("answers paid for:", {each.model: each.answered for each in store.llm.usage()})


if __name__ == "__main__":
    main()
