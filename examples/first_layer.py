"""FirstLayer: the image read off the first layer, where that is fully connected.

Its weights' gradient is the outer product of the bias' gradient and the image, so any row of the one over
its entry of the other is the image: Phong et al. 2017, "Privacy-Preserving Deep Learning via Additively
Homomorphic Encryption", section 3; Zhu and Blaschko 2021 (R-GAP) for what lies deeper.
"""

from dataclasses import dataclass

from torch import nn

from leakbench import Attack, Found, NotApplicableError


@dataclass(frozen=True)
class FirstLayer(Attack):
    """The best image x for dW = db x, by least squares over all rows; the label from the last bias."""

    def invert(self, case):
        layers = [module for module in case.model.modules() if not list(module.children())]
        first = next((layer for layer in layers if list(layer.parameters())), None)
        if not isinstance(first, nn.Linear) or first.bias is None or case.spec.count > 1:
            raise NotApplicableError("expected one image and a fully connected first layer with a bias")
        names = {parameter: name for name, parameter in case.model.named_parameters()}
        weight, bias = (case.shared[names[each]] for each in (first.weight, first.bias))
        image = bias @ weight / bias.square().sum().clamp(min=1e-30)  # (C * H * W,)
        *_, last = case.shared.values()  # p - y: negative at the label alone
        return Found(image.reshape(case.spec.batch_shape), labels=last.argmin()[None])
