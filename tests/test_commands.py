"""Every command on the options that people mistype: one line that names the option as typed, status 2, no file left.

The commands run in this process by `main(argv)`; a few run as processes, for what only a process has: closed pipes,
terminals that know ASCII alone, Ctrl-C.
"""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import _enresnet
import enresnet

ROOT = Path(__file__).resolve().parents[1]
CORE = ("fig4", "mlmc", "theorems")
FIGURES = (*CORE, *(f"fig{n}" for n in (1, 2, 3, 5, 6, 7, 8, 9, 10)), "convergence", "effective_diffusion")
FIGURES += ("robustness_curve", "sparsity")
OF_RUNS = ("fig5", "fig6", "fig7", "fig8", "fig9", "fig10", "robustness_curve", "sparsity", "effective_diffusion")

# (module, arguments, what the line must hold: the option as typed, and what came)
WRONG = [
    *((f"figures.{name}", f"--bar 3 {option}", ("--bar",)) for name in FIGURES for option in ("", "--quick")),
    *((f"figures.{name}", "--seed x", ("--seed", "'x'")) for name in FIGURES),
    *((f"figures.{name}", "--quick --seed -1", ("--seed", "-1")) for name in FIGURES),
    *((f"figures.{name}", "--out=", ("--out", "''")) for name in FIGURES),
    *((f"figures.{name}", "--quick --out /proc/none/x", ("--out", "/proc/none/x")) for name in FIGURES),
    *((f"figures.{name}", "--replot", ("--replot", f"{name}.npz")) for name in FIGURES),
    *((f"figures.{name}", "--quick --runs nowhere", ("--runs", "nowhere")) for name in OF_RUNS),
    ("figures.fig4", "--n 8", ("--n", "8")),
    ("figures.fig4", "--n 1.5", ("--n", "1.5")),
    ("figures.fig4", "--method euler", ("--method", "euler")),
    ("figures.fig4", "--velocity smooth", ("--velocity", "smooth")),
    ("figures.fig4", "--sigmas -1", ("--sigmas", "-1")),
    ("figures.fig4", "--sigmas nan", ("--sigmas", "nan")),
    ("figures.fig4", "--sigmas 1e300", ("--sigmas", "1e+300")),
    ("figures.fig4", "--sigmas 0.1 0.1", ("--sigmas",)),
    ("figures.fig4", "--sigmas", ("--sigmas",)),
    ("figures.fig4", "--qick", ("--qick",)),
    ("figures.fig4", "--quic", ("--quic",)),
    ("figures.fig1", "--quick --model foo", ("--model", "foo")),
    ("figures.fig2", "--quick --model foo", ("--model", "foo")),
    ("figures.__main__", "fig99", ("fig99",)),
    ("figures.__main__", "--bar", ("--bar",)),
    ("figures.__main__", "--seed -1", ("--seed", "-1")),
    ("figures.__main__", "--runs nowhere fig5", ("--runs", "nowhere")),
    ("figures.__main__", "--out= fig1", ("--out",)),
    ("figures.__main__", "fig1 --data nowhere", ("--data has no effect on fig1", "fig5")),
    ("figures.__main__", "fig1 verdict --runs .", ("--runs has no effect on fig1, verdict", "tables")),
    ("figures.tables", "12", ("12",)),
    ("figures.tables", "x", ("x",)),
    ("figures.tables", "--results nowhere", ("--results", "nowhere")),
    ("figures.tables", "--runs nowhere", ("--runs", "nowhere")),
    ("figures.tables", "--seed -1", ("--seed", "-1")),
    ("figures.tables", "--out /proc/none/x 2", ("--out", "/proc/none/x")),
    ("figures.gallery", "--out=", ("--out",)),
    ("figures.gallery", "--bar", ("--bar",)),
    ("figures.gallery", "--quick", ("--quick",)),
    ("figures.gallery", "--seed -4", ("--seed",)),
    ("figures._shipped", "nofile", ("nofile does not exist", "python -m figures.nofile")),
    ("figures._shipped", "", ("FILE",)),
    ("nets.zoo._pack", "norun cifar10/x", ("norun",)),
    ("nets.zoo._pack", "norun", ("norun", "NAME")),
    ("lessons._thumbnails", "nosuch", ("no lesson nosuch", "residual_block_is_euler_step")),
    ("nets.train", "nothing/like_it", ("nothing/like_it",)),
    ("nets.train", "--bar 3", ("--bar",)),
    ("nets.train", "cpu/digits extra", ("extra",)),
    ("nets.train", "--model resnet", ("--model", "resnet")),
    ("nets.train", "--model en0_resnet20", ("--model", "en0_resnet20")),
    ("nets.train", "--epochs 0", ("--epochs", "0")),
    ("nets.train", "--epochs many", ("--epochs", "many")),
    ("nets.train", "--lr x", ("--lr", "'x'")),
    ("nets.train", "--lr -1", ("--lr", "-1")),
    ("nets.train", "--lr nan", ("--lr", "nan")),
    ("nets.train", "--batch-size 0", ("--batch-size", "0")),
    ("nets.train", "--batch-size 100000", ("--batch-size", "100000")),
    ("nets.train", "--n-threads -2", ("--n-threads", "-2")),
    ("nets.train", "--n-threads 2.5", ("--n-threads", "2.5")),
    ("nets.train", "--method magic", ("--method", "magic")),
    ("nets.train", "--precision int8", ("--precision", "int8")),
    ("nets.train", "--coef -0.1", ("--coef", "-0.1")),
    ("nets.train", "--eps 8//255", ("--eps", "8//255")),
    ("nets.train", "--eps -1", ("--eps", "-1")),
    ("nets.train", "--device gpu", ("--device", "gpu")),
    ("nets.train", "--data nowhere", ("nowhere",)),
    ("nets.train", "--seed x", ("--seed", "'x'")),
    ("nets.train", "--seed", ("--seed",)),
    ("nets.train", "--seed -1", ("--seed", "-1")),
    ("nets.train", "--out=", ("--out",)),
    ("nets.train", "--out /proc/none/x", ("/proc/none/x",)),
    ("nets.train", "--integrate a b", ("--integrate",)),
    ("nets.train", "table7/en2_resnet20+en5_resnet20", ("--integrate",)),
    ("nets.evaluate", "", ("RUN",)),
    ("nets.evaluate", "nowhere", ("nowhere does not exist: a run is a directory",)),
    ("nets.evaluate", "nowhere --bar", ("--bar",)),
    ("nets.evaluate", "nowhere --draws x", ("--draws", "'x'")),
    ("nets.evaluate", "nowhere --draws 1.5", ("--draws", "1.5")),
    ("nets.evaluate", "nowhere --n-images many", ("--n-images", "many")),
    ("nets.evaluate", "nowhere --preset", ("--preset",)),
    ("nets.evaluate", "nowhere --preset huge", ("huge",)),
    ("nets.evaluate", "nowhere --out=", ("--out",)),
    ("nets.evaluate", "nowhere --n-threads x", ("--n-threads", "'x'")),
    ("nets.compare", "", ("--first",)),
    ("nets.compare", "--bar", ("--bar",)),
    ("nets.compare", "--first nowhere --second nowhere", ("nowhere",)),
    ("nets.compare", "--first nowhere", ("--second",)),
    ("nets.compare", "--n-threads x", ("--n-threads", "'x'")),
    ("nets.compare", "--n-images 0 --first a --second b", ("--n-images must be",)),
    ("nets.compare", "--draws 0 --first a --second b", ("--draws must be",)),
    ("nets.compare", "--seed -1 --first a --second b", ("--seed must be",)),
    ("nets.compare", "--preset huge --first a --second b", ("huge",)),
    ("nets.campaign", "--minutes x", ("--minutes", "'x'")),
    # Refused before CIFAR-10 is read or downloaded.
    ("nets.campaign", "--minutes -1", ("--minutes must be", "--minutes=-1")),
    ("nets.campaign", "--evaluation 2", ("--evaluation must be", "got 2")),
    ("nets.campaign", "--seed -1", ("--seed must be", "--seed=-1")),
    ("nets.campaign", "--n-threads 0", ("--n-threads must be", "--n-threads=0")),
    ("nets.campaign", "nosuch", ("'nosuch'", "python -m nets.train --list")),
    ("nets.campaign", "--minutes 0 --quick", ("--minutes", "0")),
    ("nets.campaign", "--evaluation 2 --quick", ("--evaluation", "2")),
    ("nets.campaign", "--bar", ("--bar",)),
    ("nets.campaign", "cpu/nothing", ("cpu/nothing",)),
    ("nets.campaign", "--also magic --quick", ("magic",)),
    ("nets.campaign", "--compile fast", ("--compile", "fast")),
    ("nets.campaign", "--preset huge", ("--preset", "huge")),
    ("nets.campaign", "--data nowhere --quick", ("nowhere",)),
    ("lessons.__main__", "--port x", ("--port", "'x'")),
    ("lessons.__main__", "--port -1", ("--port", "-1")),
    ("lessons.__main__", "--port 99999999", ("--port", "99999999")),
    ("lessons.__main__", "--bar", ("--bar",)),
    ("lessons.__main__", "residual_block_is_euler_step", ("NAME", "--handout")),
    ("lessons.__main__", "--handout nothing", ("nothing",)),
    ("lessons.__main__", "--ipynb --out /proc/none/x", ("--out", "/proc/none/x")),
    ("lessons.__main__", "--ipynb --out=", ("--out",)),
    ("lessons.__main__", "--html /proc/none/x", ("--html", "/proc/none/x")),
    ("lessons.__main__", "--html=", ("--html", "''")),
    ("lessons.__main__", "nothing --html pages", ("nothing",)),
]


