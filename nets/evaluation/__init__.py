"""Evaluation of a trained model: setup, runner, statistics, report."""

from nets.data import balanced_order
from nets.evaluation._assessment import evaluate
from nets.evaluation._attack_specs import attack_names, attacks_of, parse
from nets.evaluation._evaluate_model import evaluate_model
from nets.evaluation._paired import compare
from nets.evaluation._presets import PRESETS
from nets.evaluation._report import NOTHING, Report, markdown
from nets.evaluation._runner import AttackRunner
from nets.evaluation._setup import Options, directory_of
from nets.evaluation._statistics import Interval, interval, robust, score, worst_case
from nets.evaluation._target import evaluate_target

__all__ = [
    "NOTHING",
    "PRESETS",
    "AttackRunner",
    "Interval",
    "Options",
    "Report",
    "attack_names",
    "attacks_of",
    "balanced_order",
    "compare",
    "directory_of",
    "evaluate",
    "evaluate_model",
    "evaluate_target",
    "interval",
    "markdown",
    "parse",
    "robust",
    "score",
    "worst_case",
]
