"""Every figure of the paper: python -m figures [NAME ...] [--list] [--quick] [--seed S] [--out DIR]."""

import importlib
import sys

from figures import common

FIGURES = {
    "fig4": "the convection-diffusion equation at t = 0 for sigma = 0, 0.01, 0.1, and the evidence for it",
    "mlmc": "cost against accuracy of plain and multilevel Monte Carlo, and the gain of each variance reduction",
    "theorems": "the paper's two theorems: printed, corrected and sharp bounds, the counterexample, Hölder constants",
}


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    """
    parser = common.OneLineParser("python -m figures", __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures to make (default: all)")
    parser.add_argument("--list", action="store_true", help="list the figures and exit")
    arguments = parser.parse_args(argv)
    if arguments.list:
        for name, what in FIGURES.items():
            print(f"{name:12s} {what}")
        return
    unknown = [name for name in arguments.names if name not in FIGURES]
    if unknown:
        parser.error(f"no figure {', '.join(unknown)}; there are {', '.join(FIGURES)}")
    shared = ["--seed", str(arguments.seed), "--out", str(arguments.out)] + ["--quick"] * arguments.quick
    for name in arguments.names or FIGURES:
        importlib.import_module(f"figures.{name}").main(shared)


if __name__ == "__main__":
    sys.exit(main())
