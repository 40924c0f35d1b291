"""Rows of an evaluation: their standard errors, what they count, what is kept of them, and what is said beside them."""

import copy
import dataclasses
import hashlib
import json
import math
import os
import warnings
from pathlib import Path

import pytest
import scipy.stats

torch = pytest.importorskip("torch")

import attack_models
from untrained_run import save_run

from bridge import NoisyResidual
from nets import attacks, checkpoint, data
from nets.evaluate import main
from nets.evaluation import _assessment as assessment
from nets.evaluation import _attack_specs as protocol
from nets.evaluation import _runner, balanced_order
from nets.evaluation._attack_specs import attacks_of, parse
from nets.evaluation._presets import PRESETS
from nets.evaluation._rows import make_row, worst_rows
from nets.evaluation._runner import AttackRunner, Outcome, predictions
from nets.evaluation._statistics import robust, score, worst_case
from nets.training import published

ROOT = Path(__file__).resolve().parents[3]


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Files written after every batch, without waiting for the disk; threads as they were."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(_runner, "SECONDS", 0.0)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    yield
    torch.set_num_threads(n_threads)


# --- scores -----------------------------------------------------------------------------------------------------


def test_the_standard_error_of_one_repeat_is_the_binomial_one():
    right = torch.rand(300, 1, generator=generator(0)) < 0.3
    p = right.double().mean().item()
    result = score(right)
    assert result.accuracy == pytest.approx(p, rel=1e-15)
    assert result.stderr == pytest.approx(math.sqrt(p * (1 - p) / 300), rel=1e-14)
    assert result.spread is None
    assert (result.n, result.n_repeats) == (300, 1)


@pytest.mark.parametrize("n", [1, 2, 20, 1000])
@pytest.mark.parametrize("right", [False, True])
def test_none_or_all_of_n_images_have_an_error_whose_double_is_the_exact_limit(n, right):
    result = score(torch.full((n, 3), right))
    # Clopper and Pearson's one-sided interval at 95 % of another implementation.
    limits = scipy.stats.binomtest(n * right, n, alternative="greater" if right else "less").proportion_ci(0.95)
    limit = 1 - limits.low if right else limits.high
    assert 2 * result.stderr == pytest.approx(limit, rel=1e-8)
    assert (result.accuracy, result.spread) == (right, 0.0)
    # Of a share of that limit, n images show none in one of twenty samples. (scipy's limit is good to 1e-10.)
    assert (1 - 2 * result.stderr) ** n == pytest.approx(0.05, rel=1e-12)


@pytest.mark.parametrize("shared", [0.0, 0.15])
def test_the_standard_error_covers_images_noise_and_what_the_images_share_of_it(shared):
    # c_ir = 1 with probability p_i + shared Z_r, p_i in {0.2, 0.7} and |shared Z_r| <= 0.15. Let s2 = Var(accuracy):
    # Var(p_i) / n + E[p (1 - p)] / (n R) + shared**2 Var(Z) / R. E[stderr**2] is that or more, by at most
    # E[p (1 - p)] / n, since the binomial term holds the noise of one repeat. The rms of 4000 standard errors is exact
    # to 1 %, their empirical s2 to a relative 5 sqrt(2 / 4000) = 11 % with five of its own standard errors.
    n, n_repeats, n_trials, draw = 100, 4, 4000, generator(1)
    p = torch.tensor([0.2, 0.7])[torch.randint(2, (n_trials, n, 1), generator=draw)]
    z = shared * (2 * torch.rand(n_trials, 1, n_repeats, generator=draw) - 1)
    right = torch.rand(n_trials, n, n_repeats, generator=draw) < p + z
    scores = [score(trial) for trial in right]
    variance = torch.tensor([s.accuracy for s in scores], dtype=torch.float64).var().item()
    claimed = sum(s.stderr**2 for s in scores) / n_trials
    mean_square = 0.25**2 / n + (0.2 * 0.8 + 0.7 * 0.3) / 2 / n / n_repeats + shared**2 / 3 / n_repeats
    assert variance == pytest.approx(mean_square, rel=0.12)
    assert mean_square * 0.97 < claimed < (mean_square + 0.185 / n) * 1.03


def test_an_image_is_robust_where_it_is_right_before_and_after():
    natural = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1]]).bool()
    after = torch.tensor([[1, 0], [1, 1], [1, 1]]).bool()
    assert robust(natural, after).tolist() == [[True, False], [True, False], [False, True]]


