"""The arithmetic of secure sums: encodings, rings, shares, and whether shares look uniform."""

import math

import pytest
import torch
from scipy.stats import binom

from leakbench.bench.sharing import FixedPoint, Levels, ModulusError, Ring, check_modulus, reconstruct, share
from leakbench.bench.sharing.uniformity import bit_test
from leakbench.core.configured import SettingError
from leakbench.core.randomness import generator_for

ALL_BITS = [8, 16, 31, 32, 63, 64]


@pytest.fixture
def generator(request):
    return generator_for("test", request.node.name)


# -- rings


def test_a_ring_wraps_around_at_its_half():
    words = torch.tensor([127, 128, 129, 255, 256, -128, -129])
    assert Ring(8).wrap(words).tolist() == [127, -128, -127, -1, 0, -128, 127]


def test_64_bits_wrap_around_by_themselves():
    top = torch.tensor([2**63 - 1])
    assert Ring(64).wrap(top + 1).tolist() == [-(2**63)]
    assert Ring(64).sum(torch.stack([top, top, torch.tensor([3])])).tolist() == [1]


@pytest.mark.parametrize("bits", [7, 65, 32.0, True])
def test_other_rings_are_refused(bits):
    with pytest.raises(SettingError, match=r"bits: expected a whole number in 8..64, got"):
        Ring(bits)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_uniform_elements_reach_both_ends(bits, generator):
    words = Ring(bits).uniform((20_000,), generator)
    half = Ring(bits).half
    assert -half <= words.min().item() < -0.99 * half
    assert 0.99 * half < words.max().item() + 1 <= half


# -- shares


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("parties", [2, 3, 7])
def test_shares_add_up_to_the_secret(bits, parties, generator):
    ring = Ring(bits)
    secret = ring.uniform((3, 50), generator)
    shares = share(secret, parties, ring, generator)
    assert shares.shape == (parties, 3, 50)
    assert torch.equal(reconstruct(shares, ring), secret)
    assert torch.equal(ring.wrap(shares), shares)
    assert not torch.equal(reconstruct(shares[:-1], ring), secret)


@pytest.mark.parametrize("bits", [32, 64])
def test_the_sum_of_shares_is_the_sum_of_the_encodings_to_the_bit(bits, generator):
    ring, encoding = Ring(bits), FixedPoint(10, 3)
    gradients = torch.randn(20, 200, generator=generator)
    encodings = encoding.encode(gradients)
    shares = torch.stack([share(each, 4, ring, generator) for each in encodings])  # (clients, servers, 200)
    of_servers = torch.stack([ring.sum(shares[:, server]) for server in range(4)])
    assert torch.equal(reconstruct(of_servers, ring), encodings.sum(0))


def test_a_share_needs_another():
    with pytest.raises(SettingError, match="parties: expected a whole number >= 2, got 1"):
        share(torch.zeros(3, dtype=torch.int64), 1, Ring(), torch.Generator())


# -- uniformity, and what the test of it finds


@pytest.mark.parametrize("bits", [32, 64])
def test_any_two_of_three_shares_are_uniform(bits, generator):
    """Of one secret shared again and again, so that it would show. A bit off by 0.0152 is found with 99 %."""
    ring = Ring(bits)
    secret = torch.full((80_000,), 7)
    shares = share(secret, 3, ring, generator)
    for left_out in range(3):
        first, second = (shares[each] for each in range(3) if each != left_out)
        for words in (first, second, first ^ second, ring.wrap(first + second), first ^ secret):
            found = bit_test(words, bits)
            assert found.is_fair
            assert found.bias() < 0.0152


def test_all_shares_together_are_not(generator):
    shares = share(torch.full((1000,), 7), 2, Ring(), generator)
    assert not bit_test(Ring().sum(shares)).is_fair


