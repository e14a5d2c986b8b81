"""A network in which a defense draws random numbers: the part before them is attacked."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from leakbench.bench.attacks import Attack, Case, Knows, NotApplicableError, Spec
from leakbench.bench.attacks.base import Whole
from leakbench.bench.attacks.layers import output_layer
from leakbench.bench.gradients import trained_parameters
from leakbench.defenses import Account, ContractError, Defense


def as_attacked(case: Case, attack: Attack, defense: Defense) -> Case:
    """A case without what random draws came into, if the attack knows the defense and that is possible.

    Of one image, the gradient of the bias of the part's last layer is the slope of the loss in its outputs,
    whatever was drawn behind it, and the gradients of all parameters before follow from it. Of several
    images, nobody knows each one's slope, and the whole network is attacked.

    Raises:
        ContractError: what the defense takes for the part has other parameters.
    """
    spec = case.spec
    if Knows.DEFENSE not in attack.knows or not spec.single:
        return case
    part = defense.checked_part(case.model)
    if part is None:
        return case
    names = {name for name, _ in trained_parameters(part)}
    if not names <= case.shared.keys():
        other = sorted(names - case.shared.keys())[0]
        raise ContractError(
            f"defense {defense}: before_draws: expected parameters of the network, got {other!r}"
        )
    outputs = part(spec.blank(next(part.parameters()).dtype)).shape[1]
    partial = replace(spec, classes=outputs)
    if _last_bias(part, partial) is None:
        return case
    return replace(
        case,
        model=part,
        shared=_of(names, case.shared),
        spec=partial,
        account=_account_of(names, case.account),
        whole=Whole(spec, _labels(case)),
    )


def _last_bias(network: nn.Module, spec: Spec) -> str | None:
    """The name of the bias of the layer that a network ends in; None if there is none."""
    try:
        return output_layer(network, spec).bias
    except NotApplicableError:
        return None


def _labels(case: Case) -> Tensor | None:
    """The label (1,) of the whole network's image, the only entry at which p - y is negative."""
    bias = _last_bias(case.model, case.spec)
    return None if bias is None else case.shared[bias].argmin()[None]


def _of(names: set[str], values: Any) -> Any:
    """What is told by name, of these names; what is told of all stays as it is."""
    if not isinstance(values, dict):
        return values
    return {name: each for name, each in values.items() if name in names}


def _account_of(names: set[str], account: Account | None) -> Account | None:
    if account is None:
        return None
    fields = ("kept", "variance", "rounding", "mean_squares")
    return replace(account, **{name: _of(names, getattr(account, name)) for name in fields})
