"""How each defense did: one number per image, compared with the undefended attack on that image."""

from itertools import product
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
    judged,
    kept_starts,
    leaks_without,
    most,
    scored,
    with_result,
)
from leakbench.reports.statistics import ends, median_interval, wilson


def summarize(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """One line per defense (and dataset, model and protocol), weak defenses before strong ones.

    For each image the strongest attack decides: see `strongest`.

    Columns, in addition to these names, `family` and `strength`:
        trials: all rows, with or without a result.
        failed: trials without a result.
        images: those that count, if their truth is known: all for `none`; for a defense, those that leak
            without it.
        excluded: images that do not leak without a defense, and so say nothing about one.
        leaked, rate, low, high: images that leaked to the strongest attack, their share, its interval.
        single, single_low, single_high: share of single starts that leaked, by any attack.
        by: the strongest attacks and on how many images, most frequent first: `adaptive 15, dlg 5`.
        threat: what these attacks knew: `defense` if any of them knew the defense, else `nothing`.
        labels, labelled: images whose label was recovered, out of all with a result: a label may leak
            even if the image does not, with or without a defense.
        labels_low, labels_high, chance: the interval of that share, and the share that guessing would get.
        chosen: median SSIM (here and below: of texts ROUGE-L) of the results that an attacker would choose:
            see `chosen`.
        signal_to_noise: median |g|^2 / (entries x variance of the noise on each); NaN without noise.
        ssim, psnr, mse: medians over the images that count (psnr in dB), with NAME_low, NAME_high; of texts
            rouge_l, token_accuracy, bag_recall: see `Modality.medians`.
        words_leak, words_leak_low, words_leak_high: of texts alone, the share of those that count of which
            words leak, and its interval: see `Modality.partial`.
        drop, drop_low, drop_high: median over images of the SSIM that the defense took away, compared with
            the undefended attack on the same image and weights from the same start, if that leaked.
        verdict: the verdict on the median SSIM; empty if no image counts.

    Intervals: `reports.statistics`.
    """
    kept = kept_starts(rows)
    return summary(rows, kept, judged(kept, scale), scale)


def summary(rows: pd.DataFrame, kept: pd.DataFrame, best: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """The lines of `summarize`, from the `kept_starts` and `strongest` of these rows."""
    likely = chosen(kept)
    likely = likely.assign(attackable=leaks_without(best, VICTIM, likely))
    place = [*SETTING, "defense"]
    tables = (rows, best, _starts(rows, best, scale), likely)
    parts = [(dict(iter(each.groupby(place, sort=False))), each.iloc[:0]) for each in tables]
    settings, order = rows[SETTING].drop_duplicates().itertuples(index=False), defense_order(rows)
    lines = []
    for values in ((*setting, defense) for setting, defense in product(settings, order)):
        if values in parts[0][0]:
            own, *mine = [part.get(values, nothing) for part, nothing in parts]
            about = own.iloc[0][["defense_name", "family", "strength"]].to_dict()
            line = _line(own, mine[0], mine[1], mine[2], scale)
            lines.append(dict(zip(place, values, strict=True)) | about | line)
    return pd.DataFrame(lines)


def _line(
    rows: pd.DataFrame, best: pd.DataFrame, starts: pd.DataFrame, likely: pd.DataFrame, scale: Scale
) -> dict[str, Any]:
    of_images = counted(best)
    images, leaked = len(of_images), int(of_images["leaked"].sum())
    rate = leaked / images if images else nan
    single = counted(starts).groupby(VICTIM)["leaked"].mean()
    drop = starts[starts["paired"]].groupby(VICTIM)["drop"].median()
    medians = {name: of_images[name].median() for name in scale.modality.medians}
    partial = {each.column: of_images[each.column].mean() for each in scale.modality.partial}
    return {
        "trials": len(rows),
        "failed": len(rows) - len(with_result(rows)),
        "images": images,
        "excluded": len(scored(best)) - images,
        "leaked": leaked,
        "rate": rate,
        **ends("", wilson(rate, images)),
        "single": single.mean(),
        **ends("single_", wilson(single.mean(), len(single))),
        "by": _deciding(of_images["attack"]),
        "threat": "defense" if of_images["threat"].str.contains("defense").fillna(False).any() else "nothing",
        **label_line(best),
        "chosen": counted(likely)[scale.column].median(),
        "signal_to_noise": of_images["signal_to_noise"].median(),
        **medians,
        **{
            end: v
            for name in medians
            for end, v in ends(f"{name}_", median_interval(of_images[name])).items()
        },
        **partial,
        **{
            end: v
            for name, share in partial.items()
            for end, v in ends(f"{name}_", wilson(share, images)).items()
        },
        "drop": drop.median(),
        **ends("drop_", median_interval(drop)),
        "verdict": scale.verdict(medians[scale.column]).value if images else "",
    }


def _deciding(attacks: pd.Series) -> str:
    """`adaptive 15, dlg 5`: how often each of the attacks was the strongest."""
    return ", ".join(f"{attack} {count}" for attack, count in by_count(attacks).items())


def by_count(attacks: pd.Series) -> dict[str, int]:
    """{attack: how often it occurs}, most frequent first."""
    counts = attacks.value_counts().items()
    return dict(sorted(((str(name), count) for name, count in counts), key=lambda each: (-each[1], each[0])))


def by_attack(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """The lines of `summarize` for each attack alone, with its name in the column `attack`."""
    parts = [
        summarize(own, scale).assign(attack=attack) for attack, own in rows.groupby("attack", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def _starts(rows: pd.DataFrame, best: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """For every start, the strongest attack with a result, compared with the undefended one.

    Adds `leaked`, `attackable` (as for the best starts), `paired` (whether the undefended attack leaked
    from the same start) and `drop`, the SSIM that the defense took away from it.
    """
    place = [*VICTIM, "start"]
    measured = most(with_result(rows), [*place, "defense"])
    starts = measured.assign(leaked=measured[scale.column] >= scale.leak)
    baseline = starts[starts["defense"] == BASELINE].set_index(place)[scale.column].rename("undefended")
    undefended = starts[place].join(baseline, on=place)["undefended"]
    return starts.assign(
        attackable=leaks_without(best, VICTIM, starts),
        paired=leaks_without(starts, place, starts),
        drop=undefended - starts[scale.column],
    )
