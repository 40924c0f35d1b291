"""Training: the loop against one written out, what is minimised against its formulas, and runs that are interrupted.

Runs are real ones on the digits, of 64 images and en1_resnet20 or resnet20, by the command itself.
"""

import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import warnings
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")
pytest.importorskip("sklearn", reason="the digits come from scikit-learn")

from digits_runs import SIZES, TINY, command, deterministic, rows, weights
from torch import nn
from torch.nn import functional

import _enresnet
from bridge import noise_from
from nets import checkpoint, data, seeds, train
from nets.data._augmentation import draw_shifts
from nets.training import _losses as risks
from nets.training import recipe
from nets.training._batch_norm import TwiceDifferentiable
from nets.training._distributed import World
from nets.training._precision import Precision
from nets.training._run_directory import Run
from nets.training._schedule import learning_rate
from nets.training._trainer import Training

ROOT = Path(__file__).resolve().parents[3]
CPU = World(torch.device("cpu"))
# In float32, so that what is computed twice agrees to single precision.
EXACT = {"training_dtype": "float32", "crafting_dtype": "float32"}


def tiny(**fields):
    return replace(recipe("cpu/digits"), **(SIZES | EXACT | fields))


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(autouse=True)
def process(monkeypatch):
    """One thread, and the handler of SIGTERM put back."""
    n_threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)
    signal.signal(signal.SIGTERM, handler)


def make(digits, made, seed=0):
    model = made.build(10, *digits.statistics(), seed=seeds.derive(seed, "weights"))
    return Training(model, digits, made, CPU, seed=seed)


def fails_in_one_line(capsys, *arguments, status=2):
    capsys.readouterr()
    assert command(*arguments) == status
    err = capsys.readouterr().err
    assert err.startswith("python -m nets.train: error: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a finished run of the command, not to be changed."""
    directory = tmp_path_factory.mktemp("runs") / "finished"
    assert command("cpu/digits", *TINY, "--out", directory) == 0
    return directory


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copy"))


# --- the loop


@pytest.mark.parametrize("reset", [False, True])
def test_loop_is_stochastic_gradient_descent_with_nesterovs_momentum(digits, reset):
    made = tiny(model="resnet20", method="natural", schedule="steps", lr=0.05, milestones=(), reset_momentum=reset)
    made = replace(made, padding=0)
    training = make(digits, made)
    model = made.build(10, *digits.statistics(), seed=seeds.derive(0, "weights"))
    model.train()
    held_in, held_out = data.split(len(digits.train_images), made.validation, seeds.derive(0, "split"))
    assert len(held_out) == 144
    x, y = digits.train_images[held_in[:64]] / 16, digits.train_labels[held_in[:64]]
    velocity = {}
    for epoch in (1, 2):
        said = training.epoch(epoch)
        order = torch.randperm(64, generator=seeds.make_generator(0, "order", epoch))
        velocity = {} if reset else velocity
        losses = []
        for batch in order.split(32):
            loss = functional.cross_entropy(model(x[batch]), y[batch])
            model.zero_grad()
            loss.backward()
            losses.append(loss.item())
            for name, weight in model.named_parameters():
                # v = mu v + g,  w = w - lr (g + mu v),  g the gradient of the loss and of 5e-4 |w|**2 / 2
                gradient = weight.grad + made.weight_decay * weight.detach()
                velocity[name] = made.momentum * velocity[name] + gradient if name in velocity else gradient
                with torch.no_grad():
                    weight -= said["lr"] * (gradient + made.momentum * velocity[name])
        # Both in single precision, of unit roundoff 6e-8, through 20 layers and 4 steps that amplify it.
        assert said["loss"] == pytest.approx(sum(losses) / 2, rel=1e-4)
    for (name, ours), theirs in zip(training.model.named_parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4), name


def test_rate_follows_the_schedule_through_the_epochs(digits):
    made = tiny(model="resnet20", method="natural", lr=0.01)
    training = make(digits, made)
    assert [training.epoch(k)["lr"] for k in (1, 2)] == [learning_rate(made, step, 4) for step in (1, 3)]


def test_images_are_cropped_and_reflected_anew_each_epoch(digits):
    training = make(digits, tiny(padding=2, flip=True))
    batches = [torch.cat([x for x, _ in training._batches(epoch)]) for epoch in (1, 1, 2)]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])
    generator = seeds.make_generator(0, "order", 1)
    order = training.chosen[torch.randperm(64, generator=generator)]
    shifts = draw_shifts(64, padding=2, flip=True, generator=generator)
    x, _ = data.Batches(digits.train_images, digits.train_labels, 16).take(order, shifts)
    assert torch.equal(batches[0], x)


