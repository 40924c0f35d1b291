"""The protocol on models that are not ours."""

import contextlib
import json
import os
import random
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from attack_models import generator
from torch import nn

import nets
from nets.evaluation import _foreign, _protocol, _runner

SHORT = {"eps": 0.03, "n_iter": 3, "n_queries": 6, "progress": False}
N = 12


def linear():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator(i)) / 3)
    return model.eval()


def batch(model=None):
    x = torch.rand(N, 3, 4, 4, generator=generator(5))
    with torch.no_grad():
        return x, (model or linear())(x).argmax(1)


class Noisy(nn.Module):
    def __init__(self, noise=0.1):
        super().__init__()
        self.net, self.noise = linear(), noise
        self.eval()

    def forward(self, x):
        return self.net(x + self.noise * torch.randn_like(x))


def rounding(x):
    return linear()((x.detach() * 15).round() / 15)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_deterministic_model_is_evaluated_by_the_standard(norm):
    model, (x, y) = linear(), batch()
    report = nets.evaluate_model(model, x, y, norm=norm, **(SHORT | {"eps": {"linf": 0.03, "l2": 0.1}[norm]}))
    assert [row["name"] for row in report.rows] == ["natural", *_protocol.STANDARD]
    assert not report.settings["is_noisy"] and report.eot_curve == [] and report.attacked_by_gradients
    # A linear model of few classes: the margin's exact bound is what is left at most, m <= eps ||w||_q for some class.
    with torch.no_grad():
        logits, weight = model(x).double(), model[1].weight.double()
    gaps = logits.gather(1, y[:, None]) - logits
    reach = torch.linalg.vector_norm(weight[y][:, None] - weight[None], ord=1 if norm == "linf" else 2, dim=2)
    broken = ((gaps < report.settings["eps"] * reach) & (torch.arange(5) != y[:, None])).any(1)
    # No attack breaks more than that, the cube aside, which only hinders.
    assert report.robust_accuracy >= 1 - broken.double().mean().item()
    assert report.robust_accuracy == min(row["accuracy"] for row in report.rows + report.worst_case)
    text = str(report)
    assert "| apgd-t |" in text and f"in {norm}" in text and "Red flags" in text
    assert json.loads(report.to_json())["rows"][0]["accuracy"] == 1.0


