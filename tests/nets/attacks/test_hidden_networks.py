"""Networks that a model calls and that are not its submodules: found, named if in training mode, and not changed."""

import functools
import warnings

import pytest

torch = pytest.importorskip("torch")

from attack_models import generator
from torch import nn

import nets
from nets.attacks import TrainingModeWarning, _reached, apgd, attacked, autoattack, cw, fab, fgsm, ifgsm, square
from nets.attacks._reached import hidden_networks

SHAPE, N_CLASSES = (3, 4, 4), 5
ATTACKS = {
    "fgsm": fgsm,
    "ifgsm": functools.partial(ifgsm, n_iter=2),
    "apgd": functools.partial(apgd, n_iter=2),
    "fab": functools.partial(fab, n_iter=2),
    "cw": functools.partial(cw, n_iter=2),
    "square": functools.partial(square, n_queries=3),
    "autoattack": functools.partial(autoattack, n_iter=2, n_queries=3),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, N_CLASSES))


def batch():
    return torch.rand(6, *SHAPE, generator=generator(1)), torch.arange(6) % N_CLASSES


def of_closure(net):
    return lambda x: net(x)


def of_global(net):
    space = {"net": net}
    exec("def model(x):\n    return apply(x)\ndef apply(x):\n    return [net(part) for part in (x,)][0]", space)
    return space["model"]


def of_partial(net):
    return functools.partial(lambda net, x: net(x), net)


def of_default(net):
    return lambda x, net=net: net(x)


class Holder:
    def __init__(self, net):
        self.parts = {"nets": [net]}

    def predict(self, x):
        return self.parts["nets"][0](x)

    def __call__(self, x):
        return self.predict(x)


class Hiding(nn.Module):
    """A module that keeps its network out of its state_dict."""

    def __init__(self, net):
        super().__init__()
        self.nets = [net]
        self.eval()

    def forward(self, x):
        return self.nets[0](x)


KINDS = {
    "closure": of_closure,
    "global": of_global,
    "partial": of_partial,
    "default": of_default,
    "object": Holder,
    "method": lambda net: Holder(net).predict,
    "decorated": lambda net: torch.enable_grad()(of_closure(net)),
    "method of the network": lambda net: net.forward,
    "list of a module": Hiding,
}


