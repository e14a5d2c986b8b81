"""`leakbench private-inference` from its options to its files, and what it answers to bad input."""

import io
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from running import ROOT, no_space

import leakbench
from leakbench import commands
from leakbench.bench.models import MODELS
from leakbench.bench.private import dealer, secretflow
from leakbench.bench.private.secretflow import python_of
from leakbench.bench.private.steps import steps_of
from leakbench.bench.sharing import FixedPoint
from leakbench.core.errors import UserError
from leakbench.core.randomness import generator_for
from leakbench.reports.figures.private import draw_private
from leakbench.reports.private import confusion_lines, inference_tables, size, view_lines

MODEL = "mlp(hidden=[16], activation=relu, weights=default)"
FEW = ["--train", "0-199", "--indices", "4000-4039"]
SPU = ROOT / ".venv-spu"


def run(capsys, *arguments):
    """The exit status, the output and the errors of a run."""
    status = leakbench.main(["private-inference", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("private")
    arguments = ["private-inference", MODEL, *FEW, "--digits", "1,4", "--bits", "16", "--out", str(out)]
    assert leakbench.main(arguments) == 0
    return out


def test_rows_confusions_views_and_a_figure(folder):
    rows = pd.read_csv(folder / "rows.csv")
    assert rows["precision"].tolist() == ["10^-1", "10^-4", "2^-16"]
    assert (rows["engine"] == "dealer").all()
    assert (rows["images"] == 40).all()
    assert rows["logit_error"].is_monotonic_decreasing
    assert (rows["agreement"].iloc[1:] == 1).all()
    assert (rows["accuracy"].iloc[1:] == rows["plain_accuracy"].iloc[1:]).all()
    assert (rows["wrong"] == 0).all()
    confused = pd.read_csv(folder / "confusions.csv")
    assert confused.groupby("precision")["images"].sum().tolist() == [40, 40, 40]
    same = confused[confused["plain"] == confused["shared"]].groupby("precision")["images"].sum()
    assert (same / 40).tolist() == rows.set_index("precision").loc[same.index, "agreement"].tolist()
    assert pd.read_csv(folder / "views.csv")["party"].tolist() == [0, 1]
    assert (folder / "private.png").stat().st_size > 10_000


def test_tables_that_cannot_be_written_are_not_stored(folder, capsys, monkeypatch):
    monkeypatch.setattr(pd.DataFrame, "to_csv", no_space)
    weights = next((folder / "weights").glob("*.pt"))
    status, _, error = run(capsys, MODEL, *FEW, "--digits", "1", "--out", folder, "--weights", weights)
    assert status == commands.STOPPED
    assert error.endswith("; no rows are stored: the same command classifies again\n")


def test_what_was_classified_before_ctrl_c_is_stored(folder, tmp_path, capsys, monkeypatch):
    classify = dealer.classify

    def stopped(subject, images, encoding, *rest):
        if encoding.text == "10^-4":
            signal.raise_signal(signal.SIGINT)
        return classify(subject, images, encoding, *rest)

    monkeypatch.setattr(dealer, "classify", stopped)
    given = [
        "--weights",
        next((folder / "weights").glob("*.pt")),
        "--digits",
        "1,4",
        "--out",
        tmp_path / "out",
    ]
    status, out, err = run(capsys, MODEL, *FEW, *given)
    assert (status, err) == (130, "stopped; what was stored is kept\n")
    assert pd.read_csv(tmp_path / "out" / "rows.csv")["precision"].tolist() == ["10^-1"]
    assert "10^-4" not in out


def test_weights_are_trained_once(folder, capsys, monkeypatch, tmp_path):
    """And serve the next run, or any other by --weights: with the same scores."""
    shutil.copytree(folder / "weights", tmp_path / "weights")
    (weights,) = (tmp_path / "weights").glob("*.pt")
    monkeypatch.setattr("leakbench.bench.private.checkpoint.train_together", None)
    for more in ((), ("--weights", weights)):
        status, output, _ = run(capsys, MODEL, *FEW, "--digits", "1", "--out", tmp_path, *more)
        assert (status, f"weights    {weights}" in output) == (0, not more)
        before, after = (pd.read_csv(each / "rows.csv").iloc[0] for each in (folder, tmp_path))
        assert after.drop("seconds").to_dict() == before.drop("seconds").to_dict()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["mlp"], "mlp: layer 2: expected linear, convolution, average pool, ReLU and flatten layers, one"),
        (["resnet20"], "resnet20: layer 1: expected linear, convolution, average pool, ReLU and flatten"),
        (["lenett"], "MODEL: unknown model 'lenett'; did you mean 'lenet'?"),
        ([MODEL, "--digits", "x"], "--digits: expected whole numbers in 0..9999999"),
        ([MODEL, "--digits", "0"], "--digits: digits: expected a whole number >= 1 with 10^digits"),
        ([MODEL, "--bits", "63"], "--bits: digits: expected a whole number >= 1 with 2^digits < 2^63"),
        ([MODEL, "--dataset", "mnist"], "--dataset: "),
        ([MODEL, "--indices", "3990-4010"], "--indices: expected test images outside the training set"),
        ([MODEL, "--indices", "4990-5000"], "--indices: expected 0..4999, got 5000"),
        ([MODEL, "--train", "5000"], "--train: expected 0..4999, got 5000"),
        ([MODEL, MODEL, "--weights", "w.pt"], "--weights: expected one MODEL that they are of, got 2"),
        ([MODEL, "--weights", "w.pt"], "--weights: weights: expected a file at 'w.pt', found none"),
        ([MODEL, "--engine", "spu", "--spu", "none"], "none: expected an environment with SecretFlow's spu"),
    ],
)  # fmt: skip
def test_bad_input_is_a_line(capsys, tmp_path, monkeypatch, arguments, text):
    """Before anything is trained."""
    monkeypatch.setattr("leakbench.bench.private.checkpoint.train_together", None)
    monkeypatch.chdir(tmp_path)
    status, _, errors = run(capsys, *arguments)
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith(text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("raise ValueError('no\\nway')", "expected a network for images of 1x28x28, got ValueError: no way"),
        (
            "super().__init__(nn.Flatten(), nn.Linear(3, 10))",
            "expected a network for images of 1x28x28, got Run",
        ),
        (
            "super().__init__(nn.Flatten(), nn.Linear(784, 9))",
            "expected class scores of shape (1, 10), got (1, 9)",
        ),
        (
            "super().__init__(nn.AvgPool2d((3, 28), (3, 28)), nn.Flatten())",
            "expected class scores of shape (1, 10)",
        ),
        (
            "super().__init__(nn.AvgPool2d((10, 28), (2, 28)), nn.Flatten())",
            "expected a layer with weights, found",
        ),
    ],
)
def test_networks_of_users_that_do_not_fit(capsys, tmp_path, monkeypatch, body, text):
    monkeypatch.setattr("leakbench.bench.private.checkpoint.train_together", None)
    file = tmp_path / "net.py"
    file.write_text(
        f"from torch import nn\nclass Net(nn.Sequential):\n    def __init__(self):\n        {body}\n"
    )
    status, _, errors = run(capsys, f"{file}:Net")
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith(f"{file}:Net: {text}")


