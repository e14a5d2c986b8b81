"""How each defense did: one number an image, judged beside the undefended attack on that image."""

from math import isnan
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from defenses import DEFENSES

LEAK_SSIM = 0.9  # a reconstruction at least this similar counts as a leak
BASELINE = "none"
SETTING = ["dataset", "model", "attack"]  # tables and figures never mix these
VICTIM = [*SETTING, "index", "model_seed"]  # one image through one network: what is attacked


def best_of_restarts(rows: pd.DataFrame) -> pd.DataFrame:
    """For each victim and defense the restart of lowest match loss: the one an attacker would keep.

    Restarts without a result are left out; a victim and defense with none at all has no line. Adds
    the columns `leaked` and `attackable`: whether the undefended attack leaked that image.
    """
    measured = rows[rows["match_loss"].notna()]
    chosen = measured.groupby([*VICTIM, "defense"], sort=False)["match_loss"].idxmin()
    best = measured.loc[chosen].sort_index()
    best = best.assign(leaked=best["ssim"] >= LEAK_SSIM)
    baseline = best[best["defense"] == BASELINE].set_index(VICTIM)["leaked"].rename("attackable")
    return best.assign(attackable=best.join(baseline, on=VICTIM)["attackable"].eq(True))


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a defense (and data set, model and attack), weak defenses before strong ones.

    Columns, beside those names:
        trials: rows, whatever became of them.
        failed: trials without a result.
        images: those that count. Of `none` all, of a defense those that leak without it.
        excluded: images that do not leak without a defense, and so say nothing of one.
        leaked, rate, low, high: images that leaked, their share, its 95 % Wilson interval.
        ssim, psnr, mse: medians over the images that count (psnr in dB).

    The restart of lowest match loss stands for an image.
    """
    best = best_of_restarts(rows)
    order = defense_order(rows)
    lines = []
    for setting, part in rows.groupby(SETTING, sort=False):
        of_setting = best[(best[SETTING] == list(setting)).all(axis=1)]
        for defense in order:
            of_defense = part[part["defense"] == defense]
            if len(of_defense):
                names = dict(zip([*SETTING, "defense"], [*setting, defense], strict=True))
                lines.append(names | _line(of_defense, of_setting[of_setting["defense"] == defense]))
    return pd.DataFrame(lines)


def _line(rows: pd.DataFrame, best: pd.DataFrame) -> dict[str, Any]:
    counted = best[best["attackable"] | (best["defense"] == BASELINE)]
    images, leaked = len(counted), int(counted["leaked"].sum())
    low, high = wilson_interval(leaked, images)
    return {
        "trials": len(rows),
        "failed": int(rows["match_loss"].isna().sum()),
        "images": images,
        "excluded": len(best) - images,
        "leaked": leaked,
        "rate": leaked / images if images else float("nan"),
        "low": low,
        "high": high,
        **{name: counted[name].median() for name in ("ssim", "psnr", "mse")},
    }


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share; (0, 1) where nothing was tried."""
    if trials == 0:
        return 0.0, 1.0
    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


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
