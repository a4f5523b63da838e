"""Analyse a user's uploaded files with several workers: users, a session, tasks, prompts, results.

    python examples/session_analysis.py [STORE]

STORE defaults to sessions.db; the folder `sample_contracts` is created beside it. Stop the script at any moment, even
with kill -9, and run it again: it continues the session. Each file gets one result, because a result, the end of its
task and the status of its file are saved in one transaction.

Replace `analyse` by your analysis of one text.
"""

from __future__ import annotations

import sys
import time
from multiprocessing import Process
from pathlib import Path

from scanstore import Store
from scanstore.models import AnalysisSession, User

FILES = {
    "supplier.txt": b"Payment within 30 days. Liability is limited.",
    "rent.txt": b"Payment in advance. Liability is unlimited.",
    "cleaning.txt": b"Payment within 90 days.",
    "archive/old.txt": b"Payment within 30 days. Liability is limited. Renewed automatically.",
    "logo.png": b"\x89PNG\r\n\x1a\n\xff\xff",  # not text: its task fails
}
PROMPTS = ["List what is wrong.", "List the risky clauses: liability, payment, renewal."]
RISKS = {"unlimited": 40, "in advance": 20, "90 days": 15, "automatically": 10}
WORKERS = 3


def analyse(prompt: str, text: str) -> tuple[str, float]:
    """Stand in for a model that gets a prompt and a text. Return its answer and a score."""
    time.sleep(0.05)
    found = [clause for clause in RISKS if clause in text]
    return f"Risky: {', '.join(found) or 'nothing'}", 100 - sum(RISKS[clause] for clause in found)


def prepare(store: Store, folder: Path) -> AnalysisSession:
    """Return the session with its user, prompts, files and tasks. Everything that exists already is kept."""
    ann = store.accounts.find("ann@example.org") or store.accounts.add("ann@example.org", full_name="Ann")
    versions = len(store.sessions.prompts.list(ann, type="contracts"))
    for prompt in PROMPTS[versions:]:  # a correction is a new version; the latest is the default
        store.sessions.prompts.add(ann, "contracts", prompt, default=True)
    named = [each for each in store.sessions.list(user=ann) if each.session_name == "contracts"]
    session = named[0] if named else store.sessions.add(ann, "contracts")
    if session.status == "completed":
        return session
    store.sessions.uploads.add_files(session, folder)  # reads size, type and sha256
    for upload in store.sessions.uploads.list(session):
        store.sessions.tasks.add(session, "contracts", task_id=upload.id)
    return session


def work(path: Path, session_id: str, worker: str) -> None:
    """Work on the tasks of a session until none is left, in a process of its own."""
    with Store(path) as store:
        session = store.sessions.get(session_id)
        prompt = store.sessions.prompts.get(session.user_id, "contracts")
        for task in store.sessions.tasks.work(session, worker=worker):
            upload = store.sessions.uploads.mark(task.task_id, "processing")
            try:
                text = (path.with_name("sample_contracts") / upload.file_path).read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                with store.transaction():
                    store.sessions.tasks.fail(task, error, retry=False)
                    store.sessions.uploads.mark(upload, "error", error="not text")
                print(f"failed {upload.file_path}", flush=True)
                continue
            answer, score = analyse(prompt.prompt_content, text)
            result = {"result_content": answer, "file_name": upload.file_name, "score": score, "configuration": prompt}
            with store.transaction():  # both or neither
                store.sessions.tasks.complete(task, result=result)
                store.sessions.uploads.mark(upload, "completed")
            print(f"analysed {upload.file_path}", flush=True)


def summary(store: Store, user: User, session: AnalysisSession) -> None:
    for result in sorted(store.sessions.results.list(session), key=lambda result: str(result.file_name)):
        prompt = result.configuration
        print(
            f"{result.file_name}: {result.score}, {result.result_content} (prompt {prompt.version if prompt else '?'})"
        )
    stats = store.sessions.stats(user=user)
    print("session", session.status, "files", f"{session.processed_files}/{session.total_files}", "tasks", stats.tasks)
    print("mean score", stats.mean_score)


def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "sessions.db")
    folder = path.with_name("sample_contracts")
    if not path.exists():  # the first run
        for name, content in FILES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    with Store(path) as store:
        session = prepare(store, folder)
        print("session", session.session_name, flush=True)
        if session.status != "completed":
            workers = [Process(target=work, args=(path, str(session.id), f"reader-{n}")) for n in range(WORKERS)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            session = store.sessions.complete(session)  # refused while tasks are unfinished
        summary(store, store.accounts.get("ann@example.org"), session)


if __name__ == "__main__":
    main()
