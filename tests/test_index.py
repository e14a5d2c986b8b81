"""Security indices: ranks against plain matrices, the command, and the probe of a sweep."""

import copy
import re

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import settings
from running import inside, no_space
from torch import nn
from torch.nn import functional

import leakbench
from leakbench import commands
from leakbench.bench import spectrum
from leakbench.bench.attacks import NotApplicableError
from leakbench.bench.chain import chain_of
from leakbench.bench.equations import Output, Slopes
from leakbench.bench.index import LayerIndex, ModelIndex, index_of
from leakbench.bench.models import MODELS
from leakbench.bench.spectrum import dense, estimated, matrix_of, spectrum_of
from leakbench.core.configured import SettingError
from leakbench.defenses import Account
from leakbench.reports.index import correlations, index_and_leakage, meaning_of_index
from leakbench.reports.statistics import rank_correlation
from leakbench.sweeps.indices import Indices, as_index
from leakbench.sweeps.lock import locked
from leakbench.sweeps.store import Store
from leakbench.sweeps.sweep_file import read_sweep

SHAPE = (1, 8, 8)
GENERATOR = torch.Generator().manual_seed(0)
IMAGE = torch.rand(1, *SHAPE, generator=GENERATOR)
LABEL = torch.tensor([2])


def network(*layers):
    built = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(5)).eval()
    built(IMAGE)
    generator = torch.Generator().manual_seed(1)
    for parameter in built.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5, generator=generator)
    return built


NETWORKS = {
    "narrow": network(nn.Conv2d(1, 2, 3, 2, 1), nn.Sigmoid(), nn.Conv2d(2, 2, 3, 2, 1), nn.Tanh()),
    "wide": network(nn.Conv2d(1, 6, 3, 1, 1), nn.Tanh(), nn.Conv2d(6, 8, 3, 2, 1), nn.Sigmoid()),
    "rectified": network(nn.Conv2d(1, 3, 5, 2, 2), nn.ReLU(), nn.Conv2d(3, 4, 3, 1, 1), nn.ReLU()),
    "linear": network(nn.Flatten(), nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 12), nn.Sigmoid()),
}


def plainly(built, kept):
    """The rank of each layer's equations, layer by layer: their matrices, a column for each unknown."""
    stages, stage = [], []
    for layer in built:  # each up to its activation
        stage.append(layer)
        if isinstance(layer, nn.Sigmoid | nn.Tanh | nn.ReLU):
            stages.append(stage)
            stage = []
    stages.append(stage)
    own = copy.deepcopy(built).double()
    names = iter(dict(own.named_parameters()))
    layers = {id(old): new for old, new in zip(built.modules(), own.modules(), strict=True)}
    inputs, outputs, current = [], [], IMAGE.double()
    for stage in stages:
        inputs.append(current)
        for layer in stage:
            current = layers[id(layer)](current)
            if any(True for _ in layer.parameters()):
                outputs.append(current)
    slopes = torch.autograd.grad(functional.cross_entropy(current, LABEL), outputs)
    ranks = []
    for number, stage in enumerate(stages):
        weight = next(names), next(names)  # and its bias
        linear = [
            layers[id(layer)] for layer in stage if not isinstance(layer, nn.Sigmoid | nn.Tanh | nn.ReLU)
        ]
        (parameter,) = (layer.weight for layer in linear if hasattr(layer, "weight"))
        columns = []
        for unit in torch.eye(inputs[number].numel(), dtype=torch.float64):
            values = [unit.view_as(inputs[number]), torch.zeros_like(inputs[number])]
            rows = []
            for value in values:
                for layer in linear:
                    value = layer(value)
                (gradient,) = torch.autograd.grad((value * slopes[number]).sum(), parameter)
                activation = stage[-1] if stage is not stages[-1] else None
                trust = flatness(activation, outputs[number])
                mask = kept[weight[0]].double() if kept else 1
                rows.append(torch.cat([(trust * value).flatten(), (mask * gradient).flatten()]).detach())
            columns.append(rows[0] - rows[1])
        ranks.append(np.linalg.matrix_rank(torch.stack(columns, 1).numpy()))
    return ranks


