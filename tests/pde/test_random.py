"""The counter-based generator: known answers, a second implementation, and the laws of what it makes."""

import math
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import scipy.stats

from pde.feynman_kac import _normals16, brownian_increments
from pde.feynman_kac import _random as random_numbers
from pde.feynman_kac._random import key_from

MASK = 0xFFFFFFFF


def philox_in_python(counter, key):
    """Philox4x32-10 with Python's integers (Salmon et al. 2011, section 3.2)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def compiled_philox(counter, key):
    call = numba.njit(lambda c, k: random_numbers.philox(c[0], c[1], c[2], c[3], k[0], k[1]))
    return [int(word) for word in call(np.array(counter, dtype=np.uint64), np.array(key, dtype=np.uint64))]


# The known answers that the authors of Philox publish with Random123.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((MASK,) * 4, (MASK,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_known_answers(counter, key, answer):
    assert compiled_philox(counter, key) == list(answer)
    assert philox_in_python(counter, key) == list(answer)


def test_philox_equals_the_second_implementation_at_random_counters():
    words = np.random.default_rng(1).integers(0, 2**32, (20, 6))
    for row in words.tolist():
        assert compiled_philox(row[:4], row[4:]) == philox_in_python(row[:4], row[4:])


ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))


def threefry_in_python(counter, key, n_rounds):
    """Threefry4x32 with Python's integers (Salmon et al. 2011, section 3.3)."""
    schedule = [*key, 0x1BD11BDA ^ key[0] ^ key[1] ^ key[2] ^ key[3]]
    x = [(a + b) & MASK for a, b in zip(counter, key, strict=True)]
    for r in range(n_rounds):
        for i, j, rotation in zip((0, 2), (1, 3) if r % 2 == 0 else (3, 1), ROTATIONS[r % 8], strict=True):
            x[i] = (x[i] + x[j]) & MASK
            x[j] = ((x[j] << rotation | x[j] >> (32 - rotation)) & MASK) ^ x[i]
        if r % 4 == 3:
            turn = r // 4 + 1
            x = [(x[q] + schedule[(turn + q) % 5] + (turn if q == 3 else 0)) & MASK for q in range(4)]
    return x


def test_threefry_in_python_gives_the_known_answers():
    # Published with Random123, for 13 and 20 rounds.
    assert threefry_in_python((0,) * 4, (0,) * 4, 20) == [0x9C6CA96A, 0xE17EAE66, 0xFC10ECD4, 0x5256A7D8]
    assert threefry_in_python((MASK,) * 4, (MASK,) * 4, 20) == [0x2A881696, 0x57012287, 0xF6C7446E, 0xA16A6732]
    assert threefry_in_python((0,) * 4, (0,) * 4, 13) == [0x531C7E4F, 0x39491EE5, 0x2C855A92, 0x3D6ABF9A]


def test_threefry_has_twelve_rounds_and_a_key_of_two_words():
    call = numba.njit(lambda c, k: random_numbers.threefry(c[0], c[1], c[2], c[3], k[0], k[1]))
    words = np.random.default_rng(3).integers(0, 2**32, (20, 6), dtype=np.uint32)
    for row in words:
        counter, key = [int(c) for c in row[:4]], [int(k) for k in row[4:]]
        assert [int(word) for word in call(row[:4], row[4:])] == threefry_in_python(counter, [*key, 0, 0], 12)


def test_streams_are_registered_once():
    streams = ("GAUSSIAN64", "GAUSSIAN32", "TWO_POINT32", "NORMALS", "SIGNS")
    assert len({getattr(random_numbers, name) for name in streams}) == len(streams)


ALL_SIXTEEN_BITS = """
import numba, numpy as np
from pde.feynman_kac import _normals16
words = np.arange(2**16, dtype=np.uint32)
words |= words[::-1] << np.uint32(16)
call = numba.njit(lambda words, table, low, high: _normals16.normals_of_words(words, table, low, high, words.size))
low, high = np.empty((2, 2**16), dtype=np.float32)
call(words, _normals16.normal_table().ravel(), low, high)
"""


@pytest.fixture(scope="module")
def sixteen_bits():
    names = {}
    exec(ALL_SIXTEEN_BITS, names)
    return names["low"], names["high"]


