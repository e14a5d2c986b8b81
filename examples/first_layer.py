"""FirstLayer: reads the image off the gradient of the first layer, if that layer is fully connected.

The gradient of its weights is the outer product of the bias gradient and the image, so each row divided by
its entry of the bias gradient is the image: Phong et al. 2017, "Privacy-Preserving Deep Learning via
Additively Homomorphic Encryption", section 3. For deeper layers see Zhu and Blaschko 2021 (R-GAP).
"""

from dataclasses import dataclass

from torch import nn

from leakbench import Attack, Found, NotApplicableError


@dataclass(frozen=True)
class FirstLayer(Attack):
    """Solves dW = db x for the image x by least squares over all rows; reads the label off the last bias."""

    def invert(self, case):
        layers = [module for module in case.model.modules() if not list(module.children())]
        first = next((layer for layer in layers if list(layer.parameters())), None)
        if not isinstance(first, nn.Linear) or first.bias is None or case.spec.count > 1:
            raise NotApplicableError("expected one image and a fully connected first layer with a bias")
        names = {parameter: name for name, parameter in case.model.named_parameters()}
        weight, bias = (case.shared[names[each]] for each in (first.weight, first.bias))
        image = bias @ weight / bias.square().sum().clamp(min=1e-30)  # (C * H * W,)
        *_, last = case.shared.values()  # p - y: negative only at the label
        return Found(image.reshape(case.spec.batch_shape), labels=last.argmin()[None])