def test_weights_of_different_nets_move_along_the_papers_gradient_once_an_epoch(digits):
    # The nets themselves stand still, so that the gradient is the mean of (5.1) over both batches of the epoch.
    fields = {"weights": "learned", "weights_step_size": 0.5, "method": "natural", "lr": 1e-9, "epochs": 1}
    made = tiny(model="resnet20+resnet20", **fields)
    training = make(digits, made)
    model = made.build(10, *digits.statistics(), seed=seeds.derive(0, "weights"))
    model.train()
    gradients = []
    for x, y in training._batches(1):
        with torch.no_grad():
            x = (x - model.mean) / model.std
            terms = torch.stack([member(x) for member in model.net.members])
            p = terms.mean(0).softmax(1)
            gradients.append(-(terms[:, torch.arange(32), y] - (p * terms).sum(2)).mean(1))
    wanted = 0.5 - 0.5 * sum(gradients) / 2
    wanted /= wanted.sum()
    said = training.epoch(1)
    assert [said["weight_1"], said["weight_2"]] == pytest.approx(wanted.tolist(), rel=1e-4)
    assert abs(said["weight_1"] - 0.5) > 1e-3
    assert training.mixture.weights.grad is None
    assert not any(name == "net.weights" for name in training._trained)


def test_same_seed_gives_the_same_bits_and_leaves_the_global_generator_alone(digits):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    digests = []
    for seed in (0, 0, 1):
        training = make(digits, tiny(n_train=32), seed)
        training.epoch(1)
        digests.append(checkpoint.digest(training.state()))
    assert torch.equal(torch.get_rng_state(), state)
    assert digests[0] == digests[1] != digests[2]


