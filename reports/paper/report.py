"""What `leakbench paper` writes: a page of tables and figures, all from stored rows."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from reports.flags import flag_lines, flags
from reports.paper.batches import RECOVERED_MSE, batch_size, batch_table
from reports.paper.figure7 import draw_figure7, verdict_table
from reports.paper.reference import Noise, Reading, Scope, recalled, reference
from reports.paper.sensitivity import FACTORS, draw_sensitivity, sensitivity
from reports.paper.table2 import compared, table2
from reports.paper.thresholds import draw_thresholds
from reports.style import save
from reports.summary import SETTING, summarize
from reports.tables import percent
from sweeps.store import Store

TRAININGS = ("accuracy", "checkpoints")
SENSITIVITY = ("data", "weights", "activations", "budgets", "trained")
SWEEPS = ("defenses", "batches", *SENSITIVITY, "resnet")  # checkpoints are attacked after their training
READINGS = (Reading(Noise.STD, Scope.TENSOR), Reading(Noise.VARIANCE, Scope.GLOBAL))
WORDS = {
    Noise.VARIANCE: "10^-k as variance",
    Noise.STD: "10^-k as standard deviation",
    Scope.TENSOR: "pruned per tensor",
    Scope.GLOBAL: "pruned over the whole gradient",
}
Lines = Iterator[str]


def write_report(folder: Path) -> list[Path]:
    """Draw the figures of the runs in `folder` and write `folder/report.md`; the paths of all of it.

    Args:
        folder: with a run of each file of sweeps/paper, under the file's name.
    """
    stores = {name: Store.existing(folder / name) for name in (*TRAININGS, *SWEEPS)}
    figures = _draw(stores, folder / "figures")
    page = folder / "report.md"
    sections = (_head, _figure7, _table2, _batches, _residual, _sensitivity, _flags)
    page.write_text("\n".join(line for section in sections for line in (*section(stores), "")))
    return [page, *figures]


def _draw(stores: dict[str, Store], folder: Path) -> list[Path]:
    main = stores["defenses"]
    rows, scale = main.rows(), main.scale
    drawn = {
        f"figure7_{reading.noise}_{reading.scope}": draw_figure7(main, rows, scale, reading)
        for reading in READINGS
    }
    drawn["thresholds"] = draw_thresholds(main, rows, scale)
    drawn["sensitivity"] = draw_sensitivity(_sensitivity_table(stores), scale)
    return [path for name, figure in drawn.items() for path in save(figure, folder, name)]


def _sensitivity_table(stores: dict[str, Store]) -> pd.DataFrame:
    """Of the rows of all runs of sensitivity, each once; the run of the data sets has the common attack."""
    rows = pd.concat([stores[name].rows() for name in SENSITIVITY], ignore_index=True)
    attack = stores["data"].rows()["attack"].iloc[0]
    return sensitivity(rows.drop_duplicates("key"), attack, stores["defenses"].scale)


def _head(stores: dict[str, Store]) -> Lines:
    sessions = [
        session
        for store in stores.values()
        for kind in ("sessions", "training_sessions")
        for session in store.manifest().get(kind, [])
    ]
    days = sorted({datetime.fromisoformat(session["began"]).date().isoformat() for session in sessions})
    versions = sessions[-1]["versions"]
    devices = sorted({device for session in sessions for device in session["devices"]})
    rows = [store.rows() for store in stores.values()]
    attacks = sum(len(each) for each in rows)
    hours = sum(float(each["seconds"].sum()) for each in rows) / 3600
    trained = [stores[name].trainings() for name in TRAININGS]
    training_hours = sum(float(each["seconds"].sum()) for each in trained) / 3600
    yield "# The defense figures and tables of Deep Leakage from Gradients"
    yield ""
    yield f'Reported values: {reference().source}; "recalled": not checked against the paper\'s PDF.'
    yield ""
    yield (
        f"Run {' to '.join(dict.fromkeys((days[0], days[-1])))} on {', '.join(devices)}, with "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + f": {attacks:,} attacks in {hours:.1f} worker hours, {sum(map(len, trained))} trainings in"
        f" {training_hours:.1f}."
    )


def _figure7(stores: dict[str, Store]) -> Lines:
    store = stores["defenses"]
    rows, scale = store.rows(), store.scale
    tables = {reading: verdict_table(rows, scale, reading) for reading in READINGS}
    yield "## Figure 7"
    for reading in READINGS:
        yield from ("", f"![Figure 7](figures/figure7_{reading.noise}_{reading.scope}.png)")
    yield ""
    yield "SSIM: median over images with its 95 % interval; leaked: by the start of lowest match loss."
    yield ""
    heads = [f"{WORDS[reading.noise]}, {WORDS[reading.scope]}" for reading in READINGS]
    judged = [{line["label"]: line for line in table.to_dict("records")} for table in tables.values()]
    yield from markdown(
        ["defense", "paper", *heads],
        (
            [each.label, recalled(str(each.verdict), each.recalled)]
            + [_judged(lines.get(each.label)) for lines in judged]
            for each in reference().figure7
            if any(each.label in lines for lines in judged)
        ),
    )
    yield from ("", "Verdicts that agree with the paper's:", "")
    yield from (f"- {text}" for text in agreement(tables))


def agreement(tables: dict[Reading, pd.DataFrame]) -> Lines:
    """`noise, 10^-k as variance: 4 of 8`, for each reading of each kind of defense."""
    for reading, table in tables.items():
        table = table[table["images"] > 0]
        noise = table["label"].str.contains("gaussian|laplacian")
        prune = table["label"].str.startswith("prune")
        for name, own in (("noise, " + WORDS[reading.noise], noise), (WORDS[reading.scope], prune)):
            yield f"{name}: {table.loc[own, 'agrees'].sum()} of {own.sum()}"
    rest = table[~noise & ~prune]
    yield f"half precision: {rest['agrees'].sum()} of {len(rest)}"


def _judged(line: Any) -> str:
    if line is None:
        return "not run"
    if not line["images"]:
        return "0/0"
    return f"{_with_interval(line, 'ssim', '.3f')}, {line['leaked']}/{line['images']}, {line['ours']}"


def _table2(stores: dict[str, Store]) -> Lines:
    store = stores["defenses"]
    trainings = stores["accuracy"].trainings()
    table = table2(trainings, store.rows(), store.scale)
    first = trainings.iloc[0]
    yield "## Table 2"
    yield ""
    yield (
        f"{first['model']} trained on {first['train']}, tested on {first['test']}, {first['recipe']}; the"
        " paper's accuracy is on CIFAR-100. Accuracy: mean over the seeds and half of its 95 % interval;"
        " change: beside the undefended training of the same seed. Attack: as in Figure 7. Defends: the"
        " verdict is no leak."
    )
    yield ""
    heads = ["defense", "seeds", "accuracy", "change", "leaked", "SSIM", "verdict"]
    yield from markdown(heads, map(_cost, table.to_dict("records")))
    for reading in READINGS:
        yield from ("", f"The paper's columns, {WORDS[reading.noise]}:", "")
        heads = ["column", "accuracy, paper", "accuracy", "defends, paper", "defends"]
        yield from markdown(heads, map(_column, compared(table, reading).to_dict("records")))


def _cost(line: Any) -> list[str]:
    change = percent(line["change"], line["change_low"], "+")
    attack = [f"{line['leaked']}/{line['images']}", f"{line['ssim']:.3f}", line["verdict"]]
    return [line["defense"], str(line["trainings"]), _accuracy(line), change, *attack]


def _column(line: Any) -> list[str]:
    """Of the paper's table, lying down."""
    accuracy = recalled(f"{line['paper_accuracy']} %", line["recalled"])
    defends = "-"
    if line["paper_defends"] is not None:
        defends = recalled(_yes(line["paper_defends"]), line["recalled"])
    return [line["label"], accuracy, _accuracy(line), defends, _yes(line["defends"])]