def test_the_worst_case_of_one_repeat_is_the_least():
    rights = torch.rand(3, 50, 1, generator=generator(2)) < 0.6
    assert (worst_case(rights, rights.double()) == rights.all(0)).all()


def test_the_worst_case_finds_the_attack_of_each_image_without_a_bias_of_its_own():
    # Attack i % 2 has accuracy 0.3 on image i, the other one 0.6. Each of 6 repeats is scored by the choice of the 5
    # others: by Binomial(5, p) alone, ties broken by noise, it is right with q = P(A < B) + P(A = B) / 2. So the mean
    # is q 0.3 + (1 - q) 0.6; the least of both, 0.18, would be what luck alone does.
    n, n_repeats, draw = 20000, 6, generator(3)
    p = torch.where(torch.arange(2)[:, None] == torch.arange(n) % 2, 0.3, 0.6)[:, :, None]
    rights = torch.rand(2, n, n_repeats, generator=draw) < p
    a, b = ([math.comb(5, k) * p**k * (1 - p) ** (5 - k) for k in range(6)] for p in (0.3, 0.6))
    q = sum(a[i] * b[j] * (1 if i < j else 0.5 if i == j else 0) for i in range(6) for j in range(6))
    found = worst_case(rights, torch.rand(2, n, n_repeats, generator=draw)).double().mean().item()
    # The repeats of an image share their choices: five standard errors of n images.
    assert abs(found - (q * 0.3 + (1 - q) * 0.6)) < 5 * math.sqrt(0.25 / n)


def test_equals_are_told_apart_by_their_single_draws():
    # On the first image the second attack has the smaller shares, and so scores the third repeat, where the first two
    # are equals; on the second image it is the other way round.
    right, wrong_once = [1.0, 1.0, 1.0], [1.0, 1.0, 0.0]
    rights = torch.tensor([[right, wrong_once], [wrong_once, right]])
    shares = torch.tensor([[[0.9] * 3, [0.6] * 3], [[0.6] * 3, [0.9] * 3]])
    assert worst_case(rights, shares).tolist() == [[True, True, False]] * 2


def test_the_worst_case_is_never_above_one_attack():
    for seed in range(50):
        rights = torch.rand(4, 20, 2, generator=generator(seed)) < 0.5
        worst = worst_case(rights, rights.double()).double().mean()
        assert worst <= rights.double().mean((1, 2)).min()


# --- images and answers -----------------------------------------------------------------------------------------


def test_every_first_part_of_the_order_is_balanced():
    labels = torch.arange(10).repeat(30)[torch.randperm(300, generator=generator(4))]
    order = balanced_order(labels, seed=0)
    assert sorted(order.tolist()) == list(range(300))
    for n in range(1, 300):
        counts = torch.bincount(labels[order[:n]], minlength=10)
        assert counts.max() - counts.min() <= 1
    assert (balanced_order(labels, seed=0) == order).all()
    assert not (balanced_order(labels, seed=1) == order).all()
    # Within a turn the classes are in random order, too.
    assert len({tuple(labels[order[i : i + 10]].tolist()) for i in range(0, 300, 10)}) > 25


def test_classes_of_other_sizes_run_out_one_after_the_other():
    labels = torch.tensor([0] * 5 + [1] * 2 + [3] * 9)
    order = balanced_order(labels, seed=3)
    assert sorted(order.tolist()) == list(range(16))
    assert torch.bincount(labels[order[:6]]).tolist() == [2, 2, 0, 2]
    assert torch.bincount(labels[order[:12]]).tolist() == [5, 2, 0, 5]


def test_means_are_right_where_single_draws_are_wrong():
    # z = 0.52 + g: a draw is right with Phi(0.52), a mean over 10 with Phi(0.52 sqrt(10)). Five standard errors.
    x, y = torch.rand(4000, 1, 2, 2), torch.zeros(4000, dtype=torch.long)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        right, draws, _ = predictions(attack_models.Lucky(), x, y, n_repeats=3, n_draws=10)
    assert right.shape == (4000, 3)
    assert draws.shape == (4000, 3, 10)
    for found, argument in ((right, 0.52 * math.sqrt(10)), (draws, 0.52)):
        p = (1 + math.erf(argument / math.sqrt(2))) / 2
        assert abs(found.double().mean().item() - p) < 5 * math.sqrt(p * (1 - p) / found.numel())