def test_memory_order_changes_no_more_than_rounding(digits):
    # Without noise, which is drawn in the order of the memory.
    options = {"model": "resnet20", "method": "natural", "n_train": 32, "epochs": 1}
    losses = [make(digits, tiny(**options, channels_last=order)).epoch(1)["loss"] for order in (True, False)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_number_of_threads_changes_no_more_than_rounding(digits):
    losses = []
    for n_threads, seed in ((1, 0), (2, 0), (1, 1)):
        torch.set_num_threads(n_threads)
        training = make(digits, tiny(method="natural", n_train=32, lr=0.01, epochs=1))
        training.seed = seed
        losses.append(training.epoch(1)["loss"])
    # The same noise is drawn by two threads: another draw, the third, changes the loss a hundred times as much.
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert abs(losses[2] / losses[0] - 1) > 1e-3


def test_compiled_run_draws_its_noise_from_seeds_too(digits, monkeypatch):
    # What compilation itself does is PyTorch's; that a generator of one's own is not needed is ours.
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    state = torch.get_rng_state()
    rows = [make(digits, tiny(n_train=32, epochs=1, compile="default")).epoch(1) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert rows[0]["loss"] == rows[1]["loss"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_net_has_the_losses_of_the_plain_one(digits):
    # Warnings of the compiler about itself are not ours.
    warnings.simplefilter("ignore")
    options = {"model": "resnet20", "method": "natural", "n_train": 32, "epochs": 1}
    losses = [make(digits, tiny(**options, compile=mode)).epoch(1)["loss"] for mode in ("off", "default")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_released_selection_trains_on_all_images_and_selects_on_the_test_set(digits):
    training = make(digits, tiny(select_on="test", n_train=None, n_validation=None))
    assert (len(training.chosen), training.n_held_out) == (1437, 360)
    training = make(digits, tiny(n_train=None, n_validation=None))
    assert (len(training.chosen), training.n_held_out) == (1293, 144)


def test_validation_counts_what_a_plain_pass_counts(digits):
    made = tiny(model="resnet20", n_validation=40)
    training = make(digits, made)
    training.epoch(1)
    clean, adversarial = training.validate(1)
    _, held_out = data.split(1437, made.validation, seeds.derive(0, "split"))
    x, y = digits.train_images[held_out[:40]] / 16, digits.train_labels[held_out[:40]]
    with torch.no_grad():
        right = training.model.eval()(x).argmax(1) == y
    assert clean == right.double().mean().item()
    assert 0 <= adversarial <= clean
    assert make(digits, tiny(model="resnet20", method="natural")).validate(1)[1] is None


def test_loss_that_is_not_finite_stops_the_run(capsys, tmp_path):
    options = ["--method", "natural", "--lr", "1e30", "--schedule", "steps", "--out", tmp_path / "run"]
    assert "not finite" in fails_in_one_line(capsys, "cpu/digits", *TINY, *options).replace("is nan", "not finite")


# --- what is minimised


@pytest.fixture(scope="module")
def batch(digits):
    return data.Batches(digits.train_images, digits.train_labels, 16).take(slice(16))


@pytest.fixture
def model(digits):
    """A network whose running statistics are not those it was made with."""
    model = tiny(model="resnet20").build(10, *digits.statistics(), seed=0).train()
    with torch.no_grad():
        model(data.Batches(digits.train_images, digits.train_labels, 16).take(slice(64))[0])
    return model


@pytest.mark.parametrize("method", ["pgd", "fast", "trades"])
@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_adversarial_images_lie_in_the_ball_and_leave_the_model_alone(model, batch, method, batch_norm):
    x, y = batch
    made = tiny(model="resnet20", method=method, crafting_batch_norm=batch_norm, n_iter=2)
    before = checkpoint.digest(model.state_dict())
    x_adv = risks.adversarial_images(model, x, y, made, torch.Generator().manual_seed(0))
    assert checkpoint.digest(model.state_dict()) == before
    assert model.training
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    # x + eps is rounded, to half a unit in the last place of 1.
    assert ((x_adv - x).abs().max(), x_adv.min(), x_adv.max()) <= (made.eps + 6e-8, 1, 1)
    assert x_adv.min() >= 0
    made = replace(made, method="pgd") if method == "fast" else made
    risk, _ = risks.empirical_risk(model, x, y, made, x_adv)
    assert risk > risks.empirical_risk(model, x, y, made, x)[0]


def test_fast_is_one_step_of_the_sign_from_a_random_start(model, batch):
    x, y = batch
    made = tiny(method="fast", eps=0.1, fast_step=1.25)
    x_adv = risks.adversarial_images(model, x, y, made, torch.Generator().manual_seed(3))
    # Wong et al. 2020: delta uniform in the ball, one step of 1.25 eps, back into the ball and the cube.
    delta = torch.empty_like(x).uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(3))
    start = (x + delta).clamp(0, 1).requires_grad_()
    functional.cross_entropy(model.eval()(start), y, reduction="sum").backward()
    wanted = (x + (start.detach() + 0.125 * start.grad.sign() - x).clamp(-0.1, 0.1)).clamp(0, 1)
    model.train()
    assert (x_adv - wanted).abs().max() < 2e-7


def test_n_fgsm_is_one_step_from_twice_the_ball_that_is_not_projected(model, batch):
    x, y = batch
    made = tiny(method="fast", eps=0.1, fast_step=1.0, fast_start=2.0, fast_projection=False)
    x_adv = risks.adversarial_images(model, x, y, made, torch.Generator().manual_seed(3))
    # de Jorge et al. 2022: delta uniform in twice the ball, one step of eps, back into the cube alone.
    delta = torch.empty_like(x).uniform_(-0.2, 0.2, generator=torch.Generator().manual_seed(3))
    start = (x + delta).clamp(0, 1).requires_grad_()
    functional.cross_entropy(model.eval()(start), y, reduction="sum").backward()
    assert (x_adv - (start.detach() + 0.1 * start.grad.sign()).clamp(0, 1)).abs().max() < 2e-7
    model.train()
    assert (x_adv - x).abs().max() > 0.2


def test_gradients_of_a_linear_network_are_aligned(batch):
    x, y = batch
    torch.manual_seed(0)
    # Of two classes: w_1 - w_0 times a positive number for every image of a class.
    net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 2))
    assert abs(risks.misalignment(net, x, y % 2, 0.1).item()) < 1e-6


def test_misalignment_is_the_mean_of_one_less_the_cosine_and_moves_the_second_gradient_alone(batch):
    x, y = batch[0][:4].double(), batch[1][:4]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 7), nn.Tanh(), nn.Linear(7, 10)).double()
    with torch.no_grad():
        # Curved enough that the gradients turn.
        net[1].weight *= 10
    weights = dict(net.named_parameters())
    found = risks.misalignment(net, x, y, 0.3, torch.Generator().manual_seed(3))
    eta = torch.empty_like(x).uniform_(-0.3, 0.3, generator=torch.Generator().manual_seed(3))
    near = (x + eta).clamp(0, 1)

    def gradient(image, label, weights):
        loss = lambda z: functional.cross_entropy(torch.func.functional_call(net, weights, z[None]), label[None])  # noqa: E731
        return torch.func.grad(loss)(image).flatten()

    here = [gradient(*one, weights) for one in zip(x, y, strict=True)]

    def value(weights):
        there = [gradient(*one, weights) for one in zip(near, y, strict=True)]
        cosines = [(a @ b) / (a.norm() * b.norm()) for a, b in zip(here, there, strict=True)]
        return 1 - torch.stack(cosines).mean()

    assert found.item() == pytest.approx(value(weights).item(), rel=1e-9)
    assert 0.01 < found.item() < 1
    slopes = torch.autograd.grad(found, weights["1.weight"])[0]
    direction = torch.randn(slopes.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    h = 1e-5
    up, down = (value(weights | {"1.weight": weights["1.weight"] + s * direction}).item() for s in (h, -h))
    assert (slopes * direction).sum().item() == pytest.approx((up - down) / (2 * h), rel=1e-6)


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (5, 2), (3, 2, 4)])
def test_twice_differentiable_batch_normalisation_is_that_of_pytorch_to_the_second_derivative(shape):
    generator = torch.Generator().manual_seed(1)
    x, *wb = (torch.randn(s, dtype=torch.float64, generator=generator) for s in (shape, shape[1], shape[1]))
    inputs = [t.requires_grad_() for t in (x, *wb)]

    def normalise(x, weight, bias):
        # eps is no smaller than the variances, so that a formula without it would be seen.
        with TwiceDifferentiable():
            return functional.batch_norm(x, None, None, weight, bias, True, 0.1, 0.5)

    y = normalise(*inputs)
    assert type(y.grad_fn).__name__ == "_NormaliseBackward"
    assert torch.equal(y, functional.batch_norm(*inputs[:1], None, None, *inputs[1:], True, 0.1, 0.5))
    assert torch.autograd.gradcheck(normalise, inputs)
    assert torch.autograd.gradgradcheck(normalise, inputs)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_misalignment_of_a_network_moves_weights_and_statistics_as_by_pytorch_alone(model, batch, dtype, monkeypatch):
    x, y = batch
    x = x.contiguous(memory_format=torch.channels_last)

    def found():
        net = deepcopy(model).to(memory_format=torch.channels_last).train()
        with Precision(dtype, CPU.device)():
            value = risks.misalignment(net, x, y, 0.1, torch.Generator().manual_seed(3))
        value.backward()
        slopes = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        return value.item(), slopes, torch.cat([b.flatten().double() for b in net.buffers()])

    ours = found()
    monkeypatch.setattr(risks, "TwiceDifferentiable", contextlib.nullcontext)
    theirs = found()
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6) and torch.equal(ours[2], theirs[2])
    # bfloat16: 2**-9 in each of forty operations one after the other.
    tolerance = 1e-4 if dtype == "float32" else 40 * 2**-9
    assert (ours[1] - theirs[1]).norm() < tolerance * theirs[1].norm()


