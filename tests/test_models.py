"""Networks as in the paper, weights from their addresses, and models of a user's own."""

from pathlib import Path

import pytest
import torch
from torch import nn

from leakbench.bench.datasets import DATASETS, open_images
from leakbench.bench.models import MODELS
from leakbench.core.configured import SettingError

pytestmark = pytest.mark.numeric

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)


def shapes(network):
    return [tuple(parameter.shape) for parameter in network.parameters()]


def test_lenet_is_the_authors():
    network = MODELS.parse("lenet").build(CIFAR, 100, 0)
    assert shapes(network) == [
        (12, 3, 5, 5), (12,), (12, 12, 5, 5), (12,), (12, 12, 5, 5), (12,), (100, 768), (100,),
    ]  # fmt: skip
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    assert [layer.stride for layer in convolutions] == [(2, 2), (2, 2), (1, 1)]
    assert [layer.padding for layer in convolutions] == [(2, 2)] * 3
    assert [type(layer).__name__ for layer in network] == [
        "Conv2d", "Sigmoid", "Conv2d", "Sigmoid", "Conv2d", "Sigmoid", "Flatten", "Linear",
    ]  # fmt: skip


@pytest.mark.parametrize(("shape", "features"), [(CIFAR, 768), (MNIST, 588), ((1, 25, 25), 588)])
def test_lenet_fits_any_image(shape, features):
    network = MODELS.parse("lenet").build(shape, 10, 0)
    assert network[-1].in_features == features
    assert network(torch.zeros(2, *shape)).shape == (2, 10)


def test_mlp_has_the_widths_it_is_given():
    assert shapes(MODELS.parse("mlp").build(MNIST, 10, 0)) == [(500, 784), (500,), (10, 500), (10,)]
    deep = MODELS.parse("mlp(hidden=[30, 20])").build(MNIST, 10, 0)
    assert shapes(deep)[::2] == [(30, 784), (20, 30), (10, 20)]
    assert shapes(MODELS.parse("mlp(hidden=[])").build(MNIST, 10, 0)) == [(10, 784), (10,)]


@pytest.mark.parametrize(("model", "layers", "millions"), [("resnet20", 20, 0.27), ("resnet56", 56, 0.86)])
def test_resnets_are_the_papers(model, layers, millions):
    """He et al. 2016, table 6, with sigmoid in place of ReLU, and no strides."""
    network = MODELS.parse(model).build(CIFAR, 10, 0)
    kinds = [type(layer) for layer in network.modules()]
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    projections = [each for each in convolutions if each.kernel_size == (1, 1)]
    assert len(convolutions) - len(projections) + kinds.count(nn.Linear) == layers
    assert {each.stride for each in convolutions} == {(1, 1)}
    assert nn.ReLU not in kinds
    assert kinds.count(nn.Sigmoid) == layers - 1
    assert sum(each.numel() for each in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert network[:-3](torch.zeros(1, *CIFAR)).shape == (1, 64, 32, 32)
    assert network[-1].in_features == 64
    assert MODELS.parse(f"{model}(pool=4)").build(CIFAR, 10, 0)[-1].in_features == 64 * 8 * 8
    plain = MODELS.parse(f"{model}(norm=none)").build(CIFAR, 10, 0)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in plain.modules())
    assert plain(torch.zeros(2, *CIFAR)).shape == (2, 10)