# --- evaluations ------------------------------------------------------------------------------------------------


class Constant(torch.nn.Module):
    """Always class 3."""

    def forward(self, x):
        logits = torch.zeros(len(x), 10, dtype=x.dtype)
        logits[:, 3] = 1.0
        return logits + 0 * x.flatten(1).sum(1, keepdim=True)


class Pixels(torch.nn.Module):
    """The brightest of ten pixels: images of one white pixel are a margin of 1 - 2 eps away from an error."""

    def forward(self, x):
        return x.flatten(1)


def one_hot(n):
    labels = torch.arange(10).repeat(n // 10)
    return data.Batches((255 * torch.eye(10)[labels]).to(torch.uint8).view(n, 1, 2, 5), labels)


def make(model, images, folder, identity="a", **options):
    options = {"batch_size": 16, "n_draws": 3, "n_repeats": 2} | options
    order = balanced_order(images.labels, 0)
    return AttackRunner(model, images, order, folder, {"weights": identity}, **options)


def rows_of(e, names, n_images, is_noisy, **options):
    chosen = attacks_of(names, is_noisy=is_noisy, n_images=n_images, **options)
    outcomes = [e.run(attack) for attack in chosen]
    return outcomes, {o.attack.name: make_row(o, e.natural(o.attack)) for o in outcomes}


BOUNDED = ("fgsm", "ifgsm20", "pgd5", "cw", "apgd-ce", "apgd-dlr", "square")
SMALL = {"n_iter": 5, "n_queries": 10}


@pytest.mark.parametrize(("model", "accuracy"), [(Constant(), 0.1), (Pixels(), 1.0)])
def test_the_constant_and_the_perfect_model_are_scored_exactly(model, accuracy, tmp_path):
    e = make(model, one_hot(40), tmp_path, batch_size=40)
    outcomes, rows = rows_of(e, [*BOUNDED, "cw-as-released", "autoattack"], 40, False, **SMALL)
    for row in rows.values():
        assert row["accuracy"] == row["one_draw"]["accuracy"] == accuracy
        # The constant model is right in one class of ten; of the perfect one, two errors are the exact limit.
        stderr = math.sqrt(0.09 / 40) if accuracy == 0.1 else (1 - 0.05 ** (1 / 40)) / 2
        assert row["stderr"] == pytest.approx(stderr, rel=1e-14)
        assert row["n"] == 40
    (worst,) = worst_rows(outcomes[1:], outcomes[0], 8 / 255)
    assert worst["accuracy"] == accuracy


def test_without_bounds_the_perfect_model_falls(tmp_path):
    _, rows = rows_of(make(Pixels(), one_hot(40), tmp_path), ["unbounded"], 40, False)
    assert rows["unbounded"]["accuracy"] == 0.0


@pytest.fixture(scope="module")
def fitted():
    """A network fitted to noisy patterns, once without noise of its own and once with, and images of the patterns."""
    images, labels = attack_models.images(120, seed=7)
    batches = data.Batches((255 * images).round().to(torch.uint8), labels)
    x, y = attack_models.images(600, seed=1)
    models = []
    for coef in (0.0, 0.5):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            branch = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(32, 32))
            block = NoisyResidual(branch, coef=coef, std_over="sample")
            model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), block, torch.nn.Linear(32, 6))
            optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
            for _ in range(60):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(model(x.float()), y).backward()
                optimiser.step()
        models.append(model.eval())
    return (*models, batches)


def test_stronger_attacks_leave_less(fitted, tmp_path):
    plain, noisy, images = fitted
    for model, folder in ((plain, tmp_path / "plain"), (noisy, tmp_path / "noisy")):
        is_noisy = model is noisy
        names = ["fgsm", "ifgsm20", "apgd-ce", "apgd-dlr", "unbounded", "transfer-ifgsm20"]
        e = make(model, images, folder, batch_size=120)
        outcomes, rows = rows_of(e, names, 120, is_noisy, eps=0.08, step_size=0.02, n_iter=15)
        accuracy = {name: row["accuracy"] for name, row in rows.items()}
        assert accuracy["natural"] > 0.9
        # Ten steps for one, and the step that adapts: what is not reached by rounding is at most two images. Noise
        # moves the difference of two attacks by 0.03 (six seeds); four of that once in 3e4 seeds.
        slack = 0.12 if is_noisy else 2 / 120
        assert accuracy["fgsm"] < accuracy["natural"] - 0.1
        assert accuracy["ifgsm20"] <= accuracy["fgsm"] + slack
        assert accuracy["apgd-ce"] <= accuracy["ifgsm20"] + slack
        assert accuracy["unbounded"] == 0.0
        worst = worst_rows(outcomes[1:], outcomes[0], 0.08)
        assert len(worst) == 1
        assert "unbounded" not in worst[0]["attacks"]
        assert worst[0]["accuracy"] <= min(accuracy[name] for name in worst[0]["attacks"])


