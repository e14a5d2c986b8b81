"""What a text's model was to answer: its class, or the words that were hidden from it.

The bias of a masked language model's decoder gets the mean of p - y over the hidden words, so it is negative
where a word was hidden. The decoder's row of that word gets -h of its place, over their number.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from leakbench.bench.attacks.base import Case, NotApplicableError
from leakbench.bench.attacks.labels import readings
from leakbench.bench.attacks.layers import output_layer
from leakbench.bench.attacks.token_layers import TokenLayers, decoder_bias, vocabulary_of
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.modalities.texts import NOT_ASKED

CLOSE = 0.4  # of the smallest entry of the bias: a word that was hidden twice counts twice


def with_answers(case: Case, layers: TokenLayers, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
    """Texts (N, L) with their hidden words filled in, and what the model was to answer.

    The classes of several texts are not looked for.
    """
    if not case.spec.masked:
        return tokens, _class_of(case) if len(tokens) == 1 else None
    hidden = tokens == vocabulary_of(case.spec).mask
    answers = torch.full_like(tokens, NOT_ASKED)
    words = hidden_words(case, int(hidden.sum()))
    if words is None or not len(words):
        return tokens, None
    alike = _by_decoder if layers.decoder else _by_last_layer
    _, order = linear_sum_assignment(-alike(case, layers, tokens, hidden, words).numpy())
    answers[hidden] = words[torch.from_numpy(order)]
    return torch.where(answers == NOT_ASKED, tokens, answers), answers


def hidden_words(case: Case, count: int) -> Tensor | None:
    """The hidden words (count,), in any order, by the decoder's bias; None if there is none."""
    bias = decoder_bias(case)
    if bias is None:
        return None
    left, found = bias.double().clone(), []
    for _ in range(count):
        found.append(int(left.argmin()))
        left[found[-1]] += 1 / count
    return torch.tensor(found, dtype=torch.int64)


def different_hidden_words(case: Case) -> Tensor:
    """The hidden words (k,), each once, where their number is not known."""
    bias = decoder_bias(case)
    if bias is None or bias.min() >= 0:
        return torch.zeros(0, dtype=torch.int64)
    return (bias < CLOSE * bias.min()).nonzero()[:, 0]


def _by_decoder(case: Case, layers: TokenLayers, tokens: Tensor, hidden: Tensor, words: Tensor) -> Tensor:
    """How well each word fits each place (k, k): its row of the decoder's gradient is -h of its place."""
    assert layers.decoder is not None
    inputs = layers.inputs(tokens, layers.decoder.layer)[hidden].double()
    rows = -case.shared[layers.decoder.weight].double()[words]
    return functional.cosine_similarity(inputs[:, None], rows[None], dim=-1).nan_to_num()


def _by_last_layer(case: Case, layers: TokenLayers, tokens: Tensor, hidden: Tensor, words: Tensor) -> Tensor:
    """The same where the decoder's weights are not trained, by the gradient of the last layer that is.

    That is a sum over the places of what a place contributes if a word is its answer. Contributions of
    different places are nearly orthogonal, as their h differ.
    """
    name = layers.linear[-1].weight
    weight = dict(trained_parameters(layers.model))[name]
    scores = layers.model(tokens).movedim(1, -1)[hidden]  # (k, pieces)
    losses = scores.logsumexp(1, keepdim=True) - scores[:, words]  # of each place for each word
    parts = [torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in losses.flatten()]
    each = (torch.stack(parts).double() / len(words)).view(len(words), len(words), -1)
    usual = each.mean(1, keepdim=True)  # whatever the answer
    left = case.shared[name].double().flatten() - usual.sum(0)[0]
    return 2 * (each - usual) @ left - (each - usual).square().sum(-1)


def _class_of(case: Case) -> Tensor | None:
    """The class (1,) by the gradient of the last layer; None if there is no such layer."""
    try:
        layer = output_layer(case.model, case.spec)
    except NotApplicableError:
        return None
    # p - y is negative at the class alone; features of both signs say less
    return case.shared[layer.bias].argmin()[None] if layer.bias else readings(case, layer)[0]
