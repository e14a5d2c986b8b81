"""Checks an entry: its files, that nothing is missing, its scores, and a few of its trials run again."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from leakbench.bench.datasets import Texts, open_dataset
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.lock_step import train_together
from leakbench.bench.row import score_columns
from leakbench.bench.trial import Trial, spec_of
from leakbench.bench.verdicts import Scale
from leakbench.board.benchmark import ACCURACY, Benchmark
from leakbench.board.entry import Entry, digest_of, pixels_of, records
from leakbench.core.process import prepare_worker
from leakbench.core.user_files import file_digest
from leakbench.reports.selection import strongest, with_result
from leakbench.sweeps.grid import trials
from leakbench.sweeps.need import Score
from leakbench.sweeps.plan import plan
from leakbench.sweeps.resources import choose
from leakbench.sweeps.spec import Sweep
from leakbench.sweeps.training import trainings_of

ROUNDED = 0.01  # of a score: pictures are kept with 8 bits
ELSEWHERE = 0.05  # of a score, on other hardware or with another version of PyTorch
VOLATILE = ("seconds", "defense_seconds", "device")  # columns that differ from run to run


@dataclass(frozen=True)
class Checked:
    """An entry with files that are in order, and what its rows are checked against."""

    entry: Entry
    sweeps: Mapping[str, Sweep]  # {part: what the protocol asks for}, of the entry's defenses
    data_root: Path


def file_problems(entry: Entry, benchmark: Benchmark) -> Iterator[str]:
    """What is wrong with the files of an entry, and with what it says of them."""
    about = entry.about
    if about.protocol_sha256 != benchmark.digest:
        text = f"protocol {about.protocol}: expected SHA-256 {benchmark.digest[:12]}, of the file here, got"
        yield f"{text} {about.protocol_sha256[:12]}: the entry went through something else"
    for name, digest in about.files.items():
        path = entry.folder / name
        if not path.is_file():
            yield f"{name}: expected the file that the entry lists, found none"
        elif file_digest(path) != digest:
            text = f"{name}: expected SHA-256 {digest[:12]}, as the entry says"
            yield f"{text}, got {file_digest(path)[:12]}: it was changed"


def row_problems(checked: Checked) -> Iterator[str]:
    """Which rows are missing, or are of something else than the protocol asks for."""
    entry = checked.entry
    if entry.trials.empty:
        yield "trials.parquet: expected the rows of the protocol's trials, found none"
        return
    keys = [*entry.trials["key"], *entry.trainings["key"]]
    if digest_of(keys) != entry.about.keys_sha256:
        yield "keys_sha256: expected that of the keys of all rows, got another: rows were added or removed"
    if entry.trials.duplicated(["part", "key"]).any() or entry.trainings["key"].duplicated().any():
        yield "trials.parquet: expected each trial once, found some twice"
    for part, sweep in checked.sweeps.items():
        if part == ACCURACY:
            rows, wanted = entry.trainings, {job.key for job in trainings_of(sweep)}
            missing, more = len(wanted - set(rows["key"])), len(set(rows["key"]) - wanted)
        else:
            rows = entry.trials[entry.trials["part"] == part]
            todo = plan(sweep, _statuses(rows), _scores(rows))
            missing, more = len(todo) + todo.waiting, len(todo.left_out)
        if missing:
            yield f"{part}: expected a row for each trial, found {missing} of them missing"
        if more:
            text = f"{part}: expected rows of the protocol's trials, found {more} others"
            yield f"{text}: the defense's file, the protocol or the version of leakbench is another"


def _statuses(rows: pd.DataFrame) -> dict[str, str]:
    return dict(zip(rows["key"], rows["status"], strict=True))


def _scores(rows: pd.DataFrame) -> dict[str, Score]:
    known = rows[rows["score"].notna()]
    objectives = [None if isnan(each) else each for each in known["objective"]]
    scores = map(Score, objectives, known["score"])
    return dict(zip(known["key"], scores, strict=True))


def score_problems(checked: Checked) -> Iterator[str]:
    """Scores that are not those of the pictures next to them, and results without a picture."""
    for part, sweep in checked.sweeps.items():
        if part == ACCURACY:
            continue
        rows = checked.entry.trials[checked.entry.trials["part"] == part]
        best = strongest(rows, sweep.scale) if len(with_result(rows)) else rows.iloc[:0]
        jobs = {trial.key: trial for trial in trials(sweep)}
        for row in records(best[best["defense"].isin(checked.entry.about.defenses)]):
            yield from _score_problem(checked, part, row, jobs[row["key"]])


def _score_problem(checked: Checked, part: str, row: Mapping[str, Any], trial: Trial) -> Iterator[str]:
    scale = checked.sweeps[part].scale
    where = f"{part}, {trial.defense}, {trial.attack}, index {trial.index}"
    picture = checked.entry.pictures.get(row["key"])
    if picture is None:
        yield f"{where}: expected what the strongest attack found, in pictures.parquet, found nothing"
        return
    source = open_dataset(trial.dataset, checked.data_root)
    truth, _ = source.batch(range(trial.index, trial.index + trial.protocol.images))
    spec = spec_of(source, trial.protocol, trial.model)
    again = score_columns(truth, _example(picture, truth, source), spec)[scale.column]
    if again is None or abs(again - row[scale.column]) > ROUNDED:
        text = f"{where}: {scale.title}: the row says {row[scale.column]:.3f}, and what was found scores"
        yield f"{text} {again:.3f}"


def _example(picture: Mapping[str, Any], truth: Tensor, source: Any) -> Tensor:
    """What was found, as a modality takes it: images (N, C, H, W) or tokens (N, L)."""
    if picture["texts"] is None:
        return torch.from_numpy(pixels_of(picture))
    assert isinstance(source, Texts)
    known = source.vocabulary
    tokens = [[known.ids[piece] for piece in text.split()] for text in picture["texts"]]
    longest = max(truth.shape[1], *map(len, tokens))
    return torch.tensor([each + [known.pad] * (longest - len(each)) for each in tokens])


def trained_again(checked: Checked, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a training of an entry, as it comes out here and now."""
    everything = trainings_of(checked.sweeps[ACCURACY])
    (training,) = (each for each in everything if each.key == row["key"])
    prepare_worker()
    (trained,) = train_together([training], checked.data_root)
    return asdict(trained.row)


