"""Directives of the pages: tables made from the committed numbers in results/, so that no number is written twice.

```{results} NAME```: one of TABLES. A file that is not there makes a sentence that says so.
"""

import json
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

NORMS = {"linf": "ℓ∞", "l2": "ℓ₂"}
DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "results"
# Made by `make docs`; their folder is copied as it is.
LESSON_PAGES = DOCS / "_build" / "pages" / "lessons"


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def read(name):
    """The content of results/NAME.json."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def made_by(content):
    """A line on the machine and the versions behind a benchmark."""
    machine = content["machine"]
    where = f"{machine.get('cpu', machine.get('processor', ''))}, {machine.get('n_cores', machine.get('cores'))} cores"
    if "avx512" in machine:
        where += f", {'with' if machine['avx512'] else 'without'} AVX-512"
    return f"\n\n{where}, commit `{str(machine.get('commit', content.get('commit')))[:9]}`."


def spectral():
    """Wall time of each tool on the pinned problem, with the ratio to ours."""
    content = read("benchmark_spectral")
    cases = [(r.get("problem", "pinned"), r["comparison"], r["n"]) for r in content["rows"]]
    pairs = zip(cases, content["rows"], strict=True)
    ours = {case: min(r["seconds"]) for case, r in pairs if r["tool"] == "ours"}
    names = {"paper": "the paper's step, 1e-3", "tuned": "step chosen by hand for 1e-8"}
    rows = [
        (
            case[0],
            row["n"],
            names.get(row["comparison"], row["comparison"]),
            f"{row['tool']}: {row['method']}",
            row["n_steps"],
            f"{row['error']:.1e}",
            f"{1e3 * min(row['seconds']):.0f} ms",
            f"{min(row['seconds']) / ours[case]:.1f}",
        )
        for case, row in zip(cases, content["rows"], strict=True)
    ]
    head = ("problem", "n", "peers' step", "tool", "steps", "error", "time", "time / ours")
    return table(head, rows) + made_by(content)


def feynman_kac():
    """Path-steps per second, and the time of the whole case."""
    content = read("benchmark_feynman_kac")
    diffrax = min(row["full_seconds"] for row in content["rows"] if row["tool"] == "diffrax")
    rows = [
        (
            f"{row['tool']}: {row['method']}",
            row.get("dtype", ""),
            row["n_steps"],
            f"{row['rate'] / 1e6:.0f} M" if row.get("rate") else "–",
            f"{row['full_seconds']:.3g} s",
            f"{diffrax / row['full_seconds']:.3g}",
            f"{row['chi2']:.2f}",
        )
        for row in content["rows"]
    ]
    return table(
        ("tool", "numbers", "steps", "path-steps/s", "whole case", "speed, diffrax = 1", "χ² per point"), rows
    ) + made_by(content)


def work_precision():
    """Time of each method at each error requested."""
    content = read("benchmark_work_precision")
    requested = sorted({row["requested"] for row in content["rows"]}, reverse=True)
    methods = dict.fromkeys((row["tool"], row["method"]) for row in content["rows"])
    times = {(row["tool"], row["method"], row["requested"]): row["time"] for row in content["rows"]}
    rows = [
        (f"{tool}: {method}", *(f"{times[key]:.3g} s" if (key := (tool, method, eps)) in times else "–"
                                for eps in requested))
        for tool, method in methods
    ]  # fmt: skip
    return table(("rms error requested", *(f"{eps:.0e}" for eps in requested)), rows) + made_by(content)


def ensemble():
    """Ratios of medians beside the released design."""
    content = read("benchmark_ensemble")
    rows = [
        (f"En{row['n_members']}ResNet-20", row["work"], row["design"], f"{row['median_ratio']:.1f}")
        for row in content["rows"]
        if row["design"] != "released"
    ]
    return table(("network", "work", "ours", "speed, released design = 1"), rows) + made_by(content)


def attacks():
    """Speed of attacks beside torchattacks' of the same kind on the same network."""
    content = read("benchmark_attacks")
    rows = [
        (
            row.get("network", "ResNet-20"),
            f"{row['tool']}: {row['method']}",
            row["threads"],
            f"{row['ratio']:.2f}",
            f"{row['core_ratio']:.2f}",
        )
        for row in content["rows"]
        if row.get("ratio")
    ]
    head = ("network", "tool", "threads", "speed, torchattacks = 1", "by processor time")
    return table(head, rows) + made_by(content)