def test_a_drawing_model_is_evaluated_by_fresh_draws_up_to_the_plateau(tmp_path):
    model = Noisy()
    x, y = batch()
    report = nets.evaluate_model(model, x, y, n_draws=4, n_repeats=2, keep_images=True, **SHORT)
    assert report.settings["is_noisy"]
    assert [row["name"] for row in report.rows] == ["natural", *_protocol.RAND]
    assert [point["n_eot"] for point in report.eot_curve][:5] == [1, 2, 5, 10, 20]
    assert report.rows[0]["n_draws"] == 4 and report.rows[0]["n_repeats"] == 2
    assert set(report.x_adv) == set(_protocol.RAND)
    for x_adv in report.x_adv.values():
        assert (x_adv - x).abs().max() <= 0.03 + 1e-6 and x_adv.min() >= 0 and x_adv.max() <= 1
    report.to_json(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["eot_curve"] == report.eot_curve


def test_the_same_seed_gives_the_same_report_and_leaves_the_random_state():
    model, (x, y) = Noisy(), batch()
    state = torch.get_rng_state()
    options = {"attacks": ["ifgsm20-eot2"], "n_draws": 3, "n_repeats": 2, **SHORT}
    one, same = (nets.evaluate_model(model, x, y, **options) for _ in range(2))
    other = nets.evaluate_model(model, x, y, seed=1, **options)
    assert [row["one_draw"] for row in one.rows] == [row["one_draw"] for row in same.rows]
    assert [row["one_draw"] for row in one.rows] != [row["one_draw"] for row in other.rows]
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_gradient_the_first_line_says_so():
    x, y = batch(rounding)
    report = nets.evaluate_model(rounding, x, y, **SHORT)
    assert str(report).splitlines()[0].startswith("**Not attacked by gradients**")
    assert [row["name"] for row in report.rows] == ["natural", "square"]
    assert [flag["name"] for flag in report.red_flags] == ["zero-gradients"]
    named = nets.evaluate_model(rounding, x, y, attacks=["ifgsm20", "square"], **SHORT)
    assert any("ifgsm20 was not run" in note for note in named.notes)


def test_a_surrogate_guides_and_the_model_decides():
    x, y = batch(rounding)
    report = nets.evaluate_model(rounding, x, y, surrogate=linear(), **SHORT, keep_images=True)
    rows = {row["name"]: row["accuracy"] for row in report.rows}
    assert report.attacked_by_gradients and {"apgd-ce", "square", "blind-apgd-ce"} <= rows.keys()
    with torch.no_grad():
        right = (rounding(report.x_adv["apgd-ce"]).argmax(1) == y).double().mean().item()
    # The attacked images are decided by the model itself.
    assert rows["apgd-ce"] == right < rows["natural"]


def test_a_surrogate_guides_all_parts_of_autoattack_but_square():
    x, y = batch(rounding)
    options = SHORT | {"eps": 0.1, "n_queries": 1, "n_iter": 10}
    for version in ("standard", "auto"):
        names = ["apgd-ce", "apgd-t", "autoattack"]
        report = _protocol.assess(rounding, x, y, settings(names, **options, version=version), surrogate=linear())
        rows = {row["name"]: row["accuracy"] for row in report.rows}
        # Each part attacks what those before it left: fewer images remain than under any one of them.
        assert rows["autoattack"] <= min(rows["apgd-ce"], rows["apgd-t"]) < rows["natural"]
    net, calls = linear(), []
    guided = _foreign.Guided(_foreign.Foreign(rounding), lambda x: calls.append(1) or net(x))
    nets.attacks.square(guided, x, y, n_queries=3)
    assert not calls
    nets.attacks.fgsm(guided, x, y)
    assert calls


def settings(names, **options):
    given = {
        "norm": "linf",
        "step_size": None,
        "n_draws": 4,
        "n_repeats": 2,
        "out": None,
        "batch_size": None,
        "seed": 0,
    }
    return _protocol.Settings(attacks=names, **(given | options))


def test_an_interrupted_evaluation_resumes(tmp_path, monkeypatch):
    x, y = batch()
    options = {"attacks": ["ifgsm20"], "batch_size": 4, **SHORT}
    whole = nets.evaluate_model(linear(), x, y, **options)
    monkeypatch.setattr(_runner, "SECONDS", 0.0)
    calls, attack = [], _runner.AttackRunner._attack

    def limited(self, *args):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return attack(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(_runner.AttackRunner, "_attack", limited)
        with pytest.raises(KeyboardInterrupt):
            nets.evaluate_model(linear(), x, y, out=tmp_path, **options)
        resumed = nets.evaluate_model(linear(), x, y, out=tmp_path, **options)
    # Two batches before, the third again: not all three.
    assert len(calls) == 4
    for row, expected in zip(resumed.rows, whole.rows, strict=True):
        assert row["accuracy"] == expected["accuracy"]
    changed = linear()
    changed[1].weight.data.mul_(2)
    nets.evaluate_model(changed, x, y, out=tmp_path, **options)
    # Other weights find none of the files.
    assert len(list(tmp_path.glob("model-ifgsm*"))) == 2


def test_a_model_that_begins_to_draw_is_flagged():
    class Later(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.n = linear(), 0
            self.eval()

        def forward(self, x):
            self.n += 1
            return self.net(x) + (torch.randn(len(x), 5) if self.n > 12 else 0)

    x, y = batch()
    report = nets.evaluate_model(Later(), x, y, attacks=["fgsm"], **SHORT)
    assert not report.settings["is_noisy"]
    assert "randomised" in [flag["name"] for flag in report.red_flags]


class OffTheGrid(nn.Module):
    """Draws on images that no file of 8 bits holds: on attacked ones alone."""

    def __init__(self):
        super().__init__()
        self.net = linear()
        self.eval()

    def forward(self, x):
        off = ((x * 255 - (x * 255).round()).abs() > 1e-3).flatten(1).any(1)
        return self.net(x + 0.1 * off.view(-1, 1, 1, 1) * torch.randn_like(x))


def test_a_model_that_draws_on_attacked_images_alone_is_flagged():
    x = (batch()[0] * 255).round() / 255
    y = linear()(x).argmax(1)
    report = nets.evaluate_model(OffTheGrid(), x, y, attacks=["fgsm"], **(SHORT | {"eps": 0.0313}))
    assert not report.settings["is_noisy"]
    (flag,) = (flag for flag in report.red_flags if flag["name"] == "randomised")
    assert "after fgsm" in flag["what"]
    assert not any(
        f["name"] == "randomised" for f in nets.evaluate_model(linear(), x, y, attacks=["fgsm"], **SHORT).red_flags
    )


def test_logits_in_double_precision_are_attacked_by_all():
    net, (x, y) = linear(), batch()
    plain, double = (nets.evaluate_model(model, x, y, **SHORT) for model in (net, lambda x: net(x).double()))
    assert [row["accuracy"] for row in plain.rows[:-1]] == [row["accuracy"] for row in double.rows[:-1]]


def test_a_function_that_needs_arrays_has_no_gradient():
    x, y = batch()
    weight = linear()[1].weight.detach().numpy()
    report = nets.evaluate_model(lambda x: torch.from_numpy(x.numpy().reshape(len(x), -1) @ weight.T), x, y, **SHORT)
    assert not report.attacked_by_gradients and [row["name"] for row in report.rows] == ["natural", "square"]


def test_a_model_in_training_mode_is_named():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(48, 5))
    with pytest.warns(UserWarning, match=r"training mode and evaluated in evaluation mode, which changes 1:"):
        nets.evaluate_model(model, *batch(), attacks=["fgsm"], **SHORT)


class OfMode(nn.Module):
    """A network whose passes depend on its mode in a way that no list of classes knows."""

    def __init__(self, how):
        super().__init__()
        self.net, self.how, self.own = linear(), how, np.random.default_rng(0)
        self.norm = nn.InstanceNorm2d(3, track_running_stats=True)
        self.attend = nn.MultiheadAttention(16, 2, dropout=0.5, batch_first=True)

    def forward(self, x):
        if self.how == "functional":
            x = nn.functional.dropout(x, 0.5, self.training)
        if self.how == "noise" and self.training:
            x = x + 0.1 * torch.randn_like(x)
        if self.how == "own noise" and self.training:
            x = x + 0.1 * torch.from_numpy(self.own.normal(size=x.shape)).float()
        if self.how == "statistics":
            x = self.norm(x)
        if self.how == "attention":
            x = self.attend(*3 * (x.flatten(2),))[0].view_as(x)
        if self.how == "noise in both":
            x = x + 0.1 * torch.randn_like(x)
        logits = self.net(x)
        return (logits, None) if self.how == "tuple" and self.training else logits


CHANGED = ("functional", "noise", "own noise", "statistics", "attention", "tuple")


@pytest.mark.parametrize("how", [*CHANGED, "noise in both", "nothing"])
@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: lambda x: model(x)])
def test_what_a_training_mode_changes_is_seen_from_passes(how, wrap):
    x, y = batch()
    model = OfMode(how).train()
    model.attend.eval()
    model.attend.training = how == "attention"
    model.norm.train(how == "statistics")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    warned = how in CHANGED
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Which is how a function whose logits are a tuple fails.
        with contextlib.suppress(ValueError):
            nets.evaluate_model(wrap(model), x, y, attacks=["fgsm"], **SHORT)
    found = [one.category for one in caught if issubclass(one.category, nets.attacks.TrainingModeWarning)]
    assert len(found) == warned
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 8}, "eps must be at most 1"),
        ({"eps": 0}, "eps"),
        ({"norm": "l1"}, "norm"),
        ({"attacks": "fgsm"}, "sequence of names"),
        ({"attacks": ["nosuch"]}, "there is no attack 'nosuch'"),
        ({"attacks": ["blind-fgsm"]}, "surrogate="),
        ({"n_repeats": 0}, "n_repeats"),
        ({"batch_size": 0}, "batch_size"),
        ({"out": __file__}, "out must be a directory, got the file"),
        ({"surrogate": 3}, "model must be a function"),
        ({"step_size": 0, "attacks": ["ifgsm20"]}, "step_size"),
        ({"images": torch.rand(N, 3, 4, 4).double()}, "x must be in the model's precision, torch.float32"),
        ({"images": torch.rand(N, 3, 0, 4)}, "at least one pixel"),
        ({"images": torch.rand(N, 3, 4, 4).to_sparse()}, "dense tensor"),
        ({"images": torch.rand(N, 3, 4, 4, device="meta")}, "got a meta tensor"),
        ({"labels": [0] * N}, "y must be a torch.Tensor"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(options, message):
    x, y = batch()
    given = {"images": x, "labels": y} | SHORT | options
    with pytest.raises(ValueError, match=message):
        nets.evaluate_model(linear(), given.pop("images"), given.pop("labels"), **given)


@pytest.mark.parametrize("n_classes", [1, 4])
def test_a_surrogate_of_other_classes_is_refused(n_classes):
    net, (x, y) = linear(), batch()
    with pytest.raises(ValueError, match=f"surrogate must have the 5 classes of the model, got {n_classes}"):
        nets.evaluate_model(
            rounding, x, y, surrogate=lambda x: net(x)[:, :n_classes], **(SHORT | {"attacks": ["fgsm"]})
        )


@pytest.mark.parametrize("surrogate", [rounding, lambda x: linear()(x).detach(), lambda x: 0 * x.flatten(1)[:, :5]])
def test_a_surrogate_without_a_gradient_is_refused_by_name(surrogate):
    with pytest.raises(ValueError, match="surrogate must have a gradient"):
        nets.evaluate_model(rounding, *batch(), surrogate=surrogate, **(SHORT | {"attacks": ["fgsm"]}))


def test_lazy_layers_are_refused_until_a_pass_has_made_their_weights():
    x, y = batch()
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(5)).eval()
    calls = [attack for name, attack in vars(nets.attacks).items() if name in ("fgsm", "apgd", "cw", "square", "fab")]
    calls += [nets.evaluate_model, nets.attacks.autoattack, nets.red_flags.check]
    assert len(calls) == 8
    for call in calls:
        with pytest.raises(ValueError, match=r"lazy layers without weights \(1, 3\): call the model once on an image"):
            call(model, x, y)
    with pytest.raises(ValueError, match="lazy layers"), nets.attacks.attacked(model):
        pass
    model(x[:1])
    nets.attacks.fgsm(model, x, y)