def test_a_model_that_cannot_be_trained(capsys, tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise RuntimeError("vmap: no rule")

    monkeypatch.setattr("leakbench.bench.private.checkpoint.train_together", fail)
    status, _, errors = run(capsys, MODEL, *FEW, "--out", tmp_path)
    text = "expected a model that torch.func can train, got RuntimeError: vmap: no rule\n"
    assert (status, errors) == (2, f"{MODELS.parse(MODEL)}: {text}")


def test_a_checkpoint_of_another_model(capsys, folder, tmp_path):
    (weights,) = (folder / "weights").glob("*.pt")
    other = MODEL.replace("16", "17")
    status, _, errors = run(capsys, other, *FEW, "--weights", weights, "--out", tmp_path)
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith(f"MODEL: weights: {weights}: expected a state dict of mlp: ")


def test_digits_that_overflow(capsys, folder, tmp_path):
    (weights,) = (folder / "weights").glob("*.pt")
    status, _, errors = run(capsys, MODEL, *FEW, "--weights", weights, "--digits", "3,12", "--out", tmp_path)
    assert (status, errors.count("\n")) == (2, 1)
    assert "10^-12: expected less than 2^63, and layer" in errors
    assert "use at most 8 digits" in errors or "use at most 9 digits" in errors


def test_a_training_that_diverges(capsys, tmp_path, monkeypatch):
    from leakbench.bench.training import Recipe

    recipe = Recipe(clients=1, batch_size=20, epochs=6, lr=1e30)
    monkeypatch.setattr("leakbench.bench.private.checkpoint.RECIPE", recipe)
    status, _, errors = run(capsys, MODEL, *FEW, "--out", tmp_path)
    assert (status, errors.count("\n")) == (2, 1)
    assert "expected a model that can be trained, got a gradient became NaN or infinite" in errors
    assert not list(tmp_path.rglob("*.pt"))


def test_words_for_what_was_found():
    confused = pd.DataFrame(
        [("10^-1", "dealer", 3, 3, 9), ("10^-1", "dealer", 3, 8, 2), ("10^-1", "dealer", 4, 9, 5)],
        columns=["precision", "engine", "plain", "shared", "images"],
    )
    assert list(confusion_lines(confused)) == ["10^-1 dealer takes 4 as 9 (5), 3 as 8 (2)"]
    assert [size(each) for each in (float("nan"), 12_544, 2_102_162)] == ["-", "13 kB", "2.10 MB"]


def two_engines(folder):
    """The rows of a run, and the last of them again by an engine that tells less."""
    rows = pd.read_csv(folder / "rows.csv")
    unknown = dict.fromkeys(
        ("dealer_bytes", "setup_bytes", "rounds", "wrong", "expected_wrong"), float("nan")
    )
    return pd.concat([rows, rows.tail(1).assign(engine="spu SEMI2K", **unknown)], ignore_index=True)


def test_a_table_fits_a_terminal(folder):
    rows, confused = two_engines(folder), pd.read_csv(folder / "confusions.csv")
    console = Console(width=80, file=io.StringIO(), soft_wrap=True)
    for table in inference_tables(rows, confused):
        console.print(table)
    text = console.file.getvalue()
    lines = [line.split() for line in text.splitlines() if "2^-16" in line]
    accuracy = f"{rows['accuracy'].iloc[2]:.1%}"
    assert [line[:2] for line in lines] == [["2^-16", "dealer"], ["2^-16", "spu"]]
    assert (lines[0][2], lines[1][3]) == (accuracy, accuracy)
    assert (lines[0][-1], lines[1][-2:]) == ("0", ["-", "-"])


def test_a_line_for_each_network_and_engine(folder):
    """Over the decimal digits of the step: 1, 4, and 16 bits are 4.8."""
    left, right = draw_private(two_engines(folder)).axes
    curves = [line for line in right.lines if len(line.get_xdata())]
    assert [len(line.get_xdata()) for line in curves] == [3, 1]
    assert np.allclose(curves[0].get_xdata(), [1, 4, 4.816], atol=0.001)
    assert right.get_yscale() == "log"
    assert {"dealer", "spu SEMI2K"} <= {text.get_text() for text in left.get_legend().get_texts()}


@pytest.mark.parametrize(("clean", "text"), [(True, "nothing found"), (False, "NOT uniform")])
def test_a_view_that_is_not_clean_is_said_to_be(folder, clean, text):
    views = pd.read_csv(folder / "views.csv").head(1).assign(clean=clean)
    assert next(view_lines(views)).endswith(f": {text}")


# -- SPU


def network(name="lenet(activation=relu, weights=default)"):
    return MODELS.parse(name).build((1, 28, 28), 10, 0)


def images(count):
    return torch.rand(count, 1, 28, 28, generator=generator_for("images"))


def environment(folder, program):
    """What looks like one with `spu`: its interpreter runs the program in place of ours."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n[ $1 = -I ] && exec {sys.executable} -c '{program}' \"$3\"\n")
    python.chmod(0o755)
    package = folder / "lib" / "python3.11" / "site-packages" / "spu"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    return folder


ANSWERS = """
import json, sys, numpy as np
from pathlib import Path
folder = Path(sys.argv[1])
job, arrays = json.loads((folder / "job.json").read_text()), np.load(folder / "job.npz")
assert job["protocol"] == "ABY3" and job["bits"] == 12, job
print("total send bytes 100"), print("leakbench 2 0.5")
print("total send bytes 20"), print("leakbench 3 0.75")
np.save(folder / "scores.npy", arrays["images"].sum((1, 2, 3))[:, None] + arrays["7.bias"])
"""


def test_a_job_is_handed_over_and_its_answer_taken(tmp_path):
    told, net = [], network()
    place = environment(tmp_path, ANSWERS)
    found = secretflow.classify(
        steps_of(net), images(3), FixedPoint(2, 12), "ABY3", place, batch=2, observe=told.append
    )
    assert torch.allclose(found.scores.float(), images(3).sum((1, 2, 3))[:, None] + net[7].bias)
    assert (found.seconds, found.party_bytes, told) == (0.75, 360, [2, 3])
    assert np.isnan(found.dealer_bytes)


def test_the_last_line_of_a_program_that_fails(tmp_path):
    place = environment(tmp_path, 'import sys; print("first"); print("no such protocol"); sys.exit(3)')
    with pytest.raises(UserError, match="^SPU ended with status 3: no such protocol$"):
        secretflow.classify(steps_of(network()), images(1), FixedPoint(2, 12), "ABY3", place, batch=1)


def test_an_environment_without_spu(tmp_path):
    (environment(tmp_path, "") / "lib/python3.11/site-packages/spu/__init__.py").unlink()
    with pytest.raises(UserError, match="environment with SecretFlow's spu, found none; `make spu`"):
        python_of(tmp_path)


def test_spu_has_bits_only(capsys, tmp_path):
    place = environment(tmp_path, "")
    with pytest.raises(UserError, match=r"10\^-3: expected a precision in bits"):
        secretflow.classify(steps_of(network()), images(1), FixedPoint(10, 3), "ABY3", place, batch=1)
    status, _, errors = run(capsys, MODEL, "--engine", "spu", "--spu", place, "--digits", "3")
    assert (status, errors) == (
        2, "--engine spu: expected a precision in bits, as SPU has no other; add --bits 16\n",
    )  # fmt: skip


@pytest.mark.skipif(not SPU.exists(), reason="no .venv-spu here; `make spu` makes it")
@pytest.mark.parametrize("protocol", secretflow.PROTOCOLS)
def test_spu_gives_the_scores_of_the_clear(protocol):
    net = MODELS.parse(f"{ROOT}/examples/pooled_lenet.py:PooledLeNet(weights=default, channels=3)")
    net = net.build((1, 28, 28), 10, 0)
    found = secretflow.classify(steps_of(net), images(3), FixedPoint(2, 16), protocol, SPU, batch=2)
    assert (found.scores - net(images(3))).abs().max() < 0.005
    assert found.party_bytes > 10_000


def test_the_program_imports_nothing_of_ours():
    """Its environment has no leakbench, and what lies beside it is not imported in place of `spu`."""
    text = secretflow.PROGRAM.read_text()
    assert "import leakbench" not in text
    assert "from leakbench" not in text
    assert not (Path(secretflow.__file__).parent / "spu.py").exists()
    assert os.path.isfile(secretflow.PROGRAM)