@pytest.mark.parametrize(
    "draw",
    [
        lambda shape, generator: torch.randint(2**63 - 1, shape, generator=generator),  # all that it can draw
        lambda shape, generator: torch.randint(-(2**62), 2**62, shape, generator=generator),
        lambda shape, generator: (
            torch.randn(shape, generator=generator, dtype=torch.float64) * 2**61
        ).long(),
        lambda shape, generator: torch.randint(256, shape, generator=generator) * 0x0101010101010101,
        lambda shape, generator: Ring().uniform((shape[0] // 2,), generator).repeat_interleave(2),
    ],
    ids=["without a sign", "63 bits", "normal", "one byte repeated", "each word twice"],
)
def test_generators_that_are_not_uniform_are_found(draw, generator):
    assert not bit_test(draw((4000,), generator)).is_fair


def biased(words, bias, generator):
    """Bit 17 is a one with the probability 1/2 + bias."""
    set_too = torch.rand(words.shape, generator=generator) < 2 * bias
    return torch.where(set_too, words | (1 << 17), words)


def test_the_stated_power_is_what_it_has(generator):
    """Half of the biases that have a power of 0.5 are found, and nearly all of those of 0.99."""
    for power in (0.5, 0.99):
        found = 0
        for _ in range(60):
            words = Ring().uniform((1000,), generator)
            bias = bit_test(words, bits=18).bias(power)
            found += not bit_test(biased(words, bias, generator), bits=18).is_fair
        assert binom.cdf(found, 60, power) > 1e-4
        assert binom.sf(found - 1, 60, power) > 1e-4


def test_fair_words_are_taken_for_biased_as_rarely_as_stated(generator):
    """One in ten, where one in ten is asked for; the counts of a bit depend little on each other."""
    alarms = sum(not bit_test(Ring().uniform((500,), generator), 64, 0.1).is_fair for _ in range(200))
    assert binom.sf(alarms - 1, 200, 0.1) > 1e-4
    assert alarms > 0


def test_a_count_of_ones_by_hand():
    """Of four words three have bit 0 set: z = (3 - 1) / sqrt(4)."""
    found = bit_test(torch.tensor([1, 1, 0, 1]), bits=1)
    assert (found.words, found.tests, found.largest) == (4, 2, 1.0)


# -- encodings


def test_fixed_precision_truncates_towards_zero():
    words = FixedPoint(10, 3).encode(torch.tensor([0.0019, -0.0019, 1.5, -2.0], dtype=torch.float64))
    assert words.tolist() == [1, -1, 1500, -2000]
    assert FixedPoint(10, 3).decode(words).tolist() == [0.001, -0.001, 1.5, -2.0]


def test_bits_are_digits_of_base_2():
    words = FixedPoint(2, 16).encode(torch.tensor([1.0, 2**-16, 2**-17, -0.5]))
    assert words.tolist() == [65536, 1, 0, -32768]
    assert FixedPoint(2, 16).decode(words).tolist() == [1.0, 2**-16, 0.0, -0.5]


@pytest.mark.parametrize("clients", [1, 2, 8])
@pytest.mark.parametrize("encoding", [FixedPoint(10, 3), FixedPoint(10, 5), FixedPoint(2, 16)], ids=str)
def test_truncation_costs_less_than_a_step_for_each_client(encoding, clients, generator):
    gradients = torch.randn(clients, 5000, generator=generator, dtype=torch.float64)
    error = (encoding.decode(encoding.encode(gradients).sum(0)) - gradients.sum(0)).abs()
    assert error.max() < clients * encoding.step
    assert error.max() > 0.5 * encoding.step  # and it does cost something


def test_levels_are_those_of_flower_but_counted_from_zero(generator):
    """16 steps from -8 to 8: a level is 1; what is outside is clipped."""
    encoding = Levels(clip=8.0, levels=16)
    values = torch.tensor([-9.0, -8.0, -3.0, 0.0, 5.0, 8.0, 100.0])
    words = encoding.encode(values, generator)
    assert words.tolist() == [-8, -8, -3, 0, 5, 8, 8]
    assert encoding.decode(words).tolist() == [-8.0, -8.0, -3.0, 0.0, 5.0, 8.0, 8.0]


def test_rounding_by_chance_is_right_on_average(generator):
    """0.3 of a step: 1 with the probability 0.3; the mean of 40,000 is within 5 standard errors."""
    words = Levels(clip=8.0, levels=16).encode(torch.full((40_000,), 0.3), generator)
    assert set(words.tolist()) == {0, 1}
    assert abs(words.double().mean() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 40_000)


@pytest.mark.parametrize("clients", [1, 8])
def test_levels_cost_less_than_a_step_for_each_client(clients, generator):
    encoding = Levels(clip=4.0, levels=1 << 12)
    gradients = torch.rand(clients, 5000, generator=generator, dtype=torch.float64) * 8 - 4
    error = encoding.decode(encoding.encode(gradients, generator).sum(0)) - gradients.sum(0)
    assert error.abs().max() < clients * encoding.step
    assert abs(error.mean()) < 5 * encoding.step * math.sqrt(clients / 5000)  # no bias


def test_equal_generators_round_equally():
    values = torch.rand(100, generator=generator_for("values"))
    first, second = (Levels(levels=256).encode(values, generator_for("rounding")) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FixedPoint(base=1), "base: expected a whole number >= 2, got 1"),
        (
            lambda: FixedPoint(digits=0),
            r"digits: expected a whole number >= 1 with 10\^digits < 2\^63, got 0",
        ),
        (lambda: FixedPoint(digits=19), r"digits: expected .* < 2\^63, got 19"),
        (lambda: FixedPoint(base=2, digits=63), r"digits: expected .* < 2\^63, got 63"),
        (lambda: Levels(clip=0.0), "clip: expected a number > 0, got 0"),
        (lambda: Levels(levels=3), r"levels: expected an even number in 2..2\^52, got 3"),
    ],
)
def test_encodings_that_are_none(make, text):
    with pytest.raises(SettingError, match=text):
        make()


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e16, -1e16])
def test_what_has_no_encoding(value):
    text = r"values: expected finite numbers below 9.22e\+15 at 10\^-3, got"
    with pytest.raises(SettingError, match=text):
        FixedPoint(10, 3).encode(torch.tensor([0.0, value]))


