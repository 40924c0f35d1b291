"""Compare trainings on the same images: accuracies, and their difference with its standard error.

    python -m nets.compare --first runs/cpu-resnet20-seed0 runs/cpu-resnet20-seed1 \\
                           --second runs/cpu-en1_resnet20-seed0 runs/cpu-en1_resnet20-seed1

Each side consists of runs of one training with different seeds, or of networks of the zoo: zoo:cifar10/resnet20-seed0,
with --data PATH, whose results are kept in runs/zoo. The results of `nets.evaluate` are compared image by image, and
missing results are computed. Attacks on a noisy network average over its draws, attacks on a deterministic network do
not.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from nets import _cli
from nets.evaluation import Options as Evaluation
from nets.evaluation import compare
from nets.provenance import environment

__all__ = ["main"]

PROG = "python -m nets.compare"


@dataclass(frozen=True)
class Options:
    """Command-line options."""

    first: tuple[Path, ...] = ()
    """Directories of the runs on the first side, or zoo:NAME."""
    second: tuple[Path, ...] = ()
    """Directories of the runs on the second side, or zoo:NAME."""
    attacks: tuple[str, ...] = ()
    """Names of the attacks, as for `nets.evaluate`. Default: those of the preset."""
    also: tuple[str, ...] = ()
    """Names of further attacks."""
    inject: str | None = None
    """Control: noise switched on for the evaluation of the second side, as for `nets.evaluate`."""
    coef: float | None = None
    """Strength of that noise, in standard deviations of what it is added to; 0.1 by default. Only with inject."""
    data: str | None = None
    """Images. Default: those the runs were trained on."""
    n_images: int | None = None
    """Number of test images, the same for all runs, at most as many as there are. Default: 1000."""
    draws: int = 10
    """Number of passes whose mean logits make a prediction, if the model is noisy."""
    seed: int = 0
    """Seed of attacks and noise, the same for all runs."""
    preset: str = "auto"
    """Attacks and their sizes: quick, cpu or full; auto: cpu, or full on a GPU."""
    quick: bool = False
    """Short for --preset quick."""
    n_threads: int | None = None
    """Number of threads on a CPU."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:1; auto: a GPU, if there is one."""
    out: Path | None = None
    """File of the results. Default: none."""


def main(argv=None):
    """Run the command with a list of arguments, by default those of the process."""
    argv = sys.argv[1:] if argv is None else argv
    _cli.run(
        lambda: _run(_cli.parse(Options, PROG, __doc__, argv)),
        PROG,
        options=(Options,),
        interrupted="interrupted: the same command resumes after the last batch",
    )


def _run(options):
    for side in ("first", "second"):
        if not getattr(options, side):
            raise ValueError(f"--{side} must name the directories of finished runs, got none")
    shared = ("attacks", "also", "coef", "data", "n_images", "draws", "seed", "preset")
    shared += ("quick", "n_threads", "device")
    evaluation = Evaluation(**{name: getattr(options, name) for name in shared})
    rows, device = compare(options.first, options.second, evaluation, inject=options.inject)
    if options.out is not None:
        runs = {name: list(map(str, getattr(options, name))) for name in ("first", "second")}
        result = {"runs": runs, "inject": options.inject, "rows": rows}
        _cli.write_json(options.out, result | environment(device, "nets.compare"))
    print("| attack | first | second | difference ± s.e. | n |\n|---|---|---|---|---|")
    for row in rows:
        name = ", ".join(dict.fromkeys((row["attack_on_first"], row["attack"])))
        change = f"{row['difference']:+.4f} ± {row['stderr']:.4f}"
        print(f"| {name} | {row['first']:.4f} | {row['second']:.4f} | {change} | {row['n']} |")


if __name__ == "__main__":
    main()