def test_only_what_can_be_robust_is_attacked_and_the_papers_attacks_are_made_on_all(fitted, tmp_path):
    _, noisy, images = fitted
    outcomes, rows = rows_of(make(noisy, images, tmp_path), ["fgsm", "ifgsm20-eot2", "cw"], 60, True)
    natural, fgsm, eot, cw = outcomes
    assert fgsm.attacked.all()
    assert cw.attacked.all()
    assert (eot.attacked == natural.right.any(1)).all()
    assert rows["ifgsm20-eot2"]["n_attacked"] == int(natural.right.any(1).sum())
    # One step of 5 draws and 6 answers for each image; 20 of 2 and 6.
    assert (fgsm.n_gradients, fgsm.n_passes) == (60 * 5, 60 * 11)
    n = int(eot.attacked.sum())
    assert (eot.n_gradients, eot.n_passes) == (n * 40, n * 46)
    assert natural.n_passes == 60 * 6


def test_with_the_noise_off_one_answer_is_all_there_is(fitted, tmp_path):
    _, noisy, images = fitted
    e = make(noisy, images, tmp_path)
    outcomes, rows = rows_of(e, ["noise-off-ifgsm20", "transfer-ifgsm20"], 40, True)
    assert list(rows) == ["natural", "noise-off-natural", "noise-off-ifgsm20", "transfer-ifgsm20"]
    off, transfer = outcomes[2:]
    assert off.draws.shape == (40, 1, 1)
    assert transfer.draws.shape == (40, 2, 3)
    assert all(block.enabled for block in noisy.modules() if hasattr(block, "enabled"))


def test_averaged_logits_go_in_smaller_batches(fitted, tmp_path, monkeypatch):
    _, noisy, images = fitted
    sizes, ifgsm = [], attacks.ifgsm

    def counted(model, x, y, **options):
        sizes.append(len(x))
        return ifgsm(model, x, y, **options)

    monkeypatch.setattr(attacks, "ifgsm", counted)
    e = make(noisy, images, tmp_path)
    rows_of(e, ["ifgsm2-eot20-logits"], 16, True)
    assert max(sizes) == 4


# --- what is kept -----------------------------------------------------------------------------------------------


def same(a, b):
    counts = [(o.n_passes, o.n_gradients) for o in (a, b)]
    tensors = all(
        torch.equal(getattr(a, name), getattr(b, name)) for name in ("right", "draws", "attacked", "distance")
    )
    return tensors and counts[0] == counts[1]


