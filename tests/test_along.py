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


def test_a_setting_of_three_values_is_an_axis_and_the_others_make_panels():
    ((setting, lines),) = lines_of(*RUN).items()
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
    other = [rows_of(steps, 0.1, (0.5, 0.5, 0.5), attack="adaptive") for steps in (1, 2, 3)]
    hidden = rows_of(1, 0.1, (0.0, 0.0, 0.0), defense="int8")
    lines = lines_of(*RUN, *other, hidden)["local_steps"]
    own = lines[lines["panel"].str.endswith("lr=0.1")].set_index(["attack", "value"])["ssim"]
    assert own["dlg"].to_dict() == pytest.approx({1: 0.2, 2: 0.4, 3: 0.6})
    assert own["adaptive"].to_dict() == pytest.approx({1: 0.5, 2: 0.5, 3: 0.5})
    assert own["strongest attack"].to_dict() == pytest.approx({1: 0.5, 2: 0.5, 3: 0.6})


def test_an_attack_on_what_others_left_has_no_line():
    """Its victims are the hardest ones."""
    rest = [rows_of(steps, 0.1, (0.9,), attack="cosine") for steps in (1, 2, 3)]
    lines = lines_of(*RUN, *rest)["local_steps"]
    own = lines[lines["panel"].str.endswith("lr=0.1")].set_index(["attack", "value"])["ssim"]
    assert set(own.index.get_level_values("attack")) == {"strongest attack", "dlg"}
    assert own["strongest attack"].to_dict() == pytest.approx({1: 0.3, 2: 0.6, 3: 0.9})


def test_settings_that_vary_one_at_a_time_have_a_figure_each():
    rates = [rows_of(2, lr, (0.5, 0.5)) for lr in (0.01, 1.0)]
    found = lines_of(*RUN, *rates)
    assert list(found) == ["local_steps", "lr"]
    assert set(found["local_steps"]["panel"]) == {
        "cifar10-sample\nlenet\nlr=0.001", "cifar10-sample\nlenet\nlr=0.1",
    }  # fmt: skip
    assert set(found["lr"]["panel"]) == {"cifar10-sample\nlenet\nlocal_steps=2"}
    assert sorted(found["lr"]["value"]) == [0.001, 0.01, 0.1, 1.0]


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
    lines = lines_of(*parts)["local_steps"]
    assert list(lines["panel"].unique()) == [
        "cifar10-sample\nlenet\nkept=[0, 1]",
        "cifar10-sample\nlenet\nkept=[0]",
    ]


@pytest.mark.parametrize("parts", [[], RUN[:4]], ids=["nothing", "two values"])
def test_few_values_show_no_course(parts):
    assert lines_of(table(), *parts) == {}


def test_the_figure_shows_every_point():
    lines = lines_of(*RUN)["local_steps"]
    figure = draw_along("local_steps", lines)
    upper, lower = figure.axes[:2], figure.axes[2:]
    assert [panel.get_title() for panel in upper] == list(lines["panel"].unique())
    for panel in upper:
        assert panel.lines[0].get_ydata() == pytest.approx([0.2, 0.4, 0.6])
        assert panel.lines[0].get_xdata() == pytest.approx([1, 2, 3])
    assert [panel.get_xlabel() for panel in lower] == ["local steps"] * 2
