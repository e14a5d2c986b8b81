"""Tables: CSV of all rows, and the summary for a terminal."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import Box
from rich.table import Table

from leakbench.bench.attacks import Status
from leakbench.bench.verdicts import Scale
from leakbench.reports.flags import Histories, flag_lines, flags
from leakbench.reports.statistics import mean_interval
from leakbench.reports.summary import (
    BASELINE,
    SETTING,
    SPARED,
    attacks_alone,
    defense_order,
    ends,
    labels_of_hidden,
    short_attacks,
    shortened,
    summarize,
    title,
    with_result,
)
from leakbench.sweeps.records import ROW_DTYPES

TRAINED = ["train", "test", "model", "recipe"]  # what trainings have in common that are compared
UTILITY_CAPTION = (
    "accuracy: on the test images after the last epoch, mean over the seeds and half of its 95 % interval\n"
    "change: beside the undefended training of the same seed"
)

NOTABLE = 0.005  # of SSIM: smaller differences are not told
_SINGLE = "1 start: the share of single starts that leak"

# a line under the heads and nothing else: defenses have long names, and terminals 80 columns
HEADS = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def write_csv(rows: pd.DataFrame, path: Path) -> Path:
    """All rows as CSV, one a trial; `read_csv` gives them back equal."""
    rows.to_csv(path, index=False)
    return path


def read_csv(path: Path) -> pd.DataFrame:
    """The table that `write_csv` wrote, with its dtypes, to the last bit."""
    exact = {name: _exact_float for name, dtype in ROW_DTYPES.items() if dtype == "float64"}
    others = {name: dtype for name, dtype in ROW_DTYPES.items() if dtype != "float64"}
    return pd.read_csv(path, dtype=others, converters=exact, keep_default_na=False, na_values=[""])


def _exact_float(text: str) -> float:
    # not every version of pandas reads a float back to the bit that it wrote
    return float(text or "nan")


def terminal_tables(rows: pd.DataFrame, scale: Scale, histories: Histories) -> Iterator[Table]:
    """A table for each data set, model and protocol, with its flags below; see `flags`.

    Of several attacks the strongest decides; what each got by itself is in a table above.
    """
    for _, part in shortened(rows).groupby(SETTING, sort=False):
        if part["attack"].nunique() > 1:
            yield _attack_table(part, scale)
        yield _terminal_table(part, scale, histories)


def _attack_table(rows: pd.DataFrame, scale: Scale) -> Table:
    rows = short_attacks(rows)
    cells = attacks_alone(rows, scale)
    heads = [name.replace("(", "(\n").replace("=", "\n=") for name in cells.columns]
    table = plain_table(title(rows), heads)
    text = "each attack alone: the median SSIM of all images"
    if cells.map(lambda cell: cell == SPARED or " of " in cell).any(axis=None):
        text += "; (3): only so many were attacked,\nas an attack before had leaked the others"
    cells = cells.replace(r" of \d+\)", ")", regex=True)
    put_below(table, f"{text}\n")
    for defense, values in cells.iterrows():
        table.add_row(str(defense), *values)
    return table


def _terminal_table(rows: pd.DataFrame, scale: Scale, histories: Histories) -> Table:
    several = rows["attack"].nunique() > 1
    lines = summarize(short_attacks(rows), scale)
    columns = ("leaked", "95 % CI", "by" if several else "1 start", "SSIM", "label", "verdict")
    table = plain_table(f"{title(rows)}: the strongest" if several else title(rows), columns)
    raised = list(flag_lines(flags(rows, scale, histories), rows["defense"].nunique()))
    told = ["docs/FLAGS.md tells what these mean"] if raised else []
    put_below(table, "\n".join([_caption(lines, scale, several), *raised, *told]))
    for line in lines.to_dict("records"):
        third = _strongest_of(line) if several else f"{100 * line['single']:.0f}%"
        table.add_row(line["defense"], *_cells(line, third))
    return table


def _strongest_of(line: dict[Hashable, Any]) -> str:
    """`adaptive`, or `adaptive +` where others got most of some images."""
    first, *others = str(line["by"]).split(", ")
    return first.rpartition(" ")[0] + (" +" if others else "")


def plain_table(title: str | None, columns: Sequence[str], first: str = "defense") -> Table:
    """A table for the terminal, its first column for names."""
    table = Table(title=title, title_justify="left", box=HEADS, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def put_below(table: Table, text: str) -> None:
    """Say that under a table, after a blank line: it has no edge."""
    table.caption, table.caption_justify = f"\n{text}", "left"


def _cells(line: dict[Hashable, Any], third: str) -> list[str]:
    labels = f"{line['labels']}/{line['labelled']}"
    if not line["images"]:
        return ["0/0", "-", "-", "-", labels, "-"]
    return [
        f"{line['leaked']}/{line['images']}",
        f"{100 * line['low']:.0f}-{100 * line['high']:.0f}%",
        third,
        f"{line['ssim']:.3f}",
        labels,
        line["verdict"],
    ]


def _caption(lines: pd.DataFrame, scale: Scale, several: bool) -> str:
    third = "by: the attack that got most of most images (+: others did of some)" if several else _SINGLE
    caption = (
        f"leaked: images rebuilt with SSIM >= {scale.leak:g}, of those that leak without a defense; the start"
        f" of lowest objective counts\n{third}; SSIM: the median;"
        f" artifacts: one of {scale.artifacts:g} or more\n"
        "label: images whose label was recovered, of all that have a result"
    )
    excluded = int(lines["excluded"].max())
    if excluded:
        images = "image" if excluded == 1 else "images"
        caption += f"\n{excluded} {images} left out: not rebuilt even without a defense"
    failed = [
        f"{line['failed']} of {line['trials']} trials of {line['defense']}"
        for line in lines[lines["failed"] > 0].to_dict("records")
    ]
    more = (
        f"failed: {', '.join(failed)}" if failed else "",
        _as_chosen(lines) if several else "",
        _signals(lines),
        labels_of_hidden(lines, {}),
    )
    return "\n".join([caption, *filter(None, more)])


def _as_chosen(lines: pd.DataFrame) -> str:
    """What becomes of the medians where nobody can tell which attack got most."""
    others = [
        f"{line['chosen']:.3f} of {line['defense']}"
        for line in lines.to_dict("records")
        if line["images"] and abs(line["chosen"] - line["ssim"]) >= NOTABLE
    ]
    text = "by what is most likely, as an attacker would have to choose among them, SSIM is"
    return f"{text} {', '.join(others)}, and else the same" if others else f"{text} the same"


def _signals(lines: pd.DataFrame) -> str:
    """How large the gradients are beside the noise."""
    noisy = lines[lines["signal_to_noise"].notna()].to_dict("records")
    parts = [f"{line['signal_to_noise']:.3g} of {line['defense']}" for line in noisy]
    text = "|g|^2 / (entries x variance of the noise), where noise hides the more the smaller it is"
    return f"{text}:\n{', '.join(parts)}" if parts else ""


def percent(value: float, low: float, sign: str = "") -> str:
    """A share and half its interval: `95.2 ± 0.4 %`; of one seed, the share alone."""
    if isnan(value):
        return "-"
    half = "" if isnan(low) else f" ± {100 * (value - low):.1f}"
    return f"{100 * value:{sign}.1f}{half} %"


def summarize_utility(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a model, data, recipe and defense: how well it is trained with that defense.

    Columns, beside those names:
        trainings, failed: rows, and those of them that have no result.
        diverged: trainings that ended early, as a gradient was no longer finite.
        accuracy, accuracy_low, accuracy_high: mean over the seeds, with Student's interval.
        change, change_low, change_high: of accuracy, beside the undefended training of the same seed.
    """
    lines = []
    for place, part in rows.groupby(TRAINED, sort=False):
        baseline = part[part["defense"] == BASELINE].set_index("seed")["accuracy"]
        for defense in defense_order(part):
            own = part[part["defense"] == defense].set_index("seed")
            measured = with_result(own)["accuracy"]
            change = (measured - baseline).dropna()
            lines.append(
                dict(zip([*TRAINED, "defense"], [*place, defense], strict=True))
                | {
                    "trainings": len(own),
                    "failed": len(own) - len(with_result(own)),
                    "diverged": int((own["status"] == Status.DIVERGED).sum()),
                }
                | {"accuracy": measured.mean()} | ends("accuracy_", mean_interval(measured))
                | {"change": change.mean()} | ends("change_", mean_interval(change))
            )  # fmt: skip
    return pd.DataFrame(lines)


def utility_tables(rows: pd.DataFrame) -> Iterator[Table]:
    """A table for each model, data and recipe."""
    for place, lines in summarize_utility(shortened(rows)).groupby(TRAINED, sort=False):
        table = plain_table(" · ".join(map(str, place)), ("trainings", "accuracy", "change"))
        for line in lines.to_dict("records"):
            failed = f" ({line['failed']} failed)" if line["failed"] else ""
            accuracy = percent(line["accuracy"], line["accuracy_low"])
            change = percent(line["change"], line["change_low"], "+")
            table.add_row(line["defense"], f"{line['trainings']}{failed}", accuracy, change)
        put_below(table, UTILITY_CAPTION)
        yield table


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table for a Markdown file, line by line."""
    for line in (heads, ["---"] * len(heads), *lines):
        yield f"| {' | '.join(line)} |"
