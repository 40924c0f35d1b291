"""Normal numbers in bulk: a second implementation, the law, and independence of the threads."""

import math
import multiprocessing

import numpy as np
import pytest
import scipy.stats
from test_random import philox_in_python

from pde.feynman_kac import _normals as normals
from pde.feynman_kac._normals import standard_normals

KEY = (0xA4093822, 0x299F31D0)


def box_muller_in_python(j, key):
    """z_j: four numbers a counter, in rows of 256 lanes a block of 1024."""
    block, place = divmod(j, 1024)
    row, lane = divmod(place, 256)
    words = philox_in_python((block, lane, 0, 3), key)
    half = 2 * (row // 2)
    radius = math.sqrt(-2 * math.log(((words[half] >> 8) + 0.5) / 2**24))
    angle = 2 * math.pi * words[half + 1] / 2**32
    return radius * (math.sin(angle) if row % 2 else math.cos(angle))


def test_numbers_equal_the_second_implementation():
    z = standard_normals(5000, KEY)
    places = np.random.default_rng(0).integers(0, 5000, 200)
    expected = [box_muller_in_python(int(j), KEY) for j in places]
    # Single precision: 6 ulp of a number of at most 6, from the polynomials of log, sine and cosine.
    np.testing.assert_allclose(z[places], expected, rtol=2e-6, atol=2e-6)


def test_law_is_normal():
    n = 2**21
    z = standard_normals(n, (3, 5)).astype(float)
    # Five standard errors each: false alarms in 3e-6 of all seeds, and this seed is fixed.
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 5 * math.sqrt(variance / n), power
    assert abs(np.mean(z[:-1] * z[1:])) < 5 / math.sqrt(n)
    # Pairs of one Box-Muller draw are 256 apart: a wrong pair shows in the squares.
    assert abs(np.mean((z[:-256] ** 2 - 1) * (z[256:] ** 2 - 1))) < 5 * 2 / math.sqrt(n)
    assert scipy.stats.kstest(z, "norm").pvalue > 1e-6


def test_keys_give_independent_streams():
    n = 2**18
    a, b = (standard_normals(n, key).astype(float) for key in ((0, 1), (0, 2)))
    assert abs(np.mean(a * b)) < 5 / math.sqrt(n)


@pytest.mark.parametrize("n", [0, 1, 1023, 1025, 3 * 2**16 + 7, 2**20])
def test_numbers_do_not_depend_on_threads_or_on_how_many_are_drawn(n):
    one = standard_normals(n, KEY)
    assert one.shape == (n,)
    for n_threads in (2, 3, 8):
        np.testing.assert_array_equal(standard_normals(n, KEY, n_threads=n_threads), one)
    np.testing.assert_array_equal(standard_normals(n + 5000, KEY)[:n], one)


def _draw(connection):
    connection.send(standard_normals(2**18, KEY, n_threads=2)[-1])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_threads_are_made_again_after_a_fork():
    here = standard_normals(2**18, KEY, n_threads=2)[-1]
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_draw, args=(theirs,))
    child.start()
    assert ours.poll(60), "the child waits for threads that did not survive the fork"
    assert ours.recv() == here
    child.join()
    assert normals._threads(2) is normals._threads(2)


@pytest.mark.parametrize(("arguments", "what"), [((-1, KEY), "n must be"), ((1.5, KEY), "n must be")])
def test_bad_arguments_are_named(arguments, what):
    with pytest.raises(ValueError, match=what):
        standard_normals(*arguments)
    with pytest.raises(ValueError, match="n_threads"):
        standard_normals(1, KEY, n_threads=0)