@pytest.mark.parametrize("attacks", [[], ["natural"]])
@pytest.mark.parametrize("make", [linear, Noisy])
def test_without_attacks_nothing_is_attacked(attacks, make, monkeypatch):
    for owner, name in ((_protocol.red_flags, "check"), (_runner.AttackRunner, "_attack")):
        monkeypatch.setattr(owner, name, None)
    report = nets.evaluate_model(make(), *batch(), **(SHORT | {"attacks": attacks}))
    assert [row["name"] for row in report.rows] == ["natural"]
    assert report.rows[0]["accuracy"] == 1 or make is Noisy
    assert report.eot_curve == report.worst_case == report.red_flags == [] and report.n_flagged == 0
    assert [note for note in report.notes if "no red flags were looked for" in note]


def test_attacks_that_cannot_run_leave_their_red_flags():
    report = nets.evaluate_model(rounding, *batch(), **(SHORT | {"attacks": ["fgsm"]}))
    assert [flag["name"] for flag in report.red_flags] == ["zero-gradients"]


class Coin(nn.Module):
    """Right in 84 of 100 passes, whatever the image: under five attacks, a minimum of single passes is 0.84**5."""

    def forward(self, x):
        right = (torch.rand(len(x)) < 0.84).to(x.dtype)
        return torch.stack([right + 1e-6 * x.flatten(1).sum(1), 1 - right], 1)


