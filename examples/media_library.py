"""Keep a media library tidy: sync it by a scheduled job, propose changes, review, apply and revert them.

    python examples/media_library.py [STORE]

STORE defaults to media.db. The remote system is the file sample_remote.json beside it. Stop the script at any
moment, even with kill -9, and run it again: it continues where it was. Each change is applied completely or not at all,
and the remote system gets each change at least once. Replace `listing` and `push` by calls of your system.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from scanstore import Store
from scanstore.library import SceneRecord
from scanstore.models import AnalysisPlan, Job, PlanChange
from scanstore.plans import Proposal

STORE = Path(sys.argv[1] if len(sys.argv) > 1 else "media.db")
REMOTE = STORE.with_name("sample_remote.json")
NORTH, ANN, BEACH = {"id": "1", "name": "North"}, {"id": "5", "name": "Ann"}, {"id": "7", "name": "beach"}
TITLES = ["sunset_at_sea", "Morning", "old_harbour", "ice", "untitled_07", "Rain"]
SCENES = {
    f"s{n}": {"id": f"s{n}", "title": title, "studio": NORTH, "performers": [ANN], "tags": [BEACH] if n % 2 else []}
    for n, title in enumerate(TITLES)
}


def save(scenes: object) -> None:
    """Replace the remote file, completely or not at all."""
    REMOTE.with_suffix(".tmp").write_text(json.dumps(scenes, indent=1), encoding="utf-8")
    os.replace(REMOTE.with_suffix(".tmp"), REMOTE)


def listing() -> Iterator[SceneRecord]:
    """Yield all scenes of the remote system."""
    yield from json.loads(REMOTE.read_text(encoding="utf-8")).values()


def push(change: PlanChange) -> None:
    """Make one change in the remote system; `change.key` names it at each attempt."""
    scenes = json.loads(REMOTE.read_text(encoding="utf-8"))
    value = [{"id": key} for key in change.value] if isinstance(change.value, list) else change.value
    scenes[change.target_key][change.field] = value
    save(scenes)
    print("reverted" if change.undoing else "pushed", change.target_key, change.field, flush=True)


def sync(job: Job) -> dict[str, int] | None:
    """Do a job of the type "sync": read the full listing, then remove the scenes that are gone."""
    store: Store = job.store
    with store.library.sync("scene") as run:
        counts = store.library.upsert_scenes(listing(), run=run)
        if not job.update_progress(50, message="listed"):
            return None  # cancelled
        print("synced", counts.created, "new", flush=True)
        return {"created": counts.created, "removed": len(run.prune_unseen(dry_run=False))}


def titles(store: Store) -> Iterator[Proposal]:
    """Propose a readable title for each scene whose title looks like the name of a file."""
    for scene in store.library.list():
        if scene.title and "_" in scene.title:
            sure = 0.4 if scene.title.startswith("untitled") else 0.9
            yield Proposal(scene.id, "title", "set", scene.title.replace("_", " ").capitalize(), confidence=sure)


def tags(store: Store) -> Iterator[Proposal]:
    """Propose the tag "beach" for each scene without a tag."""
    for scene in store.library.list():
        if not list(scene.tags):
            yield Proposal(scene.id, "tags", "add", "7", confidence=0.8)


def carry_out(store: Store, name: str, proposals: Iterator[Proposal]) -> AnalysisPlan:
    """Propose, review and apply a plan. An earlier run may have stopped at any of these steps."""
    plan = store.plans.find(name) or store.plans.add(name, metadata={"model": "none"})
    if plan.status == "pending":
        store.plans.propose_many(plan, proposals)  # nothing is proposed twice
        plan = store.plans.submit(plan)
        print("proposed", name, flush=True)
    if plan.status in ("draft", "reviewing"):
        store.plans.review(plan, "approve", min_confidence=0.6, by="ann")
        store.plans.review(plan, "reject", ids=store.plans.changes(plan, status="pending"), by="ann")
        store.plans.apply(plan, handler=push)
        print("applied", name, flush=True)
    return store.plans.get(plan)


def main() -> None:
    STORE.parent.mkdir(parents=True, exist_ok=True)
    if not STORE.exists():  # the first run
        save(SCENES)

    with Store(STORE) as store:
        if store.schedules.find("sync") is None:
            with store.transaction():  # the first sync now, the next ones on Sundays
                store.schedules.add("sync", "sync", "30 2 * * SUN", timezone="Europe/Berlin")
                store.jobs.enqueue("sync", unique="sync")
        store.schedules.run_due()  # call this regularly, from a loop or from cron
        store.jobs.run_worker({"sync": sync}, until_empty=True)

        fixed = carry_out(store, "titles", titles(store))
        mistake = carry_out(store, "tags", tags(store))
        if mistake.status != "reverted":  # undo exactly the changes of this plan
            store.plans.revert(mistake, handler=push)

        for scene in store.library.list():
            print(scene.id, scene.title, [tag.name for tag in scene.tags])
        for plan in (fixed, mistake):
            print(plan.name, store.plans.get(plan).status, [each.status for each in store.plans.changes(plan)])
        print("jobs", store.counts(Job, "status"))


if __name__ == "__main__":
    main()