def test_grad_align_adds_to_the_loss_of_an_epoch_and_is_refused_where_it_has_no_effect(digits):
    losses = {}
    for weight in (0.0, 0.5):
        made = tiny(method="fast", grad_align=weight, epochs=1, lr=1e-9)
        model = made.build(10, [0.1], [0.3], seed=0)
        losses[weight] = Training(model, digits, made, CPU, seed=0).epoch(1)["loss"]
    assert losses[0.0] < losses[0.5] < losses[0.0] + 0.5
    with pytest.raises(ValueError, match='grad_align must be 0 unless method="fast" and compile="off"'):
        tiny(method="pgd", grad_align=0.2)
    with pytest.raises(ValueError, match="grad_align"):
        tiny(method="fast", compile="graph", grad_align=0.2)
    with pytest.raises(ValueError, match="in several processes"):
        Training(model, digits, made, World(torch.device("cpu"), 0, 2))


def test_natural_and_adversarial_risk_are_cross_entropies(model, batch):
    x, y = batch
    with torch.no_grad():
        risk, logits = risks.empirical_risk(model, x, y, tiny(method="natural"))
        p = model(x).softmax(1)
        assert risk.item() == pytest.approx(-p[torch.arange(16), y].log().mean().item(), rel=1e-5)
        assert torch.allclose(logits.softmax(1), p)
        adversarial, _ = risks.empirical_risk(model, x, y, tiny(method="pgd"), 1 - x)
        assert adversarial.item() == pytest.approx(functional.cross_entropy(model(1 - x), y).item(), rel=1e-5)