def test_the_worst_case_of_a_noisy_model_is_no_minimum_of_lucky_draws():
    """Five standard errors of 400 images: 0.09; a false alarm in 10**6."""
    x, y = torch.rand(400, 1, 2, 2, generator=generator(0)), torch.zeros(400, dtype=torch.long)
    options = SHORT | {"n_draws": 1, "attacks": ["fgsm", "ifgsm2-eot1", "ifgsm3-eot1", "pgd2-eot1"], "n_iter": 1}
    once = nets.evaluate_model(Coin().eval(), x, y, n_repeats=1, **options)
    assert once.worst_case == [] and once.robust_accuracy is None
    assert [note for note in once.notes if "take two repeats or more" in note]
    assert "worst case of" not in str(once)
    more = nets.evaluate_model(Coin().eval(), x, y, n_repeats=3, **options)
    # Right on the image itself and under attack.
    assert more.robust_accuracy == pytest.approx(0.84**2, abs=0.1)
    assert not [note for note in more.notes if "repeats" in note]
    # Without noise, one pass is all there is.
    assert nets.evaluate_model(linear(), *batch(), n_repeats=1, attacks=["fgsm"], **SHORT).robust_accuracy is not None


def test_noise_that_cannot_be_switched_off_is_named():
    with pytest.raises(ValueError, match="cannot be switched off"):
        nets.evaluate_model(Noisy(), *batch(), attacks=["transfer-ifgsm20"], **SHORT)


