"""Tables and figures: each number again with plain pandas, each figure really drawn."""

import io
import math
import re

import numpy as np
import pandas as pd
import pytest
from made_up import settings, table
from matplotlib.colors import to_rgb
from PIL import Image
from rich.console import Console

from leakbench.bench.verdicts import Scale
from leakbench.reports.figures import write_figures
from leakbench.reports.figures.curves import pad
from leakbench.reports.figures.scores import draw_scores
from leakbench.reports.names import defense_order
from leakbench.reports.pictures import Sheet, two_lines
from leakbench.reports.run import Run
from leakbench.reports.selection import strongest
from leakbench.reports.style import line_style, marker_style, styles
from leakbench.reports.summary import summarize
from leakbench.reports.tables import terminal_tables
from leakbench.sweeps.store import Store

ROWS = table(
    ("none", 0, 0, 5.0, 0.1), ("none", 0, 1, 1e-6, 0.99),
    ("none", 1, 0, 1e-6, 0.95), ("none", 1, 1, None, None),
    ("none", 2, 0, 900.0, 0.0), ("none", 2, 1, 700.0, 0.01),
    ("prune(ratio=0.5)", 0, 0, 2.0, 0.3), ("prune(ratio=0.5)", 0, 1, 3.0, 0.95),
    ("prune(ratio=0.5)", 1, 0, 2.0, 0.92), ("prune(ratio=0.5)", 1, 1, 4.0, 0.2),
    ("prune(ratio=0.5)", 2, 0, 2.0, 0.0), ("prune(ratio=0.5)", 2, 1, 3.0, 0.1),
    ("prune(ratio=0.1)", 0, 0, None, None), ("prune(ratio=0.1)", 0, 1, None, None),
    ("prune(ratio=0.1)", 1, 0, 0.5, 0.97), ("prune(ratio=0.1)", 1, 1, 0.6, 0.1),
)  # fmt: skip


def test_the_restart_of_lowest_objective_represents_an_image():
    """Not the one of highest SSIM: an attacker cannot see that."""
    best = strongest(ROWS, Scale()).set_index(["defense", "index"])["start"]
    assert best["none", 0] == 1
    assert best["prune(ratio=0.5)", 0] == 0
    assert ("prune(ratio=0.1)", 0) not in best


def test_a_defense_gets_no_credit_where_the_attack_fails_without_it():
    summary = summarize(ROWS, Scale()).set_index("defense")
    none, strong, weak = (summary.loc[name] for name in ("none", "prune(ratio=0.5)", "prune(ratio=0.1)"))
    assert (none["trials"], none["failed"], none["images"], none["leaked"]) == (6, 1, 3, 2)
    assert (strong["trials"], strong["images"], strong["excluded"], strong["leaked"]) == (6, 2, 1, 1)
    assert (weak["trials"], weak["failed"], weak["images"], weak["leaked"]) == (4, 2, 1, 1)
    assert strong["rate"] == 0.5
    assert strong["ssim"] == pytest.approx((0.3 + 0.92) / 2)


def test_every_number_again_with_plain_pandas():
    summary = summarize(ROWS, Scale()).set_index("defense")
    measured = ROWS.dropna(subset=["match_loss"]).sort_values("match_loss")
    chosen = measured.drop_duplicates(["defense", "index"]).set_index(["defense", "index"])
    works = [i for i in (0, 1, 2) if chosen.loc[("none", i), "ssim"] >= 0.9]
    for defense in ("prune(ratio=0.5)", "prune(ratio=0.1)"):
        counted = chosen.loc[defense]
        counted = counted[counted.index.isin(works)]
        assert summary.loc[defense, "leaked"] == (counted["ssim"] >= 0.9).sum()
        for score in ("ssim", "psnr", "mse"):
            assert summary.loc[defense, score] == pytest.approx(counted[score].median())


def test_without_a_baseline_no_image_counts():
    summary = summarize(table(("int8", 0, 0, 1.0, 0.95)), Scale())
    assert summary.loc[0, "images"] == 0
    assert math.isnan(summary.loc[0, "rate"])


def test_defenses_stand_from_weak_to_strong():
    names = ["prune(ratio=0.5)", "int8", "my.py:Mine", "none", "gaussian(variance=0.1)", "bfloat16",
             "prune(ratio=0.05)", "float16", "gaussian(variance=0.0001)"]  # fmt: skip
    rows = table(*((name, 0, 0, 1.0, 0.5) for name in names))
    rows["family"] = rows["family"].replace({"float16": "half precision", "bfloat16": "half precision"})
    assert defense_order(rows) == [
        "none", "gaussian(variance=0.0001)", "gaussian(variance=0.1)", "float16", "bfloat16",
        "prune(ratio=0.05)", "prune(ratio=0.5)", "int8", "my.py:Mine",
    ]  # fmt: skip