def flatness(activation, outputs):
    """Its slope; 0 for what the last layer gives, of which nothing is known."""
    if activation is None:
        return torch.zeros_like(outputs)
    at = outputs.detach().requires_grad_()
    return torch.autograd.grad(activation(at).sum(), at)[0]


def halved(built):
    """A mask that keeps half of each gradient's entries."""
    generator = torch.Generator().manual_seed(2)
    return {
        name: torch.rand(each.shape, generator=generator) < 0.5 for name, each in built.named_parameters()
    }


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("pruned", [False, True])
def test_ranks_are_numpys(name, pruned):
    built = NETWORKS[name]
    kept = halved(built) if pruned else None
    found = index_of(built, IMAGE, LABEL, Account(kept=kept))
    assert [layer.rank for layer in found.layers] == plainly(built, kept)
    assert all(layer.error is None for layer in found.layers)
    assert found.value <= 0


def test_it_adds_what_layers_miss_deep_ones_for_less():
    def layer(unknowns, rank, error=None, condition=2.0):
        return LayerIndex("w", unknowns, rank, 0, rank, rank, error, condition)

    found = ModelIndex((layer(10, 10), layer(20, 14), layer(8, 5)))
    assert found.value == pytest.approx(2 / 3 * (14 - 20) + 1 / 3 * (5 - 8))
    assert (found.is_exact, found.error, found.condition) == (True, 0, 8)
    rough = ModelIndex((layer(10, 8.5, 0.3), layer(6, 6, 0.8)))
    assert (rough.value, rough.error) == (pytest.approx(-1.5), pytest.approx(0.5))
    assert "c(M) = -2 ± 0, or nearer to 0" in meaning_of_index(rough)
    assert "c(M) = -5: minus the count of numbers that no equation determines" in meaning_of_index(found)
    assert "errors in it may grow 2 times" in meaning_of_index(ModelIndex((layer(10, 10),)))


@pytest.mark.parametrize("channels", [pytest.param("[6]", marks=pytest.mark.long), "[6, 3]"])
def test_small_networks_miss_what_there_are_no_equations_for(channels):
    """Of sizes as in the code of Chen and Campbell."""
    model = MODELS.parse(f"cnn(channels={channels}, kernel=[4], stride=[2], padding=[0], activation=tanh)")
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    found = index_of(model.build((3, 32, 32), 10, 0), image, LABEL, None)
    outputs, weights = 6 * 15**2, 6 * 3 * 4**2
    twice = 6**2  # <W_k, D_l> = <g_l, z_k> for all channels k, l: what weights and gradients both say
    assert found.layers[0].rank == outputs + weights - twice
    assert found.layers[0].missing == 3 * 32**2 - found.layers[0].rank
    assert found.layers[-1].missing == 0  # every feature is in the gradient of the linear layer


def slopes_of(built, place, kept=None):
    """The equations of one block of a network, as an index takes them."""
    chain = chain_of(built, SHAPE, linear=False)
    assert not chain.problem
    block, inputs = chain.blocks[place], list(chain.inputs_of(IMAGE.double()))[place]
    outputs = block(inputs, chain.weights)
    known = Output(outputs, block.activation.slope(outputs)) if block.activation else None
    slope = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    whole = {name: torch.ones_like(each) for name, each in chain.weights.items()}
    return Slopes(block, chain.weights, slope, kept or whole, known, inputs)


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("place", [0, 2])
def test_a_fully_connected_layer_is_known_by_its_structure(monkeypatch, place, pruned):
    built = NETWORKS["linear"]
    equations = slopes_of(built, place, halved(built) if pruned else None)
    whole = dense(matrix_of(equations))
    monkeypatch.setattr(spectrum, "matrix_of", lambda _: pytest.fail("built"))
    found = spectrum_of(equations)
    assert found.rank == whole.rank
    assert (found.largest, found.smallest) == pytest.approx((whole.largest, whole.smallest))