@pytest.mark.parametrize(("module", "arguments", "parts"), WRONG, ids=[f"{m} {a}" for m, a, _ in WRONG])
def test_a_wrong_option_is_one_line_that_names_it(module, arguments, parts, capsys, tmp_path, monkeypatch):
    if module.partition(".")[0] != "figures" or module.partition(".")[2] not in CORE:
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(module).main(arguments.split())
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert err.count("\n") == 1 and err.endswith("\n"), err
    name = module.removesuffix(".__main__")
    assert err.startswith(f"python -m {name}") and ": error: " in err
    message = err.partition(": error: ")[2]
    assert all(part in message for part in parts), err
    assert "Errno" not in message and "object at 0x" not in message and "Traceback" not in message
    assert out == ""
    assert not list(tmp_path.iterdir())


def test_the_survey_is_of_its_size():
    assert len(WRONG) >= 150
    assert len({(module, arguments) for module, arguments, _ in WRONG}) == len(WRONG)


def start(*words, width="80", **variables):
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": width, "PYTHONPATH": str(ROOT)} | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


PROCESSES = [
    ("figures.fig4", ("--n", "x"), "--n"),
    ("figures", ("--width", "3"), "--width"),
    ("nets.train", ("--lr", "x"), "--lr"),
    ("nets.evaluate", ("--preset",), "--preset"),
    ("lessons", ("--port", "x"), "--port"),
]
SLOW = {("nets.train", True), ("nets.evaluate", False)}


