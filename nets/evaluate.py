"""Evaluate a classifier: natural images, the paper's attacks, those that average over noise, and AutoAttack's.

    python -m nets.evaluate RUN                             by the preset of the device: "cpu", or "full" on a GPU
    python -m nets.evaluate RUN --quick                     20 images, seconds
    python -m nets.evaluate RUN --attacks natural fgsm ifgsm20 apgd-ce-eot20@200
    python -m nets.evaluate RUN --also apgd-ce-eot20        that one on all 1000 images, where the preset takes 200
    python -m nets.evaluate RUN --oracle RUN2               blind attacks as well, of images made on another run
    python -m nets.evaluate RUN --inject blocks             control: En1's noise in a network trained without it
    python -m nets.evaluate MODULE:CALLABLE --data PATH     any model of images in [0, 1] to logits, or what makes one
    python -m nets.evaluate zoo:NAME --data cifar10         a network that comes with the package
    python -m nets.evaluate --list                          names of the attacks, and what the presets run

The images are the first of the test set in a random order in which the classes take turns, the same for all runs.
Results are kept in RUN/evaluation (for other models in the directory of --out, if given), and a second call resumes
there. An image is robust if it is right before and after the attack. The predictions of a model that draws are means
over `draws` passes, repeated `repeats` times.

The preset "cpu" is made for two cores: with averaging over 20 draws it attacks 100 or 200 images, by 20 steps of APGD,
and every row of the table states its n. For a network that draws it computes some 300 000 gradients and 230 000 further
passes, where 60 % of 1000 images are right; for a deterministic one some 110 000 and 60 000.
"""

import contextlib
import signal
import sys
from pathlib import Path

from nets import _cli
from nets.evaluation import PRESETS, Options, attack_names, attacks_of, evaluate, evaluate_target, markdown

__all__ = ["main"]

PROG = "python -m nets.evaluate"
REPORT = "evaluation.json"


def main(argv=None):
    """Run the command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; by default those of the process.
    """
    argv = sys.argv[1:] if argv is None else argv
    with contextlib.suppress(ValueError):
        # Not in the main thread: whoever called has handlers of its own.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    _cli.run(
        lambda: _print_list() if "--list" in argv else _run(argv),
        PROG,
        options=(Options,),
        interrupted="interrupted: the same command goes on from the last batch",
    )


def _run(argv):
    run, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else (None, argv)
    options = _cli.parse(Options, f"{PROG} {run or 'RUN'}", __doc__, rest)
    if run is None:
        raise ValueError("the directory of a run must come first: python -m nets.evaluate RUN")
    if ":" in run and not Path(run).exists():
        with _told_what_is_kept(options):
            report = evaluate_target(run, options)
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            report.to_json(options.out / REPORT)
        print(report)
        return
    run = Path(run)
    out = options.out or run / (REPORT if options.inject is None else f"evaluation-{options.inject}-noise.json")
    report = evaluate(run, options)
    _cli.write_json(out, report)
    print(markdown(report), end="")
    print(f"\n{report['run']['name']}, seed {report['run']['seed']}, {report['data']['name']}: {out}")


@contextlib.contextmanager
def _told_what_is_kept(options):
    """After Ctrl-C, say that nothing is kept where no directory was given."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if options.out is None:
            stop.args = ("interrupted: nothing is kept without --out DIRECTORY",)
        raise


def _print_list():
    for name, preset in PRESETS.items():
        options = {"n_images": preset.n_images, "n_iter": preset.n_iter, "n_queries": preset.n_queries}
        for kind, names in (("is deterministic", preset.plain), ("draws noise", preset.noisy)):
            print(f"{name}, for a model that {kind}: {preset.n_images} images")
            for attack in attacks_of(
                (*names, *preset.blind), is_noisy=kind == "draws noise", has_oracle=True, **options
            ):
                sizes = {key: value for key, value in attack.settings().items() if key.startswith("n_")}
                print(f"  {attack.name:28s} {', '.join(f'{key}={value}' for key, value in sizes.items())}")
    print(f"other names:\n{attack_names()}")


if __name__ == "__main__":
    main()