def strength():
    """Images broken by ours and by the official code, and the ratio of their processor times."""
    content = read("benchmark_strength")
    rows = [
        (
            row["network"].rpartition("/")[2],
            f"{NORMS[row['norm']]}, {row['eps']:.3g}",
            f"{row['attack'].upper()}, {row['n_iter']} steps",
            f"{row['right']} of {row['n']}",
            row["ours"],
            row["official"],
            row["ours_alone"],
            row["official_alone"],
            f"{row['cpu_seconds_official'] / row['cpu_seconds_ours']:.2f}",
        )
        for row in content["rows"]
    ]
    head = ("network", "ball", "attack", "right before", "broken by ours", "by the official code", "by ours alone",
            "by it alone", "speed, official = 1")  # fmt: skip
    return table(head, rows) + made_by(content)


def scaling():
    """Times for each value of what varies, and the exponents between them."""
    content = read("benchmark_scaling")
    rows = [
        (
            row["what"],
            row["parameter"],
            " / ".join(map(str, row["values"])),
            " / ".join(f"{1e3 * seconds:.3g}" for seconds in row["best"]),
            ", ".join(f"{exponent:.2f}" for exponent in row["exponents"]),
        )
        for row in content["rows"]
    ]
    return table(("what", "varied", "values", "ms", "exponents"), rows) + made_by(content)


def cuda():
    """Registers and instructions of the kernels, as compiled; the ranges over architectures, noise and increments."""
    groups = {}
    for row in read("cuda_kernels")["rows"]:
        key = (row["dtype"], row["degree"], row["table_shared"], row["heun"])
        groups.setdefault(key, []).append(row)
    names = ("registers", "step_instructions", "step_local_accesses")
    rows = [
        (dtype, {1: "bilinear", 3: "bicubic"}[degree], "shared" if shared else "global", "Heun" if heun else "Euler")
        + tuple("–".join(map(str, sorted({min(v), max(v)}))) for v in ([r[name] for r in group] for name in names))
        for (dtype, degree, shared, heun), group in groups.items()
    ]
    head = ("numbers", "velocity", "table in memory", "scheme", "registers", "instructions per step",
            "local accesses per step")  # fmt: skip
    return table(head, rows)


def gradients():
    """Standard deviation of the estimates of one path, beside the closed form."""
    one_path = read("gradients")["one_path"]
    names = {"wave_bismut": "Bismut, wave", "wave_pathwise": "pathwise, wave", "stripes_bismut": "Bismut, stripes"}
    columns = [one_path[name] for name in names]
    rows = [
        (f"{sigma:.3g}", *(f"{column[key][i]:.3g}" for column in columns for key in ("sd", "closed_form")))
        for i, sigma in enumerate(columns[0]["sigma"])
    ]
    head = ("σ", *(cell for name in names.values() for cell in (name, "closed form")))
    return table(head, rows)


def mlmc():
    """Gain of each way of reducing the variance."""
    content = read("mlmc")
    rows = [
        (name, f"{gain:.2f}", f"{content['gain_per_second'][name]:.2f}")
        for name, gain in content["gain_per_step"].items()
    ]
    head = ("option", "variance ratio at equal path-steps", "at equal time, set-up included")
    ratio = content["cost_ratio"]
    line = (
        f"\n\nMultilevel: {ratio['plain_over_multilevel']:.1f} times less cost at an rms error of {ratio['error']:.1e}."
    )
    return table(head, rows) + line


def lesson_pages():
    """Where the lessons are as pages, or how to make them."""
    if not (LESSON_PAGES / "index.html").is_file():
        return (
            "The pages are not part of this copy of the documentation: `make docs` makes them, "
            "and so does `python -m lessons --html DIR`."
        )
    # Sphinx knows nothing of these files, and would miss the target of a link of Markdown.
    return '**<a href="lessons/index.html">All six lessons as pages</a>**, with sliders and exercises, in this folder.'


TABLES = {
    "spectral": spectral,
    "feynman_kac": feynman_kac,
    "work_precision": work_precision,
    "ensemble": ensemble,
    "attacks": attacks,
    "strength": strength,
    "mlmc": mlmc,
    "scaling": scaling,
    "cuda": cuda,
    "gradients": gradients,
    "lesson_pages": lesson_pages,
}


class Results(SphinxDirective):
    """The directive."""

    required_arguments = 1

    def run(self):
        """Return the nodes of the table."""
        try:
            text = TABLES[self.arguments[0]]()
        except FileNotFoundError as error:
            text = f"Not measured yet: `{Path(error.filename).name}` is not in `results/`."
        node = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), self.get_source_info()[0]), 0, node)
        return node.children


def setup(app):
    """Register the directive."""
    app.add_directive("results", Results)
    return {"parallel_read_safe": True}