def test_both_directions_are_of_one_matrix():
    equations = slopes_of(NETWORKS["rectified"], 1)
    matrix = matrix_of(equations)
    rows = torch.randn(3, equations.shape[0], generator=GENERATOR, dtype=torch.float64)
    inputs = torch.randn(3, equations.shape[1], generator=GENERATOR, dtype=torch.float64)
    torch.testing.assert_close(equations.times_each(inputs), inputs @ matrix.T)
    torch.testing.assert_close(equations.transposed_times_each(rows), rows @ matrix)
    np.testing.assert_allclose(equations.transposed_times(rows[0].numpy()), (rows @ matrix)[0].numpy())


class Residual(nn.Module):
    """A unit with a way around it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1)
        self.last = nn.Linear(16, 5)

    def inner(self, images):
        return self.second(self.first(images).sigmoid()) + images

    def forward(self, images):
        return self.last(functional.avg_pool2d(self.inner(images).tanh(), 2).flatten(1))


def test_a_residual_unit_is_one_layer_at_the_slope_it_has_there():
    torch.manual_seed(0)
    built = Residual().double().eval()
    found = index_of(built.float(), IMAGE, LABEL, None)
    assert [layer.name for layer in found.layers] == ["first", "last"]
    assert [layer.missing for layer in found.layers] == [0, 64 - 16]  # the pool keeps a number of four

    built, image = built.double(), IMAGE.double()
    outputs = built.inner(image)
    (slope,) = torch.autograd.grad(
        functional.cross_entropy(built.last(functional.avg_pool2d(outputs.tanh(), 2).flatten(1)), LABEL),
        outputs,
    )
    parameters = dict(built.named_parameters())
    names = [name for name in parameters if "last" not in name and name != "second.bias"]

    def rows(image):
        outputs = built.inner(image)
        inner = torch.autograd.grad(
            (slope * outputs).sum(), [parameters[name] for name in names], create_graph=True
        )
        return torch.cat([outputs.flatten(), *(each.flatten() for each in inner)])

    plain = torch.autograd.functional.jacobian(rows, image).view(-1, 64)
    assert found.layers[0].rank == np.linalg.matrix_rank(plain.numpy())
    assert found.layers[0].all_rows == len(plain)


def test_an_estimate_says_how_far_it_may_be_off():
    generator = torch.Generator().manual_seed(5)
    full = torch.randn(500, 300, generator=generator, dtype=torch.float64)
    lacking = full.clone()
    lacking[:, 200:] = full[:, :200] @ torch.randn(200, 100, generator=generator, dtype=torch.float64)
    for matrix, rank in ((full, 300), (lacking, 200)):
        values = torch.linalg.svdvals(matrix)
        counted = int((values > spectrum.SEEN * values[0]).sum())
        array = matrix.numpy()
        found = estimated(lambda x, a=array: a @ x, lambda y, a=array: a.T @ y, 300)
        assert dense(matrix).rank == rank
        assert found.rank == pytest.approx(counted, abs=2 * found.error + 3)
        assert found.largest == pytest.approx(float(values[0]))
    assert estimated(lambda x: 0 * x, lambda y: 0 * y, 30).rank == 0
    assert dense(torch.zeros(4, 3, dtype=torch.float64)).rank == 0


def test_large_layers_are_estimated(monkeypatch):
    monkeypatch.setattr(spectrum, "DENSE", 1000)
    exact = index_of(NETWORKS["wide"], IMAGE, LABEL, None)
    monkeypatch.undo()
    built = index_of(NETWORKS["wide"], IMAGE, LABEL, None)
    assert exact.layers[1].error is not None
    assert not exact.is_exact
    assert built.is_exact


class NotLinear(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 5), nn.Softmax(1))


class Unknown(nn.Module):
    """Layers that cannot be distinguished: one is used twice."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(64, 5)

    def forward(self, images):
        return self.last(self.inner(self.inner(images).sigmoid()).tanh().flatten(1))