def test_levels_need_numbers_and_a_generator(generator):
    with pytest.raises(SettingError, match="generator: expected one to round with, got none"):
        Levels().encode(torch.zeros(2))
    with pytest.raises(SettingError, match="values: expected numbers, found NaN"):
        Levels().encode(torch.tensor([math.nan]), generator)


# -- the modulus


def test_a_modulus_with_just_enough_room():
    """8 clients of up to 16 at 10^-3 reach 128,000, which is below 2^17 = 131,072; 9 reach 144,000."""
    check_modulus(FixedPoint(10, 3), Ring(18), clients=8, magnitude=16.0)
    text = (
        r"modulus: too small for the clients \(overflow\): expected 2\^19 or more, got 2\^18: 9 clients with"
        r" values up to 16 at 10\^-3 reach 1.44e\+05; use fewer clients or a lower precision"
    )
    with pytest.raises(ModulusError, match=text):
        check_modulus(FixedPoint(10, 3), Ring(18), clients=9, magnitude=16.0)


@pytest.mark.parametrize("encoding", [FixedPoint(10, 3), FixedPoint(2, 8), Levels(8.0, 1 << 12)], ids=str)
def test_the_check_is_right_about_what_wraps_around(encoding, generator):
    """With as many clients as it allows, the largest sums are right; with twice as many they are not."""
    ring, magnitude = Ring(18), 7.3
    gradient = torch.tensor([magnitude, -magnitude])

    def fits(clients):
        try:
            check_modulus(encoding, ring, clients, magnitude)
        except ModulusError:
            return False
        return True

    most = max(clients for clients in range(1, 200) if fits(clients))
    for clients, right in ((most, True), (2 * most, False)):
        total = encoding.encode(gradient, generator).repeat(clients, 1).sum(0)
        assert torch.equal(ring.wrap(total), total) is right


def test_no_modulus_is_enough_for_what_is_beyond_64_bits():
    with pytest.raises(ModulusError, match=r"expected a sum below 2\^64, got 2\^64"):
        check_modulus(FixedPoint(10, 3), Ring(64), 2, 1e37)


def test_float32_may_be_rounded_up_and_counts_so():
    """0.29 is 0.28999999 in float32, and times 1,000 it is 290."""
    value = torch.tensor([0.29])
    assert FixedPoint(10, 3).largest(float(value)) == FixedPoint(10, 3).encode(value).item() == 290


def test_no_clients_and_no_magnitude():
    with pytest.raises(SettingError, match="clients: expected a whole number >= 1, got 0"):
        check_modulus(FixedPoint(), Ring(), 0, 1.0)
    with pytest.raises(SettingError, match="magnitude: expected a finite number >= 0, got inf"):
        check_modulus(FixedPoint(), Ring(), 1, math.inf)
