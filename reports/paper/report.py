"""The report that `leakbench paper` writes: tables and figures, all from stored rows."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from leakbench.bench.vocabulary import INSTALL
from leakbench.reports.figures.tradeoff import draw_tradeoff
from leakbench.reports.flags import flag_lines, flags
from leakbench.reports.markdown import markdown
from leakbench.reports.names import title
from leakbench.reports.paper.batches import RECOVERED_MSE, batch_table
from leakbench.reports.paper.figure7 import draw_figure7, verdict_table
from leakbench.reports.paper.reference import Noise, Reading, Scope, recalled, reference
from leakbench.reports.paper.sensitivity import FACTORS, draw_sensitivity, sensitivity
from leakbench.reports.paper.strongest import beside_dlg, draw_strongest
from leakbench.reports.paper.table2 import compared, table2
from leakbench.reports.paper.texts import draw_steps, text_lines
from leakbench.reports.paper.thresholds import draw_thresholds
from leakbench.reports.selection import SETTING, is_of, strongest
from leakbench.reports.statistics import percent, with_interval
from leakbench.reports.style import save
from leakbench.reports.summary import by_attack, summarize
from leakbench.reports.utility import summarize_utility
from leakbench.sweeps.store import Store
from leakbench.sweeps.tables import TRAININGS

TRAINED = ("accuracy", "checkpoints")
SENSITIVITY = ("data", "weights", "activations", "budgets", "trained")
SWEEPS = (
    "defenses",
    "strongest",
    "batches",
    *SENSITIVITY,
    "resnet",
)  # checkpoints are attacked after their training
TEXT_TRAINED = "text_accuracy"
TEXT_SWEEPS = ("text_steps", "text")
READINGS = (Reading(Noise.STD, Scope.TENSOR), Reading(Noise.VARIANCE, Scope.GLOBAL))
WORDS = {
    Noise.VARIANCE: "10^-k as variance",
    Noise.STD: "10^-k as standard deviation",
    Scope.TENSOR: "pruned per tensor",
    Scope.GLOBAL: "pruned over the whole gradient",
}
Lines = Iterator[str]


class Runs:
    """The runs of sweeps/paper in a folder; what several sections need is read and computed once.

    Those of texts need not be there.
    """

    def __init__(self, folder: Path):
        self.has_texts = (folder / TEXT_TRAINED).exists()
        trained = (*TRAINED, TEXT_TRAINED) if self.has_texts else TRAINED
        sweeps = (*SWEEPS, *TEXT_SWEEPS) if self.has_texts else SWEEPS
        self.stores = {name: Store.existing(folder / name) for name in (*trained, *sweeps)}
        self.rows = {name: self.stores[name].rows() for name in sweeps}
        self.trainings = {name: self.stores[name].rows(TRAININGS) for name in trained}
        self.scale = self.stores["defenses"].scale
        self.best = strongest(self.rows["defenses"], self.scale)
        self.summary = summarize(self.rows["defenses"], self.scale)
        self.verdicts = {reading: verdict_table(self.summary, reading) for reading in READINGS}
        self.dlg = self.rows["defenses"]["attack"].iloc[0]
        self.all = pd.concat([self.rows[name] for name in ("defenses", "strongest")], ignore_index=True)
        self.strongest = beside_dlg(self.all, self.dlg, self.scale)
        self.setting = list(self.rows["defenses"][SETTING].iloc[0])  # the paper's
        self.of_paper = self.strongest[is_of(self.strongest, SETTING, self.setting)]
        varied = pd.concat([self.rows[name] for name in SENSITIVITY], ignore_index=True)
        common = self.rows["data"]["attack"].iloc[0]
        self.sensitivity = sensitivity(varied.drop_duplicates("key"), common, self.scale)


def write_report(folder: Path) -> list[Path]:
    """Draw the figures of the runs in `folder` and write `folder/report.md`; returns the paths of all files.

    Args:
        folder: holds a run of each file of sweeps/paper, under the file's name.
    """
    runs = Runs(folder)
    figures = _draw(runs, folder / "figures")
    page = folder / "report.md"
    sections = (_head, _figure7, _strongest, _table2, _batches, _residual, _sensitivity, _texts, _flags)
    page.write_text(
        "\n".join(line for section in sections for line in (*section(runs), "")), encoding="utf-8"
    )
    return [page, *figures]


def _draw(runs: Runs, folder: Path) -> list[Path]:
    main = runs.stores["defenses"]
    drawn = {
        f"figure7_{reading.noise}_{reading.scope}": draw_figure7(main, runs.best, verdicts, reading)
        for reading, verdicts in runs.verdicts.items()
    }
    own, stores = runs.all[is_of(runs.all, SETTING, runs.setting)], [main, runs.stores["strongest"]]
    for reading in READINGS:
        figure = draw_strongest(stores, own, runs.dlg, runs.scale, reading)
        drawn[f"strongest_{reading.noise}_{reading.scope}"] = figure
    trained = summarize_utility(runs.trainings["accuracy"]).drop(columns="model")
    drawn["tradeoff"] = draw_tradeoff(runs.of_paper.merge(trained, on="defense"), runs.scale)
    drawn["thresholds"] = draw_thresholds(main, runs.best, runs.scale)
    drawn["sensitivity"] = draw_sensitivity(runs.sensitivity, runs.scale)
    if runs.has_texts:
        drawn["text_steps"] = draw_steps(runs.stores["text_steps"], runs.rows["text_steps"])
    return [path for name, figure in drawn.items() for path in save(figure, folder, name, ("png", "pdf"))]


def _head(runs: Runs) -> Lines:
    sessions = [
        session
        for store in runs.stores.values()
        for own in store.manifest()["sessions"].values()
        for session in own
        if session["devices"]  # in the others nothing was left to run
    ]
    days = sorted({datetime.fromisoformat(session["began"]).date().isoformat() for session in sessions})
    devices = sorted({device for session in sessions for device in session["devices"]})
    attacks, hours = _amount(runs.rows)
    trainings, training_hours = _amount(runs.trainings)
    yield "# The defense figures and tables of Deep Leakage from Gradients"
    yield ""
    yield f'Reported values: {reference().source}; "recalled": not checked against the paper\'s PDF.'
    yield ""
    yield (
        f"Run {' to '.join(dict.fromkeys((days[0], days[-1])))} on {', '.join(devices)}, with "
        + ", ".join(f"{name} {' and '.join(own)}" for name, own in _versions(sessions).items())
        + f": {attacks:,} attacks in {hours:.1f} worker hours, {trainings} trainings in"
        f" {training_hours:.1f}."
    )


def _versions(sessions: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """{package: every version that a session ran with, in order of use}."""
    found: dict[str, list[str]] = {}
    for session in sorted(sessions, key=lambda each: str(each["began"])):
        for name, version in session["versions"].items():
            own = found.setdefault(name, [])
            if version not in own:
                own.append(version)
    return found


def _amount(tables: dict[str, pd.DataFrame]) -> tuple[int, float]:
    """The number of rows in all tables, and the worker hours that they took."""
    return sum(map(len, tables.values())), sum(rows["seconds"].sum() for rows in tables.values()) / 3600


def _figure7(runs: Runs) -> Lines:
    yield "## Figure 7"
    for reading in READINGS:
        yield from ("", f"![Figure 7](figures/figure7_{reading.noise}_{reading.scope}.png)")
    yield ""
    yield "SSIM: median over images with its 95 % interval; leaked: by the start of lowest objective."
    yield ""
    heads = [f"{WORDS[reading.noise]}, {WORDS[reading.scope]}" for reading in READINGS]
    judged = [{line["label"]: line for line in table.to_dict("records")} for table in runs.verdicts.values()]
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
    yield from (f"- {text}" for text in agreement(runs.verdicts))


def _strongest(runs: Runs) -> Lines:
    attacks = [name for name in runs.all["attack"].unique() if name != runs.dlg]
    yield "## The strongest attack"
    for reading in READINGS:
        yield from ("", f"![Strongest](figures/strongest_{reading.noise}_{reading.scope}.png)")
    yield ""
    yield (
        f"Strongest: of {', '.join([runs.dlg, *attacks])} the one that recovers most of each image; DLG:"
        f" {runs.dlg} alone on the same images. SSIM: median over the images that leak undefended to any"
        " attack, with its 95 % interval; as chosen: SSIM of the most likely result, which an attacker would"
        " choose; signal: |g|^2 / (entries x variance of the noise)."
    )
    for place, lines in runs.strongest.groupby(SETTING, sort=False):
        yield from ("", f"{' · '.join(map(str, place))}:", "")
        heads = ["defense", "DLG", "strongest", "leaked", "by", "as chosen", "signal", "verdict"]
        yield from markdown(heads, map(_left, lines.to_dict("records")))
    yield from ("", "Verdicts on the strongest attack that agree with the paper's:", "")
    verdicts = {reading: verdict_table(runs.of_paper, reading) for reading in READINGS}
    yield from (f"- {text}" for text in agreement(verdicts))


def _left(line: Any) -> list[str]:
    """A line of the table of the strongest attack."""
    signal = "-" if line["signal_to_noise"] != line["signal_to_noise"] else f"{line['signal_to_noise']:.3g}"
    if not line["images"]:
        return [line["defense"], "-", "-", "0/0", "-", "-", signal, "-"]
    dlg = with_interval(line, "dlg", ".3f")
    leaked = f"{line['leaked']}/{line['images']}"
    return [
        line["defense"], dlg, with_interval(line, "ssim", ".3f"), leaked, line["by"],
        f"{line['chosen']:.3f}", signal, line["verdict"],
    ]  # fmt: skip


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
    return f"{with_interval(line, 'ssim', '.3f')}, {line['leaked']}/{line['images']}, {line['ours']}"


def _table2(runs: Runs) -> Lines:
    table = table2(runs.trainings["accuracy"], runs.of_paper)
    first = runs.trainings["accuracy"].iloc[0]
    yield "## Table 2"
    yield ""
    yield (
        f"{first['model']} trained on {first['train']}, tested on {first['test']}, {first['recipe']}; the"
        " paper's accuracy is on CIFAR-100. Accuracy: mean over the seeds ± half of its 95 % interval;"
        " change: compared with the undefended training of the same seed. Attack: the strongest, as above."
        " Defends: the verdict is no leak."
    )
    yield from ("", "![What hides, and what it costs](figures/tradeoff.png)")
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
    """A column of the paper's table, as a row."""
    accuracy = recalled(f"{line['paper_accuracy']} %", line["recalled"])
    defends = "-"
    if line["paper_defends"] is not None:
        defends = recalled(_yes(line["paper_defends"]), line["recalled"])
    return [line["label"], accuracy, _accuracy(line), defends, _yes(line["defends"])]