@pytest.mark.parametrize(
    ("built", "message"),
    [
        (NotLinear(), "expected a model whose class scores come from an nn.Linear"),
        (Unknown(), "expected layers that can be separated: inner.* is used in two layers"),
    ],
)
def test_networks_without_an_index(built, message):
    with pytest.raises(NotApplicableError, match=message):
        index_of(built, IMAGE, LABEL, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("channels=[]", "channels: expected one number or more, got none"),
        ("channels=[4], stride=[0]", "stride: expected a whole number >= 1, got [0]"),
        ("channels=[4], stride=[1], padding=[-1]", "padding: expected a whole number >= 0, got [-1]"),
        ("channels=[4, 8]", "stride: expected 1 or 2 numbers, like channels, got 3"),
    ],
)
def test_sizes_of_convolutions(settings, message):
    with pytest.raises(SettingError) as raised:
        MODELS.parse(f"cnn({settings})")
    assert message in [f"{setting}: {text}" for setting, text in raised.value.problems]


def test_a_lenet_is_such_a_network():
    lenet, cnn = (MODELS.parse(name).layers((3, 32, 32), 10) for name in ("lenet", "cnn"))
    assert [str(each) for each in lenet] == [str(each) for each in cnn]
    with pytest.raises(SettingError, match="kernels that fit the image of 32 x 32"):
        MODELS.parse("cnn(kernel=[60])").layers((3, 32, 32), 10)


# the command

SMALL = "cnn(channels=[2], kernel=[3], stride=[2], padding=[1])"
FACES = ["--dataset", "lfw-subset"]


def test_the_command_says_what_every_layer_determines(tmp_path, capsys):
    typed = ["index", SMALL, "mlp(hidden=[9])", *FACES, "--out", "kept"]
    typed += ["--defense", "prune(ratio=0.9)", "--defense", "float16"]
    assert inside(tmp_path, *typed) == 0
    out = capsys.readouterr().out
    assert "index 6 of 6: mlp(hidden=[9])" in out
    assert f"{SMALL} · lfw-subset 0 · none, float16\n" in out
    assert f"{SMALL} · lfw-subset 0 · prune(ratio=0.9)\n" in out
    assert re.search(r"\n0 +625 +356 +356 +352 +273 ", out)  # 4 rows twice, see above
    assert "c(M) = 0, the least secure" in out
    assert (tmp_path / "kept/index.png").stat().st_size > 10_000
    rows = Indices(tmp_path / "kept").rows()
    assert len(rows) == 2 * 2 * 3  # layers, networks, defenses
    assert as_index(rows[rows["key"] == rows["key"].iloc[0]]).value == -273

    assert inside(tmp_path, *typed) == 0
    again = capsys.readouterr().out
    assert "index 6 of 6" not in again  # what is there is not worked out again
    assert again in out


SOURCE = """
from dataclasses import dataclass
from torch import nn
from leakbench import Defense

class Ends(nn.Sequential):
    def __init__(self, classes):
        super().__init__(nn.Flatten(), nn.Linear(625, classes), nn.Sigmoid())

class Silent(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :2]

@dataclass(frozen=True)
class Mute(Defense):
    def apply(self, gradients, generator):
        return {name: gradient * 0.5 for name, gradient in gradients.items()}

@dataclass(frozen=True)
class Broken(Mute):
    def account(self, shared):
        return 1 / 0

@dataclass(frozen=True)
class Mixed(Defense):
    def change_batch(self, images, labels, generator):
        return images.flip(3), labels
"""


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["lenett"], "MODEL: unknown model 'lenett'; did you mean 'lenet'?"),
        (["mine.py:Ends"], "mine.py:Ends: expected a model whose class scores come from an nn.Linear"),
        (["mine.py:Silent"], "mine.py:Silent: expected parameters that require a gradient, got none"),
        (
            [SMALL, "--defense", "mine.py:Mute"],
            "mine.py:Mute: expected a defense that says what it leaves of",
        ),
        (
            [SMALL, "--defense", "mine.py:Mixed"],
            "mine.py:Mixed: expected a defense that leaves the images as",
        ),
        (
            [SMALL, "--defense", "mine.py:Broken"],
            f"{SMALL} · lfw-subset 0 · mine.py:Broken: ZeroDivisionError",
        ),
        ([SMALL, "--defense", "prune(ratio=2)"], "--defense: ratio: expected"),
        ([SMALL, "--index", "999"], "--index: expected 0..199, got 999"),
        ([SMALL, "--index", "-1"], "--index: expected 0..199, got -1"),
    ],
)
def test_bad_input_is_a_line(write, tmp_path, capsys, typed, message):
    write("mine.py", SOURCE)
    assert inside(tmp_path, "index", *typed, *FACES) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_a_figure_that_cannot_be_written_is_drawn_by_the_same_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("leakbench.reports.style.save", no_space)
    assert inside(tmp_path, "index", SMALL, *FACES) == commands.STOPPED
    reason = "runs/index: tables and figures cannot be written: No space left on device"
    assert capsys.readouterr().err == f"{reason}; the rows are stored: the same command writes the rest\n"