@pytest.mark.parametrize("model", ["lenet", "mlp", "resnet20"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_activations_can_be_chosen(model, activation):
    network = MODELS.build(model, {"activation": activation}).build(MNIST, 10, 0)
    assert activation in {type(layer).__name__.lower() for layer in network}


def test_uniform_weights_are_the_authors_range():
    network = MODELS.parse("lenet").build(CIFAR, 100, 0)
    weights = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    assert weights.min() >= -0.5
    assert weights.max() <= 0.5
    assert float(weights.mean()) == pytest.approx(0, abs=0.01)
    assert float(weights.var()) == pytest.approx(1 / 12, rel=0.02)


@pytest.mark.parametrize("weights", ["uniform", "default"])
def test_weights_are_drawn_by_their_seed_alone(weights):
    model = MODELS.build("lenet", {"weights": weights})
    first = model.build(CIFAR, 10, 0)
    state = torch.random.get_rng_state()
    torch.rand(7)
    again, other = model.build(CIFAR, 10, 0), model.build(CIFAR, 10, 1)
    assert all(map(torch.equal, first.parameters(), again.parameters()))
    assert not any(map(torch.equal, first.parameters(), other.parameters()))
    torch.random.set_rng_state(state)
    model.build(CIFAR, 10, 2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_default_weights_are_pytorchs():
    convolution = MODELS.parse("lenet(weights=default)").build(CIFAR, 10, 0)[0]
    bound = 1 / (3 * 5 * 5) ** 0.5
    assert 0.9 * bound < float(convolution.weight.detach().abs().max()) <= bound


def test_activations_are_compared_on_the_same_weights():
    first, second = (MODELS.parse(f"lenet(activation={a})").build(CIFAR, 10, 0) for a in ("relu", "tanh"))
    assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_a_checkpoint_gives_the_weights_and_counts_by_its_content(tmp_path):
    saved = MODELS.parse("lenet").build(CIFAR, 10, 5)
    path = tmp_path / "trained.pt"
    torch.save(saved.state_dict(), path)
    model = MODELS.build("lenet", {"weights": f"checkpoint:{path}"})
    loaded = model.build(CIFAR, 10, 0)
    assert all(map(torch.equal, saved.parameters(), loaded.parameters()))
    before = model.canonical()
    torch.save(MODELS.parse("lenet").build(CIFAR, 10, 6).state_dict(), path)
    assert model.canonical() != before


def test_a_checkpoint_that_cannot_be_used(tmp_path):
    with pytest.raises(SettingError, match="weights: expected a file at .*none.pt.*, found none"):
        MODELS.build("lenet", {"weights": f"checkpoint:{tmp_path}/none.pt"})
    with pytest.raises(SettingError, match="weights: expected a file at"):
        MODELS.build("lenet", {"weights": "checkpoint:" + 300 * "a"})
    with pytest.raises(SettingError, match="weights: expected uniform, default or checkpoint:PATH"):
        MODELS.build("lenet", {"weights": "xavier"})
    expected = "weights: expected embedded: and one of lenet_mnist, got 'embedded:resnet'"
    with pytest.raises(SettingError, match=expected):
        MODELS.build("lenet", {"weights": "embedded:resnet"})
    other = tmp_path / "mlp.pt"
    torch.save(MODELS.parse("mlp").build(CIFAR, 10, 0).state_dict(), other)
    with pytest.raises(SettingError, match="expected a state dict of lenet"):
        MODELS.build("lenet", {"weights": f"checkpoint:{other}"}).build(CIFAR, 10, 0)
    torn = tmp_path / "torn.pt"
    torn.write_bytes(b"not a checkpoint")
    with pytest.raises(SettingError, match="expected a state dict of lenet"):
        MODELS.build("lenet", {"weights": f"checkpoint:{torn}"}).build(CIFAR, 10, 0)


class Dangerous:
    """Would run code while being unpickled."""

    def __reduce__(self):
        return print, ("a checkpoint ran code",)


def test_a_checkpoint_cannot_run_code(tmp_path, capsys):
    path = tmp_path / "dangerous.pt"
    torch.save(Dangerous(), path)
    with pytest.raises(SettingError, match="expected a state dict of lenet"):
        MODELS.build("lenet", {"weights": f"checkpoint:{path}"}).build(CIFAR, 10, 0)
    assert capsys.readouterr().out == ""


USERS_FILE = """
from torch import nn

class Net(nn.Sequential):
    '''A user's own network.'''

    def __init__(self, image_shape, classes, width=7, bias: bool = True):
        channels, height, rows = image_shape
        super().__init__(nn.Flatten(), nn.Linear(channels * height * rows, width, bias=bias),
                         nn.Sigmoid(), nn.Linear(width, classes))

class Bare(nn.Linear):
    def __init__(self):
        super().__init__(3072, 10)

    def forward(self, x):
        return super().forward(x.flatten(1))
"""


def test_a_users_own_model(write):
    path = write("net.py", USERS_FILE)
    model = MODELS.build(f"{path}:Net", {"width": 9})
    assert str(model) == f"{path}:Net(width=9)"
    assert MODELS.parse(str(model)) == model
    network = model.build(CIFAR, 10, 0)
    assert shapes(network) == [(9, 3072), (9,), (10, 9), (10,)]
    assert float(next(network.parameters()).detach().abs().max()) > 0.49  # U(-0.5, 0.5)
    assert MODELS.parse(f"{path}:Bare(weights=default)").build(CIFAR, 10, 0)(torch.zeros(1, *CIFAR)).shape


ODD = """
from torch import nn

class Odd(nn.Linear):
    def __init__(self, channels=[12, 12], act=nn.Sigmoid, extra=None, *rest, **more):
        super().__init__(3072, 10)
        self.given = channels, act, extra

class Taken(nn.Linear):
    def __init__(self, layers=3):
        super().__init__(3072, 10)
"""


def test_arguments_that_a_sweep_cannot_name_keep_their_defaults(write):
    path = write("odd.py", ODD)
    model = MODELS.parse(f"{path}:Odd(channels=[3, 4])")
    assert model.build(CIFAR, 10, 0).given == ((3, 4), nn.Sigmoid, None)
    assert MODELS.parse(f"{path}:Odd").build(CIFAR, 10, 0).given == ([12, 12], nn.Sigmoid, None)
    assert MODELS.parse(f"{path}:Odd(extra=null)") == MODELS.parse(f"{path}:Odd")
    with pytest.raises(SettingError, match="act: unknown setting 'act'"):
        MODELS.build(f"{path}:Odd", {"act": "relu"})
    with pytest.raises(SettingError, match="extra: expected a number, text, true, false, none or a list"):
        MODELS.build(f"{path}:Odd", {"extra": {"a": 1}})
    with pytest.raises(SettingError, match="expected another name for the argument 'layers'"):
        MODELS.parse(f"{path}:Taken")


def test_a_users_model_is_another_when_its_file_changes(write):
    path = write("net.py", USERS_FILE)
    before = MODELS.parse(f"{path}:Net").canonical()
    path.write_text(USERS_FILE + "\n# changed\n")
    assert MODELS.parse(f"{path}:Net").canonical() != before


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("{path}:Missing", "expected a class 'Missing'"),
        ("{path}:nn", "expected a class 'nn'"),
        ("{path}:Net(depth=3)", "depth: unknown setting 'depth'"),
        ("lenett", "unknown model 'lenett'; did you mean 'lenet'?"),
        ("mlp(hidden=[0])", r"hidden: expected a whole number >= 1, got \[0\]"),
        ("lenet(activation=gelu)", "activation: expected one of sigmoid, tanh, relu, got 'gelu'"),
    ],
)
def test_models_that_cannot_be_used(write, name, problem):
    path = write("net.py", USERS_FILE)
    with pytest.raises(SettingError, match=problem):
        MODELS.parse(name.format(path=Path(path)))


def test_a_users_class_that_is_no_module(write):
    path = write("other.py", "class Thing(dict): pass")
    with pytest.raises(SettingError, match="expected a subclass of torch.nn.Module, got dict"):
        MODELS.parse(f"{path}:Thing")


def test_squares_of_a_pool_fill_the_image():
    with pytest.raises(SettingError, match="expected a divisor of 32 and 32, the image's sides, got 5"):
        MODELS.parse("resnet20(pool=5)").build(CIFAR, 10, 0)
    with pytest.raises(SettingError, match=r"expected a whole number >= 0, got -1"):
        MODELS.parse("resnet20(pool=-1)")


def test_the_embedded_weights_are_trained():
    digits = open_images(DATASETS.parse("mnist-5k"), Path("unused"))
    images, labels = digits.batch(range(4000, 5000))
    network = MODELS.parse("lenet(weights=embedded:lenet_mnist)").build(digits.shape, digits.classes, 0)
    with torch.no_grad():
        right = int((network(images).argmax(1) == labels).sum())
    assert 890 <= right <= 910  # the licences' file says 90.0 %
