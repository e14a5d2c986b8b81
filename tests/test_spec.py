"""Sweep files: what they mean, and how bad ones are reported."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from leakbench.bench.execution import Conditions, run_trials
from leakbench.core.errors import UserError
from leakbench.sweeps.checks import load_sweep
from leakbench.sweeps.grid import trials
from leakbench.sweeps.ranges import parse_ranges
from leakbench.sweeps.spec import Changes
from leakbench.sweeps.sweep_file import read_sweep
from leakbench.sweeps.training_checks import check_training
from leakbench.sweeps.yaml_file import parse_yaml

ROOT = Path(__file__).parent.parent
DATA = Path("data")
SMALL = "datasets: [{name: cifar10-sample, indices: 0}]\n"


def load(write, text, data_root=DATA):
    return load_sweep(write("mine.yaml", text), data_root)


def names(choices):
    return [str(choice.value) for choice in choices]


def test_lists_are_grids(write):
    sweep = load(
        write,
        SMALL
        + """
defenses:
  - none
  - {name: gaussian, variance: [1e-4, 1e-3, 1e-2, 1e-1]}
  - {name: prune, ratio: [0.1, 0.2], scope: [tensor, global]}
  - laplacian(std=0.1)
""",
    )
    assert names(sweep.defenses) == [
        "none",
        "gaussian(variance=0.0001)",
        "gaussian(variance=0.001)",
        "gaussian(variance=0.01)",
        "gaussian(variance=0.1)",
        "prune(ratio=0.1)",
        "prune(ratio=0.1, scope=global)",
        "prune(ratio=0.2)",
        "prune(ratio=0.2, scope=global)",
        "laplacian(std=0.1)",
    ]


def test_a_list_of_lists_is_a_grid_of_a_setting_that_is_a_list(write):
    text = SMALL + "defenses: [none]\nmodels: [{name: mlp, hidden: %s}]\n"
    assert names(load(write, text % "[20, 10]").models) == ["mlp(hidden=[20, 10])"]
    assert names(load(write, text % "[[20, 10], [5]]").models) == ["mlp(hidden=[20, 10])", "mlp(hidden=[5])"]


def test_everything_is_crossed_with_everything(write):
    sweep = load(
        write,
        """
datasets:
  - {name: mnist-sample, indices: "0-1,5"}
  - {name: cifar10-sample, indices: 7}