def count_calls(monkeypatch):
    """A list that grows with every batch that is attacked."""
    done, call = [], protocol.AttackSpec.__call__

    def counted(*arguments, **options):
        done.append(arguments[0].name)
        return call(*arguments, **options)

    monkeypatch.setattr(protocol.AttackSpec, "__call__", counted)
    return done


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("name", ["ifgsm3-eot2", "apgd-ce-eot2", "square"])
def test_what_is_interrupted_after_any_batch_goes_on_to_the_same_bits(name, fitted, tmp_path, monkeypatch):
    _, noisy, images = fitted
    attack = parse(name, is_noisy=True, n_images=50, n_iter=3, n_queries=6)
    whole = make(noisy, images, tmp_path / "whole").run(attack)
    call = protocol.AttackSpec.__call__
    for n_batches in range(3):
        left = iter(range(n_batches))

        def limited(*arguments, left=left, **options):
            if next(left, None) is None:
                raise Interrupted
            return call(*arguments, **options)

        folder = tmp_path / str(n_batches)
        with monkeypatch.context() as patch:
            patch.setattr(protocol.AttackSpec, "__call__", limited)
            with pytest.raises(Interrupted):
                make(noisy, images, folder).run(attack)
        with monkeypatch.context() as patch:
            done = count_calls(patch)
            again = make(noisy, images, folder).run(attack)
        assert same(whole, again)
        assert len(done) == -(-int(whole.attacked.sum()) // 16) - n_batches


def test_what_is_done_is_not_done_again_and_a_changed_setting_is(fitted, tmp_path, monkeypatch):
    _, noisy, images = fitted
    attack = parse("fgsm", is_noisy=True, n_images=20)
    first = make(noisy, images, tmp_path).run(attack)
    done = count_calls(monkeypatch)
    assert same(make(noisy, images, tmp_path).run(attack), first)
    assert not done
    n_files = len(list(tmp_path.glob("model-fgsm-*")))
    assert n_files == 1
    changed = [
        (make(noisy, images, tmp_path, seed=1), attack),
        (make(noisy, images, tmp_path, identity="b"), attack),
        (make(noisy, images, tmp_path, n_draws=4), attack),
        (make(noisy, images, tmp_path, n_repeats=3), attack),
        (make(noisy, images, tmp_path, batch_size=8), attack),
        (make(noisy, images, tmp_path), parse("fgsm", is_noisy=True, n_images=20, eps=0.1)),
        (make(noisy, images, tmp_path), parse("fgsm-eot2", is_noisy=True, n_images=20)),
        (make(noisy, images, tmp_path), parse("fgsm", is_noisy=True, n_images=19)),
    ]
    for number, (e, other) in enumerate(changed, 1):
        before = len(done)
        e.run(other)
        assert len(done) > before
        assert len(list(tmp_path.glob("model-fgsm-*"))) == n_files + number


def test_only_blind_attacks_depend_on_the_oracle(fitted, tmp_path):
    plain, noisy, images = fitted
    folders = []
    for identity in ("x", "y"):
        e = make(plain, images, tmp_path, oracle=(noisy, identity))
        rows_of(e, ["fgsm", "blind-fgsm"], 120, False, has_oracle=True, oracle_is_noisy=True)
        folders.append({path.name for path in tmp_path.iterdir()})
    assert len(folders[0]) == 3
    (new,) = folders[1] - folders[0]
    assert new.startswith("oracle-fgsm-")


def test_a_damaged_file_is_made_again(fitted, tmp_path, capsys):
    plain, _, images = fitted
    attack = parse("fgsm", is_noisy=False, n_images=20)
    first = make(plain, images, tmp_path).run(attack)
    (path,) = tmp_path.glob("model-fgsm-*")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert same(make(plain, images, tmp_path).run(attack), first)
    assert "is damaged" in capsys.readouterr().err


def test_an_attack_that_leaves_its_ball_is_found_out(fitted, tmp_path, monkeypatch):
    plain, _, images = fitted
    monkeypatch.setattr(attacks, "fgsm", lambda model, x, y, eps, **options: (x + 1.01 * eps).clamp(0, 1))
    with pytest.raises(ArithmeticError, match=r"fgsm moved by 0\.0316"):
        make(plain, images, tmp_path).run(parse("fgsm", is_noisy=False, n_images=20))


def test_weights_that_are_not_finite_are_found_out(fitted, tmp_path):
    plain, _, images = fitted
    broken = copy.deepcopy(plain)
    next(iter(broken.parameters())).data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        make(broken, images, tmp_path).run(parse("natural", is_noisy=False, n_images=20))


# --- names and rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "fgms", "ifgsm", "fgsm2", "ifgsm0", "apgd", "natural@5", "natural-eot5", "blind-natural", "ifgsm20-eot0",
     "cw-eot5-logits", "square-eot2-logits", "transfer-", "ifgsm20@0", "ifgsm20-logits", "oracle-fgsm"],
)  # fmt: skip
def test_what_names_nothing_is_refused(name):
    with pytest.raises(ValueError, match="there is no attack"):
        parse(name, is_noisy=True)


def test_blind_attacks_ask_for_an_oracle():
    with pytest.raises(ValueError, match="--oracle RUN"):
        attacks_of(["blind-fgsm"], is_noisy=False)


def test_the_papers_attacks_average_over_five_draws_and_the_standard_ones_over_twenty():
    draws = {
        name: parse(name, is_noisy=True).n_eot for name in ("fgsm", "ifgsm20", "cw", "apgd-ce", "apgd-t", "autoattack")
    }
    assert draws == {"fgsm": 5, "ifgsm20": 5, "cw": 5, "apgd-ce": 20, "apgd-t": 20, "autoattack": 20}
    assert parse("transfer-apgd-ce", is_noisy=True).n_eot == 1
    assert parse("blind-fgsm", is_noisy=True).n_eot == 1
    assert parse("blind-fgsm", is_noisy=False, oracle_is_noisy=True).n_eot == 5


