"""Every defense at once, then each one's own promise."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leakbench.core.configured import SettingError
from leakbench.core.randomness import generator_for
from leakbench.defenses import DEFENSES, ContractError, Defense, Point
from leakbench.defenses.sparse import rounded_down, smallest_places

pytestmark = pytest.mark.numeric

ALL = [
    DEFENSES.parse(text)
    for text in (
        "none",
        "gaussian(variance=0.01)",
        "gaussian(std=0.1)",
        "laplacian(variance=0.01)",
        "laplacian(std=0.1)",
        "gaussian(relative=0.1)",
        "laplacian(relative=0.1)",
        "clip(norm=1)",
        "clip(norm=1000)",
        "dp_gaussian(noise_multiplier=0.1)",
        "float16",
        "bfloat16",
        "prune(ratio=0.3)",
        "prune(ratio=0.3, scope=global)",
        "prune(ratio=0.3, count=nonzero)",
        "int8",
        "freeze_embeddings",
        "top_k(ratio=0.1)",
        "dual_prune",
        "sign",
        "sign(scale=none)",
        "qsgd(levels=4)",
        "terngrad",
        "terngrad(clip=0)",
        "random_sparsify(ratio=0.1)",
        "precode(size=8)",
        "mixup",
        "instahide",
        "augment",
    )
]
NEUTRAL = [
    DEFENSES.parse(text)
    for text in (
        "none",
        "gaussian(variance=0)",
        "gaussian(std=0)",
        "laplacian(variance=0)",
        "gaussian(relative=0)",
        "clip(norm=1000)",
        "dp_gaussian(noise_multiplier=0, clip=1000)",
        "prune(ratio=0)",
        "prune(ratio=0, scope=global)",
    )
]
SHAPES = {"conv": (4, 3, 5, 5), "bias": (7,), "single": (1,), "scalar": (), "flat": (64, 33)}


def gradients(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in SHAPES.items()}


def generator(purpose="test"):
    return generator_for(purpose)


def equal(first, second):
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def test_every_registered_defense_is_in_the_table():
    knowing = {each.name for each in DEFENSES if Point.KNOWING in each.points()}  # tests/test_knowing.py
    assert {defense.name for defense in ALL} == set(DEFENSES.members) - knowing


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("defense", ALL, ids=str)
class TestEveryDefense:
    def test_keeps_names_shapes_dtypes_and_its_input(self, defense, dtype):
        given_gradients, untouched = gradients(dtype), gradients(dtype)
        shared = defense(given_gradients, generator())
        assert equal(given_gradients, untouched)
        assert list(shared) == list(untouched)
        for name, gradient in shared.items():
            assert gradient.shape == untouched[name].shape
            assert gradient.dtype == dtype
            assert gradient.isfinite().all()

    def test_repeats_with_the_same_generator(self, defense, dtype):
        assert equal(
            defense(gradients(dtype), generator("same")), defense(gradients(dtype), generator("same"))
        )

    def test_shares_no_memory_with_its_input(self, defense, dtype):
        before = gradients(dtype)
        for name, gradient in defense(before, generator()).items():
            assert gradient.data_ptr() != before[name].data_ptr()

    def test_leaves_global_randomness_alone(self, defense, dtype):
        state = torch.random.get_rng_state()
        defense(gradients(dtype), generator())
        assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("defense", NEUTRAL, ids=str)
def test_strength_zero_changes_nothing(defense):
    assert equal(defense(gradients(), generator()), gradients())


@given(shape=st.lists(st.integers(1, 6), max_size=4), seed=st.integers(0, 2**31))
@settings(max_examples=60)
def test_any_shape_goes_through_every_defense(shape, seed):
    gradient = {"g": torch.randn(shape, generator=torch.Generator().manual_seed(seed))}
    for defense in ALL:
        assert defense(gradient, generator())["g"].shape == tuple(shape)


@pytest.mark.parametrize("given_as", ["variance", "std"])
@pytest.mark.parametrize("variance", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("kind", ["gaussian", "laplacian"])
def test_noise_has_the_requested_variance(kind, variance, given_as):
    value = variance if given_as == "variance" else math.sqrt(variance)
    zeros = {"g": torch.zeros(500_000, dtype=torch.float64)}
    noise = DEFENSES.build(kind, {given_as: value})(zeros, generator())["g"]
    # 4 standard errors: of the mean sigma/sqrt(n), of the variance sigma^2 sqrt((kurtosis - 1)/n)
    kurtosis = {"gaussian": 3, "laplacian": 6}[kind]
    assert float(noise.mean()) == pytest.approx(0, abs=4 * math.sqrt(variance / len(noise)))
    assert float(noise.var()) == pytest.approx(variance, rel=4 * math.sqrt((kurtosis - 1) / len(noise)))
    measured_kurtosis = float((noise**4).mean() / (noise**2).mean() ** 2)
    assert measured_kurtosis == pytest.approx(kurtosis, rel=0.1)


def test_noise_of_two_strengths_is_the_same_noise_scaled():
    zeros = {"g": torch.zeros(100)}
    weak, strong = (DEFENSES.parse(f"gaussian(std={s})")(zeros, generator())["g"] for s in (0.1, 1.0))
    torch.testing.assert_close(weak * 10, strong)


@pytest.mark.parametrize("kind", ["gaussian", "laplacian"])
def test_relative_noise_is_relative_to_each_tensor(kind):
    before = {"small": 1e-3 * torch.randn(200_000), "large": torch.full((200_000,), -5.0)}
    shared = DEFENSES.build(kind, {"relative": 0.5})(before | {"zeros": torch.zeros(9)}, generator())
    for name, gradient in before.items():
        noise = (shared[name] - gradient).double()
        assert float(noise.std()) == pytest.approx(0.5 * float(gradient.square().mean().sqrt()), rel=0.02)
    assert not shared["zeros"].any()


def test_relative_noise_is_a_family_of_its_own():
    relative, plain = DEFENSES.parse("gaussian(relative=0.5)"), DEFENSES.parse("gaussian(std=0.5)")
    assert (relative.strength, relative.own_family) == (0.5, "gaussian relative")
    assert (plain.strength, plain.own_family) == (0.25, "gaussian")
    assert "relative" not in plain.canonical()  # keys of trials stay as they were
    assert relative.canonical() != DEFENSES.parse("gaussian(relative=0.25)").canonical()


def test_strength_is_the_variance_however_it_was_given():
    assert DEFENSES.parse("gaussian(std=0.1)").strength == pytest.approx(0.01)
    assert DEFENSES.parse("laplacian(variance=0.01)").strength == 0.01


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.29, 0.3, 0.5, 0.7, 0.99])
def test_pruning_zeroes_exactly_the_smallest_of_each_tensor(ratio):
    before = gradients()
    after = DEFENSES.build("prune", {"ratio": ratio})(before, generator())
    for name, gradient in before.items():
        count = math.floor(round(ratio * 100) * gradient.numel() / 100)
        zeroed = after[name] == 0
        assert int(zeroed.sum()) == count
        assert torch.equal(after[name][~zeroed], gradient[~zeroed])
        if 0 < count < gradient.numel():
            assert gradient[zeroed].abs().max() <= gradient[~zeroed].abs().min()


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_global_pruning_counts_over_the_whole_gradient(ratio):
    before = gradients() | {"tiny": torch.full((50,), 1e-9)}
    after = DEFENSES.build("prune", {"ratio": ratio, "scope": "global"})(before, generator())
    total = sum(gradient.numel() for gradient in before.values())
    assert sum(int((gradient == 0).sum()) for gradient in after.values()) == math.floor(ratio * total)
    assert not after["tiny"].any()


def test_pruning_zeroes_the_exact_count_among_equals():
    after = DEFENSES.parse("prune(ratio=0.3)")({"g": torch.ones(10)}, generator())["g"]
    assert after.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]


@given(
    st.lists(st.one_of(st.integers(-3, 3).map(float), st.sampled_from([-0.0, math.inf])), min_size=1),
    st.data(),
)
def test_the_smallest_are_those_of_a_stable_sort(numbers, data):
    numbers = torch.tensor(numbers)
    count = data.draw(st.integers(0, len(numbers)))
    places = smallest_places(numbers, count)
    assert places.sort().values.tolist() == numbers.argsort(stable=True)[:count].sort().values.tolist()


@given(st.lists(st.integers(-3, 3).map(float), min_size=1), st.floats(0, 0.5), st.floats(0, 0.49))
def test_pruning_on_both_sides_takes_the_ends_of_a_stable_sort(numbers, smallest, largest):
    numbers = torch.tensor(numbers)
    defense = DEFENSES.build("dual_prune", {"largest": largest, "smallest": smallest})
    order, n = numbers.abs().argsort(stable=True), len(numbers)
    dropped = [*order[: rounded_down(smallest, n)], *order[n - rounded_down(largest, n) :]]
    shared = defense.apply({"g": numbers}, generator())["g"]
    assert shared.tolist() == [0 if place in dropped else each for place, each in enumerate(numbers.tolist())]


def test_half_precision_keeps_what_its_format_can_hold():
    values = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-11, 1 + 2**-7, 65504.0])
    assert DEFENSES.parse("float16")({"g": values}, generator())["g"].tolist() == [
        1.0, 1 + 2**-10, 1.0, 1 + 2**-7, 65504.0,
    ]  # fmt: skip
    assert DEFENSES.parse("bfloat16")({"g": values}, generator())["g"].tolist() == [
        1.0, 1.0, 1.0, 1 + 2**-7, 65536.0,
    ]  # fmt: skip


def test_float16_overflow_is_an_error_and_not_a_result():
    with pytest.raises(ContractError, match="defense float16: gradient 'g': holds NaN or infinity"):
        DEFENSES.parse("float16")({"g": torch.tensor([1e5])}, generator())


def test_int8_is_a_grid_of_255_values_around_zero():
    values = torch.linspace(-2.54, 2.54, 10_001, dtype=torch.float64)
    shared = DEFENSES.parse("int8")({"g": values}, generator())["g"]
    assert len(shared.unique()) == 255
    assert float((shared - values).abs().max()) == pytest.approx(0.01, rel=1e-6)  # half a step of 0.02
    assert 0.0 in shared
    assert not DEFENSES.parse("int8")({"g": torch.zeros(5)}, generator())["g"].any()


def test_clipping_scales_the_whole_gradient_down_and_never_up():
    before = {"a": torch.tensor([3.0]), "b": torch.tensor([[0.0, 4.0]])}  # of norm 5
    shared = DEFENSES.parse("clip(norm=1)")(before, generator())
    assert torch.cat([each.flatten() for each in shared.values()]).tolist() == pytest.approx([0.6, 0.0, 0.8])
    assert equal(DEFENSES.parse("clip(norm=10)")(before, generator()), before)
    zeros = {"a": torch.zeros(2)}
    assert equal(DEFENSES.parse("clip(norm=1)")(zeros, generator()), zeros)


def of_examples(count=5, dtype=torch.float32):
    """The gradients of examples, the first ones short and the last ones long."""
    random = torch.Generator().manual_seed(0)
    sizes = torch.logspace(-2, 1, count, dtype=dtype)
    return {
        name: sizes.view(-1, *[1] * len(shape)) * torch.randn(count, *shape, generator=random, dtype=dtype)
        for name, shape in SHAPES.items()
    }


def test_each_example_is_clipped_and_noise_is_added_to_their_sum():
    """Abadi et al. 2016, algorithm 1, in loops over numbers; the noise is what the same draws give."""
    each, clip, multiplier = of_examples(), 5.0, 0.7
    shared = DEFENSES.build("dp_gaussian", {"noise_multiplier": multiplier, "clip": clip}).share_each(
        each, generator()
    )
    draws, norms = generator(), []
    for example in range(5):
        squares = [number**2 for own in each.values() for number in own[example].flatten().tolist()]
        norms.append(math.sqrt(sum(squares)))
    assert min(norms) < clip < max(norms)
    for name, own in each.items():
        noise = torch.randn(own.shape[1:], generator=draws)
        total = clip * multiplier * noise
        for example, norm in enumerate(norms):
            total = total + own[example] / max(1, norm / clip)
        torch.testing.assert_close(shared.gradients[name], total / 5)


def test_the_noise_on_the_sum_is_a_multiple_of_the_clipping_norm():
    defense = DEFENSES.parse("dp_gaussian(noise_multiplier=0.5, clip=4)")
    noise = defense.share_each({"g": torch.zeros(10, 200_000)}, generator()).gradients["g"]
    assert float(noise.std()) == pytest.approx(0.5 * 4 / 10, rel=0.01)
    whole = defense({"g": torch.zeros(200_000)}, generator())["g"]  # one example
    assert float(whole.std()) == pytest.approx(0.5 * 4, rel=0.01)


def test_clipping_and_noise_are_those_of_opacus():
    opacus = pytest.importorskip("opacus", reason="opacus is not installed", exc_type=ImportError)
    layer = torch.nn.Linear(6, 3)
    before = [each.detach().clone() for each in layer.parameters()]
    module = opacus.GradSampleModule(layer)
    optimizer = opacus.optimizers.DPOptimizer(
        torch.optim.SGD(module.parameters(), lr=1.0), noise_multiplier=0.0, max_grad_norm=0.5,
        expected_batch_size=4,
    )  # fmt: skip
    inputs = torch.logspace(-3, 1, 4)[:, None] * torch.randn(4, 6)
    module(inputs.requires_grad_()).square().sum().backward()
    each = {name: own.grad_sample.clone() for name, own in layer.named_parameters()}
    optimizer.step()
    shared = DEFENSES.parse("dp_gaussian(noise_multiplier=0, clip=0.5)").share_each(each, generator())
    for old, new, own in zip(before, layer.parameters(), shared.gradients.values(), strict=True):
        torch.testing.assert_close(old - new.detach(), own, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("defense", ALL, ids=str)
def test_a_gradient_that_is_not_finite_is_refused(defense):
    with pytest.raises(ContractError, match="gradient 'g' holds NaN or infinity before any defense"):
        defense({"g": torch.tensor([1.0, math.nan])}, generator())


MISDEEDS = {
    "renames": lambda g: {"other": g["g"].clone()},
    "drops": lambda g: {},
    "returns a list": lambda g: list(g.values()),
    "reshapes": lambda g: {"g": g["g"][:1].clone()},
    "returns numbers": lambda g: {"g": 0.0},
    "changes dtype": lambda g: {"g": g["g"].double()},
    "makes NaN": lambda g: {"g": g["g"] / 0},
    "works in place": lambda g: {"g": g["g"].mul_(2)},
    "works behind autograd's back": lambda g: {"g": torch.from_numpy(_scaled(g["g"].numpy()))},
}


def _scaled(array):
    array *= 2
    return array.copy()


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_a_defense_that_breaks_its_contract_gets_an_error(misdeed):
    @dataclass(frozen=True)
    class Bad(Defense):
        name: ClassVar[str] = "bad"

        def apply(self, gradients, generator):
            return MISDEEDS[misdeed](gradients)

    with pytest.raises(ContractError, match="^defense bad: "):
        Bad()({"g": torch.tensor([1.0, 0.0])}, generator())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("gaussian(variance=-1)", "variance: expected a number >= 0, got -1"),
        ("laplacian(std=-0.5)", "std: expected a number >= 0, got -0.5"),
        ("gaussian", "expected one of variance, std and relative, got none"),
        ("gaussian(variance=1, std=1)", "expected one of variance, std and relative, got variance and std"),
        ("laplacian(relative=-0.1)", "relative: expected a number >= 0, got -0.1"),
        ("clip(norm=0)", "norm: expected a number > 0, got 0"),
        (
            "dp_gaussian(noise_multiplier=-1, clip=0)",
            "multiplier: .* >= 0, got -1; clip: .* > 0, got 0",
        ),
        ("prune(ratio=1)", r"ratio: expected a number in \[0, 1\), got 1"),
        ("prune(ratio=-0.1)", r"ratio: expected a number in \[0, 1\), got -0.1"),
        ("prune(ratio=0.1, scope=layer)", "scope: expected one of tensor, global, got 'layer'"),
    ],
)
def test_settings_out_of_range(text, problem):
    with pytest.raises(SettingError, match=problem):
        DEFENSES.parse(text)
