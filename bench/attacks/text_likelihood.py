"""How well texts explain a gradient under the noise of a defense, and which words would explain more."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from leakbench.bench.attacks.base import Case
from leakbench.bench.attacks.dummy_texts import known_tokens
from leakbench.bench.attacks.linear_factors import inner_product, linear_factors, rows_of, square
from leakbench.bench.attacks.token_layers import TokenLayers, training_loss
from leakbench.bench.attacks.word_rows import decoded, is_tied, outside
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.posterior import kept_of, variance_of
from leakbench.defenses import Gradients

AT_ONCE = 16  # texts: with twice as many, each takes twice as long on a core
ENTRIES = 2**25  # of their gradients at once, at most: 128 MiB
CLEAR = 1e-3  # of a tensor's root mean square: noise below that counts as that much
TINY = 1e-300  # for a gradient of zero
CLEAREST = 1e-6  # likewise, of the largest tensor's: smaller tensors are rounding


@dataclass(frozen=True)
class Explained:
    """What texts (B, L) explain of a gradient."""

    missing: Tensor  # (B,), float64: the share of it that is not explained, weighted
    rows: Tensor  # (B, L, H): what each place adds to the row of its word

    def __getitem__(self, text: int) -> "Explained":
        return Explained(self.missing[text], self.rows[text])


class TextLikelihood:
    """The likelihood of texts, given a gradient that was shared of one.

    It falls with the squared distance of the gradients, divided in each tensor by the variance of its noise.
    The distance is that at the best scale: how sure a model is of its answer changes all of the gradient, but
    says little of the words.
    """

    def __init__(self, case: Case, layers: TokenLayers, device: str):
        assert layers.words_name is not None
        assert case.labels is not None
        self.layers, self.labels = layers, case.labels.to(device)
        pieces = case.spec.shape[1]  # what has a row for each of them is too large to compute for each text
        example = known_tokens(case).to(device)
        parameters = [(name, each.detach()) for name, each in trained_parameters(layers.model)]
        own = {name: each for name, each in parameters if each.shape[:1] != (pieces,)}
        places = layers.positions_name  # its weight may have a row for each piece, too
        names = {*own, layers.words_name, *([places] if places else [])}
        kept = kept_of(case.account, {name: case.shared[name] for name in names})
        floor = _floor(case.shared)
        self.precision = {
            name: 1 / (variance_of(case.account, {name: kept[name]}) + floor[name]) for name in names
        }
        self.kept = {name: kept[name].to(device) for name in own if not kept[name].all()}
        self.factors = linear_factors(
            layers.model,
            own.keys() - self.kept.keys(),
            lambda: training_loss(layers.model, example, self.labels),
        )
        self.whole = {name: each for name, each in own.items() if name not in self.factors.layers}
        self.shared = {
            name: (self.precision[name] * kept[name] * case.shared[name]).to(device) for name in own
        }
        self.clearness = self.precision[layers.words_name]  # of its rows, also where entries were left out
        rows = case.shared[layers.words_name].to(device)
        self.decoded = decoded(rows.double()).float() if is_tied(layers) else None
        self.rows = self._of_words(rows)  # (V, H)
        self.squares = self.rows.square().sum(-1)
        self.places = self._of_words(case.shared[places].to(device)) if places else None
        self.noise = 1 / self.precision[places] if places else 0.0  # in an entry of these
        squared = sum(
            float((each * case.shared[name].to(device)).double().sum()) for name, each in self.shared.items()
        )
        self.square = squared + self.clearness * float(self.rows.double().square().sum()) + TINY
        entries = sum(each.numel() for each in self.whole.values())
        self.at_once = max(1, min(AT_ONCE, ENTRIES // max(entries, 1)))

    def _of_words(self, rows: Tensor) -> Tensor:
        """Rows (..., H) without what a decoder with the same weights adds to all of them."""
        return rows if self.decoded is None else outside(rows, self.decoded)

    def evidence(self, missing: float, less: float) -> float:
        """By how much the logarithm of the likelihood is larger where a smaller share is missing."""
        return (missing - less) * self.square / 2

    def explained(self, texts: Tensor) -> Explained:
        """What texts (B, L) explain; of a masked model, with the hidden places as it gets them."""
        parts = [self._together(some) for some in texts.split(self.at_once)]
        return Explained(
            torch.cat([each.missing for each in parts]), torch.cat([each.rows for each in parts])
        )

    @torch.no_grad()  # but for the gradient itself
    def _together(self, texts: Tensor) -> Explained:
        missing, rows = vmap(self._of_one)(texts, self._nothing(texts))
        return Explained(missing, rows)

    @torch.no_grad()  # likewise
    def slopes(self, text: Tensor) -> Tensor:
        """The slope of what a text (L,) leaves unexplained in what its words are looked up as (L, H)."""
        found: Tensor = grad(lambda added: self._of_one(text, added)[0])(self._nothing(text))
        return found

    def _nothing(self, tokens: Tensor) -> Tensor:
        """What is added to looked-up words, of tokens of any shape: (..., H)."""
        return torch.zeros(*tokens.shape, self.layers.words.embedding_dim, device=tokens.device)

    def _of_one(self, text: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
        """What is missing and the rows, if a text (L,) is looked up as usual, plus something (L, H)."""
        (own, by_place, slopes), given = grad(self._loss, argnums=(0, 1, 2), has_aux=True)(
            self.whole, added[None], self.factors.nothing, text[None]
        )
        rows = self._of_words(by_place[0])
        factors = {name: (rows_of(slopes[name]), rows_of(each)) for name, each in given.items()}
        exact = rows.double()  # few words decide in the seventh digit
        same = (text[:, None] == text).to(exact.dtype)
        inner = [torch.linalg.vecdot(each, self.shared[name]).double().sum() for name, each in own.items()]
        squares = [self._square(name, each) for name, each in own.items()]
        inner += [inner_product(*pair, self.shared[name]) for name, pair in factors.items()]
        squares += [self.precision[name] * square(*pair) for name, pair in factors.items()]
        inner.append(self.clearness * (self.rows[text] * exact).sum())
        squares.append(self.clearness * (same * (exact @ exact.T)).sum())
        explained = torch.stack(inner).sum().clamp(min=0)
        scale = explained / (torch.stack(squares).sum() + TINY)
        return 1 - explained * scale / self.square, scale.to(rows.dtype) * rows

    def _square(self, name: str, own: Tensor) -> Tensor:
        """The weighted square of a tensor of a gradient, a scalar."""
        if name in self.kept:
            own = own * self.kept[name]
        # like vecdot, this stores no products of all entries, which takes as long as the gradient itself
        lengths: Tensor = torch.linalg.vector_norm(own, dim=-1)
        return self.precision[name] * lengths.double().square().sum()

    def _loss(
        self, parameters: Gradients, added: Tensor, after: Gradients, texts: Tensor
    ) -> tuple[Tensor, Gradients]:
        """That of the model in training, and what its linear layers are given.

        Something is added to what words are looked up as, and to what the linear layers give.
        """
        model = self.layers.model
        hook = self.layers.words.register_forward_hook(lambda _, __, looked_up: looked_up + added)
        try:
            with self.factors.noted(after) as given:
                loss = training_loss(
                    model, texts, self.labels, lambda *tokens: functional_call(model, parameters, tokens)
                )
        finally:
            hook.remove()
        return loss, given

    def gains(self, text: Tensor, place: int, rows: Tensor) -> Tensor:
        """How much more of the word embedding each piece (V,) at a place would explain, up to a constant.

        Args:
            text: the present one (L,).
            place: where another piece would stand.
            rows: what each place adds to the row of its word (L, H), as far as the text is right.
        """
        own = self._likely(place, rows[place])
        others = rows @ own
        others[place] = 0
        return (self.rows @ own).index_add(0, text, -others)

    def _likely(self, place: int, row: Tensor) -> Tensor:
        """What a place most likely adds to the row of its word (H,).

        The row of the place itself is that, plus noise. What the text says of it (H,) is off by as much as
        that row differs from it by more than the noise.
        """
        if self.places is None:
            return row
        apart = self.places[place] - row
        off = (apart.square().mean() - self.noise).clamp(min=0)
        return row + off / (off + self.noise) * apart

    def unexplained(self, text: Tensor, rows: Tensor) -> Tensor:
        """The squared length of what a text leaves of the row of each piece (V,); arguments as of `gains`."""
        same = (text[:, None] == text).to(rows.dtype)
        left = self.rows[text] - same @ rows
        return self.squares.index_copy(0, text, left.square().sum(-1))


def _floor(shared: Gradients) -> dict[str, float]:
    """What counts as the variance of the noise of each tensor where there is none."""
    sizes = {name: float(each.double().square().mean()) for name, each in shared.items()}
    least, tiny = CLEAREST**2 * max(sizes.values()), torch.finfo(torch.float32).tiny
    return {name: max(CLEAR**2 * size + least, tiny) for name, size in sizes.items()}