def test_sixteen_bits_give_the_normal_law(sixteen_bits):
    low, high = (half.astype(float) for half in sixteen_bits)
    # Every value of a half word occurs once: these are the moments of the law itself.
    assert np.array_equal(np.sort(low), np.sort(high))
    assert np.array_equal(np.sort(low), np.sort(-low)) and low.mean() == 0
    assert abs((low**2).mean() - 1) < 1e-6
    assert abs((low**4).mean() / 3 - 1) < 1e-4
    assert abs((low**6).mean() / 15 - 1) < 1e-3
    quantiles = scipy.stats.norm.ppf((np.arange(2**16) + 0.5) / 2**16)
    # The outermost cells of probability 2**-16 hold the root mean square of the law, not its median.
    assert np.abs(np.sort(low) - quantiles)[50:-50].max() < 1e-3
    assert 4.3 < low.max() < 4.5


def test_half_words_are_a_sign_and_a_distance_to_the_tail(sixteen_bits):
    low, high = sixteen_bits
    assert np.array_equal(high, low[::-1])
    assert np.array_equal(low[2**15 :], -low[: 2**15])
    # The innermost cubic is exact to a few 1e-4, and each meets the next in order.
    assert low[: 2**15].min() > -5e-4
    assert np.diff(low[: 2**15]).max() < 0