def _accuracy(line: Any) -> str:
    return percent(line["accuracy"], line["accuracy_low"])


def _yes(value: Any) -> str:
    return "yes" if value else "no"


def _batches(runs: Runs) -> Lines:
    store, rows = runs.stores["batches"], runs.rows["batches"]
    yield "## Batches"
    yield ""
    first = rows.iloc[0]
    yield (
        f"{first['dataset']}, {first['model']}, {first['attack']}. Recovered: the MSE of the"
        f" raw pixels fell to {RECOVERED_MSE:g}, mean over the batch; iterations: outer steps until then,"
        " median of the trials that got there; SSIM: median of all trials."
    )
    yield ""
    heads = ["images", "trials", "recovered", "iterations", "SSIM", "all images leak", "iterations, paper"]
    yield from markdown(heads, map(_batch, batch_table(store, rows, store.scale).to_dict("records")))


def _batch(line: Any) -> list[str]:
    rate = f"{line['recovered']} ({100 * line['low']:.0f}-{100 * line['high']:.0f} %)"
    paper = recalled(f"{line['paper']:.0f}", line["recalled"]) if line["paper"] else "-"
    steps = with_interval(line, "iterations", ".0f")
    return [
        str(line["size"]),
        str(line["trials"]),
        rate,
        steps,
        f"{line['ssim']:.3f}",
        str(line["leaked"]),
        paper,
    ]