def test_data_sets_are_never_mixed():
    other = ROWS.assign(dataset="mnist-sample", ssim=0.95)
    summary = summarize(pd.concat([ROWS, other], ignore_index=True), Scale())
    assert list(summary.groupby("dataset", sort=False)["leaked"].first()) == [2, 3]


def printed(rows, width=80):
    console = Console(width=width, record=True, markup=False)
    for each in terminal_tables(settings(rows)):
        console.print(each)
    return console.export_text()


def test_the_terminal_table_says_it_all():
    text = printed(ROWS)
    assert "cifar10-sample · lenet · fedsgd · dlg" in text
    assert "prune(ratio=0.5)" in text
    assert "failed: 1 of 6 trials of none, 2 of 4 trials of prune(ratio=0.1)" in " ".join(text.split())
    assert "2/3" in text
    assert "1 image excluded: not rebuilt even without a defense" in text


def test_a_label_that_leaks_is_reported_though_the_image_is_hidden():
    hidden = [("int8", index, 0, 1.0, 0.05) for index in range(20)]
    rows = table(*(("none", index, 0, 1.0, 0.95) for index in range(20)), *hidden)
    assert "label leaks" not in printed(rows)
    rows["label_correct"] = True
    text = printed(rows)
    assert "image hidden, label leaks in 20 of 20: int8\n" in re.sub(" +\n", "\n", text)
    assert (
        "none" not in text.partition("label leaks")[2].partition("docs/FLAGS")[0]
    )  # its image leaks as well
    rows["label_correct"] = [number % 20 < 4 for number in range(40)]  # of ten classes: as by chance
    assert "label leaks" not in printed(rows)
    assert "4/20" in printed(rows)


def test_no_name_is_cut_off_in_a_narrow_terminal():
    rows = table(("none", 0, 0, 1.0, 0.95), ("gaussian(variance=0.0001)", 0, 0, 1.0, 0.5))
    assert "gaussian(variance=0.0001)" in printed(rows, width=80)


def test_curves_that_ended_early_keep_their_last_value():
    curves = pad([np.array([3.0, 1.0]), np.array([4.0, 3.0, 2.0, 0.5])])
    np.testing.assert_array_equal(curves, [[3, 1, 1, 1], [4, 3, 2, 0.5]])


