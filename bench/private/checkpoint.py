"""The network that is shared: trained once, as `leakbench utility` trains, and kept."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from leakbench.bench.attacks import Status
from leakbench.bench.lock_step import train_together
from leakbench.bench.models import Model
from leakbench.bench.training import Examples, Recipe, Training
from leakbench.core.errors import UserError
from leakbench.core.foreign import ForeignError, foreign
from leakbench.defenses import NoDefense

RECIPE = Recipe(clients=1, batch_size=20, epochs=6, lr=0.02)  # plain SGD, momentum 0.9
SEED = 0


def checkpoint_of(model: Model, train: Examples, test: Examples, data_root: Path, folder: Path) -> Path:
    """The weights of a model after a training by RECIPE: from the folder, or trained now and put there.

    Args:
        model: with the weights that it begins with.
        train: what it is trained on.
        test: what it is tested on, for the training's row.
        data_root: where datasets lie that do not come with the project.
        folder: where weights are kept.

    Raises:
        UserError: the training did not reach its end.
    """
    training = Training(train, test, model, SEED, RECIPE, NoDefense())
    path = folder / f"{model.own_name}-{training.key[:12]}.pt"
    if path.exists():
        return path
    try:
        with foreign(SystemExit):
            (trained,) = train_together([training], data_root, keep={RECIPE.epochs})
    except ForeignError as error:
        text = f"{model}: expected a model that torch.func can train"
        raise UserError(f"{text}, got {error.short}") from error
    if trained.row.status != Status.CONVERGED:
        raise UserError(f"{model}: expected a model that can be trained, got {trained.row.reason}")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    torch.save(trained.weights[RECIPE.epochs], unfinished)
    unfinished.replace(path)
    return path


def with_checkpoint(model: Model, path: Path) -> Model:
    """The model with the weights of a file."""
    return replace(model, weights=f"checkpoint:{path}")