models: ['mlp(hidden=[8])', {name: mlp, hidden: [8], activation: tanh}]
model_seeds: [0, 1]
protocols: [{name: fedsgd, batch_size: [1, 2], rounds: 2}]
attacks: [{name: dlg, steps: [2, 3]}]
defenses: [none, int8]
restarts: 3
""",
    )
    found = list(trials(sweep))
    assert len(found) == len(sweep) == 4 * 2 * 2 * 2 * 2 * 2 * 3
    assert len({trial.key for trial in found}) == len(found)
    assert {(str(trial.dataset), trial.index) for trial in found} == {
        ("mnist-sample", 0), ("mnist-sample", 1), ("mnist-sample", 5), ("cifar10-sample", 7),
    }  # fmt: skip
    assert {trial.start for trial in found} == {0, 1, 2}
    assert sweep.describe() == (
        "384 trials = 4 images x 2 models x 2 draws of weights x 2 protocols x 2 attacks x 2 defenses"
        " x 3 starts"
    )


def test_one_dataset_may_be_named_twice_for_other_indices(write):
    text = "datasets: [{name: mnist-sample, indices: 0-1}, {name: mnist-sample, indices: %s}]\n"
    assert len(load(write, text % "2-3" + "defenses: [none]")) == 4
    with pytest.raises(UserError, match=r"datasets\[1\]: mnist-sample is already listed, as datasets\[0\]"):
        load(write, text % "1-2" + "defenses: [none]")


def test_the_undefended_baseline_is_always_there(write):
    sweep = load(write, SMALL + "defenses: [int8]")
    assert names(sweep.defenses) == ["none", "int8"]
    assert "defense 'none' added" in sweep.notices[0]
    assert load(write, SMALL + "defenses: [int8, none]").notices == ()


def test_what_is_not_said_has_a_default(write):
    sweep = load(write, SMALL + "defenses: [none]")
    assert [names(each) for each in (sweep.models, sweep.protocols, sweep.attacks)] == [
        ["lenet"],
        ["fedsgd"],
        ["dlg"],
    ]
    assert (sweep.restarts, sweep.model_seeds) == (1, (0,))


@pytest.mark.parametrize(
    ("value", "numbers"),
    [(3, (3,)), ("0-2", (0, 1, 2)), ("0-1, 5", (0, 1, 5)), ([4, "7-8"], (4, 7, 8)), ("2", (2,))],
)
def test_ranges(value, numbers):
    assert parse_ranges(value) == numbers


@pytest.mark.parametrize(
    "value", [-1, "3-1", "a", "", [], 1.5, True, None, {"a": 1}, "1-2-3", 10**7, "0-99999999999", [[1]]]
)
def test_ranges_that_are_none(value):
    with pytest.raises(ValueError, match="expected whole numbers in 0..9999999 such as 3"):
        parse_ranges(value)


TRAINED_FIRST = "paper/trained.yaml"  # its checkpoints are those of another run


def slow_ones_marked(path):
    """A ResNet-56, and seventeen networks, take half a minute to be checked."""
    slow = path.name in ("resnet.yaml", "index.yaml")
    return pytest.param(path, marks=pytest.mark.long) if slow else path


@pytest.mark.parametrize(
    "path",
    [
        slow_ones_marked(each)
        for each in sorted((ROOT / "sweeps").rglob("*.yaml"))
        if each.parent.name != "protocols"  # whose parts tests/test_board.py reads
    ],
    ids=lambda p: p.name,
)
def test_the_sweeps_that_come_along_are_right(path):
    if path.as_posix().endswith(TRAINED_FIRST):
        _, problems = read_sweep(path)
        assert len(problems) == 3
        assert all("expected a file at" in problem for problem in problems)
        return
    sweep = load_sweep(path, DATA)
    assert sweep.datasets or sweep.training
    if sweep.training:
        check_training(sweep, DATA)


def test_the_networks_of_the_index_are_right_in_short():
    sweep = load_sweep(ROOT / "sweeps" / "index.yaml", DATA, changes=Changes(quick=True))
    assert len(sweep.models) == 3
    whole, problems = read_sweep(ROOT / "sweeps" / "index.yaml")
    assert (len(whole.models), problems) == (17, [])


def test_paper_sweep_holds_every_defense_of_figure_7_in_every_reading():
    sweep, problems = read_sweep(ROOT / "sweeps" / "paper" / "defenses.yaml")
    assert problems == []
    ratios = (0.01, 0.1, 0.2, 0.3, 0.5, 0.7)
    assert sorted(names(sweep.defenses)) == sorted([
        "none",
        *(f"{kind}(variance={v})" for kind in ("gaussian", "laplacian") for v in (1e-4, 1e-3, 1e-2, 1e-1)),
        *(f"{kind}(std={v})" for kind in ("gaussian", "laplacian") for v in (1e-4, 1e-3)),
        "float16", "bfloat16",
        *(f"prune(ratio={ratio}{scope})" for ratio in ratios for scope in ("", ", scope=global")),
        "int8",
    ])  # fmt: skip
    assert names(sweep.attacks) == ["dlg"]
    assert sweep.restarts == 3
    assert [len(data.indices) for data in sweep.datasets] == [20]


BAD = {
    "defenses: [none]\ndatasets: [{name: cifar10-sampel}]":
        "datasets[0]: unknown dataset 'cifar10-sampel'; did you mean 'cifar10-sample'? known: ",
    SMALL + "defenses: [gausian]": "defenses[0]: unknown defense 'gausian'; did you mean 'gaussian'? known: ",
    SMALL + "defenses: [none]\nmodels: [vgg]":
        "models[0]: unknown model 'vgg'; known: bert, cnn, lenet, mlp",
    SMALL + "defenses: [none]\nattacks: [dgl]": "attacks[0]: unknown attack 'dgl'; did you mean 'dlg'?",
    SMALL + "defenses: [{name: gaussian, variance: -1}]":
        "defenses[0].variance: expected a number >= 0, got -1",
    SMALL + "defenses: [{name: gaussian, variance: [1e-3, -1]}]":
        "defenses[0].variance: expected a number >= 0, got -1",
    SMALL + "defenses: [{name: gaussian, variance: much}]":
        "defenses[0].variance: expected a number, got 'much'",
    SMALL + "defenses: [{name: gaussian, variance: .nan}]":
        "defenses[0].variance: expected a finite number, got nan",
    SMALL + "defenses: [{name: gaussian}]":
        "defenses[0]: expected one of variance, std and relative, got none",
    SMALL + "defenses: [{name: prune, ratio: 1.0}]": "defenses[0].ratio: expected a number in [0, 1), got 1",
    SMALL + "defenses: [{name: prune, ratio: -0.1}]":
        "defenses[0].ratio: expected a number in [0, 1), got -0.1",
    SMALL + "defenses: [{name: prune, ratio: []}]":
        "defenses[0].ratio: expected one value or more, got an empty list",
    SMALL + "defenses: [{name: prune, ration: 0.1}]":
        "defenses[0].ration: unknown setting 'ration'; did you mean 'ratio'?",
    SMALL + "defenses: [{name: prune(ratio=0.1), scope: global}]":
        "defenses[0]: expected settings in 'prune(ratio=0.1)' or as keys, got both",
    SMALL + "defenses: [int8, int8]": "defenses[1]: int8 is already listed, as defenses[0]",
    SMALL + "defenses: [prune(ratio=0.1), {name: prune, ratio: [0.1, 0.2]}]":
        "defenses[1]: prune(ratio=0.1) is already listed, as defenses[0]",
    SMALL + "defenses: []": "defenses: expected a list of one defense or more, got []",
    SMALL + "defenses: none": "defenses: expected a list of one defense or more, got 'none'",
    SMALL: "defenses: expected a list of one defense or more, got none",
    "defenses: [none]": "datasets: expected a list of one dataset or more, got none",
    SMALL + "defenses: [3]": "defenses[0]: expected a defense by name, or a mapping with a `name`, got 3",
    SMALL + "defenses: [{variance: 3}]":
        "defenses[0]: expected a defense by name, or a mapping with a `name`, got {'variance': 3}",
    SMALL + "defenses: [none]\nrestart: 3": "unknown key 'restart'; did you mean 'restarts'?",
    SMALL + "defenses: [none]\nrestarts: 0": "restarts: expected a whole number >= 1, got 0",
    SMALL + "defenses: [none]\nrestarts: many": "restarts: expected a whole number >= 1, got 'many'",
    SMALL + "defenses: [none]\nsnapshot_every: -1": "snapshot_every: expected a whole number >= 0, got -1",
    SMALL + "defenses: [none]\nrestarts: 99999999": "restarts: expected at most 9999999, got 99999999",
    SMALL + "defenses: [none]\nrestarts: 9999999\nmodel_seeds: 0-1":
        "expected at most 10,000,000 trials in a sweep, got 19999998 trials = 2 draws of weights x 9999999",
    SMALL + "defenses: [none]\ntrial_timeout: .nan":
        "trial_timeout: expected a duration such as 90 s, 10 min or 1h30m, in 0..9999999 s, got nan",
    SMALL + "defenses: [none]\ntrial_timeout: -1":
        "trial_timeout: expected a duration such as 90 s, 10 min or 1h30m, in 0..9999999 s, got -1",
    SMALL + "defenses: [none]\ntrial_timeout: 10 parsecs":
        "trial_timeout: expected a duration such as 90 s, 10 min or 1h30m, in 0..9999999 s, got '10 parsecs'",
    SMALL + "defenses: [none]\nattacks: [dlg(history=10001)]":
        "attacks[0].history: expected a whole number in [1, 10000], got 10001",
    SMALL + "defenses: [none]\nattacks: [dlg(lr=1e39)]":
        "attacks[0].lr: expected a number in (0, 1e+38], got 1e+39",
    SMALL + "defenses: [none]\nattacks: [3]": "attacks[0]: expected an attack by name, or a mapping with",
    SMALL + "defenses: [none]\nmodel_seeds: x": "model_seeds: expected whole numbers in 0..9999999 such as 3",
    "defenses: [none]\ndatasets: [{name: cifar10-sample, indices: 0-25}]":
        "datasets[0].indices: expected 0..19, got 20",
    "defenses: [none]\ndatasets: [{name: cifar10-sample, indices: 16-19}]\nprotocols: [fedsgd(batch_size=4)]":
        "datasets[0].indices: expected 0..16 (batch_size 4 takes the images after it, too), got 17",
    SMALL + "defenses: [none]\nprotocols: [fedsgd(batch_size=21)]":
        "datasets[0]: expected 21 images or more, as batch_size requires, got 20",
    SMALL + "defenses: [none]\nprotocols: [fedsgd(batch_size=0)]":
        "protocols[0].batch_size: expected a whole number in [1, 10000], got 0",
    SMALL + "defenses: [none]\nprotocols: [{name: fedsgd, rounds: 0}]":
        "protocols[0].rounds: expected a whole number in [1, 10000], got 0",
    SMALL + "defenses: [none]\nprotocols: [fedsgd(rounds=10001)]":
        "protocols[0].rounds: expected a whole number in [1, 10000], got 10001",
    SMALL + "defenses: [none]\nprotocols: [fedsdg]":
        "protocols[0]: unknown protocol 'fedsdg'; did you mean 'fedsgd'? known: fedsgd",
    "defenses: [none]\ndatasets: [{name: cifar10-sample, indices: [1, 1]}]":
        "datasets[0].indices: 1 given twice",
    "defenses: [none]\ndatasets: [cifar100]": "datasets[0]: cifar100: not found: expected cifar-100-python",
    "defenses: [none]\ndatasets: ['folder:nowhere']":
        "datasets[0].path: expected a folder of pictures, found none at 'nowhere'",
    "defenses: [none": "not readable as YAML at line 1: ",
    "a: 1\na: 2": "not readable as YAML at line 2: key 'a' given twice",
    "? [a, b]\n: c": "not readable as YAML: unhashable type",
    SMALL + "defenses: [{name: gaussian, variance: 1" + "0" * 400 + "}]":
        "defenses[0].variance: expected a finite number, got 1000",
    "defenses: [none]\ndatasets: [mnist-sample, mnist-sample]":
        "datasets[1]: mnist-sample is already listed, as datasets[0]",
    SMALL + "defenses: [none]\nexhaustive: 1": "exhaustive: expected true or false, got 1",
    "- 1": "expected the keys datasets, models, protocols, attacks, suite, exhaustive, ",
    "": "expected the keys datasets, models, protocols, attacks, suite, exhaustive, ",
    "x: !!python/object/apply:os.system ['true']": "not readable as YAML at line 1: could not determine",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_a_bad_file_is_answered_in_a_line_with_its_place(write, text):
    with pytest.raises(UserError) as caught:
        load(write, text)
    lines = caught.value.problems
    assert all(line.startswith(str(write("mine.yaml", text)) + ": ") for line in lines)
    assert any(line.partition("mine.yaml: ")[2].startswith(BAD[text]) for line in lines), lines
    assert not any("\n" in line for line in lines)


def test_all_problems_of_a_file_are_reported_at_once(write):
    with pytest.raises(UserError) as caught:
        load(
            write,
            """
