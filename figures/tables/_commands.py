"""The commands that make a number of the paper's tables: training, averaging, evaluation."""

import shlex
from pathlib import Path
from typing import NamedTuple

from figures.tables._matching import trained_by
from nets.training import RECIPES

__all__ = ["Places", "commands"]


class Places(NamedTuple):
    """Directories that commands read and write, and the seed of the runs that they make."""

    results: Path = Path("results")
    runs: Path = Path("runs")
    seed: int = 0


def commands(name, places):
    """Return the command lines that train and evaluate the networks of a recipe's row; existing runs are resumed."""
    wanted, base, seed = RECIPES[name], trained_by(name), places.seed
    lines, run = [], _run(base, seed, places)
    if wanted.members:
        members = []
        for number, member in enumerate(wanted.members):
            # Two of one recipe must be two networks.
            n_same, n_before = wanted.members.count(member), wanted.members[:number].count(member)
            members.append((member, seed * n_same + n_before))
        lines += [_train(member, its_seed, places) for member, its_seed in members]
        directories = [str(_run(member, its_seed, places)) for member, its_seed in members]
        lines.append(_train(name, seed, places, "--integrate", *directories))
    else:
        lines.append(_train(base, seed, places, "--resume"))
    if wanted.oracle:
        oracle = _run(trained_by(wanted.oracle), seed, places)
        lines += [_train(trained_by(wanted.oracle), seed, places, "--resume"), _evaluate(oracle, places)]
        lines.append(_evaluate(run, places, oracle))
    else:
        lines.append(_evaluate(run, places))
    return tuple(lines)


def _run(name, seed, places):
    return places.runs / f"{name.replace('/', '-')}-seed{seed}"


def _train(name, seed, places, *rest):
    words = ["python", "-m", "nets.train", name]
    words += ["--seed", str(seed)] if seed else []
    words += ["--out", str(_run(name, seed, places))] if places.runs != Path("runs") else []
    return shlex.join([*words, *(rest or ("--resume",))])


def _evaluate(run, places, oracle=None):
    words = ["python", "-m", "nets.evaluate", str(run)]
    words += ["--oracle", str(oracle)] if oracle else []
    return shlex.join([*words, "--out", str(places.results / f"{run.name}{'-blind' if oracle else ''}.json")])
