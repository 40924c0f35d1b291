"""The step as one CUDA graph, against the loop: uncaptured on a CPU, captured on a GPU."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")
pytest.importorskip("sklearn", reason="the digits come from scikit-learn")

from nets import data
from nets.training import Training, World, make_training, recipe
from nets.training._graph import GraphTraining

CASES = {
    "noise and average": {"model": "en1_resnet20", "average": 0.99, "fast_n_iter": 2, "fast_step": 0.625},
    "natural": {"model": "resnet20", "method": "natural", "nesterov": False, "reset_momentum": True},
    "N-FGSM": {"model": "resnet20", "fast_start": 2.0, "fast_projection": False, "weight_decay": 0.0},
}


def both(case, device="cpu", n_epochs=1):
    """History and state of two trainings of the same seed, by the loop and by the graph."""
    digits, sizes = data.load("digits"), {"n_train": 64, "batch_size": 32, "n_validation": 16, "validation_n_iter": 1}
    exact = {"training_dtype": "float32", "crafting_dtype": "float32", "epochs": 4}
    made = replace(recipe("cpu/digits"), **(sizes | exact | CASES[case]))
    results = []
    for compile in ("off", "graph"):
        one = replace(made, compile=compile)
        model = one.build(10, *digits.statistics(), seed=3)
        training = make_training(model, digits, one, World(torch.device(device)), seed=1)
        assert type(training) is (GraphTraining if compile == "graph" else Training)
        results.append(([training.epoch(k) for k in range(1, n_epochs + 1)], training.state()))
    return results


def largest_difference(states):
    ours, theirs = states
    assert ours.keys() >= theirs.keys()
    return max((ours[name].double() - theirs[name].double()).abs().max().item() for name in theirs)


@pytest.mark.parametrize("case", CASES)
def test_step_of_the_graph_is_that_of_the_loop(case):
    """Two steps in float32, of rates near 0.005: the order of a few sums differs; a wrong term moves weights by 1e-3.

    A rounded gradient may turn a sign of the attack, which moves one pixel of one image by two steps; the bound is that
    of weights of order one after a change in 1 of 2048 pixels.
    """
    (loop, state), (graph, other) = both(case)
    assert largest_difference((other, state)) < 2e-5
    for name in ("lr", "loss", "accuracy", "validation"):
        assert graph[0][name] == pytest.approx(loop[0][name], rel=1e-5, abs=1e-9)


def test_learned_weights_are_refused():
    digits = data.load("digits")
    made = replace(recipe("cpu/digits"), compile="graph", weights="learned", model="resnet20+resnet20")
    model = made.build(10, *digits.statistics(), seed=0)
    with pytest.raises(ValueError, match="compile must be off"):
        make_training(model, digits, made, World(torch.device("cpu")))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_captured_step_learns_what_the_loop_learns(case):
    """The generators of a graph draw at other offsets: equal numbers where nothing is drawn, equal losses elsewhere."""
    (loop, state), (graph, other) = both(case, device="cuda", n_epochs=2)
    if case == "natural":
        assert largest_difference((other, state)) < 1e-3
    assert graph[-1]["loss"] == pytest.approx(loop[-1]["loss"], rel=0.1)