def test_titles_of_pictures_break_before_the_settings():
    assert two_lines("gaussian(variance=0.01)") == "gaussian\nvariance=0.01"
    assert two_lines("int8") == "int8"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A real, small run of two datasets with a defense that fails."""
    import leakbench
    from leakbench import commands

    folder = tmp_path_factory.mktemp("run")
    (folder / "bad.py").write_text(
        "from dataclasses import dataclass\nfrom leakbench import Defense\n"
        "@dataclass(frozen=True)\nclass Bad(Defense):\n"
        "    def apply(self, gradients, generator):\n        raise ValueError('never')\n"
    )
    (folder / "mine.yaml").write_text(
        "datasets: [{name: cifar10-sample, indices: 0-1}, mnist-sample]\n"
        f"defenses: [none, gaussian(variance=0.1), prune(ratio=0.3), '{folder}/bad.py:Bad']\n"
        "attacks: [dlg(steps=4)]\nsnapshot_every: 2\n"
    )
    arguments = ["--out", str(folder / "out"), "--executor", "inline", "--no-figures"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leakbench.sweeps.rehearsal.rehearse", lambda *_arguments, **_options: None)
        status = leakbench.main(["sweep", str(folder / "mine.yaml"), *arguments])
    assert status == commands.TRIALS_FAILED
    return Store.existing(folder / "out")


def test_every_figure_is_drawn(run):
    drawn = write_figures(Run(run))
    assert [each.setting for each in drawn] == [0] * 5 + [1] * 5
    paths = [path for each in drawn for path in each.paths]
    assert len(paths) == 2 * 5
    assert {path.suffix for path in paths} == {".png"}
    assert {path.stem.split("_")[0] for path in paths} == {"scores", "curves", "distances", "strip", "film"}
    assert any("mnist-sample" in path.name for path in paths)
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("L"))
        assert pixels.std() > 5, f"{path.name} is blank"


def test_a_run_without_snapshots_has_no_film(write, tmp_path):
    import leakbench

    sweep = write(
        "plain.yaml",
        "datasets: [mnist-sample]\ndefenses: [none]\nattacks: [dlg(steps=1)]\nsnapshot_every: 0\n",
    )
    assert leakbench.main(["sweep", str(sweep), "--out", str(tmp_path / "out"), "--executor", "inline"]) == 0
    assert {path.stem for path in (tmp_path / "out" / "figures").iterdir()} == {"scores", "curves", "strip"}


def test_what_a_figure_shows_is_in_the_store(run):
    rows = run.rows()
    cifar = rows[(rows["dataset"] == "cifar10-sample") & (rows["defense"] == "none")]
    traces = run.traces(cifar["key"])
    for row in cifar.itertuples():
        assert traces[row.key].objective.min() == pytest.approx(row.objective, rel=1e-6)
        assert list(traces[row.key].snapshots) == [0, 2, 4]
    assert len(rows[rows["status"] == "error"]) == 3


def test_a_defense_looks_the_same_in_every_figure():
    """Whatever else is in it; and what is of one family differs in lightness, which grey keeps."""
    few, many = (
        styles(table(*((name, 0, 0, 1.0, 0.5) for name in names)))
        for names in (
            ["none", "prune(ratio=0.3)"],
            ["none", "gaussian(variance=0.1)", "prune(ratio=0.1)", "prune(ratio=0.3)", "my.py:Mine"],
        )
    )
    strong, weak, other = (
        many[name] for name in ("prune(ratio=0.3)", "prune(ratio=0.1)", "gaussian(variance=0.1)")
    )
    for style in (marker_style, line_style):
        assert style(*few["prune(ratio=0.3)"]) == style(*strong)
    assert marker_style(*weak)["marker"] == marker_style(*strong)["marker"] != marker_style(*other)["marker"]
    light, dark = (np.dot(marker_style(*each)["color"], (0.299, 0.587, 0.114)) for each in (weak, strong))
    assert light - dark > 0.05


def test_a_single_trial_has_a_figure():
    """Warnings are errors in tests; around this very value matplotlib finds an axis of no width by itself."""
    rows = table(("none", 0, 0, 1.0, 0.079)).assign(mse=0.0644789734593133)
    best = strongest(rows, Scale())
    figure = draw_scores(best, Scale())
    figure.savefig(io.BytesIO())
    assert all(left < right for left, right in (panel.get_xlim() for panel in figure.axes))


def test_the_bars_of_the_scores_are_medians_of_what_counts():
    cells = [("none", index, 0, 0.0, 0.95 if index < 3 else 0.1) for index in range(5)]
    cells += [("int8", index, 0, 0.1, ssim) for index, ssim in enumerate([0.5, 0.6, 0.8, 0.0, 0.0])]
    figure = draw_scores(strongest(table(*cells), Scale()), Scale())
    bars = [each for each in figure.axes[0].collections if len(each.get_offsets()) == 2][-1]
    np.testing.assert_allclose(bars.get_offsets(), [[0.95, 0], [0.6, 1]])


def test_many_points_are_all_there():
    cells = [("none", index, 0, 0.0, 0.9 + index / 1000) for index in range(80)]
    figure = draw_scores(strongest(table(*cells), Scale()), Scale())
    points = max(figure.axes[0].collections, key=lambda each: len(each.get_offsets())).get_offsets()
    np.testing.assert_allclose(points[:, 0], [0.9 + index / 1000 for index in range(80)])
    assert np.abs(points[:, 1]).max() <= 0.5


def test_points_of_few_and_of_many_images_look_alike():
    """The defense's colour, hollow where the image does not leak without it; in a swarm or strewn."""
    cells = [("none", index, 0, 0.0, 0.95 if index % 2 else 0.1) for index in range(60)]
    cells += [("int8", index, 0, 0.1, index / 20) for index in range(20)]
    best = strongest(table(*cells), Scale())
    panel = draw_scores(best, Scale()).axes[0]
    (few,) = [each for each in panel.collections if len(each.get_offsets()) == 20]
    (many,) = [each for each in panel.collections if len(each.get_offsets()) == 60]
    for points, name, count in ((few, "int8", 20), (many, "none", 60)):
        colour = to_rgb(marker_style(*styles(best)[name])["color"])
        faces = [tuple(face[:3]) for face in points.get_facecolor()]
        assert faces == [colour if index % 2 else (1, 1, 1) for index in range(count)]
        assert tuple(points.get_edgecolor()[0][:3]) == colour
    assert len(few.get_paths()[0]) != len(many.get_paths()[0])  # markers of their own


def test_a_picture_of_any_shape_is_in_its_square():
    sheet = Sheet(4, 3)
    sheet.show(np.zeros((1, 8, 4)), 1.0, 0.5, 2.0)
    sheet.show(np.zeros((3, 8, 8)), 0.0, 0.0, 1.0)
    tall, square = (image.get_extent() for image in sheet.panel.images)
    assert list(tall) == [1.5, 2.5, 2.5, 0.5]  # left, right, bottom, top: from above
    assert list(square) == [0, 1, 1, 0]
    assert (sheet.panel.get_xlim(), sheet.panel.get_ylim()) == ((0, 4), (3, 0))