datasets: [{name: cifar10-sample, indices: 99}, svhn]
models: [{name: lenet, activation: gelu}]
defenses: [gausian, {name: prune, ratio: 2}, {name: gaussian, variance: -1}]
restart: 3
""",
        )
    places = [line.partition("mine.yaml: ")[2].split(":")[0] for line in caught.value.problems]
    assert sorted(places)[:-1] == [
        "datasets[0].indices", "datasets[1]", "defenses[0]", "defenses[1].ratio",
        "defenses[2].variance", "models[0].activation",
    ]  # fmt: skip
    assert sorted(places)[-1].startswith("unknown key 'restart'")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), (".5E3", 500.0), ("2e3_run/w.pt", "2e3_run/w.pt"), ("1e4b2c", "1e4b2c")],
)
def test_only_a_whole_number_is_read_as_one(text, value):
    assert parse_yaml(f"path: {text}") == {"path": value}


def test_a_file_that_is_not_there():
    with pytest.raises(UserError, match="^nowhere.yaml: no such file$"):
        load_sweep(Path("nowhere.yaml"), DATA)


def test_images_smaller_than_the_window_of_ssim(write, tmp_path):
    Image.new("RGB", (50, 50)).save(tmp_path / "0.png")
    text = f"datasets: [{{name: 'folder:{tmp_path}', size: 10}}]\ndefenses: [none]\nmodels: [mlp]"
    with pytest.raises(UserError, match=r"datasets\[0\]: expected images of 11x11 pixels or more"):
        load(write, text)


def test_a_picture_that_cannot_be_read_is_found_before_the_start(write, tmp_path):
    Image.new("RGB", (50, 50)).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"torn")
    text = f"datasets: [{{name: 'folder:{tmp_path}', indices: 0-1}}]\ndefenses: [none]"
    with pytest.raises(UserError, match=r"datasets\[0\].indices: .*1.png: expected a PNG or JPEG picture"):
        load(write, text)


MODELS = """
import torch
from torch import nn