def test_two_do_not_write_into_one_folder(tmp_path, capsys):
    (tmp_path / "runs/index").mkdir(parents=True)
    with locked(tmp_path / "runs/index"):
        assert inside(tmp_path, "index", SMALL, *FACES) == 2
    assert re.fullmatch(r"runs/index: process \d+ on .* is writing to it\n", capsys.readouterr().err)


def test_the_command_sets_a_torn_part_aside(tmp_path, capsys):
    parts = tmp_path / "runs/index/indices.parquet"
    parts.mkdir(parents=True)
    (parts / "part-000001.parquet").write_bytes(b"torn")
    assert inside(tmp_path, "index", SMALL, *FACES) == 0, capsys.readouterr().err
    assert (tmp_path / "runs/index/set-aside/indices-part-000001.parquet").read_bytes() == b"torn"


# the probe of a sweep

SWEEP = f"""
datasets: [lfw-subset]
models: ['{SMALL}', 'mine.py:Ends']
attacks: [dlg(steps=1)]
defenses: [none, prune(ratio=0.9), mine.py:Mute]
probes: [index]
"""


@pytest.mark.usefixtures("without_rehearsal")
def test_a_sweep_measures_it_once(write, tmp_path, capsys):
    write("mine.py", SOURCE)
    write("sweep.yaml", SWEEP)
    assert inside(tmp_path, "sweep", "sweep.yaml", "--executor", "inline") == 0
    out = capsys.readouterr().out
    assert f"index 2 of 6: {SMALL} · lfw-subset 0 · prune(ratio=0.9)" in out
    assert "note: no index of mine.py:Mute: expected a defense that says what it leaves of" in out
    assert "note: no index of mine.py:Ends: expected a model whose class scores come from an nn.Linear" in out
    assert "c(M) = -273: minus the count of numbers that no equation determines" in out
    store = Store.existing(tmp_path / "runs/sweep")
    assert list(store.index_rows()["defense"].unique()) == ["none", "prune(ratio=0.9)"]
    assert inside(tmp_path, "sweep", "sweep.yaml", "--executor", "inline") == 0
    assert "index 2 of 6" not in capsys.readouterr().out
    assert leakbench.main(["figures", str(store.folder)]) == 0
    assert "index_1" in capsys.readouterr().out

    write("sweep.yaml", SWEEP.replace("prune(ratio=0.9), ", ""))
    assert inside(tmp_path, "sweep", "sweep.yaml", "--executor", "inline") == 0
    assert list(store.index_rows()["defense"].unique()) == [
        "none"
    ]  # probes that are no longer requested are not shown


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        ("[indx]", "probes[0]: unknown probe 'indx'; did you mean 'index'? known: index"),
        ("index", "probes: expected a list of index, got 'index'"),
    ],
)
def test_unknown_probes(write, tmp_path, capsys, probes, message):
    write("sweep.yaml", f"datasets: [lfw-subset]\ndefenses: [none]\nprobes: {probes}\n")
    assert inside(tmp_path, "sweep", "sweep.yaml") == 2
    assert capsys.readouterr().err == f"sweep.yaml: {message}\n"