# Those that import PyTorch take seconds: each by one of its two names, and with --slow by both.
NAMED = [
    pytest.param(*each, installed, marks=pytest.mark.slow if (each[0], installed) in SLOW else [])
    for each in PROCESSES
    for installed in (False, True)
]


@pytest.mark.parametrize(("module", "words", "option", "installed"), NAMED)
def test_processes_refuse_in_one_line_on_a_narrow_terminal_that_knows_ascii(module, words, option, installed, tmp_path):
    if module != "figures.fig4":
        pytest.importorskip("torch")
    name = {each.removesuffix(".__main__"): name for name, each in enresnet.COMMANDS.items()}[module]
    command = ("-m", "enresnet", name) if installed else ("-m", module)
    process = start(*command, *words, width="40", PYTHONUTF8="0", PYTHONIOENCODING="ascii", LC_ALL="C")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (2, b"")
    assert err.count(b"\n") == 1 and option.encode() in err, err
    typed = f"enresnet {name}" if installed else f"python -m {module}"
    assert err.decode("ascii").startswith(typed)


def test_the_result_survives_a_terminal_that_knows_ascii(tmp_path):
    process = start("-m", "figures.tables", "2", "--out", str(tmp_path), PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert b"Table 2" in out and b"?" in out
    assert "±" in (tmp_path / "table2.md").read_text(encoding="utf-8")


def test_a_closed_pipe_ends_without_a_word():
    code = "import sys, _enresnet; _enresnet.run(lambda: [print('x' * 100) for _ in range(10**5)], 'p')"
    process = start("-c", code)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == _enresnet.BROKEN_PIPE


@pytest.mark.parametrize("module", ["figures.fig4", "nets.train", "nets.evaluate", "lessons"])
def test_ctrl_c_is_silent_while_a_command_imports(module, tmp_path):
    # A stand-in that says when it is imported, and then takes its time.
    first = "numpy" if module == "figures.fig4" else "marimo" if module == "lessons" else "torch"
    slow = "import os, time\nos.write(1, b'importing\\n')\ntime.sleep(60)\n"
    (tmp_path / f"{first}.py").write_text(slow, encoding="utf-8")
    if module == "lessons":
        code = f"import sys; sys.argv = ['-m']; import lessons, time; {slow!r} and exec({slow!r})"
        process = start("-c", code, PYTHONPATH=str(ROOT))
    else:
        process = start("-m", module, PYTHONPATH=os.pathsep.join((str(tmp_path), str(ROOT))))
    assert process.stdout.readline() == b"importing\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_ctrl_c_is_silent_while_the_installed_command_imports(tmp_path):
    (tmp_path / "numpy.py").write_text("import os, time\nos.write(1, b'importing\\n')\ntime.sleep(60)\n")
    process = start("-m", "enresnet", "fig4", PYTHONPATH=os.pathsep.join((str(tmp_path), str(ROOT))))
    assert process.stdout.readline() == b"importing\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("n_threads must be >= 1, got n_threads=0", "--n-threads must be >= 1, got --n-threads=0"),
        ("lr must be > 0", "--lr must be > 0"),
        ("the file lr is damaged", "the file lr is damaged"),
        ("name must be one of a, b", "--model must be one of a, b"),
        ("run/lr=3 is a folder", "run/lr=3 is a folder"),
        ("--lr must be > 0", "--lr must be > 0"),
    ],
)
def test_messages_name_options_and_nothing_else(message, wanted):
    assert _enresnet.name_options(message, {"n_threads", "lr"}, {"name": "--model"}) == wanted


def test_names_and_options_stand_in_any_order(capsys):
    parser = _enresnet.OneLineParser("p", "")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out")
    for words in ("a b --out x", "a --out x b", "--out x a b", "--out=x a b"):
        arguments = parser.parse_args(words.split())
        assert (arguments.names, arguments.out) == (["a", "b"], "x")
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["a", "b", "--outt"])
    assert (stop.value.code, capsys.readouterr().err) == (2, "p: error: unrecognized arguments: --outt\n")


def test_numbers_go_with_their_nouns():
    assert [_enresnet.counted(n, "step") for n in (0, 1, 20)] == ["0 steps", "1 step", "20 steps"]


def test_the_installed_command_knows_every_command_and_refuses_others(capsys):
    for module in enresnet.COMMANDS.values():
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists() or (
            ROOT / module.replace(".", "/")
        ).is_dir()
    enresnet.main([])
    assert all(f"enresnet {name}" in capsys.readouterr().out for name in list(enresnet.COMMANDS)[:1])
    with pytest.raises(SystemExit) as stop:
        enresnet.main(["fig5x"])
    assert stop.value.code == 2
    assert "'fig5x'" in capsys.readouterr().err
