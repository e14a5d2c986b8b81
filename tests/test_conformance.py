"""What `leakbench check` reports on datasets, models and protocols; test_author.py has the other kinds."""

import re

import pytest
from running import ROOT
from test_author import checked

import leakbench
from leakbench import commands
from leakbench.bench.datasets import DATASETS
from leakbench.bench.models import MODELS
from leakbench.bench.protocols import PROTOCOLS
from leakbench.sweeps.conformance.base import SETTINGS

HEAD = """from dataclasses import dataclass, replace
from time import perf_counter_ns
import torch
from torch import nn
from leakbench import Count, Dataset, Images, Model, Protocol
from leakbench.core.configured import SettingError
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, text):
    (folder / "mine.py").write_text(HEAD + text)


IMAGES = "Images((1, 28, 28), 4, 10, lambda index: (self.image(index), self.label(index)))"


def dataset(folder, image="torch.full((1, 28, 28), index / 9)", label="index % 4", opened="", gives=IMAGES):
    """A file with a dataset of ten images, of which `image` and `label` are read."""
    write(
        folder,
        "@dataclass(frozen=True)\nclass Mine(Dataset):\n"
        f"    def image(self, index): return {image}\n    def label(self, index): return {label}\n"
        f"    def open(self, data_root):\n        {opened}\n        return {gives}\n",
    )


OPENED = "a shape, a number of classes and a length"
READ = "images in [0, 1], and labels of its classes"
ANOTHER_ORDER = "the same images in another order, and no other randomness"
OUTSIDE = "an IndexError for an index out of range"


def test_a_dataset_that_keeps_its_contract_passes(here, capsys):
    dataset(here)
    assert checked(capsys) == {}
    assert DATASETS.parse("mine.py:Mine").open(here)[9][1] == 1


def test_the_dataset_of_the_documents_passes(here, capsys):
    page = (ROOT / "docs" / "OWN_DATA.md").read_text()
    (code,) = (each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Dataset" in each)
    (here / "data.py").write_text(code)
    assert checked(capsys, "data.py") == {}


@pytest.mark.parametrize("name", ["cifar10-sample", "cifar100-sample", "mnist-sample", "mnist-5k"])
def test_our_own_datasets_pass(capsys, name):
    assert checked(capsys, name) == {}


@pytest.mark.parametrize(
    ("change", "what", "problem"),
    [
        ({"gives": "3"}, OPENED, "expected Images(shape, classes, length, read) or Texts("),
        (
            {"gives": "Images((28, 28), 4, 10, None)"}, OPENED,
            "expected a shape (C, H, W) of whole numbers >= 1, got (28, 28)",
        ),
        ({"gives": "Images((1, 28, 28), 4, 0, None)"}, OPENED, "expected a whole number >= 1 as length, got"),
        (
            {"gives": "Images((1, 28, 28), '4', 9, None)"}, OPENED,
            "expected a whole number >= 1 as classes, got '4'",
        ),
        (
            {"gives": "Images((1, 4, 4), 4, 10, None)"}, OPENED,
            "expected images of 11x11 pixels or more (the window of SSIM), got 4x4",
        ),
        ({"opened": "raise SettingError([('', 'nothing there')])"}, OPENED, "nothing there"),
        ({"opened": "raise SystemExit('no')"}, OPENED, "SystemExit: no"),
        (
            {"image": "torch.zeros(28, 28)"}, READ,
            "image 0: expected torch.float32 of (1, 28, 28), got torch.float32 of (28, 28)",
        ),
        (
            {"image": "torch.zeros((1, 28, 28), dtype=torch.uint8)"}, READ,
            "image 0: expected torch.float32 of (1, 28, 28), got torch.uint8 of (1, 28, 28)",
        ),
        ({"image": "None"}, READ, "image 0: expected torch.float32 of (1, 28, 28), got None"),
        (
            {"image": "torch.full((1, 28, 28), index / 8)"}, READ,
            "image 9: expected values in [0, 1], got 1.125 to 1.125",
        ),
        (
            {"image": "torch.full((1, 28, 28), torch.nan)"}, READ,
            "image 0: expected values in [0, 1], got nan to nan",
        ),
        ({"label": "index"}, READ, "image 4: expected an int in 0..3 as its label, got 4"),
        ({"label": "1.0"}, READ, "image 0: expected an int in 0..3 as its label, got 1.0"),
        (
            {"image": "torch.rand(1, 28, 28)"}, ANOTHER_ORDER,
            "image 9: expected the same and its label again, got others",
        ),
        (
            {"opened": "torch.rand(1)"}, ANOTHER_ORDER,
            "used PyTorch's global random generator; let the index alone decide an image",
        ),
    ],
)  # fmt: skip
def test_what_a_dataset_breaks_is_said(here, capsys, change, what, problem):
    dataset(here, **change)
    assert checked(capsys)[what].startswith(problem)


def test_an_index_out_of_range_has_to_be_refused(here, capsys):
    """As `Images` does, unless somebody overrides that."""
    odd = "type('Odd', (Images,), {'__getitem__': lambda own, index: own.read(index % 10)})"
    dataset(here, gives=f"{odd}((1, 28, 28), 4, 10, lambda i: (self.image(i), self.label(i)))")
    problem = "expected an IndexError for index -1 of 10 images, got one"
    assert checked(capsys) == {OUTSIDE: problem}


def test_a_dataset_that_is_not_there_is_a_line_and_no_more_is_tried(here, capsys):
    assert leakbench.main(["check", "mnist", "--data-root", "elsewhere"]) == commands.TRIALS_FAILED
    output = capsys.readouterr().out
    assert "mnist: not found: expected MNIST/raw under the data root 'elsewhere'" in output
    assert READ not in output


def test_settings_may_be_given(here, capsys):
    assert leakbench.main(["check", "folder:pictures"]) == commands.USER_ERROR
    assert capsys.readouterr().err.startswith(
        "folder:pictures: path: expected a folder of pictures, found none"
    )
    assert checked(capsys, "gaussian(std=0.1)") == {}


def model(folder, forward="return self.last(x.flatten(1))", arguments="image_shape, classes", more="pass"):
    """A file with a model of one layer."""
    write(
        folder,
        f"class Mine(nn.Module):\n    def __init__(self, {arguments}):\n        super().__init__()\n"
        "        self.last = nn.Linear(torch.Size(image_shape).numel(), classes)\n"
        f"        {more}\n    def forward(self, x):\n        {forward}\n",
    )


CIFAR = "images of 3x32x32 in 10 classes, and a second derivative"
WEIGHTS = "the same weights from the same seed"
SCORES = "the same scores from the same images, and no randomness"
SMOOTH = "return torch.sigmoid(self.last(x.flatten(1)))"


@pytest.mark.parametrize("name", ["lenet", "mlp", "cnn"])
def test_our_own_models_pass(capsys, name):
    assert checked(capsys, name) == {}


def test_a_model_that_keeps_its_contract_passes(here, capsys):
    model(here, SMOOTH)
    assert checked(capsys, "mine.py:Mine") == {}


def test_a_model_of_one_size_is_not_for_others(here, capsys):
    model(here, SMOOTH, "side=28")
    text = (here / "mine.py").read_text()
    (here / "mine.py").write_text(text.replace("torch.Size(image_shape).numel(), classes", "side * side, 10"))
    assert checked(capsys, "mine.py:Mine") == {}
    leakbench.main(["check", "mine.py:Mine"])
    output = " ".join(capsys.readouterr().out.split())
    assert f"not for {CIFAR}: RuntimeError: mat1 and mat2 shapes cannot be multiplied" in output


@pytest.mark.parametrize(
    ("change", "what", "problem"),
    [
        ({"forward": "raise ValueError('no way')"}, CIFAR, "expected a model that takes images of 3x32x32"),
        ({"forward": "return x.flatten(1)"}, CIFAR, "expected class scores of shape (2, 10), got (2, 3072)"),
        ({"forward": "return self.last(x.detach().flatten(1)).detach()"}, CIFAR, "expected a model that"),
        (
            {"forward": SMOOTH, "more": "self.register_buffer('at', torch.tensor(perf_counter_ns()))"},
            WEIGHTS, "expected the same weights again with weights=uniform, got others; draw them with",
        ),
        (
            {"forward": "return nn.functional.dropout(self.last(x.flatten(1)), training=True)"}, SCORES,
            "expected the same scores again, got others; draw nothing in evaluation mode",
        ),
        ({"forward": "x.mul_(0.5); " + SMOOTH}, SCORES, "changed the images in place; work on a copy"),
        (
            {"forward": "torch.rand(1); " + SMOOTH}, SCORES,
            "used PyTorch's global random generator; draw nothing in evaluation mode",
        ),
    ],
)  # fmt: skip
def test_what_a_model_breaks_is_said(here, capsys, change, what, problem):
    model(here, **change)
    assert checked(capsys, "mine.py:Mine")[what].startswith(problem)


def test_modules_of_a_file_may_be_layers_and_go_by_their_names(here, capsys):
    model(here)
    assert leakbench.main(["check", "mine.py"]) == commands.USER_ERROR
    text = "expected a subclass of Defense, Attack, Dataset, Model or Protocol, found none"
    hint = "check a model by its name, such as mine.py:Mine"
    assert capsys.readouterr().err == f"mine.py: {text}; {hint}\n"


def test_a_subclass_of_model_is_one(here, capsys):
    layers = "nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), self.width), nn.Sigmoid()"
    write(
        here,
        "@dataclass(frozen=True)\nclass Mine(Model):\n    width: int = 8\n"
        f"    def layers(self, shape, classes): return {layers}, nn.Linear(self.width, classes))\n",
    )
    assert MODELS.parse("mine.py:Mine(width=4, weights=default)").weights == "default"
    assert checked(capsys) == {}


@pytest.mark.parametrize("name", ["fedsgd", "fedsgd(batch_size=4, rounds=3)"])
def test_our_own_protocol_passes(capsys, name):
    assert checked(capsys, name) == {}


def test_a_protocol_of_a_users_passes(here, capsys):
    write(here, "@dataclass(frozen=True)\nclass Mine(Protocol):\n    batch_size: Count = 2\n")
    assert checked(capsys) == {}
    assert PROTOCOLS.parse("mine.py:Mine").batch_size == 2


@pytest.mark.parametrize(
    ("member", "what", "problem"),
    [
        (
            "batch_size: int = 2", "a SettingError for a count of 0",
            "expected a SettingError for batch_size=0, got none; annotate it with leakbench.Count",
        ),
        (
            "rounds: float = 1.5",
            "whole numbers of images and of rounds", "expected a whole number >= 1 as rounds, got 1.5",
        ),
    ],
)  # fmt: skip
def test_what_a_protocol_breaks_is_said(here, capsys, member, what, problem):
    write(here, f"@dataclass(frozen=True)\nclass Mine(Protocol):\n    {member}\n")
    assert checked(capsys)[what] == problem


def test_a_batch_that_is_too_large_to_be_tried_is_said(capsys):
    assert leakbench.main(["check", "fedsgd(batch_size=6000)"]) == 0
    text = "not for a gradient that a client shares: the check has 5000 images, and it needs 6000"
    assert text in capsys.readouterr().out


def test_an_unknown_name_is_looked_for_among_all_kinds(capsys):
    assert leakbench.main(["check", "resnet21"]) == commands.USER_ERROR
    error = capsys.readouterr().err
    assert error.startswith("unknown plug-in 'resnet21'; did you mean 'resnet20'? known: none, gaussian")
    assert "mnist-sample" in error


def test_settings_are_tried_of_every_kind(here, capsys):
    write(
        here,
        "@dataclass(frozen=True)\nclass Mine(Protocol):\n"
        "    batch_size: int = 2\n    def __str__(self): return 'fedsgd'\n",
    )
    assert checked(capsys)[SETTINGS] == "fedsgd is read back as fedsgd"


def test_the_list_says_of_every_kind_how_to_bring_ones_own(capsys):
    assert leakbench.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("  file.py:ClassName     a ") for line in lines) == 5
