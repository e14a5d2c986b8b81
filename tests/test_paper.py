"""The paper's figures and tables, from small runs of the same shape: each number again in plain pandas."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from running import ROOT, inside
from scipy.stats import t

import leakbench
from leakbench import commands
from leakbench.bench.verdicts import Scale
from leakbench.core.interrupts import InterruptedRunError
from leakbench.reports.paper.batches import RECOVERED_MSE, until
from leakbench.reports.paper.figure7 import draw_figure7, verdict_table
from leakbench.reports.paper.reference import Noise, Reading, Scope, recalled, reference
from leakbench.reports.paper.report import SENSITIVITY, SWEEPS, TRAINED, _head, _versions, write_report
from leakbench.reports.paper.sensitivity import FACTORS, sensitivity
from leakbench.reports.paper.thresholds import nearest
from leakbench.reports.selection import strongest
from leakbench.reports.summary import summarize
from leakbench.sweeps.options import RunOptions
from leakbench.sweeps.store import Store
from leakbench.sweeps.sweep_file import read_sweep

STD, VARIANCE = Reading(Noise.STD, Scope.TENSOR), Reading(Noise.VARIANCE, Scope.GLOBAL)
LEAK, ARTIFACTS = 0.12, 0.08  # so that of a few steps on digits some leak, and some do not
VERDICTS = f"verdicts: {{leak: {LEAK}, artifacts: {ARTIFACTS}}}\n"
DIGITS = "datasets: [{name: mnist-sample, indices: 0-2}]\n"
FEW = "defenses: [none, gaussian(std=0.001), prune(ratio=0.2)]\n"
STEPS = "attacks: [dlg(steps=8)]\n"
MORE = "attacks: [{name: dlg, steps: 4, engine: reference}]\n"
TRAINING = """
training:
  train: {name: mnist-5k, indices: 0-79}
  test: {name: mnist-5k, indices: 4000-4099}
  epochs: 1
"""
FILES = {
    "accuracy": "defenses: [none, gaussian(std=0.001), gaussian(variance=0.0001), prune(ratio=0.2), int8]\n"
    + TRAINING + "  seeds: 0-1\n",
    "checkpoints": "defenses: [none]\n" + TRAINING + "  checkpoints: [1]\n",
    "defenses": DIGITS + "defenses: [none, gaussian(std=0.001), gaussian(variance=0.0001), "
    "gaussian(variance=0.001), float16, prune(ratio=0.2), 'prune(ratio=0.2, scope=global)', int8]\n"
    "restarts: 2\n" + STEPS,
    "strongest": "datasets: [{name: mnist-sample, indices: 0-2}, cifar10-sample]\n"
    "defenses: [none, gaussian(std=0.001), gaussian(variance=0.0001), gaussian(variance=0.001), float16, "
    "prune(ratio=0.2), 'prune(ratio=0.2, scope=global)', int8]\nattacks: [adaptive(steps=3)]\n",
    "batches": "datasets: [{name: mnist-sample, indices: [0, 4]}]\ndefenses: [none]\n"
    "protocols: [{name: fedsgd, batch_size: [1, 2]}]\n"
    "attacks: [{name: dlg, steps: 15, engine: reference, init: uniform, parameterisation: sigmoid}]\n",
    "data": "datasets: [cifar10-sample, mnist-sample]\n"
    + FEW + MORE,
    "weights": "datasets: [cifar10-sample]\nmodel_seeds: 1\n" + FEW + MORE,
    "activations": "datasets: [cifar10-sample]\nmodels: ['lenet(activation=tanh)']\n" + FEW + MORE,
    "budgets": "datasets: [cifar10-sample]\nattacks: [{name: dlg, steps: 2, engine: reference}]\n" + FEW,
    "trained": "datasets: [mnist-sample]\nmodels: ['lenet(weights=\"checkpoint:runs/paper/checkpoints/"
    "checkpoints/lenet-none-seed0-epoch1.pt\")']\n" + FEW + MORE,
    "resnet": "datasets: [mnist-sample]\nmodels: ['mlp(hidden=[16])']\ndefenses: [none]\n" + STEPS,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of every file, in runs/paper of that folder, and the report on them."""
    place = tmp_path_factory.mktemp("paper")
    for name in (*TRAINED, *SWEEPS):
        verdicts = "" if name in TRAINED else VERDICTS
        (place / f"{name}.yaml").write_text(FILES[name] + verdicts)
        verb = ["utility", "--jobs", "1"] if name in TRAINED else ["sweep", "--executor", "inline"]
        status = inside(place, *verb, f"{name}.yaml", "--out", f"runs/paper/{name}")
        assert status == 0, name
    paths = write_report(place / "runs" / "paper")
    assert all(path.exists() for path in paths)
    return place / "runs" / "paper"


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.md").read_text()