def chosen_cells(entry: Entry, count: int, seed: int) -> pd.DataFrame:
    """Some of its rows that have a result, by chance; half of them decide, as far as there are so many."""
    rows = with_result(entry.trials)
    deciding = rows[rows["key"].isin(entry.pictures)]
    first = deciding.sample(min((count + 1) // 2, len(deciding)), random_state=seed)
    rest = rows.drop(first.index)
    return pd.concat([first, rest.sample(min(count - len(first), len(rest)), random_state=seed)])


def chosen_training(entry: Entry, seed: int) -> pd.DataFrame:
    """One of its trainings that have a result, by chance."""
    rows = with_result(entry.trainings)
    return rows.sample(min(1, len(rows)), random_state=seed)


def computed_again(checked: Checked, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a trial of an entry, as it comes out here and now."""
    others = checked.entry.trials[checked.entry.trials["key"] != row["key"]]
    todo = plan(checked.sweeps[row["part"]], _statuses(others), _scores(others))
    trial = next(each for each in todo if each.key == row["key"])
    resources, _ = choose(todo, ["cpu"], None, None, checked.data_root)
    prepare_worker()
    (result,) = run_trials([trial], Conditions(resources, checked.data_root))
    return asdict(result.row)


def compared(row: Mapping[str, Any], again: Mapping[str, Any], scale: Scale | None) -> str:
    """What is wrong with a row that was computed again; empty if nothing is.

    On equal hardware, with an equal version of PyTorch, all of a row but its times is the same to the bit.
    Elsewhere the score is within ELSEWHERE, or the verdict the same.

    Args:
        row: of the entry.
        again: the same, computed here.
        scale: of trials; None: a training, whose accuracy is compared.
    """
    if again["status"] != row["status"]:
        return f"the entry has status {row['status']}, here it is {again['status']} ({again['reason']})"
    if all(row[name] == again[name] for name in ("hardware", "torch_version")):
        names = [name for name in again if name not in VOLATILE and not _equal(row[name], again[name])]
        return f"expected equal rows on equal hardware, got another {', '.join(names)}" if names else ""
    column, title = (scale.column, scale.title) if scale else ("accuracy", "accuracy")
    before, now = row[column], again[column]
    if abs(before - now) <= ELSEWHERE or (scale and scale.verdict(before) == scale.verdict(now)):
        return ""
    return f"expected {title} {before:.3f} within {ELSEWHERE}{' or its verdict' * bool(scale)}, got {now:.3f}"


def _equal(stored: Any, computed: Any) -> bool:
    if pd.isna(stored) or pd.isna(computed):
        return bool(pd.isna(stored) and pd.isna(computed))
    return bool(stored == computed)