def test_draws_say_nothing_of_a_model_that_has_none():
    names = ["ifgsm20", "ifgsm20-eot20", "ifgsm20-eot5-logits", "noise-off-ifgsm20", "transfer-ifgsm20", "natural"]
    assert [a.name for a in attacks_of(names, is_noisy=False)] == ["natural", "ifgsm20"]
    assert len(attacks_of(names, is_noisy=True)) == 7
    assert parse("ifgsm20-eot20@5", is_noisy=False).name == "ifgsm20"
    assert parse("blind-ifgsm20-eot5-logits", is_noisy=True).name == "blind-ifgsm20"
    kept = parse("blind-ifgsm20-eot5-logits", is_noisy=False, oracle_is_noisy=True)
    assert kept.name == "blind-ifgsm20-eot5-logits"


def test_an_attack_asked_for_twice_is_made_once_on_the_greater_number_of_images():
    names = ["fgsm@3", "apgd-ce-eot20@7", "ifgsm20@5", "apgd-ce@4", "fgsm"]
    found = [(a.name, a.n_images) for a in attacks_of(names, is_noisy=True, n_images=10)]
    assert found == [("natural", 10), ("fgsm", 10), ("apgd-ce-eot20", 7), ("ifgsm20", 5)]
    (_, apgd) = attacks_of(["apgd-ce-eot20@4", "apgd-ce"], is_noisy=True, n_images=10)
    assert (apgd.name, apgd.n_images) == ("apgd-ce-eot20", 10)


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("is_noisy", [False, True])
def test_presets_hold_what_the_protocol_asks_for(preset, is_noisy):
    chosen = PRESETS[preset]
    found = attacks_of(
        (*(chosen.noisy if is_noisy else chosen.plain), *chosen.blind), is_noisy=is_noisy, has_oracle=True
    )
    names = {attack.name for attack in found}
    assert len(names) == len(found)
    assert {"natural", "fgsm"} < names
    if preset == "quick":
        return
    assert {"ifgsm20", "cw", "cw-as-released", "unbounded", "blind-fgsm", "blind-ifgsm20", "blind-cw"} < names
    if is_noisy:
        logits = {"ifgsm20-eot5-logits", "ifgsm20-eot20-logits"}
        noise_off = {"noise-off-natural", "noise-off-ifgsm20", "transfer-ifgsm20"}
        assert {"ifgsm20-eot1", "ifgsm20-eot20", "apgd-ce-eot20", "apgd-dlr-eot20", *logits, *noise_off} < names
    else:
        assert {"apgd-ce", "apgd-dlr", "square"} < names


def outcome(name, right, distance):
    right = torch.tensor(right).bool()[:, None]
    attack = parse(name, is_noisy=False, n_images=len(right))
    everything = torch.ones(len(right), dtype=torch.bool)
    return Outcome(attack, right, right[:, :, None], everything, torch.tensor(distance), 1.0, 1, 0)


def test_the_worst_case_counts_what_lies_inside_the_ball_on_images_that_all_attacks_saw():
    natural = outcome("natural", [1, 1, 1, 0], [0.0] * 4)
    fgsm, cw = outcome("fgsm", [1, 0, 1, 0], [0.03] * 4), outcome("cw", [0, 1, 0, 0], [0.2, 0.01, 0.01, 0.01])
    short, wide = outcome("apgd-ce", [0, 1], [0.03] * 2), outcome("unbounded", [0, 0, 0, 0], [1.0] * 4)
    rows = worst_rows([fgsm, cw, short, wide], natural, 8 / 255)
    assert [(row["accuracy"], row["n"], row["attacks"]) for row in rows] == [
        (0.25, 4, ["fgsm", "cw"]),
        (0.0, 2, ["fgsm", "cw", "apgd-ce"]),
    ]


