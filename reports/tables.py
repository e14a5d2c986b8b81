"""The tables of a run for a terminal: how each defense did, and what each attack got."""

from collections.abc import Hashable, Iterator
from typing import Any

import pandas as pd
from rich.table import Table

from leakbench.bench.verdicts import Scale
from leakbench.reports.alone import SPARED, attacks_alone
from leakbench.reports.flags import Histories, flag_lines, flags
from leakbench.reports.labels import labels_of_hidden
from leakbench.reports.names import short_attacks, shortened, title
from leakbench.reports.selection import SETTING
from leakbench.reports.summary import summarize
from leakbench.reports.terminal import plain_table, put_below

NOTABLE = 0.005  # of SSIM: smaller differences are not told
_SINGLE = "1 start: the share of single starts that leak"


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
