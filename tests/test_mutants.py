"""The suite catches every mutant; the whole of it is slow, that each can still be made is not."""

import mutants
import pytest


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_one_place_in_the_code(mutant):
    source = (mutants.ROOT / mutant.path).read_text(encoding="utf-8")
    assert source.count(mutant.right) == 1
    assert mutant.right != mutant.wrong
    assert (mutants.ROOT / "tests" / f"{mutant.tests}.py").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant):
    assert mutants.catch(mutant) is not None