def _accuracy(line: Any) -> str:
    return percent(line["accuracy"], line["accuracy_low"])


def _yes(value: Any) -> str:
    return "yes" if value else "no"


def _batches(stores: dict[str, Store]) -> Lines:
    store = stores["batches"]
    rows = store.rows()
    yield "## Batches"
    yield ""
    first, attack = rows.iloc[0], next(name for name in rows["attack"] if batch_size(name) == 1)
    yield (
        f"{first['dataset']}, {first['model']}, {attack}, and with larger batches. Recovered: the MSE of the"
        f" raw pixels fell to {RECOVERED_MSE:g}, mean over the batch; iterations: outer steps until then,"
        " median of the trials that got there; SSIM: median of all trials."
    )
    yield ""
    heads = ["images", "trials", "recovered", "iterations", "SSIM", "all images leak", "iterations, paper"]
    yield from markdown(heads, map(_batch, batch_table(store, rows, store.scale).to_dict("records")))


def _batch(line: Any) -> list[str]:
    rate = f"{line['recovered']} ({100 * line['low']:.0f}-{100 * line['high']:.0f} %)"
    paper = recalled(f"{line['paper']:.0f}", line["recalled"]) if line["paper"] else "-"
    steps = _with_interval(line, "iterations", ".0f")
    return [
        str(line["size"]),
        str(line["trials"]),
        rate,
        steps,
        f"{line['ssim']:.3f}",
        str(line["leaked"]),
        paper,
    ]