@pytest.mark.parametrize("processor", ["generic", "haswell"])
def test_processors_without_wide_permutations_draw_the_same_normals(sixteen_bits, processor, tmp_path):
    if processor == "haswell" and not _normals16.PERMUTES:
        pytest.skip("this processor has no AVX2")
    features = "+avx,+avx2,+fma" if processor == "haswell" else ""
    environment = {**os.environ, "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features}
    script = ALL_SIXTEEN_BITS + f"np.savez({str(tmp_path / 'z.npz')!r}, low=low, permutes=_normals16.PERMUTES)"
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    with np.load(tmp_path / "z.npz") as data:
        assert data["permutes"] == (8 if processor == "haswell" else 0)
        # A fused and a separate multiplication differ in the last bit of numbers up to 4.4.
        np.testing.assert_allclose(data["low"], sixteen_bits[0], rtol=0, atol=1e-6)


def test_logarithm_and_trigonometry_are_exact_to_rounding():
    u = np.concatenate([np.random.default_rng(2).random(10_000), [2.0**-52, 0.5, 1.0 - 2.0**-52]])
    u = u[u > 0]
    log = numba.njit(lambda u: [random_numbers._log(x) for x in u])(u)
    # Absolute: an error of 1e-15 in log u changes a normal by 1e-15 / |z|.
    np.testing.assert_allclose(log, np.log(u), rtol=1e-14, atol=4e-16)
    words = np.random.default_rng(3).integers(0, 2**32, 10_000, dtype=np.uint32)
    words = np.concatenate([words, np.arange(8, dtype=np.uint32) << 29, np.array([MASK], np.uint32)])
    pairs = np.array(numba.njit(lambda words: [random_numbers._sin_cos_turn(x) for x in words])(words))
    # An angle of up to 2 pi is itself rounded to 4e-16.
    np.testing.assert_allclose(pairs[:, 0], np.sin(2 * np.pi * (words / 2**32)), atol=2e-15)
    np.testing.assert_allclose(pairs[:, 1], np.cos(2 * np.pi * (words / 2**32)), atol=2e-15)
    assert (pairs[10_000:10_008:2] == [(0, 1), (1, 0), (0, -1), (-1, 0)]).all()
    assert np.array(numba.njit(lambda: [random_numbers._log(1.0)])())[0] == 0.0


def test_increments_are_box_muller_of_philox():
    key = key_from(7)
    increments = brownian_increments(7, n_steps=3, n_paths=5, dt=0.25, point=2)
    for step in range(3):
        for path in range(5):
            words = philox_in_python((step // 2, path, 2, 0), key.tolist())
            w1, w2 = words[2:] if step % 2 else words[:2]
            u1, u2 = (w1 + 0.5) / 2**32, w2 / 2**32
            radius = 0.5 * math.sqrt(-2 * math.log(u1))
            expected = (radius * math.cos(2 * math.pi * u2), radius * math.sin(2 * math.pi * u2))
            np.testing.assert_allclose(increments[step, path], expected, atol=1e-14)


def test_two_point_increments_are_bits_of_philox():
    key = key_from(7)
    increments = brownian_increments(7, n_steps=3, n_paths=5, dt=0.25, point=2, increments="two-point")
    for step in range(3):
        for path in range(5):
            words = philox_in_python((step // 2, path, 2, 4), key.tolist())
            pair = words[2:] if step % 2 else words[:2]
            assert increments[step, path].tolist() == [-0.5 if word >> 31 else 0.5 for word in pair]


def test_thirty_two_bits_give_the_normal_law():
    # Radius and angle are independent: E z**(2 m) = E r**(2 m) E cos**(2 m), and r**2 / 2 should be exponential, with
    # E (r**2 / 2)**m = m!. The mean over all 2**32 words, by the words' sums over 2**12 blocks of 2**20 (Simpson in
    # each but the first and last, whose words are summed).
    def moments(words):
        return np.stack([(-np.log((words + 0.5) / 2.0**32)) ** m for m in range(1, 5)])

    ends = np.arange(2**20)
    total = moments(ends).sum(axis=1) + moments(2**32 - 1 - ends).sum(axis=1)
    starts = np.arange(1, 2**12 - 1) * 2.0**20 - 0.5
    thirds = [moments(starts + share * 2.0**20) for share in np.arange(9) / 8]
    weights = np.array([1, 4, 2, 4, 2, 4, 2, 4, 1]) / 24
    total += 2.0**20 * sum(w * piece for w, piece in zip(weights, thirds, strict=True)).sum(axis=1)
    relative = total / 2.0**32 / [1, 2, 6, 24] - 1
    assert np.abs(relative).max() < 1e-6, relative
    # Equally spaced angles have the moments of the circle up to the 2**32nd; the largest radius:
    assert 6.7 < math.sqrt(-2 * math.log(0.5 / 2**32)) < 6.8


def test_increments_are_normal_of_variance_dt():
    dt, count = 0.01, 400_000
    z = brownian_increments(3, n_steps=20, n_paths=count // 40, dt=dt).ravel() / math.sqrt(dt)
    # Each of the four tests has a false-alarm rate of 1e-6.
    assert scipy.stats.kstest(z, "norm").pvalue > 1e-6
    assert abs(z.mean()) * math.sqrt(count) < 4.9
    assert abs((z**2).mean() - 1) / math.sqrt(2 / count) < 4.9
    assert abs((z**4).mean() - 3) / math.sqrt(96 / count) < 4.9


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_neighbouring_counters_are_uncorrelated(axis):
    z = brownian_increments(4, n_steps=64, n_paths=4096, dt=1.0)
    first, second = np.split(np.moveaxis(z, axis, 0)[: z.shape[axis] // 2 * 2].reshape(2, -1), 2)
    # The product of independent normals has variance 1; 4.9 standard errors are passed with probability 1e-6.
    assert abs((first * second).mean()) * math.sqrt(first.size) < 4.9


def test_a_number_depends_on_its_counter_alone():
    many = brownian_increments(5, n_steps=8, n_paths=300, dt=1.0)
    few = brownian_increments(5, n_steps=3, n_paths=7, dt=1.0)
    assert (many[:3, :7] == few).all()
    assert not np.isin(brownian_increments(5, 8, 300, 1.0, point=1), many).any()
    assert not np.isin(brownian_increments(6, 8, 300, 1.0), many).any()


def test_antithetic_paths_have_opposite_increments():
    pairs = brownian_increments(5, n_steps=4, n_paths=6, dt=1.0, antithetic=True)
    single = brownian_increments(5, n_steps=4, n_paths=3, dt=1.0)
    assert (pairs[:, ::2] == single).all()
    assert (pairs[:, 1::2] == -single).all()


def test_a_generator_is_a_source_of_keys():
    assert (key_from(np.random.default_rng(8)) == key_from(np.random.default_rng(8))).all()
    rng = np.random.default_rng(8)
    assert (key_from(rng) != key_from(rng)).any()


@pytest.mark.parametrize("rng", [-1, 1.5, "seed", None, True])
def test_what_is_no_seed_is_refused(rng):
    with pytest.raises(ValueError, match="rng must be a seed >= 0"):
        brownian_increments(rng, 1, 1, 1.0)
