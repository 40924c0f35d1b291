"""Compare trainings on the same images: accuracies, and their difference with its standard error.

    python -m nets.compare --first runs/cpu-resnet20-seed0 runs/cpu-resnet20-seed1 \\
                           --second runs/cpu-en1_resnet20-seed0 runs/cpu-en1_resnet20-seed1

Each side are runs of one training with different seeds, which `nets.evaluate` has evaluated: its answers are taken
image by image, and what it has not done yet is done. A network that draws is attacked by averages over its draws, one
that draws nothing by the plain attacks.
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
    """Of the command.

    Parameters
    ----------
    first, second : tuple of Path
        Directories of the runs on each side.
    attacks : tuple of str
        Names, as for `nets.evaluate`. By default those of the preset.
    also : tuple of str
        Attacks beside those.
    inject : str or None
        Control: noise switched on for the evaluation of the second side, as for `nets.evaluate`.
    coef : float
        Of that noise.
    data : str or None
        Images. By default those the runs were trained on.
    preset : str
        quick, cpu or full, as for `nets.evaluate`.
    quick : bool
        Short for --preset quick.
    n_threads : int or None
        Threads, on a CPU.
    device : str
        cpu, cuda, cuda:1; auto: a GPU, if there is one.
    out : Path or None
        File of the results. By default none.
    """

    first: tuple[Path, ...] = ()
    second: tuple[Path, ...] = ()
    attacks: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    inject: str | None = None
    coef: float = 0.1
    data: str | None = None
    preset: str = "auto"
    quick: bool = False
    n_threads: int | None = None
    device: str = "auto"
    out: Path | None = None


def main(argv=None):
    """Run the command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; by default those of the process.
    """
    argv = sys.argv[1:] if argv is None else argv
    _cli.run(
        lambda: _run(_cli.parse(Options, PROG, __doc__, argv)),
        PROG,
        options=(Options,),
        interrupted="interrupted: the same command goes on from the last batch",
    )


def _run(options):
    for side in ("first", "second"):
        if not getattr(options, side):
            raise ValueError(f"--{side} must name the directories of finished runs, got none")
    shared = ("attacks", "also", "coef", "data", "preset", "quick", "n_threads", "device")
    given = Evaluation(**{name: getattr(options, name) for name in shared})
    rows, device = compare(options.first, options.second, given, inject=options.inject)
    if options.out is not None:
        runs = {name: list(map(str, getattr(options, name))) for name in ("first", "second")}
        _cli.write_json(
            options.out, {"runs": runs, "inject": options.inject, "rows": rows, **environment(device, "nets.compare")}
        )
    print("| attack | first | second | difference ± s.e. | n |\n|---|---|---|---|---|")
    for row in rows:
        name = (
            row["attack"] if row["attack"] == row["attack_on_first"] else f"{row['attack_on_first']}, {row['attack']}"
        )
        change = f"{row['difference']:+.4f} ± {row['stderr']:.4f}"
        print(f"| {name} | {row['first']:.4f} | {row['second']:.4f} | {change} | {row['n']} |")


if __name__ == "__main__":
    main()