def _with_interval(line: Any, name: str, form: str) -> str:
    value, low, high = (line[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value != value:
        return "-"
    return f"{value:{form}}" + (f" ({low:{form}}-{high:{form}})" if low == low else "")


def _residual(stores: dict[str, Store]) -> Lines:
    store = stores["resnet"]
    rows = store.rows()
    summary = summarize(rows, store.scale)
    seconds = rows.groupby(["model", "attack"], as_index=False)["seconds"].mean()
    yield "## Residual networks"
    yield ""
    yield f"{rows['dataset'].iloc[0]}, undefended, one start an image; seconds: of a worker, for one trial."
    yield ""
    heads = ["model", "attack", "leaked", "SSIM", "verdict", "seconds"]
    yield from markdown(heads, map(_network, summary.merge(seconds).to_dict("records")))


def _network(line: Any) -> list[str]:
    leaked, ssim = f"{line['leaked']}/{line['images']}", _with_interval(line, "ssim", ".3f")
    return [line["model"], line["attack"], leaked, ssim, line["verdict"], f"{line['seconds']:.0f}"]


def _sensitivity(stores: dict[str, Store]) -> Lines:
    table = _sensitivity_table(stores)
    yield "## Sensitivity"
    yield from ("", "![Sensitivity](figures/sensitivity.png)", "")
    yield "Median SSIM of the images that leak without a defense, how many of them leak, and the verdict."
    for factor in FACTORS:
        own = table[table["factor"] == factor.name]
        values = list(own["value"].unique())
        cells = own.set_index(["defense", "value"])
        yield ""
        yield from markdown(
            [factor.name, *values],
            (
                [defense, *(_cell(cells.loc[(defense, value)]) for value in values)]
                for defense in own["defense"].unique()
            ),
        )


def _cell(line: Any) -> str:
    if not line["images"]:
        return "0/0"
    return f"{line['ssim']:.3f}, {line['leaked']}/{line['images']}, {line['verdict']}"


def _flags(stores: dict[str, Store]) -> Lines:
    yield "## Flags"
    yield from ("", "What each means: docs/FLAGS.md.", "")
    for name in SWEEPS:
        store = stores[name]
        rows, histories = store.rows(), store.histories()
        for setting, part in rows.groupby(SETTING, sort=False):
            for line in flag_lines(flags(part, store.scale, histories), part["defense"].nunique()):
                yield f"- {name}: {' · '.join(map(str, setting))}: {line}"


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> Lines:
    """A table, line by line."""
    for line in (heads, ["---"] * len(heads), *lines):
        yield f"| {' | '.join(line)} |"
