"""A defense of gradients, applied to what a client sends after its local steps."""

from collections.abc import Collection

from torch import Generator, Tensor

from leakbench.core.configured import SettingError
from leakbench.core.errors import UserError
from leakbench.defenses import DEFENSES, Defense, Point
from leakbench.federation.states import StateDict, guess_buffers


def gradient_defense(defense: Defense | str) -> Defense:
    """A defense that acts on gradients, by its text if it is not one yet.

    Raises:
        UserError: an unknown one, or one that needs more than gradients.
    """
    try:
        known = DEFENSES.parse(defense) if isinstance(defense, str) else defense
    except SettingError as error:
        raise UserError(f"defense: {error}") from None
    if elsewhere := known.points() - {Point.GRADIENT, Point.EXAMPLES}:
        text = "expected a defense that changes gradients alone: what a client sends comes after its training"
        raise UserError(f"defense {known}: {text}, got one with {', '.join(sorted(elsewhere))}")
    return known


def memoryless_defense(defense: Defense | str) -> Defense:
    """A defense of gradients that needs nothing of a client's earlier rounds.

    Raises:
        UserError: as for `gradient_defense`, or one with error feedback.
    """
    known = gradient_defense(defense)
    if known.error_feedback:
        text = "expected one without error feedback: nothing of a client is kept between its rounds"
        raise UserError(f"defense {known}: {text}; set error_feedback=false")
    return known


def defend_update(
    defense: Defense,
    sent: StateDict,
    returned: StateDict,
    lr: float,
    local_steps: int,
    generator: Generator,
    buffers: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """What a client sends in place of its weights: the update defended, the buffers as they are.

    Settings of a defense, a clipping norm or the scale of noise, are meant for a gradient. So it is applied
    to the mean gradient of the local steps, (sent - returned) / (lr x local_steps), and the result is scaled
    back. A defense of each example's gradient takes it for the only one: client-level privacy.

    Args:
        defense: see `gradient_defense`.
        sent: the weights that came from the server.
        returned: those after training, of the same names and shapes.
        lr: the learning rate of the client, > 0.
        local_steps: how many steps of the optimizer it took, >= 1.
        generator: for the draws of the defense.
        buffers: the names that are left alone; None: guessed, see `guess_buffers`.

    Raises:
        ContractError: NaN in the update, or the defense breaks its contract.
    """
    if not defense.points():  # spares the baseline the rounding
        return dict(returned)
    left = guess_buffers(returned) if buffers is None else buffers
    scale = lr * local_steps
    gradient = {name: (sent[name] - each) / scale for name, each in returned.items() if name not in left}
    shared = defense(gradient, generator)
    return dict(returned) | {name: sent[name] - scale * each for name, each in shared.items()}
