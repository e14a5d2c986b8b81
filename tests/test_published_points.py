"""Defenses of batches, of the model and of those who see both, from the literature, against their papers."""

import math
from statistics import median

import pytest
import torch
from test_training import DATA, training
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.func import grad, vmap
from torch.nn import functional

from leakbench.bench.datasets import DATASETS, open_images
from leakbench.bench.lock_step import train_together
from leakbench.bench.metrics import match, score
from leakbench.bench.trial import prepare, victim_of
from leakbench.core.configured import SettingError
from leakbench.defenses import DEFENSES, Client, ContractError
from leakbench.defenses.augment import POLICIES
from leakbench.defenses.batches import weights_of
from leakbench.defenses.bottleneck import Bottleneck, Divergence
from leakbench.defenses.transformations import restored, shifted, transformed, with_signs
from leakbench.defenses.unmixing import unmixed

pytestmark = pytest.mark.numeric


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


class TestSoteria:
    """On a network whose features and their slopes are known: r = (3x, x, 2x + 8y, 0) for images (x, y)."""

    def network(self):
        first, last = nn.Linear(2, 4, bias=False), nn.Linear(4, 3)
        first.weight.data = torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 8.0], [0.0, 0.0]])
        return nn.Sequential(nn.Flatten(), first, last)

    def share(self, ratio, *images):
        network = self.network()
        gradients = {name: torch.ones_like(each) for name, each in network.named_parameters()}
        batch = torch.tensor(images).view(-1, 1, 1, 2)
        client = Client(network, batch, torch.zeros(len(batch), dtype=torch.long))
        return DEFENSES.parse(f"soteria(ratio={ratio})").share(gradients, drawn(), client=client)

    def test_features_that_reveal_most_have_no_gradient(self):
        """At (1, 0): 3 / 3.1, 1 / 1.1, sqrt(68) / 2.1 and 0: the last, then the second, then the first."""
        for ratio, kept in ((0.25, [1, 1, 1, 0]), (0.5, [1, 0, 1, 0]), (0.99, [0, 0, 1, 0]), (0, [1] * 4)):
            shared = self.share(ratio, [1.0, 0.0]).gradients
            assert shared["2.weight"].tolist() == [kept] * 3
            assert shared["1.weight"].all()
            assert shared["2.bias"].all()

    def test_a_batch_counts_together(self):
        """At (10, 0): 3 / 30.1, 1 / 10.1, 8.2 / 20.1, 0; at (0.1, 50): 3 / 0.4, 1 / 0.2, 8.2 / 400.3, 0."""
        first, second = [10.0, 0.0], [0.1, 50.0]
        assert self.share(0.5, first).gradients["2.weight"][0].tolist() == [1, 0, 1, 0]
        assert self.share(0.5, first, second).gradients["2.weight"][0].tolist() == [1, 1, 0, 0]

    def test_its_account_and_its_bytes_are_of_columns(self):
        sent = self.share(0.5, [1.0, 0.0])
        account = DEFENSES.parse("soteria(ratio=0.5)").account(sent.gradients)
        assert account.kept["2.weight"].tolist() == [[True, False, True, False]] * 3
        assert account.kept["1.weight"].all()
        assert sent.sent_bytes == 4 * (8 + 6 + 3) + 1

    @pytest.mark.parametrize("model", ["lenet", "lenet(activation=relu)", "mlp(hidden=[20])"])
    def test_on_a_client_it_is_the_loop_over_features(self, make_trial, model):
        trial = make_trial(defense="soteria(ratio=0.4)", model=model, protocol="fedsgd(batch_size=2)")
        victim = victim_of(trial, DATA)
        (weight,) = (name for name, each in list(victim.gradient.items())[-2:] if each.ndim == 2)
        shared = victim.share(trial.defense, trial.protocol).shared
        pixels = victim.batch.clone().requires_grad_()
        features = nn.Sequential(*list(victim.network)[:-1])(pixels)
        divisors = features.detach().abs() + 0.1
        sizes = []
        for place in range(features.shape[1]):
            (slope,) = torch.autograd.grad(features[:, place].sum(), pixels, retain_graph=True)
            sizes.append(float((slope.flatten(1).norm(dim=1) / divisors[:, place]).sum()))
        dropped = torch.tensor(sizes).argsort(stable=True)[: int(0.4 * len(sizes))]
        wanted = victim.gradient | {weight: victim.gradient[weight].index_fill(1, dropped, 0.0)}
        for name, own in shared.items():
            torch.testing.assert_close(own, wanted[name], rtol=1e-4, atol=1e-7)

    def test_models_without_such_a_layer_are_refused_in_a_line(self):
        network = nn.Sequential(nn.Conv2d(1, 3, (1, 2)), nn.Flatten())
        client = Client(network, torch.ones(1, 1, 1, 2), torch.zeros(1, dtype=torch.long))
        gradients = {name: torch.ones_like(each) for name, each in network.named_parameters()}
        with pytest.raises(ContractError, match="soteria: expected images, and a model with an nn.Linear"):
            DEFENSES.parse("soteria(ratio=0.5)").share(gradients, drawn(), client=client)


