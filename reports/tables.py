"""The tables of a run for a terminal: how each defense and each attack did."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from rich.table import Table

from leakbench.bench.verdicts import Scale
from leakbench.core.words import counted as how_many
from leakbench.reports.alone import SPARED
from leakbench.reports.flags import flag_lines
from leakbench.reports.labels import labels_of_hidden
from leakbench.reports.names import short_attacks, short_names, title
from leakbench.reports.selection import counted
from leakbench.reports.setting import Setting
from leakbench.reports.summary import by_count
from leakbench.reports.terminal import plain_table, put_below

NOTABLE = 0.005  # of SSIM or ROUGE-L: smaller differences are not reported
_SINGLE = "1 start: the share of single starts that leak"


def terminal_tables(settings: Sequence[Setting]) -> Iterator[Table]:
    """A table for each dataset, model and protocol of a run, with its flags below; see `flags`.

    With several attacks the strongest decides, and a table above shows each attack alone.
    """
    names = short_names(name for each in settings for name in each.rows["defense"].unique())
    for setting in settings:
        if setting.several:
            yield _attack_table(setting, names)
        yield _terminal_table(setting, names)


def _attack_table(setting: Setting, names: Mapping[str, str]) -> Table:
    attacks = short_attacks(setting.rows)
    cells = setting.alone.rename(index=names, columns=attacks)
    heads = [name.replace("(", "(\n").replace("=", "\n=") for name in cells.columns]
    table = plain_table(title(setting.rows, attacks), heads)
    say = setting.scale.modality.said
    text = say("each attack alone: the median SSIM of all images")
    if cells.map(lambda cell: cell == SPARED or " of " in cell).any(axis=None):
        text += say(
            "; (3): results for only 3 images; the others had\n"
            "leaked to an earlier attack, or their trials failed or have not run"
        )
    cells = cells.replace(r" of \d+\)", ")", regex=True)
    put_below(table, f"{text}\n")
    for defense, values in cells.iterrows():
        table.add_row(str(defense), *values)
    return table


def _terminal_table(setting: Setting, names: Mapping[str, str]) -> Table:
    several, scale = setting.several, setting.scale
    lines = setting.lines.assign(defense=setting.lines["defense"].map(names))
    partial = [each.title.replace(" ", "\n") for each in scale.modality.partial]
    third = "by" if several else "1 start"
    columns = ("leaked", "95 % CI", third, scale.title, *partial, "label", "verdict")
    name = title(setting.rows)
    table = plain_table(f"{name}: the strongest" if several else name, columns)
    raised = [replace(each, defense=names[each.defense]) for each in setting.raised]
    told = ["docs/FLAGS.md explains these flags"] if raised else []
    below = [_caption(lines, scale, several), *flag_lines(raised, len(lines)), *told]
    put_below(table, "\n".join(below))
    by = _strongest(setting.best, short_attacks(setting.rows))
    thirds = setting.lines["defense"].map(by) if several else lines["single"].map(_share)
    for line, third in zip(lines.to_dict("records"), thirds, strict=True):
        table.add_row(line["defense"], *_cells(line, third, scale))
    return table


def _share(share: float) -> str:
    return f"{100 * share:.0f}%"


def _strongest(best: pd.DataFrame, attacks: Mapping[str, str]) -> dict[str, str]:
    """{defense: `adaptive`, or `adaptive +` if other attacks were strongest on some images}."""
    found = {}
    for defense, own in counted(best).groupby("defense")["attack"]:
        first, *others = by_count(own.map(attacks))
        found[str(defense)] = first + (" +" if others else "")
    return found


def _cells(line: dict[Hashable, Any], third: str, scale: Scale) -> list[str]:
    labels = f"{line['labels']}/{line['labelled']}"
    partial = [each.column for each in scale.modality.partial]
    if not line["images"]:
        return ["0/0", *["-"] * (3 + len(partial)), labels, "-"]
    return [
        f"{line['leaked']}/{line['images']}",
        f"{100 * line['low']:.0f}-{100 * line['high']:.0f}%",
        third,
        f"{line[scale.column]:.3f}",
        *(_share(line[name]) for name in partial),
        labels,
        line["verdict"],
    ]


def _caption(lines: pd.DataFrame, scale: Scale, several: bool) -> str:
    most = scale.modality.name
    third = f"by: the attack that is strongest on most {most} (+: others on some)" if several else _SINGLE
    kind = scale.modality
    partial = "".join(f"\n{each.title}: {each.meaning}" for each in kind.partial)
    caption = (
        f"leaked: {kind.name} rebuilt with {scale.title} >= {scale.leak:g}, of those that leak without a"
        f" defense; the start of lowest objective counts\n{third}; {scale.title}: the median;"
        f" artifacts: {scale.artifacts:g} or more{partial}\n"
        f"label: {kind.name} whose label was recovered, out of all with a result"
    )
    excluded = int(lines["excluded"].max())
    if excluded:
        caption += f"\n{how_many(excluded, kind.one)} excluded: not rebuilt even without a defense"
    failed = [
        f"{line['failed']} of {line['trials']} trials of {line['defense']}"
        for line in lines[lines["failed"] > 0].to_dict("records")
    ]
    more = (
        f"failed: {', '.join(failed)}" if failed else "",
        _as_chosen(lines, scale) if several else "",
        _signals(lines),
        labels_of_hidden(lines, {}, kind),
    )
    return "\n".join([caption, *filter(None, more)])


def _as_chosen(lines: pd.DataFrame, scale: Scale) -> str:
    """The medians of the results that an attacker would choose, where they differ."""
    others = [
        f"{line['chosen']:.3f} for {line['defense']}"
        for line in lines.to_dict("records")
        if line["images"] and abs(line["chosen"] - line[scale.column]) >= NOTABLE
    ]
    text = f"{scale.title} of the most likely result, which an attacker would choose:"
    return f"{text} {', '.join(others)}; otherwise the same" if others else f"{text} the same"


def _signals(lines: pd.DataFrame) -> str:
    """How large the gradients are compared with the noise."""
    noisy = lines[lines["signal_to_noise"].notna()].to_dict("records")
    parts = [f"{line['signal_to_noise']:.3g} for {line['defense']}" for line in noisy]
    text = "|g|^2 / (entries x variance of the noise); the smaller, the more the noise hides"
    return f"{text}:\n{', '.join(parts)}" if parts else ""
