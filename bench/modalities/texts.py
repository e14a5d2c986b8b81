"""Texts: tokens (L,), int64, shorter ones filled up with the vocabulary's padding."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from leakbench.bench.modalities.base import Modality, PartialLeak
from leakbench.bench.modalities.images import IMAGES
from leakbench.bench.token_metrics import TokenScores, match, score, token_accuracy
from leakbench.bench.vocabulary import Vocabulary

if TYPE_CHECKING:
    from leakbench.bench.modalities.spec import Spec

SAID = {  # what is said of images: of texts; the longer ones first
    "SSIM, PSNR and MSE": "ROUGE-L, token accuracy and recall of words",
    "SSIM": "ROUGE-L",
    "an image": "a text",
    "images": "texts",
    "image": "text",
}
NOT_ASKED = -100  # the label of a token that is not hidden, as PyTorch's cross entropy has it


class TextModality(Modality):
    """See `bench.token_metrics`. The label of a text is its class, or of each token the hidden word."""

    name: ClassVar[str] = "texts"
    columns: ClassVar[tuple[str, ...]] = tuple(
        each.name for each in fields(TokenScores) if each.name != "score"
    )
    leading: ClassVar[str] = "rouge_l"
    title: ClassVar[str] = "ROUGE-L"
    medians: ClassVar[dict[str, str]] = {
        "rouge_l": "ROUGE-L",
        "token_accuracy": "token accuracy",
        "bag_recall": "recall of words",
    }
    forms: ClassVar[dict[str, str]] = dict.fromkeys(medians, ".3f")
    partial: ClassVar[tuple[PartialLeak, ...]] = (
        PartialLeak(
            "words_leak",
            {"bag_recall": 0.5, "bag_precision": 0.5},
            "at least half of the words were found, in whatever order, and half of what was found is right",
        ),
    )
    error: ClassVar[str] = "share of wrong tokens"
    one: ClassVar[str] = "text"
    leak: ClassVar[float] = 0.9
    artifacts: ClassVar[float] = 0.3

    def said(self, text: str) -> str:
        """See `Modality.said`."""
        return re.sub(rf"\b({'|'.join(SAID)})\b", lambda found: SAID[found[0]], text)

    def problems(self, spec: "Spec", found: object, like: Tensor) -> Iterator[str]:
        """See `Modality.problems`: tokens (N, L), with at most as many as the longest text has."""
        longest, pieces = spec.shape
        expected = f"tokens: expected int64 ({spec.count}, at most {longest}) in 0..{pieces - 1}"
        if not isinstance(found, Tensor):
            yield f"{expected}, got {type(found).__name__}"
        elif found.dtype != torch.int64 or found.ndim != 2 or len(found) != spec.count:
            yield f"{expected}, got {str(found.dtype).removeprefix('torch.')} {tuple(found.shape)}"
        elif not 1 <= found.shape[1] <= longest or not bool(((found >= 0) & (found < pieces)).all()):
            yield f"{expected}, got {tuple(found.shape)} in {int(found.min())}..{int(found.max())}"

    def label_problems(self, spec: "Spec", labels: object) -> Iterator[str]:
        """See `Modality.label_problems`: as of images; or of each token the hidden word, else -100."""
        if not spec.masked:
            yield from IMAGES.label_problems(spec, labels)
            return
        expected = f"expected for each token ({spec.count}, L) the hidden word, or {NOT_ASKED} where none is"
        if labels is None:
            return
        if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.ndim != 2:
            yield f"{expected}, got {tuple(labels.shape) if isinstance(labels, Tensor) else labels!r}"
        elif not bool(((labels == NOT_ASKED) | (labels >= 0) & (labels < spec.classes)).all()):
            yield f"{expected}, got {int(labels.min())}..{int(labels.max())}"

    def batch_shape(self, spec: "Spec") -> tuple[int, ...]:
        """See `Modality.batch_shape`: (N, L)."""
        return spec.count, spec.shape[0]

    def match(self, found: Tensor, truth: Tensor, spec: "Spec") -> list[int]:
        """See `Modality.match`."""
        return match(found, truth, _vocabulary(spec))

    def errors(self, found: Tensor, truth: Tensor, spec: "Spec") -> list[float]:
        """See `Modality.errors`: the share of wrong tokens."""
        vocabulary = _vocabulary(spec)
        errors = []
        for own, true in zip(found, truth, strict=True):
            order = match(own, true, vocabulary)
            right = (token_accuracy(*pair, vocabulary) for pair in zip(own[order], true, strict=True))
            errors.append(1 - fmean(right))
        return errors

    def scores(self, found: Tensor, truth: Tensor, spec: "Spec") -> dict[str, float]:
        """See `Modality.scores`."""
        return asdict(score(truth, found, _vocabulary(spec)))

    def inputs(self, found: Tensor, labels: Tensor, spec: "Spec") -> Tensor:
        """See `Modality.inputs`: with the hidden words hidden."""
        if not spec.masked:
            return found
        return found.masked_fill(labels != NOT_ASKED, _vocabulary(spec).mask)

    def texts(self, found: Tensor, spec: "Spec") -> Sequence[str]:
        """See `Modality.texts`: pieces with spaces between them, without padding."""
        vocabulary = _vocabulary(spec)
        return [
            " ".join(vocabulary.pieces[token] for token in own.tolist() if token != vocabulary.pad)
            for own in found
        ]


def _vocabulary(spec: "Spec") -> Vocabulary:
    assert spec.vocabulary is not None
    return spec.vocabulary


TEXTS = TextModality()