class TestPrecode:
    def test_it_comes_before_the_last_layer_and_rests_at_the_attacker(self, make_trial):
        case, victim, _ = prepare(make_trial(defense="precode(size=16)"), 0, DATA)
        layers, plain = list(case.model), list(victim.network)
        assert [type(each) for each in layers[-1]] == [Bottleneck, nn.Linear]
        torch.testing.assert_close(layers[-1][1].weight, plain[-1].weight)
        features = nn.Sequential(*layers[:-1])(victim.batch)
        means = layers[-1][0].encode(features)[:, :16]
        torch.testing.assert_close(case.model(victim.batch), layers[-1][1](layers[-1][0].decode(means)))

    def test_a_client_adds_the_divergence_to_its_loss(self):
        """Compared with the sum of both losses, written out, under the same draws."""
        torch.manual_seed(0)
        bottleneck, last, features = Bottleneck(6, 4, beta=0.5), nn.Linear(6, 3), torch.randn(5, 6)
        labels, parameters = torch.tensor([0, 1, 2, 0, 1]), list(bottleneck.parameters())
        torch.manual_seed(1)
        loss = functional.cross_entropy(last(bottleneck(features)), labels)
        own = torch.autograd.grad(loss, parameters)
        torch.manual_seed(1)
        means, rest = bottleneck.encode(features).chunk(2, -1)
        codes = Normal(means, functional.softplus(rest))
        decoded = bottleneck.decode(means + codes.stddev * torch.randn(5, 4))
        bits = kl_divergence(codes, Normal(torch.zeros(()), torch.ones(()))).sum(1).mean() / math.log(2)
        whole = functional.cross_entropy(last(decoded), labels) + 0.5 * bits
        torch.testing.assert_close(loss, whole - 0.5 * bits)
        wanted = torch.autograd.grad(whole, parameters)
        for found, each in zip(own, wanted, strict=True):
            torch.testing.assert_close(found, each)

    def test_the_divergence_is_the_same_side_by_side(self):
        means, deviations = torch.randn(3, 5, 4), torch.rand(3, 5, 4) + 0.1

        def loss(mean, deviation):
            first, second = Divergence.apply(mean, deviation, 0.3)
            return (first * second).sum()

        together = vmap(grad(loss))(means, deviations)
        alone = torch.stack([grad(loss)(*each) for each in zip(means, deviations, strict=True)])
        assert torch.equal(together, alone)
        torch.testing.assert_close(alone, deviations + 0.3 / math.log(2) / 5 * means)

    def test_its_layers_are_trained(self):
        (trained,) = train_together([training("precode(size=16)")], DATA, keep=[0, 1])
        assert trained.row.status == "converged"
        moved = {
            name for name, each in trained.weights[1].items() if not each.equal(trained.weights[0][name])
        }
        assert {"7.0.encode.weight", "7.0.decode.weight"} <= moved