class Scaled(nn.Module):
    """One network in two defences: noise of different size, or a gradient of different sign."""

    def __init__(self, noise=0.0, sign=1):
        super().__init__()
        self.net, self.noise, self.options = linear(), noise, [sign]
        self.eval()

    def forward(self, x):
        logits = self.net(x + self.noise * torch.randn_like(x) if self.noise else x)
        return logits if self.options == [1] else 2 * logits.detach() - logits


def function_of(model):
    return lambda x: model(x)


@pytest.mark.parametrize("wrap", [nn.Module.eval, function_of])
@pytest.mark.parametrize(("first", "second"), [({"noise": 0.01}, {"noise": 1.0}), ({}, {"sign": -1})])
def test_another_defence_of_the_same_network_does_not_find_its_results(wrap, first, second, tmp_path):
    options = SHORT | {"eps": 0.2, "attacks": ["fgsm"], "n_draws": 2, "n_repeats": 2}
    nets.evaluate_model(wrap(Scaled(**first)), *batch(), out=tmp_path, **options)
    found, expected = (
        [row["accuracy"] for row in nets.evaluate_model(wrap(Scaled(**second)), *batch(), out=out, **options).rows]
        for out in (tmp_path, None)
    )
    assert found == expected
    n_files = len(list(tmp_path.iterdir()))
    nets.evaluate_model(wrap(Scaled(**first)), *batch(), out=tmp_path, **options)
    assert len(list(tmp_path.iterdir())) == n_files


def by_numpy(x):
    return linear()(x + torch.from_numpy(np.random.normal(0, 0.1, x.shape)).float())  # noqa: NPY002


def by_python(x):
    return linear()(x + 0.3 * random.random())


def by_the_system(x):
    return linear()(x + 0.3 * int.from_bytes(os.urandom(4), "big") / 2**32)


@pytest.mark.parametrize(("model", "is_seeded"), [(by_numpy, True), (by_python, True), (by_the_system, False)])
def test_noise_of_numpy_and_python_comes_from_the_seed_and_other_noise_is_noted(model, is_seeded):
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    options = {"attacks": ["ifgsm20-eot2"], "n_draws": 3, "n_repeats": 2, **SHORT}
    one, same = (nets.evaluate_model(model, *batch(), **options) for _ in range(2))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
    assert one.settings["is_noisy"]
    if is_seeded:
        assert [row["one_draw"] for row in one.rows] == [row["one_draw"] for row in same.rows]
    assert any("no seed governs" in note for note in one.notes) == (not is_seeded)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 4 / 255), ("l2", 0.5)])
def test_a_model_in_half_precision_is_evaluated(dtype, norm, eps):
    x, y = batch()
    options = SHORT | {"norm": norm, "eps": eps}
    rows, expected = (
        {row["name"]: row["accuracy"] for row in nets.evaluate_model(m, images, y, **options).worst_case}
        for m, images in ((linear().to(dtype), x.to(dtype)), (linear(), x))
    )
    # Of twelve images, rounding may decide one.
    assert rows == pytest.approx(expected, abs=1.01 / N)
    assert min(rows.values()) < 1


def test_the_default_precision_may_be_double():
    model, (x, y) = linear(), batch()
    torch.set_default_dtype(torch.float64)
    try:
        report = nets.evaluate_model(model, x, y, **SHORT)
    finally:
        torch.set_default_dtype(torch.float32)
    assert report.rows[0]["accuracy"] == 1.0
