"""How each defense did: one number an image, judged beside the undefended attack on that image."""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import inf, isnan, nan
from typing import Any

import pandas as pd

from leakbench.bench.attacks import Status
from leakbench.bench.verdicts import Scale, Verdict
from leakbench.defenses import DEFENSES
from leakbench.reports.statistics import Interval, median_interval, wilson

BASELINE = "none"
SETTING = ["dataset", "model", "protocol"]  # tables and figures never mix these
VICTIM = [*SETTING, "index", "model_seed"]  # one image through one network: what is attacked
_FILE = re.compile(r"^[^()]*\.py:")
SPARED = "not needed"
MEDIANS = ("ssim", "psnr", "mse")


def with_result(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of trials, or of trainings, that did not fail."""
    statuses = [each.value for each in Status if each.has_result]
    return rows[rows["status"].isin(statuses)]


def kept_starts(rows: pd.DataFrame) -> pd.DataFrame:
    """For each attack, victim and defense the start of lowest objective: the one its attacker would keep.

    Starts without a result are left out; what has none at all has no line.
    """
    measured = with_result(rows)
    # an attack that minimises nothing has no objective: of its starts the first stands
    loss = measured["objective"].fillna(inf)
    places = [measured[name] for name in (*VICTIM, "attack", "defense")]
    return measured.loc[loss.groupby(places, sort=False).idxmin()].sort_index()


def strongest(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """For each victim and defense the attack that got most of the picture, by the start that it would keep.

    A defense is worth what the strongest attack leaves of it; the column `attack` says which that was.
    Adds the columns `leaked` and `attackable`: whether any attack leaked that image without a defense.
    """
    best = _most(kept_starts(rows), [*VICTIM, "defense"])
    best = best.assign(leaked=best["ssim"] >= scale.leak)
    return best.assign(attackable=_leaks_without(best, VICTIM, best))


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """For each victim and defense what an attacker would choose, who does not know which attack got most.

    The most likely of what the attacks got, by one measure for all of them: `bench.posterior`. An attack
    that gives no labels has none, and is chosen where there is no other.
    """
    kept = kept_starts(rows)
    value = kept["neg_log_posterior"].fillna(inf)
    places = [kept[name] for name in (*VICTIM, "defense")]
    return kept.loc[value.groupby(places, sort=False).idxmin()].sort_index()


def attacks_alone(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """The median SSIM of all images by each attack alone, as text: rows by defense, a column an attack.

    Those come first that attacked most.
    `0.512 (3 of 20)` where the attack has a result for some of them only, SPARED where every image had
    leaked to another attack and was not attacked again.
    """
    kept, best = kept_starts(rows), strongest(rows, scale)
    counts = rows.drop_duplicates([*VICTIM, "defense", "attack"])["attack"].value_counts(sort=False)
    attacks = list(counts.sort_values(ascending=False, kind="stable").index)
    defenses = defense_order(rows)
    own = kept.groupby(["defense", "attack"])["ssim"].agg(["median", "count"]).to_dict("index")
    tried = set(zip(rows["defense"], rows["attack"], strict=True))
    images = best["defense"].value_counts()
    all_leaked = best.groupby("defense")["leaked"].all()

    def cell(defense: str, attack: str) -> str:
        if (defense, attack) not in own:
            spared = (defense, attack) not in tried and bool(all_leaked.get(defense, False))
            return SPARED if spared else "-"
        median, count = own[defense, attack].values()
        return f"{median:.3f}" + (f" ({count} of {images[defense]})" if count < images[defense] else "")

    cells = [[cell(defense, attack) for attack in attacks] for defense in defenses]
    return pd.DataFrame(cells, index=defenses, columns=attacks)


def _most(rows: pd.DataFrame, place: list[str]) -> pd.DataFrame:
    """The row of highest score at each place; of equal ones the first."""
    return rows.loc[rows.groupby(place, sort=False)["score"].idxmax()].sort_index()


def first_victim(best: pd.DataFrame) -> pd.DataFrame:
    """The lines of the first image, and of the weights it was attacked with."""
    return best[is_of(best, VICTIM, list(best[VICTIM].iloc[0]))]


def counted(best: pd.DataFrame) -> pd.DataFrame:
    """The lines that count: of `none` all, of a defense those of images that leak without it."""
    return best[best["attackable"] | (best["defense"] == BASELINE)]


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
    likely = likely.assign(attackable=_leaks_without(best, VICTIM, likely))
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


def is_of(rows: pd.DataFrame, columns: list[str], values: Sequence[Any]) -> pd.Series:
    """Which rows have these values there."""
    return (rows[columns] == list(values)).all(axis=1)


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


def label_line(best: pd.DataFrame) -> dict[str, Any]:
    """What leaked of the labels: of every image that has a result."""
    known = best["label_correct"].dropna()
    labels, labelled = int(known.sum()), len(known)
    return {
        "labels": labels,
        "labelled": labelled,
        **ends("labels_", wilson(labels / labelled if labelled else nan, labelled)),
        "chance": 1 / float(best["classes"].max()) if labelled else nan,
    }


def label_leaks(line: Mapping[Any, Any]) -> bool:
    """Whether the labels of such a line were recovered more often than by chance."""
    return bool(line["labelled"] and line["labels_low"] > line["chance"])


def labels_of_hidden(lines: pd.DataFrame, names: Mapping[str, str]) -> str:
    """`image hidden, label leaks in 20 of 20: int8` for those where it is so; empty where there are none."""
    parts: dict[str, list[str]] = {}
    for line in lines.to_dict("records"):
        hidden = line["verdict"] == Verdict.NONE and line["defense"] != BASELINE
        if hidden and label_leaks(line):
            share = f"{line['labels']} of {line['labelled']}"
            parts.setdefault(share, []).append(names.get(line["defense"], line["defense"]))
    return "; ".join(
        f"image hidden, label leaks in {share}: {', '.join(own)}" for share, own in parts.items()
    )


def ends(prefix: str, interval: Interval) -> dict[str, float]:
    """An interval as two columns."""
    return {f"{prefix}low": interval.low, f"{prefix}high": interval.high}


def _starts(rows: pd.DataFrame, best: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """Of every start the strongest attack with a result, beside the undefended one of the same start.

    Adds `leaked`, `attackable` (as of the best starts), `paired` (whether that trial leaked) and
    `drop`, the SSIM that the defense took from it.
    """
    place = [*VICTIM, "start"]
    measured = _most(with_result(rows), [*place, "defense"])
    starts = measured.assign(leaked=measured["ssim"] >= scale.leak)
    baseline = starts[starts["defense"] == BASELINE].set_index(place)["ssim"].rename("undefended")
    undefended = starts.join(baseline, on=place)["undefended"]
    return starts.assign(
        attackable=_leaks_without(best, VICTIM, starts),
        paired=_leaks_without(starts, place, starts),
        drop=undefended - starts["ssim"],
    )


def _leaks_without(leaks: pd.DataFrame, place: list[str], rows: pd.DataFrame) -> pd.Series:
    """For each of the rows, whether the undefended attack leaked at its place."""
    baseline = leaks[leaks["defense"] == BASELINE].set_index(place)["leaked"].rename("undefended")
    return rows.join(baseline, on=place)["undefended"].eq(True)


def title(rows: pd.DataFrame) -> str:
    """What rows of one setting are of: `cifar10-sample · lenet · fedsgd · dlg, adaptive`."""
    return " · ".join([*map(str, rows[SETTING].iloc[0]), ", ".join(rows["attack"].unique())])


def defense_order(rows: pd.DataFrame) -> list[str]:
    """The defenses of the rows: as in the registry, then others; within a family by strength."""
    registered = list(DEFENSES)
    families = list(dict.fromkeys(each.family or each.name for each in registered))
    names = [each.name for each in registered]

    def place(defense: str, family: str, strength: float) -> tuple[Any, ...]:
        name = defense.partition("(")[0]
        return (
            families.index(family) if family in families else len(families),
            family,
            -1.0 if isnan(strength) else strength,
            names.index(name) if name in names else len(names),
            defense,
        )

    known = rows[["defense", "family", "strength"]].drop_duplicates("defense")
    places = sorted(place(*line) for line in known.itertuples(index=False))
    return [str(line[-1]) for line in places]


def short_names(defenses: Iterable[str]) -> dict[str, str]:
    """{defense: its name without the user's file that it is from}, where that tells them apart."""
    full = list(dict.fromkeys(defenses))
    short = [_FILE.sub("", name) for name in full]
    return {name: own if short.count(own) == 1 else name for name, own in zip(full, short, strict=True)}


def shortened(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with short names of defenses, as they are shown."""
    families = short_names(rows["family"])
    return rows.assign(
        defense=rows["defense"].map(short_names(rows["defense"])), family=rows["family"].map(families)
    )


def short_attacks(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with attacks by their bare names, where those tell them apart."""
    full = list(rows["attack"].unique())
    bare = [_FILE.sub("", name).partition("(")[0] for name in full]
    names = {name: own if bare.count(own) == 1 else name for name, own in zip(full, bare, strict=True)}
    return rows.assign(attack=rows["attack"].map(names))