class TestMixup:
    def test_images_and_labels_have_the_same_weights(self):
        images = torch.eye(3).view(3, 1, 1, 3).float()  # each image is its own label
        mixed, answers = DEFENSES.parse("mixup").checked_batch(images, torch.arange(3), drawn(3), 5)
        torch.testing.assert_close(mixed.view(3, 3), answers[:, :3])
        assert answers.shape == (3, 5)
        assert not answers[:, 3:].any()
        torch.testing.assert_close(answers.sum(1), torch.ones(3))
        own = answers.diagonal()
        assert own.unique().numel() <= 2  # the same weight for all, or the image itself

    def test_the_weight_is_that_of_a_beta_distribution(self):
        images, labels = torch.zeros(2, 1, 1, 1), torch.tensor([0, 1])
        for alpha in (0.2, 2.0):
            mixup, weights = DEFENSES.parse(f"mixup(alpha={alpha})"), []
            generator = drawn()
            while len(weights) < 1000:
                _, answers = mixup.change_batch(images, labels, generator)
                if float(answers[0, 1]) > 0:  # the two were mixed
                    weights.append(float(answers[0, 0]))
            spread = 1 / (4 * (2 * alpha + 1))  # the variance of Beta(alpha, alpha)
            assert torch.tensor(weights).var().item() == pytest.approx(spread, rel=0.15)

    def test_a_batch_of_one_is_not_changed(self):
        image = torch.rand(1, 1, 4, 4, generator=drawn())
        mixed, answers = DEFENSES.parse("mixup").checked_batch(image, torch.tensor([2]), drawn(), 4)
        torch.testing.assert_close(mixed, image)
        assert answers.tolist() == [[0, 0, pytest.approx(1), 0]]

    @pytest.mark.parametrize("dataset", ["mnist-5k", "cifar10-sample", "lfw-subset"])
    @pytest.mark.parametrize("count", [2, 4, 8])
    def test_a_batch_is_unmixed_whatever_its_weights(self, dataset, count):
        """With errors of 0.003, as those of an attack; mixtures of halves cannot be undone."""
        images, labels = open_images(DATASETS.parse(dataset), DATA).batch(range(4, 4 + count))
        seeds = [seed for seed in range(8) if 0.1 < smaller_weight(count, seed) < 0.45][:2]
        for seed in seeds:
            mixed, _ = DEFENSES.parse("mixup").change_batch(images, labels, drawn(seed))
            mixed += 0.003 * torch.randn(mixed.shape, generator=drawn(seed))
            restored = DEFENSES.parse("mixup").restore_batch(mixed)
            before, after = (score(images, each[match(each, images)]).ssim for each in (mixed, restored))
            assert after > max(0.9, before - 0.05)
        assert seeds

    def test_what_cannot_be_unmixed_stays_as_it_is(self):
        images = open_images(DATASETS.parse("mnist-5k"), DATA).batch(range(2))[0]
        half = images.mean(0, keepdim=True).expand_as(images)
        for each in (images[:1], half, torch.zeros(3, 1, 4, 4), torch.rand(2, 1, 1, 1)):
            assert torch.equal(unmixed(each), each)


def smaller_weight(count, seed):
    """Of the two images that mixup takes, of a batch of that many and by the seed; 0 if it mixes none."""
    blank = torch.zeros(count, 1, 1, 1)
    _, answers = DEFENSES.parse("mixup").change_batch(blank, torch.arange(count), drawn(seed))
    parts = answers[(answers > 0).sum(1) == 2]
    return float(parts[parts > 0].min()) if len(parts) else 0.0


class TestInstaHide:
    def test_each_pixel_is_that_of_the_mixture_or_its_opposite(self):
        images = torch.eye(6).view(6, 1, 1, 6).float()
        for k in (1, 2, 4):
            hidden, answers = DEFENSES.parse(f"instahide(k={k})").checked_batch(
                images, torch.arange(6), drawn(), 6
            )
            plain = answers.view(6, 1, 1, 6)
            flipped = torch.isclose(hidden, 1 - plain)
            assert (torch.isclose(hidden, plain) | flipped).all()
            assert 0.2 < float(flipped.double().mean()) < 0.8
            torch.testing.assert_close(answers.sum(1), torch.ones(6))
            assert int((answers > 0).sum(1).max()) <= k

    def test_coefficients_are_bounded(self):
        generator = drawn()
        weights = torch.stack([weights_of(2, generator) for _ in range(500)])
        assert float(weights.max()) <= 0.65
        assert float(weights.max()) > 0.6
        torch.testing.assert_close(weights.sum(1), torch.ones(500, dtype=torch.float64))

    def test_half_of_the_pixels_are_flipped(self):
        image = torch.zeros(1, 1, 100, 100)
        hidden, _ = DEFENSES.parse("instahide").change_batch(image, torch.tensor([0]), drawn())
        assert set(hidden.unique().tolist()) == {0.0, 1.0}
        assert float(hidden.mean()) == pytest.approx(0.5, abs=6 * 0.5 / 100)  # standard deviations of 10,000
        dark, _ = DEFENSES.parse("instahide(center=0.25)").change_batch(image + 1, torch.tensor([0]), drawn())
        assert set(dark.unique().tolist()) == {1.0, -0.5}

    def test_values_out_of_range_give_signs_away(self):
        """Around 0.25, 1 became -0.5 and 0.6 became -0.1; but 0.2 and 0.3 stay one of both, the darker."""
        image = torch.tensor([1.0, 0.6, 0.3, 0.0]).view(1, 1, 1, 4)
        defense = DEFENSES.parse("instahide(center=0.25)")
        for seed in range(4):
            hidden, _ = defense.change_batch(image, torch.tensor([0]), drawn(seed))
            restored = defense.restore_batch(hidden).flatten().tolist()
            assert restored == pytest.approx([1.0, 0.6, 0.2, 0.0])
            noisy = defense.restore_batch(hidden + 0.01).flatten().tolist()
            assert noisy == pytest.approx([1.0, 0.6, 0.2, 0.0], abs=0.02)