def tables(text):
    """Every table of a page: {first heading: [{heading: cell}]}; the first of tables with equal headings."""
    found = {}
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        heads, _, *lines = ([cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines())
        found.setdefault(heads[0], [dict(zip(heads, line, strict=True)) for line in lines])
    return found


def plain(folder, name):
    """The best start of every image as plain pandas finds it, and which images leak undefended."""
    rows = pd.read_parquet(folder / name / "trials.parquet")
    best = rows.sort_values("match_loss").drop_duplicates(
        ["defense", "dataset", "index", "model_seed", "attack"]
    )
    none = best[best["defense"] == "none"].set_index("index")["ssim"]
    works = none[none >= LEAK].index
    return {
        defense: own if defense == "none" else own[own["index"].isin(works)]
        for defense, own in best.groupby("defense")
    }


def of_any(folder):
    """{defense: the images that leak undefended to any attack, with what each made of them}."""
    rows = pd.concat(pd.read_parquet(folder / name / "trials.parquet") for name in ("defenses", "strongest"))
    rows = rows[rows["dataset"] == "mnist-sample"]
    kept = rows.sort_values("objective").drop_duplicates(["defense", "index", "attack"])
    wide = kept.pivot(index=["defense", "index"], columns="attack", values="ssim")
    wide["by"], wide["strongest"] = wide.idxmax(axis=1), wide.max(axis=1)
    works = wide.loc["none"].query("strongest >= @LEAK").index
    return {
        defense: own.droplevel(0) if defense == "none" else own.droplevel(0).loc[works]
        for defense, own in wide.groupby(level=0)
    }


def word(ssim):
    return "leak" if ssim >= LEAK else "artifacts" if ssim >= ARTIFACTS else "no leak"


def test_each_number_of_figure_7_again(folder, page):
    best = plain(folder, "defenses")
    heads = (
        "10^-k as standard deviation, pruned per tensor",
        "10^-k as variance, pruned over the whole gradient",
    )
    ours = {
        "gaussian 1e-4": (None, "gaussian(variance=0.0001)"),
        "gaussian 1e-3": ("gaussian(std=0.001)", "gaussian(variance=0.001)"),
        "gaussian 1e-2": ("gaussian(variance=0.0001)", None),
        "float16": ("float16", "float16"),
        "prune 20 %": ("prune(ratio=0.2)", "prune(ratio=0.2, scope=global)"),
    }
    lines = {line["defense"]: line for line in tables(page)["defense"]}
    assert set(lines) == set(ours)
    agree = 0
    for label, names in ours.items():
        for head, name in zip(heads, names, strict=True):
            if name is None:
                assert lines[label][head] == "not run"
                continue
            own = best[name]
            median = own["ssim"].median()
            ssim, leaked, verdict = lines[label][head].split(", ")
            assert ssim.split()[0] == f"{median:.3f}"
            assert leaked == f"{(own['ssim'] >= LEAK).sum()}/{len(own)}"
            assert verdict == word(median)
            agree += head == heads[0] and label.startswith("prune") and verdict == "artifacts"
    assert f"- pruned per tensor: {agree} of 1" in page
    assert lines["gaussian 1e-2"]["paper"] == "no leak (recalled)"
    assert lines["prune 20 %"]["paper"] == "artifacts"


def test_each_number_of_the_strongest_again(folder, page):
    section = page.partition("## The strongest attack")[2].partition("\n## ")[0]
    blocks = section.split(" · lenet · fedsgd:\n")
    lines = tables(blocks[1])["defense"]
    best = of_any(folder)
    assert {line["defense"] for line in lines} == set(best)
    deciding = pd.concat([own["by"] for own in best.values()])
    assert deciding.nunique() > 1  # else either could pass for the strongest
    for line in lines:
        own = best[line["defense"]]
        assert line["DLG"].split()[0] == f"{own['dlg(steps=8)'].median():.3f}"
        assert line["strongest"].split()[0] == f"{own['strongest'].median():.3f}"
        assert line["leaked"] == f"{(own['strongest'] >= LEAK).sum()}/{len(own)}"
        counts = sorted(own["by"].value_counts().items(), key=lambda each: (-each[1], each[0]))
        assert line["by"] == ", ".join(f"{attack} {count}" for attack, count in counts)
        assert line["verdict"] == word(own["strongest"].median())
        assert (line["signal"] == "-") == (not line["defense"].startswith("gaussian"))
    assert {line["DLG"] for line in tables(blocks[2])["defense"]} == {"-"}  # it was not run on the photograph
    assert "Verdicts on the strongest attack that agree with the paper's:" in section


def test_each_number_of_table_2_again(folder, page):
    trainings = pd.read_parquet(folder / "accuracy" / "trainings.parquet")
    accuracy = trainings.pivot(index="defense", columns="seed", values="accuracy")
    best = of_any(folder)
    lines = tables(page.partition("## Table 2")[2])["defense"]
    assert [line["defense"] for line in lines] == [
        "none", "gaussian(std=0.001)", "gaussian(variance=0.0001)", "prune(ratio=0.2)", "int8",
    ]  # fmt: skip
    for line in lines:
        own, change = accuracy.loc[line["defense"]], accuracy.loc[line["defense"]] - accuracy.loc["none"]
        half = t.ppf(0.975, 1) * own.std() / np.sqrt(2)
        assert line["accuracy"] == f"{100 * own.mean():.1f} ± {100 * half:.1f} %"
        assert line["change"].startswith(f"{100 * change.mean():+.1f} ±")
        assert line["seeds"] == "2"
        median = best[line["defense"]]["strongest"].median()
        assert (line["SSIM"], line["verdict"]) == (f"{median:.3f}", word(median))
    columns = {line["column"]: line for line in tables(page)["column"]}
    assert columns["none"]["accuracy, paper"] == "76.3 % (recalled)"
    assert columns["int8"]["defends, paper"] == "yes (recalled)"
    defends = word(best["int8"]["strongest"].median()) == "no leak"
    assert columns["int8"]["defends"] == ("yes" if defends else "no")
    assert columns["gaussian 1e-2"]["accuracy"] == f"{lines[2]['accuracy']}"  # as a standard deviation


def test_each_number_of_the_batches_again(folder, page):
    rows = pd.read_parquet(folder / "batches" / "trials.parquet")
    traces = pd.read_parquet(folder / "batches" / "traces.parquet").set_index("key")
    lines = {line["images"]: line for line in tables(page)["images"]}
    for size, own in rows.groupby(rows["protocol"].map({"fedsgd": "1", "fedsgd(batch_size=2)": "2"})):
        firsts = [np.argmax(np.array(traces.loc[key, "errors"]) <= RECOVERED_MSE) for key in own["key"]]
        reached = [first for first in firsts if first > 0]
        assert lines[size]["trials"] == str(len(own)) == "2"
        interval = ("0-66", "9-91", "34-100")[len(reached)]  # Wilson's, of 0, 1 and 2 of 2
        assert lines[size]["recovered"] == f"{len(reached)} ({interval} %)"
        assert lines[size]["iterations"].split()[0] == (f"{np.median(reached):.0f}" if reached else "-")
        assert lines[size]["SSIM"] == f"{own['ssim'].median():.3f}"
        assert lines[size]["all images leak"] == str((own["ssim_least"] >= LEAK).sum())
    assert lines["2"]["iterations, paper"] == "602 (recalled)"


def test_each_number_of_sensitivity_again(folder, page):
    for head, value, name, dataset in (  # noqa: B007  # the query names it
        ("dataset", "cifar10", "data", "cifar10-sample"),
        ("dataset", "mnist", "data", "mnist-sample"),
        ("draw of the weights", "1", "weights", "cifar10-sample"),
        ("activation", "tanh", "activations", "cifar10-sample"),
        ("outer steps", "2", "budgets", "cifar10-sample"),
        ("epochs of training (MNIST)", "0", "data", "mnist-sample"),
        ("epochs of training (MNIST)", "1", "trained", "mnist-sample"),
    ):
        rows = pd.read_parquet(folder / name / "trials.parquet").query("dataset == @dataset")
        none = rows[rows["defense"] == "none"].set_index("index")["ssim"]
        works = none[none >= LEAK].index
        for line in tables(page)[head]:
            own = rows[rows["defense"] == line[head]].set_index("index")["ssim"]
            own = own if line[head] == "none" else own[own.index.isin(works)]
            leaked = f"{(own >= LEAK).sum()}/{len(own)}"
            expected = f"{own.median():.3f}, {leaked}, {word(own.median())}" if len(own) else "0/0"
            assert line[value] == expected, (head, value, line)


def test_the_other_lines_of_the_report(folder, page):
    rows = [pd.read_parquet(folder / name / "trials.parquet") for name in SWEEPS]
    trainings = [pd.read_parquet(folder / name / "trainings.parquet") for name in TRAINED]
    assert f"{sum(map(len, rows))} attacks in" in page
    assert f"{sum(map(len, trainings))} trainings in" in page
    (network,) = tables(page)["model"]
    (row,) = pd.read_parquet(folder / "resnet" / "trials.parquet").to_dict("records")
    assert network["SSIM"] == f"{row['ssim']:.3f}"
    assert network["seconds"] == f"{row['seconds']:.0f}"
    assert "- defenses: mnist-sample · lenet · fedsgd · dlg(steps=8): FEW_TRIALS: " in page
    assert re.search(r"with python \d.*torch \d", page)


def test_every_version_is_listed_in_order_of_use():
    old, new = ({"torch": "2.5", "numpy": "2"}, {"torch": "2.6", "numpy": "2"})
    sessions = [{"began": "2026-02-01", "versions": new}, {"began": "2026-01-01", "versions": old}]
    assert _versions(sessions) == {"torch": ["2.5", "2.6"], "numpy": ["2"]}


def test_a_session_in_which_nothing_ran_is_not_reported():
    ran = {"began": "2026-01-01T00:00:00", "devices": ["cpu"], "versions": {"torch": "2.5"}}
    idle = {"began": "2026-03-01T00:00:00", "devices": [], "versions": {"torch": "9"}}
    store = SimpleNamespace(manifest=lambda: {"sessions": {"trials": [ran, idle]}})
    text = "\n".join(_head(SimpleNamespace(stores={"defenses": store}, rows={}, trainings={})))
    assert "Run 2026-01-01 on cpu, with torch 2.5: 0 attacks" in text


@pytest.mark.parametrize(
    "name",
    [
        "figure7_std_tensor",
        "figure7_variance_global",
        "strongest_std_tensor",
        "strongest_variance_global",
        "tradeoff",
        "thresholds",
        "sensitivity",
    ],
)
def test_the_figures_are_drawn(folder, name):
    pixels = np.asarray(Image.open(folder / "figures" / f"{name}.png").convert("L"))
    assert pixels.std() > 5
    assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_a_figure_of_nothing_says_so(folder):
    """Where the attack rebuilds no image without a defense, there is nothing to judge a defense by."""
    store = Store.existing(folder / "defenses")
    rows, scale = store.rows(), Scale(leak=1.0)
    table = verdict_table(summarize(rows, scale), STD)
    figure = draw_figure7(store, strongest(rows, scale), table, STD)
    assert "no image leaks without a defense" in figure.texts[0].get_text()
    assert set(table["images"]) == {0}
    assert not table["agrees"].any()


def test_each_defense_of_the_paper_is_one_of_ours():
    sweep, _ = read_sweep(ROOT / "sweeps" / "paper" / "defenses.yaml")
    names = [str(choice.value) for choice in sweep.defenses]
    for reading in (STD, VARIANCE, Reading(Noise.VARIANCE, Scope.TENSOR)):
        assert all(each.among(names, reading) for each in (*reference().figure7, *reference().table2))
    tenth = next(each for each in reference().figure7 if each.label == "laplacian 1e-1")
    assert tenth.among(names, STD) == "laplacian(variance=0.01)"
    assert tenth.among(names, VARIANCE) == "laplacian(variance=0.1)"
    assert tenth.among(["laplacian(variance=0.02)", "gone.py:Mine"], VARIANCE) is None


def test_what_is_from_memory_is_marked():
    assert all(each.recalled for each in (*reference().table2, *reference().batches))
    assert recalled("602", True) == "602 (recalled)"
    assert recalled("leak", False) == "leak"


def test_a_batch_is_recovered_at_the_first_step_that_is_near_enough():
    assert until(np.array([1.0, 0.01, 0.001, 0.1])) == 2
    assert until(np.array([1.0, 0.01])) is None


def test_sensitivity_changes_one_thing_at_a_time(folder):
    rows = pd.concat([Store.existing(folder / name).rows() for name in SENSITIVITY])
    table = sensitivity(rows.drop_duplicates("key"), "dlg(steps=4, engine=reference)", Scale())
    values = {name: list(own["value"].unique()) for name, own in table.groupby("factor")}
    assert values == {
        "dataset": ["cifar10", "mnist"], "draw of the weights": ["0", "1"],
        "activation": ["sigmoid", "tanh"], "epochs of training (MNIST)": ["0", "1"],
        "outer steps": ["2", "4"],
    }  # fmt: skip
    assert len(FACTORS) == len(values)


def test_pictures_around_a_threshold_are_the_nearest_ones():
    best = pd.DataFrame({"ssim": [0.99, 0.5, 0.88, 0.91, 0.2]})
    assert list(nearest(best, 0.9, (-0.02, 0.02))["ssim"]) == [0.88, 0.91]


def recorded(monkeypatch, statuses):
    """What `leakbench paper` would run."""
    runs = []

    def run(file, options, _console, figures=False):
        assert not figures
        runs.append((file, options))
        status = statuses.get(file.stem, 0)
        if isinstance(status, BaseException):
            raise status
        return status

    monkeypatch.setattr("leakbench.commands.sweep.sweep_file", run)
    monkeypatch.setattr("leakbench.commands.utility.train_file", run)
    monkeypatch.setattr("leakbench.reports.paper.report.write_report", lambda folder: [folder / "report.md"])
    return runs


def test_the_command_runs_every_file_and_reports(monkeypatch, capsys):
    runs = recorded(monkeypatch, {"defenses": commands.TRIALS_FAILED})
    assert leakbench.main(["paper", "--quick", "--jobs", "1"]) == commands.TRIALS_FAILED
    files = sorted((ROOT / "sweeps" / "paper").glob("*.yaml"))
    assert sorted(file for file, _ in runs) == files
    stems = [file.stem for file, _ in runs]
    assert stems.index("checkpoints") < stems.index("trained")
    for file, options in runs:
        assert options == RunOptions(out=Path("runs/paper") / file.stem, quick=True, jobs=1)
    assert "report   runs/paper/report.md" in capsys.readouterr().out


def test_an_interrupt_ends_the_command(monkeypatch):
    runs = recorded(monkeypatch, {"defenses": InterruptedRunError()})
    assert leakbench.main(["paper"]) == commands.INTERRUPTED
    assert runs[-1][0].stem == "defenses"
