"""How sparse a network's weights are: section 7 of the paper in numbers, and what the paper's number cannot tell.

The paper counts weights below a fixed threshold: |w| < 1e-3 for 8.66 % of a ResNet-20's weights after natural training,
for 3.64 % after adversarial training (means of 10 trials). That number mixes shape with scale. Of normal weights of
standard deviation r it is

    erf(t / (r sqrt(2))) ~ 0.8 t / r

so all weights divided by two make it twice as large. And the scale of a convolution in front of a batch normalisation,
as the first of each residual mapping is, has no meaning: with c w the network is the same function as with w, for every
c > 0. Its size is an equilibrium between the steps of the gradient, which let it grow, and the weight decay: it depends
on decay and learning rate, and on how long both worked [1]_. So trainings that differ in those cannot be compared by
it, and those that do not may differ by the size of their gradients alone. Numbers that c w and w have in common:

    relative    fraction of |w| < q rms, rms**2 the mean of w**2 in the layer;     normal weights: erf(q / sqrt(2))
    kurtosis    mean w**4 / rms**4;                                                normal weights: 3
    hoyer       (sqrt(n) - sum |w| / sqrt(sum w**2)) / (sqrt(n) - 1), in [0, 1];   normal weights: 1 - sqrt(2 / pi)

and `gaussian`, the fraction below t if each layer's weights were normal of its rms: what is left of `below` without it
is sparsity, the rest is scale. For the smoothness of neighbours see `nets._geary`.

"All the weights" are those of convolutions and linear layers here. Biases and the scales and shifts of batch
normalisation are 0.5 % of a ResNet-20's parameters, and parameters="all" counts them too. That moves `below` by half a
percentage point at most; but shifts begin at 0, below any threshold, and that some still are there is no sparsity.

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
# Of the rms: wide enough that a layer of 432 weights has some.
RELATIVE = 0.1
# Of all layers they are the means, by numbers of weights.
MEANS = ("below", "gaussian", "relative", "kurtosis", "smoothness", "picture")


class Numbers(NamedTuple):
    """Sparsity and smoothness of a layer, or of all layers together.

    Attributes
    ----------
    n : int
        Weights.
    rms : float
        Root mean square of them.
    below : float
        Fraction of |w| < t, the paper's number for t = 1e-3.
    gaussian : float
        That of normal weights of the same rms, layer by layer.
    relative : float or None
        Fraction of |w| < q rms, rms of the layer. This and the following are None where they have no meaning: the first
        three where all weights are 0.
    kurtosis : float or None
        mean w**4 / rms**4, about 0 and with the layer's rms; 1 for weights of one size.
    hoyer : float or None
        0 for weights of one size, 1 for a single one that is not 0; each weight in units of its layer's rms.
    smoothness : float or None
        Geary's ratio of the taps of the kernels, see `nets._geary`; of kernels of more than one tap.
    picture : float or None
        That of the picture of all kernels, Figures 8 and 9.
    """

    n: int
    rms: float
    below: float
    gaussian: float
    relative: float | None
    kurtosis: float | None
    hoyer: float | None
    smoothness: float | None
    picture: float | None


@dataclass(frozen=True)
class Sparsity:
    """What was measured of a network.

    Parameters
    ----------
    layers : dict of str to Numbers
        Of each parameter, by its name in the model.
    total : Numbers
        Of all weights; smoothness and picture are means over the layers that have them, by their numbers of weights.
    """

    layers: dict
    total: Numbers


def members(model):
    """Return the networks whose mean a model is.

    Parameters
    ----------
    model : Module
        Of `nets.build`, or any other.

    Returns
    -------
    list of Module
        In their order, through sums of ensembles; the model itself if it is no mean.
    """
    net = getattr(model, "net", model)
    if isinstance(net, FeynmanKacMean):
        return [leaf for member in net.members for leaf in members(member)]
    return [net]


def weights(model, *, parameters="weights"):
    """Return a model's weights by name.

    Parameters
    ----------
    model : Module
        Network.
    parameters : {"weights", "all"}
        Weights of convolutions and linear layers; or every parameter, batch normalisation and biases included.

    Returns
    -------
    dict of str to ndarray
        Of the parameters' own shapes (...), float64.

    Raises
    ------
    ValueError
        If parameters is neither, or there are no weights or some that are not finite.
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
            raise ValueError(f"{name} holds numbers that are not finite: the training diverged, or the file is damaged")
    return arrays


def numbers(weight, *, threshold=THRESHOLD, relative=RELATIVE):
    """Measure one layer.

    Parameters
    ----------
    weight : array_like of shape (n_out, n_in, h, w), (n_out, n_in) or (n,)
        Weights; those of one axis have no smoothness.
    threshold : float, default=1e-3
        t > 0, in units of the weights.
    relative : float, default=0.1
        q > 0, in units of their rms.

    Returns
    -------
    Numbers

    Raises
    ------
    ValueError
        If a threshold is not positive (raised by a helper), or weight is empty.

    Examples
    --------
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
    """Of n weights of rms 1 and this mean of |w|; None of a single one."""
    return None if n == 1 else float((math.sqrt(n) - math.sqrt(n) * mean) / (math.sqrt(n) - 1))


def measure(model, *, threshold=THRESHOLD, relative=RELATIVE, parameters="weights"):
    """Measure the sparsity and smoothness of a network's weights.

    Parameters
    ----------
    model : Module
        Of `nets.build`: of an ensemble all members count; `members` gives one alone.
    threshold, relative : float
        t and q, see `numbers`.
    parameters : {"weights", "all"}
        What counts, see `weights`.

    Returns
    -------
    Sparsity

    Raises
    ------
    ValueError
        If an option is out of range, or weights are not finite (raised by a helper).

    Examples
    --------
    >>> from nets import build
    >>> found = measure(build("resnet20", seed=0)).total
    >>> found.n, abs(found.below - found.gaussian) < 1e-3
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
    """Estimate the numbers of a kind of network from trainings with several seeds.

    Parameters
    ----------
    models : iterable of Module
        One of each seed; they are taken one after the other.
    level : float, default=0.95
        See `nets.evaluation.interval`.
    **options : optional
        Of `measure`.

    Returns
    -------
    dict of str to Interval
        By the names of `Numbers`, n aside; what has no meaning for one of the models is left out.

    Raises
    ------
    ValueError
        If there are no models, or an option is out of range.
    """
    totals = [measure(model, **options).total for model in models]
    if not totals:
        raise ValueError("models must not be empty")
    columns = {key: [getattr(total, key) for total in totals] for key in Numbers._fields if key != "n"}
    return {key: interval(values, level) for key, values in columns.items() if None not in values}
