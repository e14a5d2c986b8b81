"""A gradient from a training of the user's own: read with care, and attacked as a sweep of one victim."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from running import NET, stored
from safetensors.torch import save_file
from torch.nn import functional

import leakbench
from leakbench import commands
from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.metrics import ssim

EXAMPLES = Path(__file__).parent.parent / "examples"
pytestmark = pytest.mark.numeric

NAMES = ["1.weight", "1.bias", "3.weight", "3.bias"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A user's folder: a network, weights of it, and the gradient that it has for a digit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("leakbench.sweeps.rehearsal.rehearse", lambda *_arguments, **_options: None)
    open_dataset.cache_clear()  # its paths are relative to this folder
    (tmp_path / "net.py").write_text(NET)
    images = open_dataset(DATASETS.parse("mnist-sample"), tmp_path)
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 32), torch.nn.Sigmoid(), torch.nn.Linear(32, 10)
    )
    torch.save(network.state_dict(), "weights.pt")
    image, label = images[3]
    loss = functional.cross_entropy(network(image[None]), torch.tensor([label]))
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    torch.save(dict(zip(NAMES, gradients, strict=True)), "shared.pt")
    torch.save(list(gradients), "list.pt")
    return tmp_path


def attack(*arguments, gradient="shared.pt", model="net.py:Net(weights=checkpoint:weights.pt)"):
    return leakbench.main(["attack", "--gradient", gradient, "--model", model, *arguments, *INLINE])


def rows_of(name):
    return pd.read_csv(f"{name}/trials.csv")


INLINE = ["--executor", "inline"]
KNOWN = ["--data", "mnist-sample", "--index", "3"]
UNKNOWN = ["--shape", "1x28x28", "--classes", "10"]


@pytest.mark.parametrize("gradient", ["shared.pt", "list.pt"])
def test_the_image_behind_a_gradient_is_rebuilt_and_scored(here, capsys, gradient):
    assert attack(*KNOWN, "--restarts", "2", "--attack", "dlg(steps=60)", gradient=gradient) == 0
    output = capsys.readouterr().out
    name = gradient.removesuffix(".pt")
    folder = here / "runs" / f"attack-{name}"
    rows = rows_of(folder)
    assert len(rows) == 2
    best = rows.loc[rows["match_loss"].idxmin()]
    assert best["ssim"] > 0.9
    assert f"{best['ssim']:.3f}" in output
    assert "1 of 1 update was rebuilt (SSIM 0.9 or more)" in output
    picture = np.asarray(Image.open(folder / "figures" / f"{name}.png"))[::4, ::4] / 255
    assert picture.shape == (28, 56)
    image, label = open_dataset(DATASETS.parse("mnist-sample"), here)[3]
    np.testing.assert_allclose(picture[:, :28], image[0], atol=0.003)
    again = torch.tensor(picture[:, 28:], dtype=torch.float32)[None]
    assert float(ssim(image, again)) == pytest.approx(best["ssim"], abs=0.01)
    assert best["label_recovered"] == label
    assert best["label_correct"]
    page = (folder / "report.html").read_text()
    assert '<td class="leak">leak</td>' in page
    assert f"<td>{best['ssim']:.3f}</td>" in page
    assert page.count('src="data:image/png') == 2  # what was rebuilt, and the original


def test_without_the_original_there_is_the_match_loss_and_the_picture(here, capsys):
    assert attack(*UNKNOWN, "--restarts", "1", "--attack", "dlg(steps=2)", "--out", "out") == 0
    rows = rows_of("out")
    scores = ["mse", "mse_raw", "psnr", "ssim", "ssim_least", "score", "label_true", "label_correct"]
    assert rows["status"][0] == "budget"
    assert rows[scores].isna().all(axis=None)
    with Image.open("out/figures/shared.png") as picture:
        assert picture.size == (4 * 28, 4 * 28)
    gradient = torch.load("shared.pt", weights_only=True)
    squared = sum(float(each.double().square().sum()) for each in gradient.values())
    output = capsys.readouterr().out
    assert f"{rows['match_loss'][0] / squared:.2g}" in output
    assert "note: the" not in output
    assert "leak" not in output.partition("update  images")[2].replace("leakbench", "")
    page = (here / "out/report.html").read_text()
    assert page.count('src="data:image/png') == 1
    assert "no leak" not in page
    assert f"<td>{rows['match_loss'][0] / squared:.2g}</td>" in page


def test_the_truth_changes_nothing_of_what_is_found(here):
    for name, images in (("known", KNOWN), ("unknown", UNKNOWN)):
        assert attack(*images, "--restarts", "2", "--attack", "dlg(steps=5)", "--out", name) == 0
    found = [
        "start",
        "status",
        "iterations",
        "match_loss",
        "objective",
        "label_recovered",
        "neg_log_posterior",
    ]
    pd.testing.assert_frame_equal(rows_of("known")[found], rows_of("unknown")[found])


def test_the_same_command_runs_nothing_again(here, capsys):
    typed = [*UNKNOWN, "--restarts", "2", "--attack", "dlg(steps=2)"]
    assert attack(*typed) == 0
    before = stored(here / "runs/attack-shared")
    capsys.readouterr()
    assert attack(*typed) == 0
    assert "2 trials are there already, 0 to run" in capsys.readouterr().out
    pd.testing.assert_frame_equal(stored(here / "runs/attack-shared"), before)
    torch.save({name: 2 * each for name, each in changed().items()}, "shared.pt")
    assert attack(*typed) == 0
    assert "2 stored rows are no longer requested" in capsys.readouterr().out


def test_workers_and_a_sweep_of_the_written_file_give_the_same_rows(here):
    typed = [*KNOWN, "--restarts", "3", "--attack", "dlg(steps=5)"]
    assert attack(*typed) == 0
    one = stored(here / "runs/attack-shared")
    network = "net.py:Net(weights=checkpoint:weights.pt)"
    two = ["attack", "--gradient", "shared.pt", "--model", network, *typed, "--out", "two", "--jobs", "2"]
    assert leakbench.main(two) == 0
    pd.testing.assert_frame_equal(stored(here / "two"), one)
    content = yaml.safe_load((here / "two.yaml").read_text())
    assert content["attacks"] == ["dlg(steps=5)"]
    assert leakbench.main(["sweep", "two.yaml", "--out", "three", "--no-figures", *INLINE]) == 0
    pd.testing.assert_frame_equal(stored(here / "three"), one)


def test_a_defense_on_top_is_applied_to_what_was_recorded(here, capsys):
    assert attack(*KNOWN, "--attack", "dlg(steps=2)", "--restarts", "1") == 0
    content = yaml.safe_load((here / "runs/attack-shared.yaml").read_text())
    content["defenses"] = ["none", "prune(ratio=0.5)"]
    (here / "pruned.yaml").write_text(yaml.safe_dump(content))
    assert leakbench.main(["sweep", "pruned.yaml", "--executor", "inline", "--no-figures"]) == 0
    rows = rows_of("runs/pruned").set_index("defense")
    assert rows.loc["prune(ratio=0.5)", "shared_norm"] < rows.loc["none", "shared_norm"]
    content["defenses"] = ["none", f"{EXAMPLES / 'bottleneck.py'}:Bottleneck"]
    (here / "mixed.yaml").write_text(yaml.safe_dump(content))
    capsys.readouterr()
    assert leakbench.main(["sweep", "mixed.yaml"]) == commands.USER_ERROR
    assert "expected a defense that changes gradients alone" in capsys.readouterr().err


def test_weights_that_are_not_those_of_a_training_are_noted(here, capsys):
    attack(*KNOWN, "--restarts", "1", "--attack", "dlg(steps=1)", model="net.py:Net")
    assert (
        "note: the model has uniform weights, and the gradient those of its training"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("name", ["shared.npz", "shared.safetensors"])
def test_other_formats_hold_the_same_gradient(here, name):
    tensors = torch.load("shared.pt", weights_only=True)
    if name.endswith("npz"):
        np.savez(name, **{key: each.numpy() for key, each in tensors.items()})
    else:
        save_file(tensors, name)
    steps = ["--attack", "linear", "--restarts", "1"]
    for number, gradient in enumerate(("shared.pt", name)):
        assert attack(*KNOWN, *steps, "--out", f"run{number}", gradient=gradient) == 0
    scores = ["match_loss", "ssim", "gradient_norm"]
    pd.testing.assert_frame_equal(rows_of("run0")[scores], rows_of("run1")[scores])


STEP = ["attack", "--model", "net.py:Normed", *KNOWN, "--restarts", "2", "--attack", "dlg(steps=60)"]
NORMED = (
    NET
    + """