def test_the_papers_number_stands_beside_ours_where_it_prints_one():
    natural = outcome("natural", [1, 1], [0.0] * 2)
    printed = {"natural": 0.7511, "fgsm": 0.5089, "ifgsm20": 0.4603, "cw": 0.5873, "pgd20": None, "ifgsm10": None}
    for name, number in printed.items():
        assert make_row(outcome(name, [1, 0], [0.0] * 2), natural, published("table2/resnet20"))["paper"] == number
    blind = parse("blind-ifgsm20", is_noisy=False, n_images=2)
    seen = dataclasses.replace(natural, attack=blind)
    assert make_row(seen, natural, published("table3/resnet20"))["paper"] == 0.5874
    assert make_row(seen, natural, published("table2/resnet20"))["paper"] is None
    assert make_row(natural, natural, published("table3/resnet20"))["paper"] is None
    assert make_row(natural, natural, published("cpu/digits"))["paper"] is None


# --- the command ------------------------------------------------------------------------------------------------


FEW = ["--quick", "--n-images", "12", "--draws", "2", "--repeats", "2", "--batch-size", "5"]


def run(folder, *arguments):
    main([str(folder), *FEW, *arguments])


def test_the_report_says_where_its_numbers_come_from(tmp_path, capsys):
    folder, oracle = save_run(tmp_path / "run"), save_run(tmp_path / "oracle", "resnet20", seed=1)
    out = tmp_path / "new" / "report.json"
    run(
        folder,
        "--oracle",
        str(oracle),
        "--out",
        str(out),
        "--attacks",
        "fgsm",
        "ifgsm2-eot1@6",
        "blind-fgsm",
        "unbounded@3",
    )

    def no_constants(name):
        raise AssertionError(f"{name} is no number of JSON")

    report = json.loads(out.read_text(encoding="utf-8"), parse_constant=no_constants)
    assert {"run", "oracle", "data", "protocol", "rows", "red_flags", "gradient_mask", "notes", "versions", "device",
            "n_threads", "command", "options", "commit", "date", "seconds"} < report.keys()  # fmt: skip
    digest = hashlib.sha256((folder / "best.safetensors").read_bytes()).hexdigest()
    assert report["run"]["weights"]["sha256"] == digest
    assert report["run"]["recipe"]["model"] == "en1_resnet20"
    assert report["oracle"]["recipe"]["model"] == "resnet20"
    assert report["oracle"]["weights"].keys() == {"sha256", "digest"}
    assert report["oracle"]["weights"]["digest"] != report["run"]["weights"]["digest"]
    assert report["data"]["encoding"] == "raw"
    assert sum(report["data"]["n_each_class"]) == 12
    settings = report["protocol"]
    told = {key: settings[key] for key in ("batch_size", "std_over", "dtype", "n_draws", "n_repeats", "seed")}
    assert told == {"batch_size": 5, "std_over": "batch", "dtype": "float32", "n_draws": 2, "n_repeats": 2, "seed": 0}
    names = [row["name"] for row in report["rows"]]
    assert names[:5] == ["natural", "fgsm", "ifgsm2-eot1", "blind-fgsm", "unbounded"]
    for row in report["rows"]:
        assert 0 <= row["accuracy"] <= 1
        assert row["stderr"] >= 0
        if "attacks" not in row:
            assert {"seconds", "images_per_second", "n_passes", "n_gradients", "one_draw", "settings"} < row.keys()
    assert [row["n"] for row in report["rows"]] == [12, 12, 6, 12, 3, 12, 6]
    assert "batch-coupling" in {flag["name"] for flag in report["red_flags"]["found"]}
    assert any("scaled over the batch" in note for note in report["notes"])
    table = capsys.readouterr().out
    for row in report["rows"]:
        assert f"| {row['name']} | {row['accuracy']:.4f} ± {row['stderr']:.4f} |" in table
    # Nothing is left of how it was written.
    assert [path.name for path in out.parent.iterdir()] == ["report.json"]


