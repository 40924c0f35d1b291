"""Several processes as one: the same losses as one process, and batch normalisation over all.

Two processes joined by gloo, forked from one that has imported everything. Killed ones: faults/test_killed_training.py.
"""

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")
pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
if not torch.distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)

from torch import nn
from two_processes import run_two

from nets import checkpoint, data, seeds
from nets.training import recipe
from nets.training._distributed import World, connect
from nets.training._trainer import Training

FIELDS = {
    "natural": {"method": "natural", "padding": 1, "flip": True},
    "pgd": {"method": "pgd", "n_iter": 2, "random_start": False},
    "learned-weights": {"method": "natural", "model": "resnet20+resnet20", "weights": "learned"},
}


def train_exactly(directory):
    """Two epochs in double precision, without noise; the first process writes metrics and state of each case."""
    digits = data.load("digits")
    with connect("cpu") as world:
        for case in FIELDS:
            training, history = _train_case(case, digits, world)
            if world.rank == 0:
                record = {"history": history, "n_ranks": world.n_ranks}
                checkpoint.write(Path(directory) / case, "exact", training.state(), record)
        world.wait()


def _train_case(case, digits, world):
    made = replace(recipe("cpu/digits"), model="resnet20", n_train=64, batch_size=32, epochs=2, n_validation=15)
    made = replace(made, **FIELDS[case], training_dtype="float32", crafting_dtype="float32", sync_batch_norm=True)
    model = made.build(10, *digits.statistics(), seed=0).double()
    training = Training(model, digits, made, world)
    return training, [training.epoch(k) for k in (1, 2)]


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """Directories of what two processes, and what one, have written."""
    two, one = (tmp_path_factory.mktemp(name) for name in ("two", "one"))
    run_two(two, train_exactly, str(two))
    train_exactly(str(one))
    return two, one


@pytest.mark.parametrize("case", FIELDS)
def test_two_processes_have_the_losses_of_one(exact, case):
    # The same images, crops and weights: what differs is the order of sums, in double precision. In single precision it
    # would be seen: all pixels of the digits' black background change sides of a ReLU at once. With batch statistics of
    # each part the two would be different trainings.
    (state, said), (wanted, told) = (checkpoint.read(path / case, "exact") for path in exact)
    assert (said["n_ranks"], told["n_ranks"]) == (2, 1)
    for ours, theirs in zip(said["history"], told["history"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-9)
        assert (ours["accuracy"], ours["validation"]) == (theirs["accuracy"], theirs["validation"])
        for name in ("weight_1", "weight_2") if case == "learned-weights" else ():
            assert ours[name] == pytest.approx(theirs[name], rel=1e-9)
    assert state.keys() == wanted.keys()
    for name, tensor in wanted.items():
        # Twenty layers and four steps amplify the roundoff; half a batch left out changes the first digit.
        assert (state[name] - tensor).double().norm() <= 1e-8 * tensor.double().norm(), name


def check_collectives():
    """In each of two processes: what the processes share, against what can be computed alone."""
    with connect("cpu") as world:
        rank = world.rank
        assert world.n_ranks == 2
        assert world.sum(torch.tensor([1.0 + rank, 2.0])).tolist() == [3.0, 4.0]
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(8, 3, 4, 5, generator=generator)
        target = torch.randn(8, 3, 4, 5, generator=generator)

        def norm():
            made = nn.BatchNorm2d(3)
            with torch.no_grad():
                made.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
            return made

        whole = norm()
        inputs = x.clone().requires_grad_()
        loss = ((whole(inputs) - target) ** 2).mean()
        loss.backward()
        model, net = world.share(nn.Sequential(norm()), sync_batch_norm=True)
        part = world.part(8)
        assert (part.start, part.stop) == (4 * rank, 4 * rank + 4)
        mine = x[part].clone().requires_grad_()
        ((net(mine) - target[part]) ** 2).mean().backward()
        # Gradients of the mean over both parts' means; sums of 160 numbers in another order.
        close = {"rtol": 1e-5, "atol": 1e-6}
        torch.testing.assert_close(model[0].weight.grad, whole.weight.grad, **close)
        torch.testing.assert_close(model[0].bias.grad, whole.bias.grad, **close)
        torch.testing.assert_close(mine.grad / 2, inputs.grad[part], **close)
        torch.testing.assert_close(model[0].running_mean, whole.running_mean, **close)
        torch.testing.assert_close(model[0].running_var, whole.running_var, **close)
        assert model[0].num_batches_tracked == 1
        torch.testing.assert_close(model.eval()(x), whole.eval()(x), **close)

        separate = norm().train()
        separate(x[part])
        world.average_buffers(separate)
        halves = []
        for half in (slice(0, 4), slice(4, 8)):
            halves.append(norm().train())
            halves[-1](x[half])
        torch.testing.assert_close(separate.running_var, (halves[0].running_var + halves[1].running_var) / 2, **close)
        world.wait()


def test_batch_normalisation_over_all_processes_is_that_of_the_whole_batch(tmp_path):
    run_two(tmp_path, check_collectives)


def test_each_process_draws_its_own_noise_and_takes_its_own_part():
    assert seeds.derive(0, "noise", 1, 0) != seeds.derive(0, "noise", 1, 1)
    cpu = torch.device("cpu")
    for n in (1, 7, 128):
        taken = [i for rank in range(3) for i in range(n)[World(cpu, rank, 3).part(n)]]
        assert taken == [*range(n)]


def test_one_process_is_alone(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with connect("cpu") as world:
        assert (world.rank, world.n_ranks, world.device.type) == (0, 1, "cpu")
        model = nn.Linear(2, 2)
        assert world.share(model) == (model, model)
    assert not torch.distributed.is_initialized()


def test_batch_must_be_a_multiple_of_the_processes():
    made = recipe("cpu/digits")
    digits = data.load("digits")
    model = made.build(10, *digits.statistics(), seed=0)
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 3 processes, got 64"):
        Training(model, digits, made, World(torch.device("cpu"), 0, 3))
