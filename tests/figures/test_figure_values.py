"""Numbers in legends, error bars and columns of the figures: by closed forms, for values and not for shapes."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import matplotlib
import numpy as np
import pytest
import scipy.stats
from matplotlib.figure import Figure

from figures import _mlmc_plot, certificates, mixing, mlmc, theorems

torch = pytest.importorskip("torch")

from figures import _results, _weights, effective_diffusion, robustness_curve, sparsity, tradeoff, verdict, way_back
from figures._claims import Gain
from figures.tables import _text
from figures.tables._numbers import Line, Target
from nets.evaluation import score

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "_results.py"


@pytest.fixture(autouse=True)
def default_style():
    """Matplotlib's own style, whatever the tests before have set."""
    with matplotlib.rc_context(matplotlib.rcParamsDefault | {"backend": matplotlib.rcParams["backend"]}):
        yield


def axes_of():
    return Figure().subplots()


def bars_of(axes):
    """Ends (low, high) of the vertical error bars, one row per point."""
    return np.concatenate([np.array(bar.lines[2][0].get_segments())[:, :, 1] for bar in axes.containers])


# ---- The cost of accuracy


def test_levels_are_variances_and_means_without_the_noise_of_the_mean(monkeypatch):
    # Point p: m_p ± s, half of each. Mean m_p, sample variance s**2 n / (n - 1).
    n, s, means = 10, 0.3, np.array([0.5, -0.7, 0.1])
    samples = means[:, None] + s * np.repeat([1.0, -1.0], n // 2)
    monkeypatch.setattr(mlmc.feynman_kac, "level_samples", lambda *_, **__: samples)
    found = mlmc._levels(None, np.zeros((3, 2)), n, seed=0)
    variance = s**2 * n / (n - 1)
    mean = math.sqrt(np.mean(means**2) - variance / n)
    assert found["level_variance"] == pytest.approx(variance)
    assert found["level_mean"] == pytest.approx(mean)
    # The mean square of 3 means has the noise variance / n sqrt(2 / 3); its root that over twice itself.
    assert found["level_noise"] == pytest.approx(variance / n * math.sqrt(2 / 3) / (2 * mean))
    assert found["level_n_steps"].tolist() == [8, 16, 32, 64, 128, 256, 512]


def test_plain_monte_carlo_splits_the_error_into_a_third_of_bias_and_two_of_variance(monkeypatch):
    eps, c, variance, exact = 1e-3, 0.8, 0.25, np.array([1.0, 2.0])
    steps = 8.0 * 2 ** np.arange(7)
    levels = {"level_n_steps": steps, "level_mean": c / steps, "level_variance": np.full(7, variance)}
    estimate = SimpleNamespace(mean=exact + [3e-4, -4e-4])
    asked = []

    def called(problem, points, n_paths, n_steps, rng):
        asked.append((n_paths, n_steps))
        return estimate

    monkeypatch.setattr(mlmc.pde.feynman_kac, "estimate", called)
    error, cost, n_steps = mlmc._plain(None, np.zeros((2, 2)), exact, eps, levels, None)
    # The least numbers with bias**2 <= eps**2 / 3 and variance <= 2 eps**2 / 3.
    assert (c / n_steps) ** 2 <= eps**2 / 3 < (c / (n_steps - 1)) ** 2
    ((n_paths, _),) = asked
    assert variance / n_paths <= 2 * eps**2 / 3 * (1 + 1e-12) and 2 * eps**2 / 3 < variance / (n_paths - 1)
    assert cost == n_paths * n_steps * 2
    assert error == pytest.approx(math.sqrt((9e-8 + 16e-8) / 2))


def test_gains_are_variance_ratios_at_equal_steps_and_at_equal_time(monkeypatch):
    # Plain paths: variance 1 in 2 seconds. Each option: variance 1/8 in 4 seconds, twice as long.
    clock, paths = [0.0], []

    def call(stderr, seconds, n_paths):
        paths.append(n_paths)
        clock[0] += seconds
        return SimpleNamespace(stderr=np.full(3, stderr))

    def estimate(problem, points, m, n_steps, seed, antithetic=False):
        return call(math.sqrt(1 / 8), 4.0, m) if antithetic else call(1.0, 2.0, m)

    monkeypatch.setattr(mlmc, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(mlmc.pde.feynman_kac, "estimate", estimate)
    monkeypatch.setattr(mlmc, "controlled_estimate", lambda p, x, m, *_, **__: call(math.sqrt(1 / 8), 4.0, m))
    monkeypatch.setattr(mlmc, "quasi_estimate", lambda p, x, m, n, copies, *_: call(math.sqrt(1 / 8), 4.0, m * copies))
    found = mlmc._options(None, np.zeros((3, 2)), 64, 1024, 0)
    assert found["gain_per_step"] == pytest.approx(8)
    assert found["gain_per_second"] == pytest.approx(4)
    # All after a first call have the same number of paths.
    assert paths[1::2] == [1024] * 6


def test_legends_of_the_costs_have_order_error_and_theory():
    found = {"slopes": {"levels": {"order": 1.94, "stderr": 0.037}}}
    assert _mlmc_plot._slope(found, "levels", -2, -1) == "slope −1.94 ± 0.04 (theory −2)"
    assert _mlmc_plot._slope(found, "levels", None) == "slope 1.94 ± 0.04"


# ---- Theorems, certificates, mixing, the way back


def test_bars_of_measured_slopes_are_their_noise():
    axes, sigma = axes_of(), np.array([0.1, 0.2])
    found = {key: np.array([1.0, 2.0]) for key in ("measured", "published", "corrected", "sharp")}
    found |= {"noise": np.array([0.25, 0.5]), "bismut": np.array([3.0, 4.0]), "bismut_stderr": np.array([0.1, 0.2])}
    theorems._slopes(axes, 0, sigma, found, "v", 1.0)
    # Of Bismut's formula two standard errors, as the legend says.
    assert bars_of(axes) == pytest.approx(np.array([[0.75, 1.25], [1.5, 2.5], [2.8, 3.2], [3.6, 4.4]]))


def test_bars_of_the_certificates_reach_from_quartile_to_quartile():
    # Shares 0, 1/63, ..., 1, squared: quartiles 1/16, 1/4, 9/16 up to the gaps, not symmetric.
    ramp = np.linspace(0, 1, 65**2).reshape(1, 65, 65) ** 2
    axes = axes_of()
    data = {"u": ramp, "sigma": np.array([0.1]), "distance": np.ones_like(ramp)} | dict.fromkeys(
        certificates.KINDS, ramp
    )
    certificates._against_sigma(axes, data)
    assert bars_of(axes) == pytest.approx(np.array([[1 / 16, 9 / 16]] * 3))


def test_findings_of_the_known_diffusivities():
    peclet = np.array([0.25, 1.0, 4.0, 16.0])
    found = mixing.findings({"peclet": peclet, "shear": 1 + peclet**2 / 2, "cellular": 1 + peclet**2 / 8})
    assert found["largest_relative_error_of_the_shear"] == pytest.approx(0, abs=1e-12)
    assert found["cellular_over_peclet_squared_at_the_least"] == pytest.approx(1 / 8)
    assert found["slope_of_the_cellular_flow_at_the_largest"] == pytest.approx(math.log(33 / 3) / math.log(4))


def test_standard_error_of_the_network_s_mean_is_that_of_its_draws():
    class Signs(torch.nn.Module):
        """Draw i has the sign (-1)**i at every point."""

        def forward(self, x):
            signs = 1.0 - 2.0 * (torch.arange(way_back.CHUNK) % 2)
            return signs.repeat_interleave(len(x) // way_back.CHUNK).double()

    means, stderr = way_back._means(Signs(), np.zeros((3, 3, 2)), [16, 64], seed=0)
    assert means == pytest.approx(np.zeros((2, 3, 3)))
    # Squares of 1: variance n / (n - 1) of a draw, 1 / (n - 1) of the mean of n.
    assert stderr == pytest.approx(np.full((3, 3), math.sqrt(1 / 63)))


# ---- Networks


def test_bars_of_the_diffusion_reach_from_the_first_to_the_last_tenth():
    spread = np.array([[2.0, 1.5, 4.0], [3.0, 1.0, 3.5]])
    data = {"model": np.array([]), "time": np.array([0.0, 0.5]), "stage": np.zeros(2), "n_untrained": np.array(3.0)}
    axes = axes_of()
    effective_diffusion._panel(axes, data | {"untrained_drift": spread}, "drift")
    assert bars_of(axes) == pytest.approx(spread[:, 1:])
    # A step is drawn in its middle.
    assert axes.lines[0].get_xdata() == pytest.approx([0.25, 0.75])


def test_accuracies_over_seeds_and_gains_over_images_have_their_standard_errors(monkeypatch):
    rng = np.random.default_rng(0)
    rights = [[torch.tensor(rng.random((40, 1)) < p) for p in (0.9, 0.6, 0.5)] for _ in range(4)]

    def curves(run, *_):
        first, second = rights[2 * run.place : 2 * run.place + 2]
        return {
            name: robustness_curve._Curve((0, 8, 64), right, 1, 2, 3.0)
            for name, right in (("pgd20", first), ("apgd-ce", second))
        }

    monkeypatch.setattr(robustness_curve, "_curves", curves)
    group = [SimpleNamespace(place=place, model_name="resnet20") for place in range(2)]
    bar = SimpleNamespace(update=lambda: None)
    one, other = robustness_curve._panel(group, None, torch.arange(80), None, 80, 0, [0, 8, 64], bar)
    for step in range(3):
        scores = [score(rights[place][step]) for place in (0, 2)]
        assert one["accuracy"][step] == pytest.approx((scores[0].accuracy + scores[1].accuracy) / 2)
        # Independent images: the variance of a mean of two.
        assert one["stderr"][step] == pytest.approx(math.hypot(scores[0].stderr, scores[1].stderr) / 2)
        harm = np.concatenate([(rights[k][step].double() - rights[k + 1][step].double()).numpy()[:, 0] for k in (0, 2)])
        assert other["gain"][step] == pytest.approx(harm.mean())
        assert other["gain_stderr"][step] == pytest.approx(harm.std(ddof=1) / math.sqrt(80))
        assert one["gain"][step] == 0
    assert (one["n_images"], one["n_seeds"], one["n_gradients"], one["seconds"]) == (80, 2, 4, 6)


def test_bars_of_the_robustness_curves_are_one_standard_error():
    data = {
        "model": np.array(["resnet20"]), "attack": np.array(["pgd20"]), "n_eot": np.array([1.0]),
        "eps": np.array([0.0, 8.0, 64.0]), "accuracy": np.array([[0.8, 0.4, 0.1]]),
        "stderr": np.array([[0.04, 0.05, 0.03]]),
    }  # fmt: skip
    curves, attacks = axes_of(), axes_of()
    robustness_curve._draw_curves(curves, data, ["resnet20"])
    robustness_curve._draw_attacks(attacks, data, ["resnet20"])
    assert bars_of(curves) == pytest.approx(np.array([[0.76, 0.84], [0.35, 0.45], [0.07, 0.13]]))
    # At the paper's radius.
    assert bars_of(attacks) == pytest.approx(np.array([[0.35, 0.45]]))
    assert "8/255" in attacks.get_title() + attacks.get_title("left")


def test_density_counts_the_weights_outside_too():
    values = np.array([-5.0, -0.1, 0.05, 0.15, 0.1, 7.0, 0.2, -0.25])
    assert _weights._density(values, 0.3, 6).sum() * 0.1 == pytest.approx(6 / 8)


def test_legends_of_the_weights_are_in_per_cent():
    one = {"n_members": 2, "training": "trained", "outside_0.3": 0.0123, "paper_below_0.001": 0.0364}
    one["below_0.001"] = {"mean": 0.0203, "stderr": 0.0003, "n": 2}
    assert _weights._legend(one, "N", near=False) == "N, both members\ntrained\n1.23 % lie outside"
    assert _weights._legend(one, "N", near=True) == "N\n2.03 ± 0.03 % (s.e., 2 seeds)\npaper 3.64 %, n = 10"


def test_difference_in_sparsity_is_less_the_adversarial_network_with_both_errors():
    means = {"adversarial": SimpleNamespace(mean=0.03, stderr=0.003, n=2),
             "en1": SimpleNamespace(mean=0.05, stderr=0.004, n=2)}  # fmt: skip
    found = sparsity._difference(means, "en1")
    assert (found["mean"], found["stderr"]) == (pytest.approx(0.02), pytest.approx(0.005))
    # Welch: two seeds each, (9 + 16)**2 / (81 + 256) degrees of freedom.
    assert found["reach"] == pytest.approx(0.005 * scipy.stats.t.ppf(0.975, 625 / 337), rel=1e-12)
    assert sparsity._number({"mean": 0.02034, "stderr": 0.00031}, 2, 100) == "2.03 ± 0.03"


def test_largest_robust_accuracy_picks_the_sigma_that_is_shown():
    # Axes: data sets, trainings, sigmas, seeds, radii. Natural training is best at the second of the positive sigmas.
    lower = np.zeros((1, 2, 4, 2, len(tradeoff.RADII)))
    lower[0, 0] = np.array([0.9, 0.3, 0.7, 0.5])[:, None, None]
    assert tradeoff._shown_sigma({"radius": tradeoff.RADII, "lower": lower}) == 2


# ---- Verdict


def test_pooled_accuracy_has_the_error_of_images_and_of_seeds():
    reports = [{"rows": [{"name": "fgsm", "accuracy": p, "stderr": 0.1, "n": 400}]} for p in (0.4, 0.6)]
    p, stderr, n, k = verdict._pooled(reports, ("fgsm",))
    assert (p, n, k) == (0.5, 400, 2)
    # The variance of 0.4 and 0.6 is 0.02.
    assert stderr == pytest.approx(math.sqrt(0.25 / 400 + 0.02 / 2))


def test_worst_cases_of_different_numbers_of_attacks_are_not_pooled():
    def worst(number, accuracy, n):
        return {"name": f"worst case of {number}", "accuracy": accuracy, "stderr": 0.1, "n": n}

    reports = [{"rows": [worst(3, 0.5, 300), worst(4, 0.4, 200)]}, {"rows": [worst(4, 0.3, 200)]}]
    reports.append({"rows": [worst(2, 0.9, 200)]})
    p, _, n, k = verdict._pooled(reports, ("worst case",))
    assert (p, n, k) == (pytest.approx(0.35), 200, 2)


def test_a_comparison_the_other_way_round_changes_the_sign_of_the_gain():
    row = {"attack": "natural", "attack_on_first": "natural", "difference": -0.03, "stderr": 0.01, "n": 500}
    library = _results.Library({}, {("b", "a"): [{"rows": [row | {"n_first": 3, "n_second": 2}]}]}, {})
    found = verdict._measure_gain(Gain("", "", "a", "b", ("natural",), None, ""), library)
    assert (found.text, found.n, found.verdict) == ("+3.00 ± 1.00", "500 × 2 and 3", "holds")


def test_verdicts_on_bounds_and_recipes_take_the_worst_case():
    hoelder = {"constant": [[1.0, 3.0], [0.5, 1.0]], "bound": [2.0, 2.0], "sigma": [0.1, 0.3]}
    assert verdict._hoelder({"hoelder": hoelder}).text.startswith("1.50 of the bound")
    assert verdict._hoelder({"hoelder": hoelder}).verdict == "does not hold"
    gradient = {"measured": 0.2, "published": 0.1}
    assert verdict._gradient({"counterexample": gradient}).verdict == "does not hold"
    assert verdict._gradient({"counterexample": {"measured": 0.1, "published": 0.2}}).verdict == "holds"
    sups = {"solutions": [{"literal_recipe_sup_norm": sup} for sup in (1.0, 2e5)]}
    assert (verdict._literal(sups).text, verdict._literal(sups).verdict) == ("2e+05", "does not hold")


def test_bars_of_the_verdict_are_two_standard_errors():
    axes = axes_of()
    data = {"is_gain": np.array([True]), "value": np.array([3.0]), "stderr": np.array([0.5])}
    verdict._gains(axes, data | {"published": np.array([2.5])}, 0, 1.0, "black")
    (bar,) = axes.containers
    assert bar.lines[2][0].get_segments()[0][:, 0] == pytest.approx([2.0, 4.0])
    assert axes.lines[-1].get_xdata() == [2.5]


# ---- Columns of the tables and of the documentation


def test_columns_of_a_table_are_ours_with_its_error_and_its_difference_from_the_papers():
    line = Line(Target("x", None, "r"), "fgsm", 55.351, ours=45.004, stderr=1.234, n="1000 × 2", kind="own")
    assert (_text._paper(line), _text._ours(line), _text._difference(line)) == (
        "55.35", "45.00 ± 1.23 (1000 × 2)", "−10.35"
    )  # fmt: skip


@pytest.fixture
def pages(monkeypatch):
    """The module that makes the tables of the documentation, which needs nothing of Sphinx for them."""
    names = {"docutils": ["nodes"], "docutils.statemachine": ["StringList"], "sphinx.util.docutils": []}
    for name, attributes in names.items():
        module = ModuleType(name)
        for attribute in attributes:
            setattr(module, attribute, None)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["sphinx.util.docutils"].SphinxDirective = object
    spec = importlib.util.spec_from_file_location("results_of_the_pages", RESULTS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(text):
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"][2:]


def test_pages_show_the_best_times_and_their_ratios(pages, monkeypatch):
    machine = {"cpu": "c", "n_cores": 2, "commit": "0123456789ab"}
    row = {"comparison": "paper", "n": 64, "method": "m", "n_steps": 10, "error": 1.234e-4}
    spectral = [row | {"tool": "ours", "seconds": [0.3, 0.02]}, row | {"tool": "peer", "seconds": [0.05, 0.1]}]
    paths = {"tool": "ours", "method": "m", "dtype": "float32", "n_steps": 5, "full_seconds": 1.239, "chi2": 0.987}
    contents = {
        "benchmark_spectral": {"machine": machine, "rows": spectral},
        "benchmark_feynman_kac": {
            "machine": machine,
            # Whichever of diffrax's two is faster is the measure.
            "rows": [paths | {"rate": 3.21e8}] + [paths | {"tool": "diffrax", "full_seconds": s} for s in (99, 12.39)],
        },
        "mlmc": {
            "gain_per_step": {"pairs": 8.0}, "gain_per_second": {"pairs": 4.0},
            "cost_ratio": {"plain_over_multilevel": 12.34, "error": 1e-3},
        },
    }  # fmt: skip
    monkeypatch.setattr(pages, "read", contents.__getitem__)
    assert [line[-3:] for line in cells(pages.spectral())] == [["1.2e-04", "20 ms", "1.0"], ["1.2e-04", "50 ms", "2.5"]]
    assert cells(pages.feynman_kac())[0][-4:] == ["321 M", "1.24 s", "10", "0.99"]
    assert cells(pages.feynman_kac())[1][-3:] == ["99 s", "0.125", "0.99"]
    assert cells(pages.mlmc()) == [["pairs", "8.00", "4.00"]]
    assert "12.3 times less cost at an rms error of 1.0e-03" in pages.mlmc()
    assert "c, 2 cores, commit `012345678`" in pages.spectral()


def test_pages_of_the_lessons_are_linked_where_they_have_been_made(pages, monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "LESSON_PAGES", tmp_path / "lessons")
    assert "make docs" in pages.lesson_pages() and "href" not in pages.lesson_pages()
    (tmp_path / "lessons").mkdir()
    (tmp_path / "lessons" / "index.html").touch()
    assert 'href="lessons/index.html"' in pages.lesson_pages()