class Normed(nn.Sequential):
    def __init__(self, image_shape, classes):
        convolution = nn.Conv2d(image_shape[0], 6, 5, stride=2, padding=2)
        super().__init__(convolution, nn.BatchNorm2d(6), nn.Sigmoid(), nn.Flatten(), nn.LazyLinear(classes))
        self(torch.zeros(2, *image_shape))
"""
)


@pytest.fixture
def step(here):
    """The weights before and after a step on the fourth digit, of a network with statistics of its own."""
    (here / "net.py").write_text("import torch\n" + NORMED)
    image, label = open_dataset(DATASETS.parse("mnist-sample"), here)[3]
    names = {"nn": torch.nn, "torch": torch}
    exec(NORMED, names)
    torch.manual_seed(1)
    network = names["Normed"]((1, 28, 28), 10).eval()
    torch.save(network.state_dict(), "before.pt")
    functional.cross_entropy(network(image[None]), torch.tensor([label])).backward()
    torch.optim.SGD(network.parameters(), lr=0.5).step()
    torch.save(network.state_dict(), "after.pt")
    return here


def test_a_step_of_sgd_is_a_gradient(step, capsys):
    files = ["--before", "before.pt", "--after", "after.pt", "--lr", "0.5"]
    assert leakbench.main([*STEP, *files, *INLINE]) == 0
    output = capsys.readouterr().out
    assert "note: buffers are no part of a gradient and ignored: 1.running_mean, 1.running_var" in output
    assert "uniform weights" not in output
    rows = rows_of("runs/attack-after")
    assert rows["ssim"].max() > 0.9
    before, after = (torch.load(name, weights_only=True) for name in ("before.pt", "after.pt"))
    gradient = {
        name: (before[name] - after[name]) / 0.5 for name in before if before[name].is_floating_point()
    }
    torch.save(gradient, "shared.pt")
    model = "net.py:Normed(weights=checkpoint:before.pt)"
    assert attack(*STEP[3:], gradient="shared.pt", model=model) == 0
    assert rows_of("runs/attack-shared")["ssim"].max() > 0.9


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "expected either --gradient FILE, or all of --before FILE, --after FILE and --lr R"),
        (["--before", "before.pt", "--after", "after.pt"], "expected either --gradient FILE, or all of"),
        (["--gradient", "g.pt", "--lr", "1"], "expected either --gradient FILE, or all of"),
        (
            ["--before", "before.pt", "--after", "before.pt", "--lr", "1"],
            "before.pt: expected the weights after a step, found those of before.pt",
        ),
        (
            ["--before", "weights.pt", "--after", "after.pt", "--lr", "1"],
            "weights.pt: 0.weight: expected the weights of this parameter of the model, found none",
        ),
        (["--gradient", "bad.npz"], "bad.npz: expected tensors written by numpy.savez, got "),
        (
            ["--gradient", "bad.safetensors"],
            "bad.safetensors: expected tensors written by safetensors",
        ),
    ],
)
def test_what_is_no_step_and_no_gradient_is_a_line(step, capsys, arguments, text):
    for name in ("bad.npz", "bad.safetensors"):
        (step / name).write_bytes(b"nothing of the kind")
    assert leakbench.main([*STEP, *arguments]) == commands.USER_ERROR
    assert capsys.readouterr().err.startswith(text)


def test_safetensors_need_their_package(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (here / "x.safetensors").touch()
    assert attack(*KNOWN, gradient="x.safetensors") == commands.USER_ERROR
    assert "pip install safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["0", "-1", "x", "nan"])
def test_a_rate_is_above_zero(step, capsys, typed):
    with pytest.raises(SystemExit):
        leakbench.main([*STEP, "--lr", typed])
    assert f"argument --lr: expected a number > 0, got '{typed}'" in capsys.readouterr().err


def saved(name, content):
    torch.save(content, name)
    return name


def changed(**tensors):
    return torch.load("shared.pt", weights_only=True) | {
        name.replace("_", ".", 1): value for name, value in tensors.items()
    }


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (lambda: changed(**{"1_bias": torch.zeros(3)}), ["1.bias: expected shape (32,), got (3,)"]),
        (
            lambda: changed(**{"1_bias": "text"}),
            ["1.bias: expected a tensor of floating-point numbers, got str"],
        ),
        (
            lambda: changed(**{"1_bias": torch.full((32,), torch.nan)}),
            ["1.bias: expected finite numbers, found NaN or infinity"],
        ),
        (
            lambda: {"one.weight": torch.zeros(1)} | dict([*changed().items()][:3]),
            [
                "3.bias: expected the gradient of this parameter of the model, found none",
                "one.weight: expected only parameters of the model, and it has no such one",
            ],
        ),
        (lambda: [*changed().values()][:3], ["3.bias: expected the gradient of this parameter"]),
        (lambda: [*changed().values(), torch.zeros(1)], ["number 4: expected only parameters of the model"]),
        (
            lambda: torch.zeros(3),
            ["expected a dict {parameter name: tensor} or a list of tensors, got Tensor"],
        ),
    ],
)  # fmt: skip
def test_a_gradient_of_another_model_is_refused_in_lines(here, capsys, content, texts):
    assert attack(*KNOWN, gradient=saved("other.pt", content())) == commands.USER_ERROR
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == len(texts)
    for text in texts:
        assert any(error.startswith(f"other.pt: {text}") for error in errors)


def test_a_file_that_holds_code_is_not_run(here, capsys):
    import pickle

    class Code:
        def __reduce__(self):
            return (open, (str(here / "touched"), "w"))

    (here / "code.pt").write_bytes(pickle.dumps(Code()))
    assert attack(*KNOWN, gradient="code.pt") == commands.USER_ERROR
    assert "code.pt: expected tensors written by torch.save" in capsys.readouterr().err
    assert not (here / "touched").exists()


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (KNOWN, {"gradient": "no.pt"}, "no.pt: no such file"),
        ([], {}, "expected --data NAME, or --shape CxHxW (such as 3x32x32) and --classes K"),
        (["--shape", "28x28", "--classes", "10"], {}, "expected --data NAME, or --shape CxHxW"),
        (["--data", "mnst"], {}, "--data: unknown dataset 'mnst'"),
        (["--data", "mnist-sample", "--index", "20"], {}, "--index: expected 0..19, got 20"),
        ([*UNKNOWN, "--index", "3"], {}, "--index: expected --data NAME with it, got none"),
        ([*KNOWN, "--out", "."], {}, "--out: expected the name of a folder, got '.'"),
        (KNOWN, {"model": "nt"}, "--model: unknown model 'nt'"),
        (
            KNOWN, {"model": "net.py:Net(weights=checkpoint:no.pt)"},
            "--model: weights: expected a file at 'no.pt'",
        ),
        ([*KNOWN, "--attack", "dlg(steps=-1)"], {}, "--attack: steps: expected"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_explained(here, capsys, arguments, options, text):
    assert attack(*arguments, **options) == commands.USER_ERROR
    assert text in capsys.readouterr().err
