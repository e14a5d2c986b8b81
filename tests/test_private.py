"""Shared inference: the protocols against plain arithmetic, what parties see, and what is refused."""

from itertools import pairwise

import pytest
import torch
from running import ROOT
from scipy.stats import binom
from torch import nn
from torch.nn import functional

from leakbench.bench.models import MODELS
from leakbench.bench.private import dealer
from leakbench.bench.private.arithmetic import Truncations, convolve, masked, multiply, product, truncate
from leakbench.bench.private.comparison import negative, relu
from leakbench.bench.private.parties import BITS, RING, Parties, Sender
from leakbench.bench.private.room import overflow
from leakbench.bench.private.steps import Kind, Step, outputs_of, steps_of
from leakbench.bench.private.subject import Subject, check_room
from leakbench.bench.private.view import correlation, guesses, view_test
from leakbench.bench.sharing import FixedPoint
from leakbench.core.errors import UserError
from leakbench.core.randomness import generator_for

EDGES = [0, 1, -1, 2, -2, 2**31, -(2**31), 2**62, -(2**62), 2**63 - 1, -(2**63)]
RELU = "activation=relu, weights=default"
NETWORKS = [
    f"mlp(hidden=[20], {RELU})",
    f"lenet({RELU})",
    f"cnn(channels=[3], kernel=[4], stride=[3], padding=[1], {RELU})",
    f"{ROOT}/examples/pooled_lenet.py:PooledLeNet(weights=default, channels=3)",
]


@pytest.fixture
def parties(request):
    return Parties(generator_for("test", request.node.name))


def shared(parties, values):
    return parties.give(torch.as_tensor(values), Sender.OWNER, "value")


def built(name):
    return MODELS.parse(name).build((1, 28, 28), 10, 0)


def images(count):
    return torch.rand(count, 1, 28, 28, generator=generator_for("images"))


# -- products


def test_a_product_by_hand(parties):
    product = multiply(parties, shared(parties, [3, -4, 0]), shared(parties, [5, 6, 7]))
    assert RING.sum(product).tolist() == [15, -24, 0]


def test_products_wrap_around_as_plain_ones_do(parties):
    x, y = (RING.uniform((1000,), parties.generator) for _ in range(2))
    assert torch.equal(RING.sum(multiply(parties, shared(parties, x), shared(parties, y))), x * y)


def test_a_convolution_is_that_of_pytorch(parties):
    """Whole numbers that float64 holds: equal to the last digit. Weights are masked once for two batches."""
    step = Step("conv", Kind.CONVOLUTION, window=(3, 2), stride=(2, 1), padding=(1, 0))
    weight = torch.randint(-50, 50, (4, 2, 3, 2), generator=parties.generator)
    (held,) = masked(parties, shared(parties, weight))
    for _ in range(2):
        values = torch.randint(-50, 50, (5, 2, 8, 7), generator=parties.generator)
        (inputs,) = masked(parties, shared(parties, values))
        scores = product(parties, inputs, held, lambda x, w: convolve(x, w, step))
        wanted = functional.conv2d(values.double(), weight.double(), None, step.stride, step.padding)
        assert torch.equal(RING.sum(scores), wanted.long())


def test_what_a_product_sends(parties):
    """Of each element two differences, by two parties; and three numbers of the dealer to each: 8 bytes."""
    x, y = shared(parties, torch.arange(100)), shared(parties, torch.arange(100))
    assert parties.sent[Sender.OWNER] == 2 * 2 * 8 * 100
    multiply(parties, x, y)
    assert parties.sent[Sender.PARTY] == 2 * 2 * 8 * 100
    assert parties.sent[Sender.DEALER] == 3 * 2 * 8 * 100
    assert parties.rounds == 1


# -- ReLU


def test_the_sign_of_any_number(parties):
    values = torch.cat([torch.tensor(EDGES), RING.uniform((2000,), parties.generator)])
    bits = negative(parties, shared(parties, values))
    assert torch.equal(bits[0] ^ bits[1], (values < 0).long())
    assert set(bits.unique().tolist()) == {0, 1}


def test_the_sign_of_one_number_in_many_shares(parties):
    """The carry goes all the way, or stops anywhere."""
    for value in EDGES:
        bits = negative(parties, shared(parties, torch.full((300,), value)))
        assert set((bits[0] ^ bits[1]).tolist()) == {int(value < 0)}