def test_a_torn_part_is_set_aside_and_measured_again(write, tmp_path):
    sweep, _ = read_sweep(write("sweep.yaml", "datasets: [lfw-subset]\ndefenses: [none]\n"))
    store = Store.open_for(tmp_path / "run", sweep)
    folder = store.folder / "indices.parquet"
    folder.mkdir()
    (folder / "part-000001.parquet").write_bytes(b"torn")
    with store.lock():
        pass
    assert not list(folder.iterdir())
    assert [each.name for each in (store.folder / "set-aside").iterdir()] == ["indices-part-000001.parquet"]


# whether it predicts anything


def test_rank_correlation():
    pairs = np.array([[1, 5, 2, 2, 9, 3], [2, 4, 2, 3, 8, 1]], dtype=float)
    found = rank_correlation(*pairs)
    from scipy.stats import spearmanr

    assert found.rho == pytest.approx(spearmanr(*pairs).statistic)
    assert found.low < found.rho <= found.high <= 1
    assert rank_correlation([1, 2, 3], [3, 2, 1]).rho == pytest.approx(-1)
    assert np.isnan(rank_correlation([1, 1, 1], [3, 2, 1]).rho)  # all alike: nothing can be said


def test_index_and_leakage_meet_by_network_and_defense(write, tmp_path, capsys):
    models = ", ".join(f"'cnn(channels=[{n}], kernel=[3], stride=[2], padding=[1])'" for n in (1, 2, 3, 4))
    text = f"datasets: [{{name: lfw-subset, indices: 0-1}}]\nmodels: [{models}]\ndefenses: [none]\n"
    write("sweep.yaml", f"{text}attacks: [recursive]\nprobes: [index]\n")
    assert inside(tmp_path, "sweep", "sweep.yaml", "--executor", "inline") == 0
    store = Store.existing(tmp_path / "runs/sweep")
    lines = index_and_leakage(store.index_rows(), settings(store.rows()))
    assert list(lines["images"]) == [2] * 4
    assert lines["value"].is_monotonic_increasing  # wider, with more equations
    (told,) = correlations(lines)
    assert told.startswith("none, 4 networks: rank correlation of SSIM with c(M) ")
    assert told in capsys.readouterr().out


def test_the_condition_counts_where_nothing_is_missing():
    """Of networks that lack something it would leave out just that."""
    made = pd.DataFrame(
        {
            "defense": "none",
            "value": [0, 0, 0, 0, -50, -60],
            "condition": [1e1, 1e2, 1e3, 1e4, 1.0, 1.0],
            "ssim": [0.9, 0.8, 0.7, 0.6, 0.2, 0.1],
        }
    )
    (told,) = correlations(made)
    assert told.startswith("none, 6 networks: rank correlation of SSIM with c(M) 0.85 (")
    assert "; with minus the condition, among the 4 with c(M) = 0, 1.00 (" in told
    (alike,) = correlations(made[:4])
    assert "c(M) unknown: all values are equal; with" in alike
    assert list(correlations(made[:3])) == []


def test_nothing_correlates_where_no_network_was_both_attacked_and_measured():
    assert list(correlations(index_and_leakage(pd.DataFrame(), []))) == []


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (
            ("--dataset", "sotu-sample", "--model", "bert", "--attack", "bag"),
            "sotu-sample: expected images, found texts",
        ),
        (
            (
                "--dataset",
                "lfw-subset",
                "--model",
                SMALL,
                "--attack",
                "dlg(steps=1)",
                "--defense",
                "mine.py:Mute",
            ),
            "mine.py:Mute: expected a defense that says what it leaves of a gradient, by `account`, found"
            " none; docs/DEFENSES.md tells how",
        ),
    ],
)
@pytest.mark.usefixtures("without_rehearsal")
def test_a_dry_run_says_where_there_is_none(write, tmp_path, capsys, options, note):
    write("mine.py", SOURCE)
    index = ("--set", "probes=[index]", "--indices", "0", "--dry-run", "--executor", "inline")
    assert inside(tmp_path, "sweep", *options, *index) == 0
    assert f"note: no index of {note}\n" in capsys.readouterr().out