def copy_of(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def is_equal(state, other):
    return all(torch.equal(value, other[name]) for name, value in state.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_hidden_network_in_training_mode_is_named_and_not_changed(kind):
    net, (x, y) = network().train(), batch()
    model, before = KINDS[kind](net), copy_of(net)
    assert hidden_networks(model) == [net]
    with pytest.warns(
        TrainingModeWarning, match=r"leads to a network in training mode, Sequential, .* with 1: call eval\(\)"
    ):
        x_adv = ifgsm(model, x, y, n_iter=2)
    assert is_equal(before, net.state_dict())
    assert all(module.training for module in net.modules())
    # It is attacked in the mode that it has: by hand, the statistics of the batch.
    found = x.clone().requires_grad_()
    for _ in range(2):
        (slope,) = torch.autograd.grad(nn.functional.cross_entropy(net(found), y, reduction="sum"), found)
        step = (found + 2 / 255 * slope.sign()).clamp((x - 8 / 255).clamp(min=0), (x + 8 / 255).clamp(max=1))
        found = step.detach().requires_grad_()
    # A gradient within rounding of 0 may have either sign: at most one pixel in a hundred.
    assert ((found.detach() - x_adv).abs() > 1e-6).double().mean() < 0.01


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_changes_the_statistics_of_a_hidden_network(name):
    net, (x, y) = network().train(), batch()
    before = copy_of(net)
    with pytest.warns(TrainingModeWarning, match="leads to a network in training mode"):
        ATTACKS[name](of_closure(net), x, y, generator=generator(2))
    assert is_equal(before, net.state_dict())


def test_an_evaluation_names_it_once_and_changes_nothing():
    net, (x, y) = network().train(), batch()
    before = copy_of(net)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nets.evaluate_model(of_closure(net), x, y, attacks=["fgsm", "ifgsm20"], n_repeats=1, progress=False)
    assert [str(one.message).partition(",")[0] for one in caught] == ["the model leads to a network in training mode"]
    assert is_equal(before, net.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_a_hidden_network_in_evaluation_mode_is_not_named(kind):
    net, (x, y) = network().eval(), batch()
    fgsm(KINDS[kind](net), x, y)
    # A normalisation that is to use its batch, in a network in evaluation mode.
    net[1].train()
    before = copy_of(net)
    fgsm(KINDS[kind](net), x, y)
    assert is_equal(before, net.state_dict()) and net[1].training and not net.training


def test_submodules_and_what_is_not_called_are_not_hidden():
    net, other = network(), network()
    assert hidden_networks(net) == []
    assert hidden_networks(nn.Sequential(net, nn.ReLU())) == []
    space = {"net": net, "other": other}
    # The name of an attribute is not that of a global.
    exec("def model(x):\n    return net(x).other", space)
    assert hidden_networks(space["model"]) == [net]
    # A part and the whole: the whole.
    assert hidden_networks(lambda x: other(other[1](x))) == [other]


def test_loops_of_references_end():
    holder = Holder(network())
    holder.me = [holder]
    holder.parts["nets"].append(holder.parts)
    assert hidden_networks(holder) == [holder.parts["nets"][0]]


def test_the_nearest_objects_are_looked_at_and_not_half_a_library(monkeypatch):
    class Node:
        def __init__(self, depth):
            self.parts = [Node(depth - 1) for _ in range(4)] if depth else []

    looked_at = []
    real = _reached._next
    monkeypatch.setattr(_reached, "_next", lambda value: looked_at.append(value) or real(value))
    monkeypatch.setattr(_reached, "N_OBJECTS", 50)
    library, net = Node(4), network()
    # 341 nodes and their lists.
    assert hidden_networks(lambda x: (library, net(x))) == [net]
    assert len(looked_at) <= 50


def test_a_state_of_a_hidden_network_is_restored():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            self.count += 1
            return x.flatten(1)

    net, (x, y) = Counting().eval(), batch()
    with attacked(lambda images: net(images)) as model:
        model(x)
        assert net.count == 1
    assert net.count == 0
    fgsm(lambda images: net(images), x, y)
    assert net.count == 0


class Adapting(nn.Module):
    """Sets its normalisation into training mode in the pass itself, as some test-time adaptations do."""

    def __init__(self):
        super().__init__()
        self.net = network()
        self.eval()

    def forward(self, x):
        self.net[1].train()
        return self.net(x)


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: lambda x: model(x)])
@pytest.mark.parametrize("name", [*ATTACKS, "evaluation"])
def test_modes_and_statistics_that_a_pass_itself_changes_are_restored(wrap, name):
    model, (x, y) = Adapting(), batch()
    before = copy_of(model)
    if name == "evaluation":
        nets.evaluate_model(wrap(model), x, y, attacks=["fgsm"], progress=False)
    else:
        ATTACKS[name](wrap(model), x, y, generator=generator(2))
    assert is_equal(before, model.state_dict())
    assert not any(module.training for module in model.modules())
    # The pass does change them.
    model(x)
    assert not is_equal(before, model.state_dict())


class ByBatch(nn.Module):
    """Features without a spatial extent, normalised by the batch, of which a single image has no variance."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, N_CLASSES))
        self.eval()
        self.net[2].train()

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: lambda x: model(x)])
@pytest.mark.parametrize("n_right", [1, 2])
@pytest.mark.parametrize("name", ["apgd", "fab", "square", "autoattack"])
def test_the_last_image_is_attacked_beside_another_by_a_model_that_normalises_by_its_batch(name, n_right, wrap):
    model, (x, y) = ByBatch(), batch()
    with torch.no_grad():
        y = (model(x).argmax(1) + (torch.arange(len(x)) >= n_right)) % N_CLASSES
    sizes = []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    attack = functools.partial(ATTACKS[name], eps=0.5, generator=generator(3))
    made = attack(wrap(model), x, y)
    x_adv = made[0] if name == "autoattack" else made
    assert min(filter(None, sizes)) == 2 and x_adv.shape == x.shape and (x_adv - x).abs().max() <= 0.5 + 1e-6
    # An image that is wrong from the start stays as it is, or becomes worse.
    assert not torch.equal(x_adv[0], x[0])
    # A model that takes its images one by one is given no second one.
    model.net[2].eval()
    sizes.clear()
    with torch.no_grad():
        y = (model(x).argmax(1) + (torch.arange(len(x)) >= 1)) % N_CLASSES
    sizes.clear()
    attack(wrap(model), x, y)
    assert min(filter(None, sizes)) == 1
