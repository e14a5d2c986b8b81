"""`leakbench status`: how far a run is, from what it has stored."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import pandas as pd
from rich.table import Table

from leakbench.core.words import in_words
from leakbench.reports.terminal import plain_table
from leakbench.sweeps.progress import by_status
from leakbench.sweeps.store import Store
from leakbench.sweeps.tables import TRAININGS, TRIALS


def status(store: Store) -> Iterator[str | Table]:
    """One line per fact, then a table of the defenses."""
    manifest, rows, runner = store.manifest(), store.rows(), store.runner()
    settled = manifest.get("settled", {})
    of_all = _needed(manifest)
    yield f"{store.folder}: {manifest['file']}, {f'running ({runner})' if runner else 'not running'}"
    unrequested = sum(map(len, store.unrequested().values()))
    if unrequested:
        stored = f"{unrequested} stored row{'s are' if unrequested > 1 else ' is'} no longer requested"
        yield f"{stored} by {manifest['file']}; `leakbench tidy {store.folder}` removes them"
    if manifest["trainings"]:
        trained = by_status(Counter(store.rows(TRAININGS)["status"]))
        yield f"of {manifest['trainings']} trainings: {trained or 'none yet'}"
    if not of_all:
        return
    counts = by_status(Counter(rows["status"]))
    yield f"{len(rows)} of {of_all} trials, {len(rows) / of_all:.0%}{counts and ': '}{counts}"
    if settled:
        count = sum(settled.values())
        yield f"{count} trials are not needed: their victims have leaked to another attack"
    written = store.last_written()
    sessions = manifest["sessions"].get(TRIALS.name)
    if sessions and written:
        yield from _pace(sessions, len(rows), of_all, written, bool(runner))
    yield _table(rows, {name: each - settled.get(name, 0) for name, each in manifest["by_defense"].items()})


def under_way(store: Store) -> str:
    """`the run is under way: 5 of 12 trials`; empty if no process runs it."""
    running = f"the run is under way: {len(store.rows())} of {_needed(store.manifest())} trials"
    return running if store.runner() else ""


def _needed(manifest: Mapping[str, Any]) -> int:
    """The number of trials, without those whose victims have leaked already."""
    return int(manifest["trials"] - sum(manifest.get("settled", {}).values()))


def _pace(
    sessions: list[dict[str, Any]], done: int, of_all: int, written: float, running: bool
) -> Iterator[str]:
    """The pace of the latest session that ran something, and the time left at that pace."""
    ran = [(number, session) for number, session in enumerate(sessions, 1) if session["devices"]]
    if not ran:
        return
    number, latest = ran[-1]
    began = datetime.fromisoformat(latest["began"]).timestamp()
    seconds = max(written - began, 1e-9)
    new = done - latest["kept"]
    what = f"session {number}, begun {latest['began']} on {', '.join(latest['devices'])}"
    yield f"{what}: {new} trials in {in_words(seconds)}, {60 * new / seconds:.3g}/min"
    yield f"last written {in_words(time.time() - written)} ago"
    if running and new > 0 and done < of_all:
        yield f"about {in_words((of_all - done) * seconds / new)} left at this pace"


def _table(rows: pd.DataFrame, defenses: Mapping[str, int]) -> Table:
    """For each defense: finished trials, all trials, and the finished ones by status."""
    statuses = sorted(rows["status"].unique())
    table = plain_table(None, ("done", "of", *statuses))
    counts = rows.groupby(["defense", "status"]).size()
    for defense, of_all in defenses.items():
        own = [int(counts.get((defense, name), 0)) for name in statuses]
        table.add_row(defense, *(str(count) for count in (sum(own), of_all, *own)))
    return table
