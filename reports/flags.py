"""Flags: reasons to doubt a line of a table; docs/FLAGS.md explains each."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from leakbench.bench.attacks import Knows, Status
from leakbench.bench.verdicts import Scale
from leakbench.core.words import counted as how_many
from leakbench.reports.names import defense_order
from leakbench.reports.selection import BASELINE, counted, rebuilt_inputs, scored, strongest, with_result
from leakbench.reports.summary import summarize

BASELINE_SHARE = 0.8  # of the images must leak without a defense
FEWEST_IMAGES = 10  # images that count
UNFINISHED_SHARE = 0.2  # of the images may end without a leak while the match loss still falls
FALLING = 0.01  # relative fall of the loss in the last tenth of the steps
SMALL_MATCH = 1e-4  # match loss relative to the squared norm of the shared gradient
HARD = 0.1  # of SSIM, between the strongest result and the one that an attacker would choose
SMALLEST_NORM = 1e-3  # below it, a gradient of zeros counts as matched: the root of the attack's `stop_loss`


Histories = Callable[[Collection[str]], dict[str, np.ndarray]]


class Flag(StrEnum):
    """A reason for doubt."""

    BASELINE_FAILED = "BASELINE_FAILED"
    FEW_TRIALS = "FEW_TRIALS"
    NON_FINITE = "NON_FINITE"
    NOT_CONVERGED = "NOT_CONVERGED"
    ZERO_GRADIENT = "ZERO_GRADIENT"
    LOSS_IMAGE_DISAGREE = "LOSS_IMAGE_DISAGREE"
    INPUT_REBUILT = "INPUT_REBUILT"
    NOT_ADAPTIVE = "NOT_ADAPTIVE"
    HARD_TO_CHOOSE = "HARD_TO_CHOOSE"


MEANINGS = {  # raised if, and what it means
    Flag.BASELINE_FAILED: (
        "fewer than 80 % of the images leak without a defense, by any attack from the start that it would"
        " keep, or no undefended trial has a result",
        "No attack works here, so what looks like an effect of the defense may come from the model, the"
        " data or the attacks' settings. Before you judge a defense, use a stronger attack or a `suite`,"
        " more `restarts` or `steps`, other `weights`, or another model.",
    ),
    Flag.FEW_TRIALS: (
        "fewer than 10 images count (for a defense, only images that leak without it count)",
        "The interval is wide. 0 of 9 images still allows a rate of 30 %. Add images.",
    ),
    Flag.NON_FINITE: (
        "the attack's objective (for `dlg`, the match loss) was NaN or infinite at some step of a trial",
        "Numbers overflowed. This happens when a start diverges, with or without a defense. If it happens"
        " only with the defense, the defense may produce huge gradients; it then broke the attack without"
        " hiding the image.",
    ),
    Flag.NOT_CONVERGED: (
        "for more than a fifth of the images that count, the best start reached the limit of `steps`"
        " without a leak while its match loss was still falling, by more than 1 % in the last tenth of its"
        " steps",
        "A more patient attacker may get further. Raise `steps` until the flag is gone.",
    ),
    Flag.ZERO_GRADIENT: (
        "a trial's gradient had an L2 norm below 1e-3 before the defense, or of exactly 0 after it",
        "There was almost nothing to attack. The gradient is so small that an all-zero gradient already"
        " counts as matched (match loss 1e-6), so the attack stops at once. Possible causes are saturated"
        " weights, a model that is certain of its answer, or a defense that removes everything. Try other"
        " `weights`, such as `default`. An attacker who knows the label may still get the image.",
    ),
    Flag.LOSS_IMAGE_DISAGREE: (
        "the match loss fell to 1e-4 of the squared norm of the shared gradient, but the image still"
        " shows nothing (SSIM below the threshold for artifacts)",
        "The gradients match, but the images differ. Several images can have nearly the same gradient,"
        " for example in a deep network with saturated units, or if most of the gradient was removed. A"
        " small match loss does not show that an attack worked, and a wrong image does not show that a"
        " defense worked.",
    ),
    Flag.INPUT_REBUILT: (
        "the defense changed the images before they entered the network, and an attack rebuilt the changed"
        " ones (SSIM of a leak), but not the images themselves",
        "The gradient hid nothing. All that protects these images is that their change cannot be undone,"
        " and the attack undid no more of it than the defense's `restore_batch` says. A mixture or an"
        " encoding may still be read by an attack made for it, and a person may recognise a changed image"
        " whose SSIM is low: look at the pictures.",
    ),
    Flag.NOT_ADAPTIVE: (
        "an attack that knows defenses had no information about this one, because the defense has no"
        " `account`",
        "The attack treated the gradient as undefended. An attack that knows the defense may do better."
        " Describe in `account` what can be seen of the defense from outside, or write such an attack.",
    ),
    Flag.HARD_TO_CHOOSE: (
        "the median SSIM of the results that an attacker would choose among the attacks is lower by 0.1"
        " or more than that of the strongest attack",
        "The verdict takes the strongest attack on each image, but only someone who knows the image can"
        " say which attack that is. An attacker knows only how well each result explains the shared"
        " gradient and how smooth it is, and would often choose another result. The verdict is what a"
        " defender must expect in the worst case, not what this attacker would get.",
    ),
}


@dataclass(frozen=True)
class Raised:
    """A flag, where it was raised, and the count that raised it."""

    flag: Flag
    defense: str
    detail: str


def flags(rows: pd.DataFrame, scale: Scale, histories: Histories) -> list[Raised]:
    """The flags of one dataset, model and protocol, in the order of the defenses.

    Args:
        rows: rows of that one setting.
        scale: what counts as a leak.
        histories: see `Store.histories`.
    """
    return raised(rows, strongest(rows, scale), summarize(rows, scale), scale, histories)


def raised(
    rows: pd.DataFrame, best: pd.DataFrame, lines: pd.DataFrame, scale: Scale, histories: Histories
) -> list[Raised]:
    """The same, from the `strongest` and `summarize` of these rows."""
    stopped = histories(list(best.loc[best["status"] == Status.BUDGET, "key"]))
    falling = [key for key, history in stopped.items() if is_falling(history)]
    best = best.assign(falling=best["key"].isin(falling))
    found = [
        Raised(flag, defense, detail)
        for defense in defense_order(rows)
        for flag, detail in _of_defense(
            rows[rows["defense"] == defense], best[best["defense"] == defense], scale
        )
    ]
    for line in lines.to_dict("records"):
        score = line[scale.column]
        if line["chosen"] <= score - HARD:
            text = f"{scale.title} {score:.3f}, but {line['chosen']:.3f} for what an attacker would choose"
            found.append(Raised(Flag.HARD_TO_CHOOSE, line["defense"], text))
    text = "the attack knew nothing about it, because it has no `account`"
    untold = _untold(rows)
    return found + [Raised(Flag.NOT_ADAPTIVE, each, text) for each in defense_order(rows) if each in untold]


def flag_lines(raised: Sequence[Raised], defenses: int) -> Iterator[str]:
    """`FLAG: detail (which defenses)`, one line for all that share a detail, out of that many defenses.

    BASELINE_FAILED names no defense: it is about the undefended attack.
    """
    places: dict[tuple[Flag, str], list[str]] = {}
    for each in raised:
        places.setdefault((each.flag, each.detail), []).append(each.defense)
    for (flag, detail), own in places.items():
        who = "every defense" if len(own) == defenses > 1 else ", ".join(own)
        yield f"{flag}: {detail}" + ("" if flag == Flag.BASELINE_FAILED else f" ({who})")


def is_falling(history: np.ndarray) -> bool:
    """Whether the lowest objective so far still fell in the last tenth of the steps, if there are any."""
    if not len(history):
        return False
    lowest = np.fmin.accumulate(history)
    earlier = max(len(lowest) - 1 - max(len(lowest) // 10, 1), 0)
    return bool(lowest[-1] < (1 - FALLING) * lowest[earlier])


def _of_defense(rows: pd.DataFrame, best: pd.DataFrame, scale: Scale) -> Iterator[tuple[Flag, str]]:
    """Flags of one defense, from all its rows and from those of the best starts."""
    one, name = scale.modality.one, scale.modality.name
    leaked, images = int(best["leaked"].sum()), len(scored(best))
    if (rows["defense"] == BASELINE).all() and (best.empty or leaked < BASELINE_SHARE * images):
        none = "" if images else f": none of {len(rows)} undefended trials has a result"
        yield Flag.BASELINE_FAILED, f"{leaked} of {images} {name} leak without a defense{none}"
    of_images = counted(best)
    if len(of_images) < FEWEST_IMAGES:
        yield Flag.FEW_TRIALS, f"{how_many(len(of_images), one)} counted, expected {FEWEST_IMAGES} or more"
    broken = int((~rows["finite"].fillna(True)).sum())
    if broken:
        yield Flag.NON_FINITE, f"{broken} of {len(rows)} trials had an objective that is NaN or infinite"
    unfinished = int((of_images["falling"] & ~of_images["leaked"]).sum())
    if unfinished > UNFINISHED_SHARE * len(of_images):
        text = (
            f"the steps ran out for {unfinished} of {how_many(len(of_images), one)} while the match loss fell"
        )
        yield Flag.NOT_CONVERGED, text
    silent = int(((rows["gradient_norm"] < SMALLEST_NORM) | (rows["shared_norm"] == 0)).sum())
    if silent:
        yield Flag.ZERO_GRADIENT, f"{silent} of {len(rows)} trials had a gradient that is zero, or nearly"
    matched = best["match_loss"] <= SMALL_MATCH * best["shared_norm"] ** 2
    misled = int((matched & (best[scale.column] < scale.artifacts)).sum())
    if misled:
        yield Flag.LOSS_IMAGE_DISAGREE, f"{how_many(misled, one)} wrong though the gradients match"
    rebuilt = int(rebuilt_inputs(rows, best, scale).sum())
    if rebuilt:
        text = f"{how_many(rebuilt, one)} rebuilt as they entered the network, but not as they were before"
        yield Flag.INPUT_REBUILT, text


def _untold(rows: pd.DataFrame) -> set[str]:
    """The defenses that an attack knew nothing about, although it knew something about others."""
    told = rows["threat"].str.contains(Knows.DEFENSE.value).fillna(False)
    asks = rows["attack"].isin(rows.loc[told, "attack"])
    measured = with_result(rows[asks])
    return set(measured["defense"]) - set(rows.loc[told, "defense"])