def test_relu(parties):
    values = torch.cat([torch.tensor(EDGES), RING.uniform((2000,), parties.generator)])
    assert torch.equal(RING.sum(relu(parties, shared(parties, values))), values.clamp(min=0))


def test_what_a_relu_sends(parties):
    """Seven rounds of the adder, a bit, a product; 336 bytes and two bits of the parties for each element."""
    relu(parties, shared(parties, torch.arange(64)))
    adder = 2 * 8 * (2 + 5 * 3 + 2)
    assert parties.sent[Sender.PARTY] == 64 * (adder + 2 * 8 * 2) + 64 * 2 // 8
    assert parties.rounds == 9


# -- truncation


def test_a_truncation_is_off_by_one_at_most_and_seldom_by_more(parties):
    values = torch.randint(-(10**9), 10**9, (50_000,), generator=parties.generator)
    seen = Truncations()
    quotients = RING.sum(truncate(shared(parties, values), 1000, seen))
    assert (quotients - torch.div(values, 1000, rounding_mode="trunc")).abs().max() == 1
    assert (seen.count, seen.wrong) == (50_000, 0)
    assert 0.3 < seen.off_by_one / seen.count < 0.7
    assert seen.expected_wrong < 1e-4


@pytest.mark.parametrize("sign", [1, -1])
def test_large_values_are_wrong_as_often_as_theory_says(parties, sign):
    """2^58 / 2^64: one in 64, within 4 standard deviations; then by 2^64 / divisor."""
    seen = Truncations()
    values = torch.full((20_000,), sign * 2**58)
    quotients = RING.sum(truncate(shared(parties, values), 2**16, seen))
    assert seen.expected_wrong == 20_000 / 64
    assert 0 < binom.cdf(seen.wrong, 20_000, 1 / 64) - 3e-5 < 1 - 6e-5
    off = (quotients - sign * 2**42).unique().tolist()
    assert all(abs(each) <= 1 or abs(abs(each) - 2**48) <= 1 for each in off)
    assert len(off) > 1


# -- networks


