"""Initial weights that keep a signal's scale through rectified layers.

After He et al., *Delving deep into rectifiers*, 2015. Torch's own start shrinks the signal layer by layer, which costs
sieved training its first rounds.
"""

from torch import nn


def start_at_full_scale(model: nn.Module, head: nn.Linear) -> None:
    """Draw all convolutions and linear layers of `model` anew, with zero biases; no rectifier follows `head`."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if layer is head else "relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
