"""How sparse the weights of a network are: section 7 of the paper, and measures that do not depend on scale.

The paper counts weights below a fixed threshold: |w| < 1e-3 for 8.66 % of a ResNet-20's weights after natural training,
and for 3.64 % after adversarial training (means of 10 trials). That number depends on scale as well as on sparsity. For
normal weights with standard deviation r it is

    erf(t / (r sqrt(2))) ~ 0.8 t / r

so dividing all weights by two doubles it. But the scale of a convolution in front of a batch normalisation, such as the
first in each residual mapping, has no effect: for every c > 0, the network with c w is the same function as with w. The
scale is an equilibrium between the gradient steps, which increase it, and weight decay; it depends on decay, learning
rate and training time [1]_. Trainings that differ in these cannot be compared by the paper's number, and others may
differ merely because their gradients differ in size. Scale-free measures, equal for w and c w, are

    relative    fraction of |w| < q rms, rms**2 the mean of w**2 in the layer;     normal weights: erf(q / sqrt(2))
    kurtosis    mean w**4 / rms**4;                                                normal weights: 3
    hoyer       (sqrt(n) - sum |w| / sqrt(sum w**2)) / (sqrt(n) - 1), in [0, 1];   normal weights: 1 - sqrt(2 / pi)

`gaussian` is the fraction below t if the weights of each layer were normal with its rms: the difference between `below`
and `gaussian` is sparsity, the rest is scale. For the smoothness of neighbours see `nets._geary`.

By default, the weights are those of convolutions and linear layers. parameters="all" also counts biases and the scales
and shifts of batch normalisation, 0.5 % of a ResNet-20's parameters. This changes `below` by at most half a percentage
point; but shifts start at 0, below any threshold, and those that are still there do not indicate sparsity.

References
----------
.. [1] van Laarhoven 2017, L2 regularization versus batch and weight normalization, arXiv 1706.05350.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.special
from torch import nn

from bridge import FeynmanKacMean, checks
from nets._geary import picture, smoothness
from nets.evaluation import interval

__all__ = [
    "PUBLISHED", "RELATIVE", "THRESHOLD", "Numbers", "Sparsity",
    "intervals", "measure", "members", "numbers", "weights",
]  # fmt: skip

# Section 7: fractions of a ResNet-20's weights below THRESHOLD, means of 10 trials.
PUBLISHED = {"natural": 0.0866, "adversarial": 0.0364}
THRESHOLD = 1e-3
# In units of the rms: large enough that a layer of 432 weights has some below it.
RELATIVE = 0.1
# Fields whose total is the mean over the layers, weighted by their numbers of weights.
MEANS = ("below", "gaussian", "relative", "kurtosis", "smoothness", "picture")


class Numbers(NamedTuple):
    """Sparsity and smoothness of a layer, or of all layers together; None where a measure is undefined."""

    n: int
    rms: float
    # Fraction of |w| < t, the paper's number for t = 1e-3, and the same for normal weights with each layer's rms.
    below: float
    gaussian: float
    # With the rms of the layer; undefined if all weights are 0. kurtosis is 1 and hoyer 0 for weights of equal size,
    # hoyer is 1 for a single non-zero weight.
    relative: float | None
    kurtosis: float | None
    hoyer: float | None
    # Geary's ratios of the taps of kernels with more than one tap, and of the picture of all kernels (Figures 8 and 9).
    smoothness: float | None
    picture: float | None


@dataclass(frozen=True)
class Sparsity:
    """Numbers per layer, by the parameter's name in the model, and of all layers together.

    In `total`, smoothness and picture are means over the layers that have them, weighted by their numbers of weights.
    """

    layers: dict
    total: Numbers


def members(model):
    """List the networks whose mean a model is, in order, also for sums of ensembles; or the model itself."""
    net = getattr(model, "net", model)
    if isinstance(net, FeynmanKacMean):
        return [leaf for member in net.members for leaf in members(member)]
    return [net]


def weights(model, *, parameters="weights"):
    """Return the weights of a model by name, as float64 arrays of the parameters' shapes.

    They are those of convolutions and linear layers ("weights"), or all parameters ("all"). ValueError if there are
    none or some are not finite.
    """
    checks.one_of("parameters", parameters, ("weights", "all"))
    found = dict(model.named_parameters())
    if parameters == "weights":
        kinds = (nn.Conv2d, nn.Linear)
        layers = [name for name, module in model.named_modules() if isinstance(module, kinds)]
        found = {key: found[key] for name in layers if (key := f"{name}.weight" if name else "weight") in found}
    if not found:
        raise ValueError("model must have weights of convolutions or linear layers, and has none")
    arrays = {name: parameter.detach().cpu().double().numpy() for name, parameter in found.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has values that are not finite: the training diverged, or the file is damaged")
    return arrays


def numbers(weight, *, threshold=THRESHOLD, relative=RELATIVE):
    """Measure the Numbers of one layer, of shape (n_out, n_in, h, w), (n_out, n_in) or (n,), which has no smoothness.

    `threshold` is t, in units of the weights, `relative` is q, in units of their rms; both are positive.

    >>> numbers([0.0, 0.0, 0.0, 0.2]).hoyer, numbers([0.1, -0.1]).kurtosis
    (1.0, 1.0)
    """
    threshold = checks.real("threshold", threshold, positive=True)
    relative = checks.real("relative", relative, positive=True)
    weight = np.asarray(weight, dtype=float)
    if not weight.size:
        raise ValueError("weight must not be empty")
    size, rms = np.abs(weight), math.sqrt(np.mean(weight**2))
    below = float(np.mean(size < threshold))
    if rms == 0:
        return Numbers(weight.size, rms, below, 1.0, None, None, None, None, None)
    unit = size / rms
    return Numbers(
        weight.size,
        rms,
        below,
        float(scipy.special.erf(threshold / (rms * math.sqrt(2)))),
        float(np.mean(unit < relative)),
        float(np.mean(unit**4)),
        _hoyer(weight.size, unit.mean()),
        smoothness(weight) if weight.ndim == 4 else None,
        smoothness(picture(weight)) if weight.ndim in (2, 4) else None,
    )


def _hoyer(n, mean):
    """Hoyer's measure of n weights with rms 1 and this mean of |w|; None if n = 1."""
    return None if n == 1 else float((math.sqrt(n) - math.sqrt(n) * mean) / (math.sqrt(n) - 1))