class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)
    def forward(self, x):
        return self.layer(x.flatten(1))

class WrongScores(Fixed):
    def forward(self, x):
        return super().forward(x.flatten(1)[:, :784])[:, :3]

class NoParameters(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10]

class Once(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        context.save_for_backward(x.sigmoid())
        return x.sigmoid()
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, gradient):
        (y,) = context.saved_tensors
        return gradient * y * (1 - y)

class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 10, 32)
    def forward(self, x):
        return Once.apply(self.layer(x)).flatten(1)

class NumPy(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x * 2
    @staticmethod
    def backward(context, gradient):
        return torch.from_numpy(gradient.numpy() * 2)

class OnceOnly(Hidden):
    def forward(self, x):
        return NumPy.apply(self.layer(x)).flatten(1)

class OnlyFloat32(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3072, 10)
    def forward(self, x):
        return self.layer(x.float().flatten(1))

class Unused(OnlyFloat32):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(3, 3)

class Blind(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(10))
    def forward(self, x):
        return self.bias[None] + x.flatten(1)[:, :10].round()
"""


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("Fixed", "expected a model that takes images of 3x32x32, got RuntimeError: mat1 and mat2"),
        ("WrongScores", "expected class scores of shape (1, 10), got (1, 3)"),
        ("NoParameters", "expected parameters that require a gradient, got none"),
        ("Unused", "expected a model that can be differentiated twice, got RuntimeError: "),
        ("Hidden", "expected a model that can be differentiated twice, got a gradient of the match loss"),
        ("OnceOnly", "expected a model that can be differentiated twice, got RuntimeError: "),
        ("Blind", "expected a model that can be differentiated twice, got a second derivative of zero"),
    ],
)
def test_a_model_that_cannot_be_attacked(write, model, problem):
    path = write("net.py", MODELS)
    with pytest.raises(UserError) as caught:
        load(write, SMALL + f"defenses: [none]\nmodels: ['{path}:{model}(weights=default)']")
    (line,) = caught.value.problems
    assert f"models[0]: {path}:{model}(weights=default) on cifar10-sample: {problem}" in line


UNFIT = """
import torch
from torch import nn
from torch.autograd import Function

class Branches(nn.Linear):
    def __init__(self): super().__init__(3072, 10)
    def forward(self, x):
        return super().forward(x.flatten(1)) if float(x.detach().sum()) < 1e9 else x

class Counts(nn.Linear):
    def __init__(self):
        super().__init__(3072, 10)
        self.register_buffer("total", torch.zeros(()))
    def forward(self, x):
        self.total += x.detach().mean()
        return super().forward(x.flatten(1))

class Learns(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(3600, 10))
    def eval(self): return self.train()

class Other(Function):
    generate_vmap_rule = False
    @staticmethod
    def forward(x): return x.clone()
    @staticmethod
    def setup_context(ctx, inputs, output): pass
    @staticmethod
    def backward(ctx, slope): return Steeper.apply(slope)
    @staticmethod
    def vmap(info, dims, x): return x.clone(), dims[0]

class Steeper(Other):
    @staticmethod
    def vmap(info, dims, x): return 1.5 * x, dims[0]

class OtherSlope(nn.Linear):  # in the image, where no weight comes before
    def __init__(self): super().__init__(3072, 10)
    def forward(self, x): return super().forward(Other.apply(x.flatten(1)))

class OtherLoss(nn.Linear):
    def __init__(self): super().__init__(3072, 10)
    def forward(self, x): return super().forward(Steeper.apply(x.flatten(1)))
"""


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Branches", "expected a model that torch.func can run in a batch, got RuntimeError: vmap: "),
        ("Counts", "a batch, got RuntimeError: .* attempted to call in-place operation"),
        ("Learns", "a batch, got RuntimeError: .* attempted to call in-place operation"),
        (
            "OtherLoss",
            "gives the same results in a batch, got a match loss of .* in a batch and of .* alone",
        ),
        ("OtherSlope", "gives the same results in a batch, got a match loss whose gradient differs by .*%"),
    ],
)
def test_a_model_that_cannot_be_batched_is_sent_to_the_reference_engine(write, name, problem):
    path = write("net.py", UNFIT)
    text = SMALL + f"defenses: [none]\nmodels: ['{path}:{name}(weights=default)']\nattacks: [%s]\n"
    with pytest.raises(UserError) as caught:
        load(write, text % "dlg")
    (line,) = caught.value.problems
    assert re.search(problem, line)
    assert line.endswith("or attack it with `dlg(engine=reference)`")
    assert load(write, text % "dlg(engine=reference)")


KEEPS = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self): super().__init__(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(3600, 10))
    def forward(self, x):
        self.features = self[1](self[0](x))
        return self[3](self[2](self.features))
"""


def test_a_model_that_keeps_its_features_is_taken_and_attacked(write):
    path = write("net.py", KEEPS)
    attacks = "attacks: [dlg(steps=1), 'dlg(steps=1, engine=reference)']\n"
    sweep = load(write, SMALL + f"defenses: [none, int8]\nmodels: ['{path}:Net']\n" + attacks)
    assert [result.row.status for result in run_trials(trials(sweep), Conditions())] == ["budget"] * 4


def test_a_model_made_for_float32_is_taken(write):
    path = write("net.py", MODELS)
    assert load(write, SMALL + f"defenses: [none]\nmodels: ['{path}:OnlyFloat32(weights=default)']")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("    strength = 'strong'", "expected a strength that is a number, got 'strong'"),
        ("    family = 3", "expected a family that is text, got 3"),
        (
            "    @property\n    def strength(self):\n        return 1 / 0",
            "its strength cannot be read: ZeroDivisionError",
        ),
    ],
)
def test_a_defense_that_describes_itself_badly(write, body, problem):
    source = "from dataclasses import dataclass\nfrom leakbench import Defense\n@dataclass(frozen=True)\n"
    source += f"class Mine(Defense):\n{body}\n    def apply(self, gradients, generator): return gradients\n"
    path = write("mine.py", source)
    with pytest.raises(UserError, match=rf"defenses: |defenses\[0\]: .*{problem}"):
        load(write, SMALL + f"defenses: ['{path}:Mine', none]")


