"""What leaks against a number in the protocol: the table behind the figure, and the figure."""

import json

import pandas as pd
import pytest
from made_up import settings, table

from leakbench.reports.figures.protocols import draw_along
from leakbench.reports.protocols import along_protocols


def rows_of(steps, lr, scores, attack="dlg", defense="none"):
    """Rows of images 0, 1, ... with these SSIM, of clients with so many local steps at that rate."""
    rows = table(*((defense, index, 0, 1.0, score) for index, score in enumerate(scores)))
    about = {"local_steps": steps, "lr": lr, "optimizer": "sgd"}
    return rows.assign(
        protocol=f"fedavg(local_steps={steps}, lr={lr})", protocol_name="fedavg", attack=attack,
        attack_name=attack,
        protocol_settings=json.dumps(about), label_recall=[1.0, *[0.5] * (len(scores) - 1)],
        key=[f"{attack} {defense} {steps} {lr} {index}" for index in range(len(scores))],
    )  # fmt: skip


def lines_of(*parts):
    return along_protocols(settings(pd.concat(parts, ignore_index=True)))


RUN = [
    rows_of(steps, lr, (0.1 * steps, 0.2 * steps, 0.3 * steps)) for steps in (1, 2, 3) for lr in (0.1, 0.001)
]


def test_the_setting_of_most_values_is_the_axis_and_the_others_make_panels():
    setting, lines = lines_of(*RUN)
    assert setting == "local_steps"
    assert list(lines["panel"].unique()) == [
        "cifar10-sample\nlenet\nlr=0.001",
        "cifar10-sample\nlenet\nlr=0.1",
    ]
    own = lines[lines["panel"].str.endswith("lr=0.1")].set_index("value")
    assert own["ssim"].to_dict() == pytest.approx({1: 0.2, 2: 0.4, 3: 0.6})
    assert own["recall"].unique() == pytest.approx([2 / 3])
    assert (own["ssim_low"] < own["ssim"]).all()
    assert own["recall_high"].max() == 1.0  # Student's interval goes further
    assert set(own["images"]) == {3}


def test_attacks_have_lines_of_their_own_and_defended_updates_none():
    other = [rows_of(steps, 0.1, (0.9, 0.9), attack="adaptive") for steps in (1, 2, 3)]
    hidden = rows_of(1, 0.1, (0.0, 0.0), defense="int8")
    _, lines = lines_of(*RUN, *other, hidden)
    assert lines.groupby("attack")["ssim"].max().to_dict() == pytest.approx({"dlg": 0.6, "adaptive": 0.9})
    assert lines["ssim"].min() == pytest.approx(0.2)


def test_settings_that_are_lists_make_panels():
    part = rows_of(1, 0.1, (0.5, 0.5))
    parts = [
        part.assign(
            protocol=f"fedavg {step} {kept}",
            protocol_settings=json.dumps({"local_steps": step, "kept": kept}),
        )
        for step in (1, 2, 3)
        for kept in ([0], [0, 1])
    ]
    _, lines = lines_of(*parts)
    assert list(lines["panel"].unique()) == [
        "cifar10-sample\nlenet\nkept=[0, 1]",
        "cifar10-sample\nlenet\nkept=[0]",
    ]


@pytest.mark.parametrize("parts", [[], RUN[:4]], ids=["nothing", "two values"])
def test_few_values_show_no_course(parts):
    assert lines_of(table(), *parts)[0] == ""


def test_the_figure_shows_every_point():
    setting, lines = lines_of(*RUN)
    figure = draw_along(setting, lines)
    upper, lower = figure.axes[:2], figure.axes[2:]
    assert [panel.get_title() for panel in upper] == list(lines["panel"].unique())
    for panel in upper:
        assert panel.lines[0].get_ydata() == pytest.approx([0.2, 0.4, 0.6])
        assert panel.lines[0].get_xdata() == pytest.approx([1, 2, 3])
    assert [panel.get_xlabel() for panel in lower] == ["local steps"] * 2