def test_one_line_and_status_2_for_what_cannot_be_evaluated(tmp_path, capsys, monkeypatch):
    folder = save_run(tmp_path / "run")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    checkpoint.write(foreign / "best.safetensors", "images", {"a": torch.zeros(1)}, {})
    cut = save_run(tmp_path / "cut") / "best.safetensors"
    cut.write_bytes(cut.read_bytes()[:-10])
    others = save_run(tmp_path / "others", n_classes=7)
    monkeypatch.setattr(attacks, "fgsm", None)
    calls = [
        ([], "must come first"),
        ([str(tmp_path / "nowhere")], "does not exist"),
        ([str(tmp_path)], "has no best.safetensors"),
        ([str(foreign)], "must contain model, and contains images"),
        ([str(cut.parent)], "is damaged"),
        ([str(others)], "trained on 7 classes"),
        ([str(folder), "--oracle", str(tmp_path / "nowhere")], "does not exist"),
        ([str(folder), "--data", str(tmp_path / "nowhere.tar")], "data must be"),
        ([str(folder), "--attacks", "fgms"], "there is no attack 'fgms'"),
        ([str(folder), "--attacks", "blind-fgsm"], "--oracle RUN"),
        ([str(folder), "--draws", "0"], "draws must be an integer >= 1"),
        ([str(folder), "--eps", "-1"], "eps must be"),
        ([str(folder), "--eps", "0"], "eps must be"),
        ([str(folder), "--batch-size", "0"], "--batch-size must be"),
        ([str(folder), "--preset", "huge"], "preset must be one of"),
        ([str(folder), "--device", "tpu9"], "device must be auto, cpu, cuda or cuda:N"),
        ([str(folder), "--device", "cuda:99"], "device cuda:99 does not exist"),
    ]
    for arguments, message in calls:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        error = capsys.readouterr().err
        assert caught.value.code == 2, arguments
        assert message in error
        assert error.count("\n") == 1


def test_options_of_a_run_are_judged_before_its_images_are_read(tmp_path, monkeypatch, capsys):
    folder = save_run(tmp_path / "run")
    monkeypatch.setattr(data, "load", None)
    for words, message in (("--n-images 0", "--n-images must"), ("--eps 8", "8/255 and not 8"), ("--also x", "'x'")):
        with pytest.raises(SystemExit) as caught:
            main([str(folder), *words.split()])
        assert caught.value.code == 2 and message in capsys.readouterr().err


def test_images_that_changed_are_refused_unless_asked_for(tmp_path, monkeypatch):
    folder = save_run(tmp_path / "run", data="elsewhere", select_on="test")
    digits = data.load("digits")
    other = data.Dataset(**{**vars(digits), "name": "elsewhere", "test_images": 16 - digits.test_images})
    monkeypatch.setattr(data, "load", lambda name, progress: other)
    with pytest.raises(ValueError, match="no longer what the run was trained on"):
        assessment.evaluate(folder)
    options = assessment.Options(data="elsewhere", quick=True, n_images=3, attacks=("fgsm",), draws=1)
    report = assessment.evaluate(folder, options, progress=False)
    assert "the network was trained on other images, of digits" in report["notes"]
    assert any("chosen on the test images" in note for note in report["notes"])


def test_the_list_names_the_attacks(capsys):
    main(["--list"])
    listed = capsys.readouterr().out
    for name in ("apgd-ce-eot20", "noise-off-ifgsm20", "blind-cw", "cw-as-released"):
        assert name in listed


# --- a real run ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_trained_network_is_evaluated_from_its_directory(tmp_path, capsys):
    from nets import train

    folder, natural = tmp_path / "digits", tmp_path / "natural"
    with warnings.catch_warnings():
        # What the board of metrics imports.
        warnings.simplefilter("ignore", DeprecationWarning)
        train.main(["cpu/digits", "--epochs", "6", "--out", str(folder)])
        train.main(["cpu/digits", "--method", "natural", "--epochs", "6", "--out", str(natural)])
    arguments = [
        "--n-images",
        "100",
        "--n-iter",
        "10",
        "--repeats",
        "2",
        "--attacks",
        "fgsm",
        "ifgsm20",
        "apgd-ce-eot5",
    ]
    for run_folder in (folder, natural):
        main([str(run_folder), *arguments, "unbounded@30"])
    reports = [json.loads((path / "evaluation.json").read_text(encoding="utf-8")) for path in (folder, natural)]
    rows = [{row["name"]: row for row in report["rows"]} for report in reports]
    for found in rows:
        assert found["natural"]["accuracy"] > 0.7
        assert found["ifgsm20"]["accuracy"] <= found["fgsm"]["accuracy"] + 3 * found["fgsm"]["stderr"]
        assert found["unbounded"]["accuracy"] <= 0.1
    # Adversarial training is for something, and without it nothing is left (paper: section 4.4).
    assert rows[0]["ifgsm20"]["accuracy"] > rows[1]["ifgsm20"]["accuracy"] + 0.1
    assert reports[1]["gradient_mask"]["naturally_trained"]
    assert reports[1]["gradient_mask"]["ifgsm20"] == rows[1]["ifgsm20"]["accuracy"]
    assert "IFGSM^20" in capsys.readouterr().out
