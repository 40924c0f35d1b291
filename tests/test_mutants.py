"""The suite catches every mutant; the whole of it is slow, that each can still be made is not."""

import subprocess
import sys

import mutants
import pytest


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_one_place_in_the_code(mutant):
    source = (mutants.ROOT / mutant.path).read_text(encoding="utf-8")
    assert source.count(mutant.right) == 1
    assert mutant.right != mutant.wrong
    file, _, test = mutant.tests.partition("::")
    assert f"def {test}" in (mutants.ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")


def test_mutants_have_names_of_their_own():
    assert len({mutant.name for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS)


def test_the_table_keeps_rows_of_what_is_not_run():
    first, second, third, *_ = mutants.MUTANTS
    old = mutants.table({first: "a::b", second: "a::c"})
    # Another file of the same name is another mutant.
    old = old.replace(f"`{second.path}`", "`elsewhere.py`", 1) if second.path != first.path else old
    rows = mutants.table({third: None}, old).splitlines()[2:]
    assert len(rows) == len(mutants.MUTANTS)
    assert rows[0] == f"| {first.name} | `{first.path}` | `a::b` |"
    assert rows[1].endswith("| not run |" if second.path != first.path else "| `a::c` |")
    assert rows[2].endswith("| **nothing** |")
    assert all(row.endswith("| not run |") for row in rows[3:])


def test_compiled_files_and_what_they_import_get_a_cache_of_their_own():
    assert mutants.is_compiled("pde/feynman_kac/_kernels64.py")
    assert not mutants.is_compiled("figures/mlmc.py")
    assert not mutants.is_compiled("pde/equation.py")


@pytest.mark.slow
def test_a_server_of_forks_that_knows_the_project_hides_no_mutant():
    # As tests of killed trainings leave it, in a session that runs both.
    script = f"""
import multiprocessing, sys
sys.path[:0] = [{str(mutants.ROOT)!r}, {str(mutants.ROOT / "tests" / "helpers")!r}]
if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pde.spectral"])
    process = context.Process(target=print)
    process.start()
    process.join()
    import mutants
    assert mutants.catch(mutants.MUTANTS[0]) is not None
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant):
    assert mutants.catch(mutant) is not None
