"""Networks with batch normalisation for the tests of the attacks, and how a network is found unchanged."""

import copy
import functools

import torch
from attack_models import N_CLASSES, generator, images
from torch import nn

import bridge
from nets.models import Architecture, ImageClassifier, ResNet


@functools.cache
def _trained(coef, std_over):
    net = ResNet(Architecture(1, (16, 16, 16)), N_CLASSES, n_channels=1, coef=coef, std_over=std_over)
    model = ImageClassifier(net, mean=(0.5,), std=(0.25,)).to(memory_format=torch.channels_last)
    x, y = images(128, seed=1)
    x = x.float()
    g = generator(7)
    for parameter in model.parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.1
        centre = 1.0 if parameter.dim() == 1 else 0.0
        parameter.data.copy_(centre + spread * torch.randn(parameter.shape, generator=g))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(25):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
    optimiser.zero_grad()
    return model.eval()


def residual_net(coef=0.0, std_over="sample", dtype=torch.float64):
    """A trained residual network of the paper's blocks, one a stage, on the images of `attack_models`: a new copy."""
    return copy.deepcopy(_trained(coef, std_over)).to(dtype)


def mixed(model):
    """Put a network into a state that is neither training nor evaluation, frozen in part, with a gradient."""
    model.train()
    modules, parameters = list(model.modules()), list(model.parameters())
    modules[-1].eval()
    modules[5].eval()
    parameters[2].requires_grad_(False)
    parameters[0].grad = torch.full_like(parameters[0], 0.25)
    return model


def state(model):
    """All that an attack must leave as it was."""
    return {
        "training": [module.training for module in model.modules()],
        "needs": [parameter.requires_grad for parameter in model.parameters()],
        "grad": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "flags": [{k: v for k, v in vars(m).items() if isinstance(v, (bool, int, float))} for m in model.modules()],
        "names": [sorted(vars(module)) for module in model.modules()],
        "generators": [block.generator for block in bridge.noisy_blocks(model)],
    }


def same(one, other):
    """Equality of such states, to the bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one is other or one == other