def _residual(runs: Runs) -> Lines:
    rows = runs.rows["resnet"]
    summary = by_attack(rows, runs.stores["resnet"].scale)
    seconds = rows.groupby(["model", "attack"], as_index=False)["seconds"].mean()
    yield "## Residual networks"
    yield ""
    yield f"{rows['dataset'].iloc[0]}, undefended, one start per image; seconds: of a worker, for one trial."
    yield ""
    heads = ["model", "attack", "leaked", "SSIM", "verdict", "seconds"]
    yield from markdown(heads, map(_network, summary.merge(seconds).to_dict("records")))


def _network(line: Any) -> list[str]:
    leaked, ssim = f"{line['leaked']}/{line['images']}", with_interval(line, "ssim", ".3f")
    return [line["model"], line["attack"], leaked, ssim, line["verdict"], f"{line['seconds']:.0f}"]


def _sensitivity(runs: Runs) -> Lines:
    table = runs.sensitivity
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


def _texts(runs: Runs) -> Lines:
    yield "## Texts"
    yield ""
    if not runs.has_texts:
        yield f"Not run: texts need the packages of `{INSTALL}`."
        return
    steps, rows, trainings = runs.rows["text_steps"], runs.rows["text"], runs.trainings[TEXT_TRAINED]
    yield from text_lines(steps, rows, trainings, runs.stores["text"].scale)


def _flags(runs: Runs) -> Lines:
    yield "## Flags"
    yield from ("", "What each means: docs/FLAGS.md.", "")
    for name, rows in runs.rows.items():
        store = runs.stores[name]
        for _, part in rows.groupby([*SETTING, "attack"], sort=False):
            for line in flag_lines(flags(part, store.scale, store.histories), part["defense"].nunique()):
                yield f"- {name}: {title(part)}: {line}"