def test_risk_of_trades_is_that_of_its_paper(model, batch):
    x, y = batch
    x_adv = 1 - x
    with torch.no_grad():
        # Predictions that are not all a tenth.
        model.net.head[-1].weight.mul_(10)
        risk, _ = risks.empirical_risk(model, x, y, tiny(method="trades", beta=6.0), x_adv)
        p, q = (model(images).double().softmax(1) for images in (x, x_adv))
        clean = -p[torch.arange(16), y].log().mean()
        wanted, other = (clean + 6 * (a * (a.log() - b.log())).sum(1).mean() for a, b in ((p, q), (q, p)))
    assert risk.item() == pytest.approx(wanted.item(), rel=1e-4)
    # The KL of the other order would be seen.
    assert abs(other / wanted - 1) > 1e-3


def test_half_precision_changes_the_risk_by_its_roundoff(model, batch):
    x, y = batch
    values = []
    for name in ("float32", "bfloat16"):
        with torch.no_grad(), Precision(name, CPU.device)():
            values.append(risks.empirical_risk(model, x, y, tiny(method="natural"))[0].item())
    # bfloat16 has a unit roundoff of 2**-9; twenty layers, each adding one.
    assert 0 < abs(values[1] / values[0] - 1) < 20 * 2**-9


def test_noise_of_the_attack_is_drawn_from_its_generator(digits, batch):
    x, y = batch
    made = tiny(method="fast")
    noisy = made.build(10, *digits.statistics(), seed=0).train()
    state = torch.get_rng_state()
    with noise_from(noisy, None):
        images = [risks.adversarial_images(noisy, x, y, made, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


# --- runs


def test_run_holds_its_configuration_and_metrics(finished):
    config = json.loads((finished / "config.json").read_text())
    assert config["recipe"] == asdict(recipe("cpu/digits")) | SIZES | {"milestones": [0.4, 0.6, 0.8], "members": []}
    assert (config["name"], config["seed"], config["data"]["encoding"]) == ("cpu/digits", 0, "raw")
    assert config["versions"]["torch"] == torch.__version__
    lines = rows(finished)
    assert [row["epoch"] for row in lines] == ["1", "2"]
    _, record = checkpoint.load_model(finished)
    assert record["recipe"] == config["recipe"]
    best = max(lines, key=lambda row: float(row["selected"]))
    assert (record["epoch"], record["accuracy"]) == (int(best["epoch"]), float(best["selected"]))
    assert best["selected"] == best["validation_adversarial"]
    assert not list(finished.glob(".*.part*"))


def test_tensorboard_shows_what_the_metrics_say(finished):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tensorboard")).Reload()
    for name in ("loss", "validation", "validation_adversarial", "lr"):
        # TensorBoard keeps single precision.
        assert [(e.step, e.value) for e in events.Scalars(name)] == [
            (int(row["epoch"]), pytest.approx(float(row[name]), rel=1e-6)) for row in rows(finished)
        ]


def test_nothing_is_shown_off_a_terminal(capsys, tmp_path):
    assert command("cpu/digits", *TINY, "--epochs", 1, "--out", tmp_path / "run") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 2


def test_interrupted_run_goes_on_to_the_same_bits(finished, tmp_path, digits, monkeypatch):
    # Interrupted between the files of the first epoch's end: after best.safetensors, and after last.safetensors.
    for name in ("write", "save_model"):
        directory = tmp_path / name
        real = getattr(checkpoint, name)

        def interrupt(*args, real=real):
            real(*args)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, name, interrupt)
            assert command("cpu/digits", *TINY, "--out", directory) == 130
        assert command("cpu/digits", *TINY, "--out", directory, "--resume") == 0
        assert weights(directory) == weights(finished)
        assert weights(directory, "best.safetensors", "model") == weights(finished, "best.safetensors", "model")
        assert deterministic(rows(directory)) == deterministic(rows(finished))


def test_average_is_that_of_the_weights_and_goes_on_to_the_same_bits(digits):
    made = tiny(model="resnet20", average=0.9, keep="average", epochs=2)
    whole, resumed = make(digits, made), make(digits, made)
    first = whole.epoch(1)
    state = {name: tensor.clone() for name, tensor in whole.state().items()}
    whole.epoch(2)
    resumed.restore(state)
    resumed.epoch(2)
    assert checkpoint.digest(whole.state()) == checkpoint.digest(resumed.state())
    assert first["selected"] == first["average_adversarial"]
    # By hand: a step at a time, each weight against its average.
    again = make(digits, replace(made, n_train=made.batch_size))
    before = {name: tensor.clone() for name, tensor in again.state().items()}
    again.epoch(1)
    after = again.state()
    assert again.n_steps == 1
    for name in ("net.stem.weight", "net.head.0.running_var"):
        # After no step at all the decay is (1 + 0) / (10 + 0).
        wanted = 0.1 * before[f"average.{name}"] + 0.9 * after[f"model.{name}"]
        assert torch.allclose(after[f"average.{name}"], wanted, atol=1e-6)
        assert not torch.equal(after[f"average.{name}"], after[f"model.{name}"])
    counts = [name for name in after if name.endswith("num_batches_tracked") and name.startswith("average.")]
    assert counts
    assert all(after[name] == 1 for name in counts)


@pytest.mark.parametrize("keep", ["last", "average"])
def test_run_gives_the_weights_that_the_recipe_keeps(tmp_path, digits, keep):
    made = tiny(average=0.9, keep=keep, epochs=2)
    row = train.train("cpu/digits", made, out=tmp_path / "run", device="cpu", progress=False)
    kept, record = checkpoint.read(tmp_path / "run" / "best.safetensors", "model")
    state, _ = checkpoint.read(tmp_path / "run" / "last.safetensors", "training")
    prefix = {"last": "model.", "average": "average."}[keep]
    assert row["epoch"] == record["epoch"] == 2
    assert all(torch.equal(tensor, state[prefix + name]) for name, tensor in kept.items())


def test_run_made_before_a_field_was_there_goes_on(copy):
    config = _enresnet.read_record(copy / "config.json")
    state, record = checkpoint.read(copy / "last.safetensors", "training")
    for name in (
        "fast_start",
        "fast_projection",
        "grad_align",
        "average",
        "keep",
        "stop_at_collapse",
        "label_smoothing",
    ):
        del config["recipe"][name], record["recipe"][name]
    (copy / "config.json").write_text(json.dumps(config))
    checkpoint.write(copy / "last.safetensors", "training", state, record)
    assert command("cpu/digits", *TINY, "--out", copy, "--resume") == 0
    assert command("cpu/digits", *TINY, "--fast-start", "2", "--out", copy, "--resume") == 2


def test_collapse_stops_the_command_in_one_line(capsys, tmp_path, monkeypatch):
    whole = Training.epoch

    def falling(self, number, advance=None):
        return whole(self, number, advance) | {
            "accuracy": 0.2 + 0.2 * number,
            "validation_adversarial": 0.2 / number**3,
        }

    monkeypatch.setattr(Training, "epoch", falling)
    options = ["--epochs", "4", "--n-validation", "144", "--out", tmp_path / "run"]
    error = fails_in_one_line(capsys, "cpu/digits", *TINY, *options)
    assert "collapsed by epoch" in error
    assert "--fast-n-iter 2" in error
    n_done = len(rows(tmp_path / "run"))
    assert n_done < 4
    # It does not go on by itself, and does where it is told to.
    assert "collapsed by epoch" in fails_in_one_line(capsys, "cpu/digits", *TINY, *options, "--resume")
    assert len(rows(tmp_path / "run")) == n_done


def test_finished_run_is_left_as_it_is(copy, capsys):
    before = (copy / "last.safetensors").read_bytes(), (copy / "metrics.csv").read_bytes()
    assert command("cpu/digits", *TINY, "--out", copy, "--resume") == 0
    assert ((copy / "last.safetensors").read_bytes(), (copy / "metrics.csv").read_bytes()) == before
    assert "resuming after epoch 2" in capsys.readouterr().out


def test_run_of_more_epochs_is_to_the_same_bits_as_one_that_had_them_from_the_start(tmp_path, capsys):
    """One epoch and then a second, by a schedule that stays: milestones at 1/2 epoch."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert command("cpu/digits", *TINY, "--schedule", "steps", "--milestones", "0.25", "--out", whole) == 0
    one = ["--schedule", "steps", "--epochs", "1", "--milestones", "0.5"]
    assert command("cpu/digits", *TINY, *one, "--out", parts) == 0
    assert command("cpu/digits", *TINY, "--schedule", "steps", "--milestones", "0.25", "--out", parts, "--resume") == 0
    told = capsys.readouterr().out
    assert "different schedule: epochs was 1 and is 2" in told and "not bit by bit" not in told
    assert weights(parts) == weights(whole)
    assert deterministic(rows(parts)) == deterministic(rows(whole))


def test_metrics_are_written_again_from_the_state(copy):
    wanted = (copy / "metrics.csv").read_bytes()
    (copy / "metrics.csv").write_bytes(wanted[: len(wanted) // 2])
    assert command("cpu/digits", *TINY, "--out", copy, "--resume") == 0
    assert (copy / "metrics.csv").read_bytes() == wanted


def test_run_that_is_there_is_not_overwritten(copy, capsys):
    message = fails_in_one_line(capsys, "cpu/digits", *TINY, "--out", copy)
    assert "contains a run (cpu/digits): give --resume to continue, or another --out" in message


def test_another_recipes_run_is_refused(copy, capsys):
    for change, named in ((["--lr", "0.3"], "lr=0.2 (here 0.3)"), (["--seed", "1"], "seed=0 (here 1)")):
        message = fails_in_one_line(capsys, "cpu/digits", *TINY, *change, "--out", copy, "--resume")
        assert "belongs to another run, with" in message
        assert named in message


def test_speed_alone_may_be_changed_and_is_noted(copy, capsys):
    assert command("cpu/digits", *TINY, "--training-dtype", "float32", "--n-threads", 2, "--out", copy, "--resume") == 0
    assert "not bit by bit as before: n_threads was 1 and is 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("last.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged"),
        ("last.safetensors", lambda path: path.write_bytes(pickle.dumps({"a": 1})), "is damaged, or not a safetensors"),
        ("last.safetensors", lambda path: shutil.copy(path.with_name("best.safetensors"), path), "contains model"),
        ("config.json", lambda path: path.write_text("{"), "is damaged, or not from a run"),
        ("config.json", lambda path: path.write_text("[1]"), "is damaged, or not from a run"),
        ("config.json", lambda path: path.unlink(), "without config.json"),
        ("best.safetensors", lambda path: path.unlink(), "has lost its best.safetensors"),
    ],
)
def test_damaged_run_is_refused_in_one_line(copy, capsys, name, damage, message):
    damage(copy / name)
    assert message in fails_in_one_line(capsys, "cpu/digits", *TINY, "--out", copy, "--resume")


def test_state_of_another_recipe_is_refused(copy, capsys):
    tensors, record = checkpoint.read(copy / "last.safetensors", "training")
    record["recipe"]["eps"] = 0.2
    checkpoint.write(copy / "last.safetensors", "training", tensors, record)
    message = fails_in_one_line(capsys, "cpu/digits", *TINY, "--out", copy, "--resume")
    assert "last.safetensors belongs to another run, with --eps=0.2 (here 0.15)" in message


def test_second_process_on_a_run_is_refused(copy, capsys):
    made = replace(recipe("cpu/digits"), **SIZES)
    config = json.loads((copy / "config.json").read_text())
    with Run(copy, config, made, resume=True):
        message = fails_in_one_line(capsys, "cpu/digits", *TINY, "--out", copy, "--resume")
    assert "is in use by another process" in message
    assert command("cpu/digits", *TINY, "--out", copy, "--resume") == 0


def test_best_epoch_is_the_first_of_the_greatest_accuracy(tmp_path, digits):
    made = tiny()
    model = made.build(10, *digits.statistics(), seed=0)
    config = {"name": "x", "recipe": asdict(made), "seed": 0, "model": {}, "data": {}, "versions": {}}
    with Run(tmp_path / "run", config, made) as run:
        for epoch, accuracy in enumerate((0.2, 0.5, 0.5, 0.3), 1):
            run.save({"a": torch.zeros(1)}, {"epoch": epoch, "selected": accuracy, "time": 0.0}, model)
            assert run.best["epoch"] == min(epoch, 2)
    assert checkpoint.read(tmp_path / "run" / "best.safetensors", "model")[1]["epoch"] == 2


# --- the command


def test_fields_are_overridden_and_fractions_understood(tmp_path):
    name, options = train._parse(
        ["table2/resnet20", "--eps", "4/255", "--no-flip", "--out", str(tmp_path), "--seed", "7"]
    )
    assert (name, options.recipe.eps, options.recipe.flip, options.seed) == ("table2/resnet20", 4 / 255, False, 7)
    assert options.recipe.step_size == pytest.approx(1 / 255)
    _, options = train._parse(["table2/resnet20", "--as-released", "--eps", "8/255"])
    assert (options.recipe.eps, options.recipe.reset_momentum) == (8 / 255, True)
    assert options.recipe.step_size == pytest.approx(0.007 * 8 / 255 / 0.031)
    assert train._parse([])[0] == "cpu/digits"
    # The step follows the radius, unless it is given.
    by_words = {("--eps", "0.3"): 0.1, ("--eps", "0.3", "--step-size", "0.05"): 0.05, ("--step_size=0.02",): 0.02}
    for words, step in by_words.items():
        assert train._parse(["cpu/digits", *words])[1].recipe.step_size == pytest.approx(step, rel=1e-12)


def test_list_names_every_recipe(capsys):
    assert command("--list") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(train.RECIPES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table2/en3_resnet20"], "there is no recipe 'table2/en3_resnet20'; similar names:"),
        (["cpu/digits", "--data", "nothing.tar"], "data must be digits, cifar10, cifar100, a folder"),
        (["cpu/digits", "--batch-size", "2000"], "--batch-size must be <= 1293"),
        (["cpu/digits", "--validation", "0.0001"], "validation must hold out at least one"),
        (["cpu/digits", "--device", "cuda:99"], "device cuda:99 does not exist"),
        (["cpu/digits", "--device", "gpu"], "--device must be auto, cpu, cuda or cuda:N, got --device='gpu'"),
        (["cpu/digits", "--model", "resnet21"], "--model must be BASE, enK_BASE or a sum"),
        (["section4.4/resnet20+resnet44"], "give their directories by --integrate"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(capsys, tmp_path, arguments, message):
    assert message in fails_in_one_line(capsys, *arguments, "--out", tmp_path / "new" / "run")
    # Nothing is left that would stand in the way of the next.
    assert list(tmp_path.iterdir()) == []


def test_directory_that_cannot_be_written_is_refused(capsys, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written" in fails_in_one_line(capsys, "cpu/digits", *TINY, "--out", tmp_path / "file" / "run")


def test_finished_runs_are_put_together_as_the_mean_of_their_logits(finished, tmp_path, capsys, digits):
    # Two seeds of one model, as in section 4.4: joined by a recipe of members, here of the digits' model.
    other = tmp_path / "other"
    assert command("cpu/digits", *TINY, "--epochs", 1, "--seed", 1, "--out", other) == 0
    joined = ["section4.4/resnet20+resnet20", "--model", "en1_resnet20+en1_resnet20", "--noise", "gaussian"]
    assert command(*joined, "--integrate", finished, other, "--out", tmp_path / "both") == 0
    both, record = checkpoint.load_model(tmp_path / "both")
    assert (record["seed"], record["recipe"]["data"]) == ([0, 1], "digits")
    x, _ = data.Batches(digits.test_images, digits.test_labels, 16).take(slice(8))
    parts = [checkpoint.load_model(run)[0] for run in (finished, other)]

    def logits(models):
        generator = torch.Generator().manual_seed(0)
        outputs = []
        for model in models:
            with torch.no_grad(), noise_from(model, generator):
                outputs.append(model(x))
        return sum(outputs) / len(outputs)

    assert torch.allclose(logits([both]), logits(parts), rtol=1e-5, atol=1e-6)
    for runs, message in (([finished], "mean of 2 runs, got 1"), ([finished, tmp_path], "has no best.safetensors")):
        assert message in fails_in_one_line(capsys, *joined, "--integrate", *runs, "--out", tmp_path / "no")
    message = fails_in_one_line(capsys, *joined[:1], "--integrate", finished, other, "--out", tmp_path / "no")
    assert "must contain resnet20, for resnet20+resnet20, and contains en1_resnet20" in message
    message = fails_in_one_line(capsys, *joined[:3], "--integrate", finished, other, "--out", tmp_path / "no")
    assert "was trained with --noise=gaussian, the recipe has --noise=None" in message


# --- ended by a signal


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_sigterm_ends_the_command_with_one_line(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "nets.train", *TINY, "--epochs", "1000", "--out", str(tmp_path / "run")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # The first line of the output comes before the first epoch.
    assert "1000 epochs of 2 steps" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert err == "python -m nets.train: interrupted: --resume continues after the last finished epoch\n"


def test_fast_of_two_steps_is_pgd_of_two_steps(model, batch):
    few = tiny(model="resnet20", method="fast", eps=0.1, fast_n_iter=2, fast_step=0.625)
    pgd = tiny(model="resnet20", method="pgd", eps=0.1, n_iter=2, step_size=0.0625)
    one = replace(few, fast_n_iter=1)
    made = [risks.adversarial_images(model, *batch, each, torch.Generator().manual_seed(3)) for each in (few, pgd, one)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