def both_ways(image):
    """What half as much and half more contrast make of an image, as numbers."""
    policy = (("contrast", 0.5),)
    changed = [transformed(image, with_signs(policy, drawn(seed))) for seed in range(9)]
    return {tuple(round(each, 5) for each in own.flatten().tolist()) for own in changed}


def shifts_of(image):
    """How many pixels of the lines through the middle of a white image (H, W) are no longer the brightest."""
    return tuple(int((line < image.max()).sum()) for line in (image[16], image[:, 16]))


class TestAugment:
    def test_a_shift_leaves_black_behind(self):
        image = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]])
        assert shifted(image, 0.5, "x").tolist() == [[[0, 0, 1, 2], [0, 0, 5, 6]]]
        assert shifted(image, -0.25, "x").tolist() == [[[2, 3, 4, 0], [6, 7, 8, 0]]]
        assert shifted(image, -0.5, "y").tolist() == [[[5, 6, 7, 8], [0, 0, 0, 0]]]

    def test_contrast_is_the_distance_from_the_mean_gray(self):
        image = torch.tensor([0.2, 0.6]).view(1, 1, 2)
        assert both_ways(image) == {(0.1, 0.7), (0.3, 0.5)}
        red = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)  # of gray 0.299
        assert both_ways(red) == {(0.6495, 0.1495, 0.1495), (1, 0, 0)}

    @pytest.mark.parametrize(("policy", "shifts"), [("3-1-7", (15, 3)), ("43-18-18", (0, 5))])
    def test_policies_shift_as_far_as_the_authors(self, policy, shifts):
        """Of 32 pixels: 0.453 x 32 = 14.5, 0.101 x 32 = 3.2 and 0.151 x 32 = 4.8."""
        images = torch.ones(8, 1, 32, 32)
        changed, labels = DEFENSES.parse(f"augment(policy={policy})").change_batch(
            images, torch.arange(8), drawn()
        )
        for image in changed[:, 0]:
            assert shifts_of(image) == shifts
        assert labels.tolist() == list(range(8))

    @pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
    @pytest.mark.parametrize(("dataset", "error"), [("cifar10-sample", 0.01), ("mnist-5k", 0.005)])
    def test_what_was_not_shifted_out_is_restored(self, policy, dataset, error):
        """The attacker knows both policies, and neither which one was taken nor the signs."""
        images, _ = open_images(DATASETS.parse(dataset), DATA).batch(range(10))
        kept = []
        for seed, image in enumerate(images):
            taken = with_signs(policy, drawn(seed))
            seen = transformed(image, taken) + error * torch.randn(image.shape, generator=drawn(seed))
            inside = transformed(torch.ones_like(image), tuple(each for each in taken if each[0] in "xy"))
            for what, way in reversed(taken):
                inside = shifted(inside, -way, what) if what in "xy" else inside
            found = restored(seen, list(POLICIES.values()))
            kept.append(score((image * inside)[None], (found * inside)[None]).ssim)
        assert median(kept) > 0.8  # clipping lost some contrast

    def test_hybrid_takes_one_of_both(self):
        images = torch.ones(20, 1, 32, 32)
        changed, _ = DEFENSES.parse("augment").change_batch(
            images, torch.zeros(20, dtype=torch.long), drawn()
        )
        assert {shifts_of(image) for image in changed[:, 0]} == {(0, 5), (15, 3)}


@pytest.mark.parametrize("defense", ["mixup", "instahide", "augment"])
def test_texts_are_refused_in_a_line(defense):
    with pytest.raises(ContractError, match=f"defense {defense}: expected images, got texts"):
        DEFENSES.parse(defense).checked_batch(torch.ones(2, 5).long(), torch.arange(2), drawn(), 3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("soteria(ratio=1)", r"ratio: expected a number in \[0, 1\), got 1"),
        ("precode(size=0)", "size: expected a whole number >= 1, got 0"),
        ("precode(beta=-1)", "beta: expected a number >= 0, got -1"),
        ("mixup(alpha=0)", "alpha: expected a number > 0, got 0"),
        ("instahide(k=0)", "k: expected a whole number >= 1, got 0"),
        ("instahide(center=2)", r"center: expected a number in \[0, 1\], got 2"),
        ("augment(policy=9)", "policy: expected one of 3-1-7, 43-18-18, hybrid, got 9"),
    ],
)
def test_settings_out_of_range(text, problem):
    with pytest.raises(SettingError, match=problem):
        DEFENSES.parse(text)
