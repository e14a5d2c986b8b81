"""How each defense did: one number an image, judged beside the undefended attack on that image."""

from math import nan
from typing import Any

import pandas as pd

from leakbench.bench.verdicts import Scale
from leakbench.reports.labels import label_line
from leakbench.reports.names import defense_order
from leakbench.reports.selection import (
    BASELINE,
    SETTING,
    VICTIM,
    chosen,
    counted,
    is_of,
    leaks_without,
    most,
    strongest,
    with_result,
)
from leakbench.reports.statistics import ends, median_interval, wilson

MEDIANS = ("ssim", "psnr", "mse")


def summarize(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """One line a defense (and data set, model and protocol), weak defenses before strong ones.

    Of several attacks the strongest decides, for each image by itself: see `strongest`.

    Columns, beside those names, `family` and `strength`:
        trials: rows, whatever became of them.
        failed: trials without a result.
        images: those that count. Of `none` all, of a defense those that leak without it.
        excluded: images that do not leak without a defense, and so say nothing of one.
        leaked, rate, low, high: images that leaked by the best of their starts, their share, its interval.
        single, single_low, single_high: share of single starts that leaked, by any attack.
        by: the attacks that got most and of how many images, the most frequent first: `adaptive 15, dlg 5`.
        threat: what those were told besides: `defense` if any of them was, else `nothing`.
        labels, labelled: images whose label was recovered, of all that have a result: a label may leak
            where the image does not, with or without a defense.
        labels_low, labels_high, chance: the interval of that share, and the share that guessing would get.
        chosen: median SSIM of what an attacker would choose among the attacks: see `chosen`.
        signal_to_noise: median |g|^2 / (entries x variance of the noise on each); NaN without noise.
        ssim, psnr, mse: medians over the images that count (psnr in dB), with NAME_low, NAME_high.
        drop, drop_low, drop_high: median over images of the SSIM that the defense took away, beside
            the undefended attack on the same image and weights from the same start, where that leaked.
        verdict: of the median SSIM.

    Intervals: `reports.statistics`.
    """
    best = strongest(rows, scale)
    starts = _starts(rows, best, scale)
    likely = chosen(rows)
    likely = likely.assign(attackable=leaks_without(best, VICTIM, likely))
    order = defense_order(rows)
    lines = []
    for setting, part in rows.groupby(SETTING, sort=False):
        for defense in order:
            own = part[part["defense"] == defense]
            if len(own):
                place, values = [*SETTING, "defense"], [*setting, defense]
                names = dict(zip(place, values, strict=True))
                first = own.iloc[0]
                mine = [each[is_of(each, place, values)] for each in (best, starts, likely)]
                about = {"family": first["family"], "strength": first["strength"]}
                lines.append(names | about | _line(own, mine[0], mine[1], mine[2], scale))
    return pd.DataFrame(lines)


def _line(
    rows: pd.DataFrame, best: pd.DataFrame, starts: pd.DataFrame, likely: pd.DataFrame, scale: Scale
) -> dict[str, Any]:
    of_images = counted(best)
    images, leaked = len(of_images), int(of_images["leaked"].sum())
    rate = leaked / images if images else nan
    single = counted(starts).groupby(VICTIM)["leaked"].mean()
    drop = starts[starts["paired"]].groupby(VICTIM)["drop"].median()
    medians = {name: of_images[name].median() for name in MEDIANS}
    return {
        "trials": len(rows),
        "failed": len(rows) - len(with_result(rows)),
        "images": images,
        "excluded": len(best) - images,
        "leaked": leaked,
        "rate": rate,
        **ends("", wilson(rate, images)),
        "single": single.mean(),
        **ends("single_", wilson(single.mean(), len(single))),
        "by": _deciding(of_images["attack"]),
        "threat": "defense" if (of_images["threat"] == "defense").any() else "nothing",
        **label_line(best),
        "chosen": counted(likely)["ssim"].median(),
        "signal_to_noise": of_images["signal_to_noise"].median(),
        **medians,
        **{
            end: v
            for name in MEDIANS
            for end, v in ends(f"{name}_", median_interval(of_images[name])).items()
        },
        "drop": drop.median(),
        **ends("drop_", median_interval(drop)),
        "verdict": scale.verdict(medians["ssim"]).value if images else "",
    }


def _deciding(attacks: pd.Series) -> str:
    """How often each of the attacks was the strongest."""
    counts = sorted(attacks.value_counts().items(), key=lambda each: (-each[1], str(each[0])))
    return ", ".join(f"{attack} {count}" for attack, count in counts)


def by_attack(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """The lines of `summarize` for each attack alone, with its name in the column `attack`."""
    parts = [
        summarize(own, scale).assign(attack=attack) for attack, own in rows.groupby("attack", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def _starts(rows: pd.DataFrame, best: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """Of every start the strongest attack with a result, beside the undefended one of the same start.

    Adds `leaked`, `attackable` (as of the best starts), `paired` (whether that trial leaked) and
    `drop`, the SSIM that the defense took from it.
    """
    place = [*VICTIM, "start"]
    measured = most(with_result(rows), [*place, "defense"])
    starts = measured.assign(leaked=measured["ssim"] >= scale.leak)
    baseline = starts[starts["defense"] == BASELINE].set_index(place)["ssim"].rename("undefended")
    undefended = starts.join(baseline, on=place)["undefended"]
    return starts.assign(
        attackable=leaks_without(best, VICTIM, starts),
        paired=leaks_without(starts, place, starts),
        drop=undefended - starts["ssim"],
    )