@pytest.mark.parametrize("name", NETWORKS)
def test_the_steps_are_the_network(name):
    network = built(name)
    *_, scores = outputs_of(steps_of(network), images(3))
    assert torch.allclose(scores, network(images(3)), atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("encoding", [FixedPoint(10, 4), FixedPoint(2, 16)], ids=str)
def test_scores_on_shares_are_those_in_the_clear(name, encoding):
    """As far as the precision goes: a tenth of it makes a tenth of the error."""
    network = built(name)
    rough, fine = (
        (dealer.classify(steps_of(network), images(6), each, generator_for("masks"), batch=4).scores)
        for each in (FixedPoint(encoding.base, encoding.digits // 2), encoding)
    )
    plain = network(images(6))
    assert (fine - plain).abs().max() < 0.01
    assert (fine - plain).abs().max() < (rough - plain).abs().max() / 10
    assert not torch.equal(fine.float(), plain)


def test_a_linear_layer_by_hand():
    """(0.5, 0.25) by (2, -4) and 0.125 more: 0.125, which ReLU keeps; and -0.125, which it does not."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU())
    network[1].weight.data = torch.tensor([[2.0, -4.0], [-2.0, 4.0]])
    network[1].bias.data = torch.tensor([0.125, -0.125])
    inputs = torch.tensor([0.5, 0.25]).reshape(1, 1, 1, 2)
    answers = dealer.classify(steps_of(network), inputs, FixedPoint(2, 8), generator_for("masks"), batch=1)
    assert (answers.scores[0] - torch.tensor([0.125, 0.0])).abs().max() <= 1 / 256


def test_batches_give_the_scores_of_one():
    """Up to the last place, which depends on the masks; and progress is told."""
    steps, told = steps_of(built(NETWORKS[0])), []
    one, several = (
        dealer.classify(steps, images(7), FixedPoint(10, 5), generator_for("masks"), batch, told.append)
        for batch in (7, 3)
    )
    assert (one.scores - several.scores).abs().max() < 1e-3
    assert told == [7, 3, 6, 7]
    assert one.party_bytes < several.party_bytes + 1
    assert one.setup_bytes == several.setup_bytes


class Residual(nn.Module):
    def forward(self, images):
        return images + images.relu()


class Twisted(nn.Module):
    def forward(self, images):
        return images.relu() if images.sum() > 0 else images


class Unused(nn.Module):
    def forward(self, images):
        _forgotten = images.relu()
        return images


class Called(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, images):
        return self.call(images)


IN_A_ROW = "expected linear, convolution, average pool, ReLU and flatten layers, one after the other"


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (nn.Sequential(nn.Sigmoid()), f"layer 0: {IN_A_ROW}, found Sigmoid"),
        (nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), f"layer 1: {IN_A_ROW}, found MaxPool2d"),
        (nn.Sequential(nn.BatchNorm2d(1)), f"layer 0: {IN_A_ROW}, found BatchNorm2d"),
        (Residual(), f"layer add: {IN_A_ROW}, found one that takes another input"),
        (Twisted(), "expected a network that torch.fx can trace, got TraceError"),
        (Unused(), f"{IN_A_ROW}, found a network whose last layer is not its output"),
        (Called(lambda images: functional.softmax(images, 1)), f"layer softmax: {IN_A_ROW}, found softmax"),
        (Called(lambda images: images.flatten(2)), f"layer flatten: {IN_A_ROW}, found flatten"),
        (nn.Sequential(nn.Flatten(2)), "layer 0: expected Flatten with start_dim=1, got 2"),
        (nn.Sequential(nn.Conv2d(2, 2, 3, groups=2)), "layer 0: expected Conv2d with groups=1, got 2"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2)), r"layer 0: .* dilation=\(1, 1\), got \(2, 2\)"),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3, padding="same")),
            "layer 0: .* padding in numbers, got 'same'",
        ),
        (nn.Sequential(nn.AvgPool2d(2, ceil_mode=True)), "layer 0: .* ceil_mode=False, got True"),
        (
            nn.Sequential(nn.AvgPool2d(3, padding=1, count_include_pad=False)),
            "layer 0: expected AvgPool2d with count_include_pad=True, got False",
        ),
    ],
    ids=str,
)
def test_other_networks_are_refused(network, text):
    with pytest.raises(UserError, match=text) as caught:
        steps_of(network)
    assert "\n" not in str(caught.value)


def test_functions_and_methods_are_layers_too():
    network = Called(lambda images: torch.flatten(torch.relu(functional.relu(images).relu()), 1))
    assert [step.kind for step in steps_of(network)] == [Kind.RELU] * 3 + [Kind.FLATTEN]


def test_average_pools_of_every_kind():
    for pool in (nn.AvgPool2d(3, 2, 1), nn.AvgPool2d((2, 4)), nn.AvgPool2d(4, (3, 2))):
        network = nn.Sequential(pool, nn.Flatten())
        answers = dealer.classify(steps_of(network), images(2), FixedPoint(10, 5), generator_for("m"), 2)
        assert (answers.scores - network(images(2))).abs().max() < 4e-5


def test_digits_that_overflow_are_refused_and_one_less_is_right():
    """Weights of 100 and an image of ones: 78,400 x 10^14 is below 2^63 = 9.2 x 10^18, and x 10^16 is not."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 1, bias=False))
    network[1].weight.data.fill_(100.0)
    white = torch.ones(1, 1, 28, 28)
    subject = Subject("net", steps_of(network), white, torch.zeros(1, dtype=torch.int64), network(white))
    check_room(subject, [FixedPoint(10, 7)])
    text = r"net: 10\^-8: .* less than 2\^63, and layer 1 reaches 7.84e\+04 x 10\^16; use at most 7 digits"
    with pytest.raises(UserError, match=text):
        check_room(subject, [FixedPoint(10, 7), FixedPoint(10, 8)])


def test_what_a_pool_adds_up_and_what_is_encoded_needs_room_too():
    pool = [Step("pool", Kind.POOL, window=(28, 28), stride=(28, 28))]
    assert overflow(pool, torch.ones(1, 1, 28, 28), FixedPoint(10, 16)) == ""
    line = overflow(pool, torch.full((1, 1, 28, 28), 15.0), FixedPoint(10, 16))
    assert "layer pool reaches 1.18e+04 x 10^16; use at most 14 digits" in line
    line = overflow([], torch.full((1, 1, 28, 28), 15.0), FixedPoint(10, 18))
    assert "layer (image) reaches 15 x 10^18; use at most 17 digits" in line


# -- what a party sees


def seen(party, generator="masks", count=60):
    """The view of a party, of a small network; where the stripe of an image is tells its label."""
    labels = torch.arange(count) % 10
    stripes = torch.zeros(count, 1, 28, 28)
    stripes[torch.arange(count), 0, 2 * labels] = 1.0
    steps = steps_of(built("cnn(channels=[2], kernel=[5], stride=[4], activation=relu, weights=default)"))
    return view_test(steps, stripes, labels, FixedPoint(10, 3), generator_for(generator), party, whole=30)


@pytest.mark.parametrize("party", [0, 1])
def test_the_view_of_a_party_tells_nothing(party):
    found = seen(party)
    assert found.is_clean
    assert found.words.words > 100_000
    assert found.words.bias() < 0.02
    assert found.bits.words == 2 * 30 * 98  # the mask of each sign, and what is opened under it


@pytest.mark.parametrize(
    "mask",
    [
        lambda words, bits: torch.zeros_like(words),
        lambda words, bits: words & (2**63 - 1) if bits == 64 else words,
        lambda words, bits: words if bits == 64 else torch.zeros_like(words),
    ],
    ids=["no masks", "no sign", "signs opened in the clear"],
)
@pytest.mark.parametrize("party", [0, 1])
def test_masks_that_are_too_weak_show(monkeypatch, mask, party):
    draw = Parties.uniform
    monkeypatch.setattr(Parties, "uniform", lambda self, shape, bits=64: mask(draw(self, shape, bits), bits))
    assert not seen(party).is_clean


def test_the_attack_finds_what_short_masks_leave():
    """Of images of up to 1,000 it sees through masks of 13 bits, whatever their mean, and not of 41."""
    generator = generator_for("short masks")
    labels = torch.arange(200) % 10
    pixels = torch.randint(0, 100, (200, 400), generator=generator)
    pixels[torch.arange(200)[:, None], 40 * labels[:, None] + torch.arange(40)] += 900
    for bits, is_seen in ((12, True), (40, False)):
        words = pixels + torch.randint(2**bits, 3 * 2**bits, pixels.shape, generator=generator)
        told, guessed = correlation([words], pixels), guesses(words, labels)
        assert (told.value > told.threshold) is is_seen
        assert (guessed.right > guessed.threshold) is is_seen
    assert guessed.chance == 0.1


def test_a_correlation_is_pearsons():
    """A message that is a multiple of the image and a constant: 1, whatever the constant."""
    pixels = torch.randint(100, 200, (50, 30), generator=generator_for("pixels"))
    assert correlation([3 * pixels + 10_000], pixels).value == pytest.approx(1)
    assert correlation([-pixels], pixels).value == pytest.approx(1)


def test_what_is_said_to_be_found_is_found():
    """A correlation as large as stated is found: 99 of 100 times, says the theory."""
    generator = generator_for("correlated")
    pixels = torch.randint(-1000, 1000, (50, 400), generator=generator)
    stated = correlation([pixels], pixels).found_from
    found = 0
    for _ in range(50):
        noise = torch.randn(pixels.shape, generator=generator, dtype=torch.float64) * pixels.double().std()
        told = correlation([(pixels * stated + noise * (1 - stated**2) ** 0.5) * 1000], pixels)
        found += told.value > told.threshold
    assert binom.cdf(found, 50, 0.99) > 1e-4


def test_equal_masks_give_equal_scores_and_others_do_not():
    steps = steps_of(built(NETWORKS[0]))
    first, again, other = (
        dealer.classify(steps, images(4), FixedPoint(10, 3), generator_for(each), 4).scores
        for each in ("masks", "masks", "others")
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_bits_of_one_opening_are_those_of_their_sum(parties):
    """XOR shares: what is opened is the secret, and each share alone another number each time."""
    secret = torch.full((100,), 5)
    shares = [parties.give(secret, Sender.DEALER, "bits", BITS, bits=3) for _ in range(20)]
    assert all(torch.equal(parties.open(each, way=BITS)[0], secret) for each in shares)
    assert all(not torch.equal(a, b) for a, b in pairwise(each[1] for each in shares))
    assert max(int(each.max()) for each in shares) == 7
