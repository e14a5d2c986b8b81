"""iDLG: Zhao, Mopuri and Bilen 2020. The label is read off the gradient, and only the image is optimised."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from leakbench.bench.attacks.base import Case, NotApplicableError
from leakbench.bench.attacks.dlg import DLG
from leakbench.bench.attacks.labels import readings
from leakbench.bench.attacks.layers import output_layer
from leakbench.bench.attacks.optimised import Candidate
from leakbench.bench.attacks.regularised import certain
from leakbench.core import citations


@dataclass(frozen=True)
class IDLG(DLG):
    """DLG with a known label: algorithm 1 of the paper. If readings of the label differ, all are tried."""

    name: ClassVar[str] = "idlg"
    citation: ClassVar[str] = citations.IDLG

    def refusal(self, example: Case) -> str:
        """See `Attack.refusal`."""
        try:
            output_layer(example.model, example.spec)
        except NotApplicableError as error:
            return str(error)
        return ""

    def candidates(self, case: Case) -> Sequence[Candidate]:
        """See `Optimised.candidates`."""
        (drawn,) = super().candidates(case)
        classes = case.spec.classes
        return [
            replace(drawn, labels=certain(labels, classes).to(drawn.labels.dtype), free_labels=False)
            for labels in readings(case, output_layer(case.model, case.spec))
        ]
