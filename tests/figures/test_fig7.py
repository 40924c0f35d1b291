"""Figures 7 and 10: histograms against normal weights and counts by hand, which networks, files and errors."""

import math

import numpy as np
import pytest
import scipy.stats

torch = pytest.importorskip("torch")

from figures import _runs, _weights, fig7, fig10
from nets import build, sparsity

FIGURES = pytest.mark.parametrize(("name", "figure"), [("fig7", fig7), ("fig10", fig10)])


class Run:
    """A run of a model that is at hand."""

    def __init__(self, name, model):
        self.model_name, self.model = name, model
        self.name, self.is_natural, self.is_noisy = f"{name}-seed0", False, name.startswith("en")
        self.history = [{}] * 3
        self.config = {"recipe": {"method": "fast", "epochs": 3}, "data": {"name": "digits", "encoding": "raw"}}

    def load(self):
        return self.model


def run(figure, *arguments):
    figure.main([str(argument) for argument in arguments])


def normal(deviation, seed):
    """A ResNet-20 all of whose weights are normal."""
    model, generator = build("resnet20", seed=seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, deviation, generator=generator)
    return model


def test_density_of_normal_weights_is_that_of_the_normal_law():
    deviation = 0.05
    models = [Run("resnet20", normal(deviation, seed)) for seed in (0, 1)]
    data = _weights.histograms({"one": models, "other": models[:1]})
    for key, reach in (("density", "reach"), ("near_density", "near")):
        n_bins = data[key].shape[1]
        edges = np.linspace(-float(data[reach]), float(data[reach]), n_bins + 1)
        p = np.diff(scipy.stats.norm.cdf(edges, scale=deviation))
        counts, n = data[key][0] * np.diff(edges) * 2 * 270_896, 2 * 270_896
        # Binomial, about normal where more than 100 are expected; false alarms 1e-6 over the bins.
        z = (counts - n * p) / np.sqrt(n * p * (1 - p))
        assert np.abs(z[n * p > 100]).max() < scipy.stats.norm.isf(1e-6 / 2 / n_bins)
    below = data["below"].mean()
    p = math.erf(1e-3 / deviation / math.sqrt(2))
    assert abs(below - p) < 4.9 * math.sqrt(p / n)


def test_fractions_and_members_are_counted():
    model = build("en2_resnet20", seed=0)
    values = np.concatenate([array.ravel() for array in sparsity.weights(model).values()])
    data = _weights.histograms({"one": [Run("en2_resnet20", model)], "other": [Run("en2_resnet20", model)]})
    assert data["n_members"].tolist() == [2, 2]
    assert data["n_weights"].tolist() == [541_792, 541_792]
    assert data["below"][0] == np.mean(np.abs(values) < 1e-3)
    assert data["outside"][0] == np.mean(np.abs(values) > 0.3)
    # What is outside is missing in the area.
    area = data["density"][0].sum() * 2 * data["reach"] / data["density"].shape[1]
    assert area == pytest.approx(1 - data["outside"][0])


def test_figure_10_prefers_the_larger_ensemble_and_says_so(quick_runs):
    data = fig10.compute(quick=True, runs=quick_runs)
    assert data["model"].tolist() == ["resnet20", "en2_resnet20"]
    texts = [text.get_text() for text in fig10.plot(data).axes[0].get_legend().get_texts()]
    assert texts[1].startswith("En2ResNet-20, both members\nfast adversarial training, 2 epochs, digits")


def test_figure_7_shows_natural_and_adversarial_with_the_papers_fractions(quick_runs):
    data = fig7.compute(quick=True, runs=quick_runs)
    found = fig7.findings(data)["networks"]
    assert {name: one["paper_below_0.001"] for name, one in found.items()} == {"natural": 0.0866, "adversarial": 0.0364}
    natural = _runs.find(quick_runs, fig7.WANTED)["natural"]
    expected = [sparsity.measure(run.load()).total.below for run in natural]
    assert found["natural"]["below_0.001"]["mean"] == pytest.approx(np.mean(expected))
    assert found["natural"]["below_0.001"]["n"] == len(natural) == 2
    texts = [text.get_text() for text in fig7.plot(data).axes[1].get_legend().get_texts()]
    mean, stderr = (100 * found["natural"]["below_0.001"][key] for key in ("mean", "stderr"))
    assert texts[0] == (
        f"ResNet-20, natural training\n{mean:.2f} ± {stderr:.2f} % (s.e., 2 seeds)\npaper 8.66 %, n = 10"
    )


def test_without_natural_runs_figure_7_names_the_command(tmp_path):
    with pytest.raises(ValueError, match=r"lacks finished runs .*natural.*--method natural"):
        fig7.compute(runs=tmp_path)


@FIGURES
def test_command_writes_files_and_replot_draws_the_same_picture(name, figure, quick_runs, check_command):
    record, _, picture = check_command(figure, "--quick", "--runs", quick_runs)
    assert len(record["networks"]) == 2
    assert 15_000 < len(picture) < 200_000