def measure(model, *, threshold=THRESHOLD, relative=RELATIVE, parameters="weights"):
    """Measure the Sparsity of a network, with the options of `numbers` and `weights`; an ensemble counts as a whole.

    >>> from nets import build
    >>> total = measure(build("resnet20", seed=0)).total
    >>> total.n, abs(total.below - total.gaussian) < 1e-3
    (270896, True)
    """
    arrays = weights(model, parameters=parameters)
    layers = {name: numbers(array, threshold=threshold, relative=relative) for name, array in arrays.items()}
    n = sum(layer.n for layer in layers.values())
    means = {key: _mean(layers.values(), key) for key in MEANS}
    rms = math.sqrt(sum(layer.n * layer.rms**2 for layer in layers.values()) / n)
    units = [np.abs(array).ravel() / layers[name].rms for name, array in arrays.items() if layers[name].rms]
    hoyer = _hoyer(sum(map(len, units)), np.concatenate(units).mean()) if units else None
    return Sparsity(layers, Numbers(n=n, rms=rms, hoyer=hoyer, **means))


def _mean(layers, key):
    pairs = [(layer.n, getattr(layer, key)) for layer in layers if getattr(layer, key) is not None]
    return sum(n * value for n, value in pairs) / sum(n for n, _ in pairs) if pairs else None


def intervals(models, *, level=0.95, **options):
    """Estimate each field of `Numbers`, except n, from models (an iterable) trained with several seeds.

    Returns a dict of Interval at this confidence level, without the fields that are undefined for one of the models.
    """
    totals = [measure(model, **options).total for model in models]
    if not totals:
        raise ValueError("models must not be empty")
    columns = {key: [getattr(total, key) for total in totals] for key in Numbers._fields if key != "n"}
    return {key: interval(values, level) for key, values in columns.items() if None not in values}
