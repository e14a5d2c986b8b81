"""Texts: the paper's attack step by step, and what defenses leave of sentences, with their cost."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from leakbench.bench.modalities import TEXTS
from leakbench.bench.verdicts import Scale
from leakbench.reports.interlinear import Group, Line, draw_groups
from leakbench.reports.markdown import markdown
from leakbench.reports.selection import SETTING
from leakbench.reports.statistics import ends, median_interval, percent, with_interval
from leakbench.reports.style import caption
from leakbench.reports.summary import summarize
from leakbench.reports.utility import summarize_utility
from leakbench.sweeps.store import Store

STEPS = (0, 10, 20, 30)  # that the paper shows
SHOWN = 3  # sentences
Lines = Iterator[str]


def draw_steps(store: Store, rows: pd.DataFrame) -> Figure:
    """What the first attacks of a run had found at the paper's steps, and at the end."""
    own = rows[rows["model"] == rows["model"].iloc[0]].sort_values("index").head(SHOWN)
    traces = store.traces(own["key"])
    originals = store.originals(zip(own["dataset"], own["index"], strict=True))
    groups = []
    for row in own.to_dict("records"):
        trace = traces[row["key"]]
        lines = [Line(f"step {step}", trace.snapshots[step][0]) for step in STEPS if step in trace.snapshots]
        if row["iterations"] not in STEPS:
            lines.append(Line(f"step {row['iterations']}", trace.reconstruction[0]))
        groups.append(Group(f"sentence {row['index']}", originals[row["dataset"], row["index"]], lines))
    return draw_groups(caption(own, TEXTS), groups).figure


def matched(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per model: texts, exact (how many), and the medians token_accuracy, rouge_l and seconds.

    Also the intervals of both scores, and lowest: the lowest token accuracy.
    """
    return pd.DataFrame(
        {"model": model, "texts": len(own), "exact": int(own["exact"].sum())}
        | {"lowest": own["token_accuracy"].min()}
        | {name: own[name].median() for name in ("token_accuracy", "rouge_l", "seconds")}
        | ends("token_accuracy_", median_interval(own["token_accuracy"]))
        | ends("rouge_l_", median_interval(own["rouge_l"]))
        for model, own in rows.groupby("model", sort=False)
    )


def defended(rows: pd.DataFrame, trainings: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """The lines of `summarize`, with accuracy, accuracy_low and change of the trainings; NaN without one."""
    columns = ["defense", "accuracy", "accuracy_low", "change", "change_low"]
    return summarize(rows, scale).merge(summarize_utility(trainings)[columns], on="defense", how="left")


def text_lines(steps: pd.DataFrame, rows: pd.DataFrame, trainings: pd.DataFrame, scale: Scale) -> Lines:
    """The section on texts, below its heading.

    Args:
        steps: rows of the paper's attack, undefended.
        rows: rows of all defenses.
        trainings: those of the same defenses.
        scale: what counts as a leak.
    """
    yield "![Step by step](figures/text_steps.png)"
    yield ""
    yield (
        f"{steps['attack'].iloc[0]} on {steps['dataset'].iloc[0]}, undefended. It is told the label; of a"
        " masked language model, which words were hidden: in the figure, those are right from the first step"
        " on. Token accuracy and ROUGE-L: medians with their 95 % intervals; seconds: of a worker, median."
    )
    yield ""
    heads = ["model", "sentences", "exact", "token accuracy", "ROUGE-L", "lowest accuracy", "seconds"]
    yield from markdown(heads, map(_matched, matched(steps).to_dict("records")))
    first = trainings.iloc[0]
    yield ""
    yield (
        "What defenses leave: medians over the sentences that leak undefended, by the strongest attack. Words"
        " leak: sentences of which at least half of the words were found, in whatever order. Accuracy:"
        f" {first['model']} trained on {first['train']}, tested on {first['test']}, {first['recipe']}; mean"
        " over the seeds ± half of its 95 % interval."
    )
    for place, lines in defended(rows, trainings, scale).groupby(SETTING, sort=False):
        yield from ("", f"{' · '.join(map(str, place))}:", "")
        heads = ["defense", "ROUGE-L", "token accuracy", "recall of words"]
        heads += ["leaked", "words leak", "by", "verdict", "accuracy", "change"]
        yield from markdown(heads, map(_defended, lines.to_dict("records")))


def _matched(line: Any) -> list[str]:
    scores = [with_interval(line, name, ".3f") for name in ("token_accuracy", "rouge_l")]
    counts = [str(line["texts"]), f"{line['exact']}/{line['texts']}"]
    return [line["model"], *counts, *scores, f"{line['lowest']:.3f}", f"{line['seconds']:.0f}"]


def _defended(line: Any) -> list[str]:
    accuracy = percent(line["accuracy"], line["accuracy_low"])
    cost = [accuracy, percent(line["change"], line["change_low"], "+")]
    if not line["images"]:
        return [line["defense"], "-", "-", "-", "0/0", "-", "-", "-", *cost]
    scores = [with_interval(line, name, ".3f") for name in ("rouge_l", "token_accuracy", "bag_recall")]
    shares = [f"{line['leaked']}/{line['images']}", f"{100 * line['words_leak']:.0f} %"]
    return [line["defense"], *scores, *shares, line["by"], line["verdict"], *cost]
