"""Finds at which places the words of several texts stand, without telling the texts apart.

The row of a word in the word embedding's gradient is the sum of what its occurrences get, and the row of a
place in the position embedding's is the sum over the texts. What an occurrence gets is orthogonal to what
its word and its place add up to, because a layer norm follows, whose output does not depend on the scale of
its input. So a row of one occurrence tells its other end, and is then subtracted there, which leaves more
rows of one occurrence: the peeling of sparse graph codes (Luby et al. 2001), on words and places.
"""

import torch
from torch import Tensor

from leakbench.bench.attacks.base import Case
from leakbench.bench.attacks.token_layers import TokenLayers
from leakbench.bench.attacks.word_rows import undecoded_rows

ORTHOGONAL = (1e-7, 1e-6, 1e-5)  # cosines, the strictest first: of strangers, one in 2,000 is below the last
EMPTY = 1e-4  # of a row: what is left when all its occurrences are subtracted


def placed_words(case: Case, layers: TokenLayers, pieces: Tensor, near: Tensor) -> Tensor:
    """Which pieces (C,) may stand at which places: a part of `near` (C, L), bool.

    What the rows of the embeddings do not tell, such as under noise, stays as it is.
    """
    if layers.norm is None or layers.words_name is None or layers.positions_name is None:
        return near
    length = near.shape[1]
    inputs = layers.inputs(pieces[:, None].expand(-1, length), layers.norm).double()
    rows = undecoded_rows(case, layers, pieces)
    places = case.shared[layers.positions_name][:length].double()
    return peeled(rows, places, inputs, near, case.spec.count)


def peeled(words: Tensor, places: Tensor, inputs: Tensor, near: Tensor, count: int) -> Tensor:
    """Which words may stand at which places (C, L), by what each of both gets in sum.

    Args:
        words: what words get (C, H).
        places: what places get (L, H).
        inputs: what a word at a place adds up to (C, L, H).
        near: pairs that may occur (C, L).
        count: words that a place may have at most.
    """
    inputs = torch.nn.functional.normalize(inputs - inputs.mean(-1, keepdim=True), dim=-1)
    state = words, places, near, torch.zeros_like(near)
    empty = EMPTY * words.norm(dim=1), EMPTY * places.norm(dim=1)
    for limit in ORTHOGONAL:
        words, places, undecided, known = (each.clone() for each in state)
        found = True
        while found:
            found = _settled(words, places, empty[0], inputs, undecided, known, limit)
            found |= _settled(places, words, empty[1], inputs.transpose(0, 1), undecided.T, known.T, limit)
        if state[3].any() and torch.equal(known, state[3]):
            break  # all that rounding allows is settled, and a looser limit would take strangers
        if bool(((places.norm(dim=1) > empty[1]) & ~undecided.any(0)).any()):
            break  # something is left of a place, and nothing for it: a stranger was taken
        state = words, places, undecided, known
    *_, undecided, known = state
    return known | undecided & (known.sum(0) < count)


def _settled(
    own: Tensor,
    others: Tensor,
    empty: Tensor,
    inputs: Tensor,
    undecided: Tensor,
    known: Tensor,
    limit: float,
) -> bool:
    """Whether there was a row (of A, H) of one occurrence; all of them are settled, in place.

    Args:
        own: what is left of the rows, on this side.
        others: on the other side (B, H).
        empty: norms (A,) below which nothing is left.
        inputs: (A, B, H), of length 1.
        undecided: pairs (A, B) that may occur.
        known: pairs (A, B) that do.
        limit: cosine below which a row is orthogonal.
    """
    size = own.norm(dim=1)
    undecided[size <= empty] = False
    alike = torch.einsum("ah,abh->ab", own, inputs).abs()
    fits = undecided & (alike < limit * size[:, None])
    single = (fits.sum(1) == 1).nonzero()[:, 0].tolist()
    for row in single:
        other = int(fits[row].nonzero()[0, 0])
        known[row, other] = True
        others[other] -= own[row]
        own[row] = 0
        undecided[row] = False
    return bool(single)