def test_a_checkpoint_that_does_not_fit(write, tmp_path):
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"models\[0\]: .*expected a state dict of lenet"):
        load(
            write,
            SMALL + f"defenses: [none]\nmodels: [{{name: lenet, weights: 'checkpoint:{tmp_path}/other.pt'}}]",
        )


def test_nothing_is_downloaded_for_a_file_with_problems(write, monkeypatch, tmp_path):
    from leakbench.bench.datasets.torchvision_import import torchvision_datasets

    asked = []

    def download(self):
        asked.append(self.root)
        raise OSError("no network")

    monkeypatch.setattr(torchvision_datasets().CIFAR10, "download", download)
    text = "datasets: [{name: cifar10, download: true}]\ndefenses: [%s]"
    with pytest.raises(UserError, match="unknown defense"):
        load(write, text % "gausian", tmp_path)
    assert asked == []
    load_sweep(write("mine.yaml", text % "none"), tmp_path, download=False)
    assert asked == []
    with pytest.raises(UserError, match="could not be downloaded"):
        load(write, text % "none", tmp_path)
    assert len(asked) == 1


QUICK = """
datasets: [{name: mnist-sample, indices: 0-9}]
defenses: [none, int8]
restarts: 3
training:
  train: {name: mnist-5k, indices: 0-79}
  test: {name: mnist-5k, indices: 4000-4099}
  seeds: 0-4
quick:
  datasets: [mnist-sample]
  training: {seeds: 0, epochs: 2}
"""


def test_a_quick_run_takes_what_the_file_has_for_it(write):
    whole, problems = read_sweep(write("mine.yaml", QUICK))
    assert problems == []
    assert whole.describe() == "60 trials = 10 images x 2 defenses x 3 starts"
    quick, problems = read_sweep(write("mine.yaml", QUICK), Changes(quick=True))
    assert problems == []
    assert quick.describe() == "6 trials = 2 defenses x 3 starts"
    assert (quick.training.seeds, quick.training.recipe.epochs) == ((0,), 2)
    assert quick.training.train == whole.training.train


@pytest.mark.parametrize(
    ("quick", "problem"),
    [
        ("", "quick: expected keys and values for a quick run, got None"),
        ("quick: [1]", "quick: expected keys and values for a quick run, got [1]"),
        ("quick: {restart: 1}", "unknown key 'restart'"),
    ],
)
def test_a_quick_run_that_is_none(write, quick, problem):
    file = write("mine.yaml", f"datasets: [mnist-sample]\ndefenses: [none]\n{quick}\n")
    assert read_sweep(file)[1] == []
    assert any(problem in each for each in read_sweep(file, Changes(quick=True))[1])
