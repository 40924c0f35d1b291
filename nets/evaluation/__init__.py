"""Evaluation of a trained model: setup, runner, statistics, report."""

from nets.evaluation._answers import balanced_order
from nets.evaluation._assessment import evaluate
from nets.evaluation._attack_specs import attack_names, attacks_of, parse
from nets.evaluation._intervals import Interval, interval
from nets.evaluation._paired import compare
from nets.evaluation._presets import PRESETS
from nets.evaluation._report import NOTHING, markdown
from nets.evaluation._runner import Evaluation
from nets.evaluation._setup import Options
from nets.evaluation._statistics import robust, score, worst_case

__all__ = [
    "NOTHING",
    "PRESETS",
    "Evaluation",
    "Interval",
    "Options",
    "attack_names",
    "attacks_of",
    "balanced_order",
    "compare",
    "evaluate",
    "interval",
    "markdown",
    "parse",
    "robust",
    "score",
    "worst_case",
]
