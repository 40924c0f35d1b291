"""The CUDA kernel: in numba's simulator the paths of the compiled CPU loop; on a device, where there is one, the same.

The simulator must be chosen before numba is imported, so it runs in an interpreter of its own: this file, as a script,
computes all cases and stores what it found.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import scipy.stats

import pde
from pde import convergence, feynman_kac, problems
from pde.feynman_kac import _cuda as fk_cuda
from pde.feynman_kac import _cuda_device, _increments, _moments
from pde.feynman_kac._cuda import cuda
from pde.feynman_kac._random import DTYPES
from pde.feynman_kac._shards import Blocks
from pde.feynman_kac._time_steps import TimeSteps
from pde.feynman_kac._velocity_tables import VelocityTables

KEYS = np.array([[0, 0], [0xFFFFFFFF, 0xFFFFFFFF], [0xA4093822, 0x299F31D0]], dtype=np.uint32)
COUNTERS = np.array(
    [[0] * 4, [0xFFFFFFFF] * 4, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]], dtype=np.uint32
)  # fmt: skip
# The known answers that the authors of Philox publish with Random123.
ANSWERS = np.array(
    [
        [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ],
    dtype=np.uint32,
)
N_NORMALS = 500


def on_cuda(problem, points, n_paths=1024, n_steps=1000, rng=0, **options):
    return feynman_kac.estimate(problem, points, n_paths, n_steps, rng, device="cuda", **options)


def random_points(count, length=1.0):
    return np.random.default_rng(0).random((count, 2)) * length


def make_problem(interpolation="bilinear", n=8, n_layers=None, sigma=0.1, length=1.0, horizon=1.0, speed=0.1, f=None):
    """A problem whose fields are splines, mild enough that paths do not part: |grad v| <= 2 n speed sqrt(2) = 2.3."""
    rng = np.random.default_rng(3)
    shape = (2, n, n) if n_layers is None else (n_layers, 2, n, n)
    velocity = pde.PeriodicField(rng.uniform(-speed, speed, shape), length, interpolation)
    f = f or pde.PeriodicField(rng.uniform(-1, 1, (n, n)), length, interpolation)
    return pde.ConvectionDiffusion(velocity, f, sigma=sigma, length=length, horizon=horizon)


def changing(interpolation="bilinear"):
    fields = np.random.default_rng(0).uniform(-0.1, 0.1, (2, 2, 8, 8))
    terminal = make_problem(interpolation).terminal
    return pde.ConvectionDiffusion(
        lambda t: pde.PeriodicField(np.cos(t) * fields[0] + np.sin(5 * t) * fields[1], interpolation=interpolation),
        terminal,
        sigma=0.2,
    )


def wave(points):
    return np.cos(2 * np.pi * (points[..., 0] - 2 * points[..., 1]))


# Points that share increments by blocks, in chunks of four paths.
SHARED_NOISE = {"_WIDTH": 8, "_DEPTH": 4, "_SPREAD": 1}
# name: (problem, points, arguments of the estimate, constants of the module)
CASES = {
    "bilinear": (make_problem(), 3, {"n_paths": 20, "n_steps": 6}, {}),
    "table in shared memory": (make_problem(), 2, {"n_paths": 13, "n_steps": 17}, {}),
    "bicubic": (make_problem("bicubic"), 2, {"n_paths": 7, "n_steps": 18}, {}),
    "odd grid": (make_problem(n=7, length=2.5, horizon=0.7), 5, {"n_paths": 8, "n_steps": 6}, {}),
    "one path": (make_problem(), 20, {"n_paths": 1, "n_steps": 5}, {}),
    "one point": (make_problem(), None, {"n_paths": 37, "n_steps": 5}, {}),
    "layers": (make_problem(n_layers=4), 3, {"n_paths": 8, "n_steps": 12}, {}),
    "layers in shared memory": (make_problem(n_layers=2), 2, {"n_paths": 10, "n_steps": 34}, {}),
    "antithetic": (make_problem(), 3, {"n_paths": 20, "n_steps": 6, "antithetic": True}, {}),
    "common": (make_problem(), 3, {"n_paths": 20, "n_steps": 6, "common_paths": True}, {}),
    "shared noise": (make_problem(), 12, {"n_paths": 6, "n_steps": 4, "common_paths": True}, SHARED_NOISE),
    "shared noise, antithetic, many steps": (
        make_problem(), 8, {"n_paths": 4, "n_steps": 20, "common_paths": True, "antithetic": True}, SHARED_NOISE,
    ),
    "callable velocity": (changing(), 4, {"n_paths": 8, "n_steps": 7}, {}),
    "callable velocity, in chunks": (
        changing("bicubic"), 4, {"n_paths": 8, "n_steps": 7, "antithetic": True}, {"_TABLE_BYTES": 3 * 144 * 16},
    ),
    "chunks not kept, several batches": (
        changing(), 3, {"n_paths": 9, "n_steps": 5},
        {"_TABLE_BYTES": 2 * 100 * 16, "_DEVICE_TABLE_BYTES": 0, "_PARTICLES": 6, "_WIDTH": 4},
    ),
    "callable terminal": (make_problem(f=wave), 4, {"n_paths": 8, "n_steps": 5, "antithetic": True}, {}),
    "chunks of a shared noise": (
        changing(), 9, {"n_paths": 5, "n_steps": 5, "common_paths": True},
        SHARED_NOISE | {"_TABLE_BYTES": 3 * 100 * 16},
    ),
    "batches": (make_problem(), 3, {"n_paths": 22, "n_steps": 3}, {"_LAUNCH": 3 * 9, "_WIDTH": 4}),
    "heun": (make_problem(), 3, {"n_paths": 20, "n_steps": 6, "scheme": "heun"}, {}),
    "heun, table in shared memory": (
        make_problem(n_layers=2), 2, {"n_paths": 4, "n_steps": 34, "scheme": "heun", "antithetic": True}, {},
    ),
    "heun, layers": (make_problem("bicubic", n_layers=3), 2, {"n_paths": 5, "n_steps": 6, "scheme": "heun"}, {}),
    "heun, callable velocity": (changing(), 4, {"n_paths": 8, "n_steps": 7, "scheme": "heun"}, {}),
    "heun, callable velocity, in chunks": (
        changing("bicubic"), 3, {"n_paths": 6, "n_steps": 7, "scheme": "heun"}, {"_TABLE_BYTES": 3 * 144 * 16},
    ),
    "heun, shared noise": (
        make_problem(), 9, {"n_paths": 4, "n_steps": 10, "scheme": "heun", "common_paths": True}, SHARED_NOISE,
    ),
    "two-point": (make_problem(), 3, {"n_paths": 20, "n_steps": 6, "increments": "two-point"}, {}),
    "two-point, heun, antithetic, shared noise": (
        make_problem(), 9,
        {"n_paths": 4, "n_steps": 9, "increments": "two-point", "scheme": "heun", "common_paths": True,
         "antithetic": True},
        SHARED_NOISE,
    ),
    "several periods in a step": (problems.constant_velocity(sigma=2.0), 3, {"n_paths": 8, "n_steps": 1}, {}),
}  # fmt: skip
RESULTS = [f"{name}, {dtype}" for name in CASES for dtype in DTYPES]
# The simulator takes half a second for each: by default the precisions take turns.
FEW = {result for i, result in enumerate(RESULTS) if i < 2 or i % 4 in (0, 3)}


def arguments_of(case):
    problem, count, options, constants = CASES[case]
    return (
        problem,
        [0.3, 0.6] if count is None else random_points(count, problem.length),
        {"rng": 5} | options,
        constants,
    )


def on_device():
    """Philox and the normals of both precisions, by a kernel."""
    philox = _cuda_device.make_philox()
    normals = {name: _cuda_device.make_normals(np.dtype(name)) for name in DTYPES}
    double, single = normals["float64"], normals["float32"]

    @cuda.jit
    def draw(counters, keys, words, z):
        i = cuda.threadIdx.x
        for j in range(i, counters.shape[0], cuda.blockDim.x):
            c = counters[j]
            words[j, 0], words[j, 1], words[j, 2], words[j, 3] = philox(
                c[0], c[1], c[2], c[3], keys[j, 0], keys[j, 1]
            )  # fmt: skip
        for j in range(i, z.shape[1], cuda.blockDim.x):
            path = np.uint32(j)
            z[0, j, 0], z[0, j, 1] = double(np.uint32(2), path, np.uint32(3), np.uint32(7), np.uint32(11))
            z[1, j, 0], z[1, j, 1] = single(np.uint32(2), path, np.uint32(3), np.uint32(7), np.uint32(11))

    words, z = cuda.device_array((3, 4), np.uint32), cuda.device_array((2, N_NORMALS, 2), np.float64)
    draw[1, 4](cuda.to_device(COUNTERS), cuda.to_device(KEYS), words, z)
    return words.copy_to_host(), z.copy_to_host()


def compute_all(path, wanted):
    """All cases that are wanted, in the simulator; some twice."""
    found = {}
    defaults = vars(fk_cuda).copy()
    for name in CASES:
        problem, points, options, constants = arguments_of(name)
        vars(fk_cuda).update(
            {key: defaults[key] for key in defaults if key[:1] == "_" and key[1:2].isupper()} | constants
        )
        for dtype in DTYPES:
            if (result := f"{name}, {dtype}") in wanted:
                e = on_cuda(problem, points, dtype=dtype, **options)
                found[result] = np.stack([e.mean, e.stderr])
    vars(fk_cuda).update(defaults)
    problem, points, options, _ = arguments_of("bilinear")
    for index in range(2):
        found[f"again {index}"] = on_cuda(problem, points, **options).mean
    found["generator"] = on_cuda(problem, points, **options | {"rng": np.random.default_rng(8)}).mean
    still = make_problem(sigma=0.0)
    found["characteristics"] = on_cuda(still, points, n_paths=4, n_steps=5).mean
    found["empty"] = on_cuda(problem, np.empty((0, 2)), 4, 2).mean
    found["words"], found["normals"] = on_device()
    found["errors"] = json.dumps(failures())
    found["shards"] = np.stack(list(in_shards(Path(path).parent)))
    np.savez(path, **found)


def in_shards(directory):
    """The same estimate in one piece, in three shards of this process, of two processes, and from a checkpoint."""
    problem, points, _, _ = arguments_of("heun, callable velocity")
    options = {"n_paths": 12, "n_steps": 3, "rng": 2, "scheme": "heun", "increments": "two-point",
               "antithetic": True}  # fmt: skip
    # Blocks of four paths of three points, so that there are several.
    blocks = fk_cuda.blocks_of

    def small(problem, n_points, n_paths, *_):
        return Blocks(n_points, n_paths, 3, 4)

    fk_cuda.blocks_of = small
    saved = directory / "moments.npz"
    results = [on_cuda(problem, points, **options), on_cuda(problem, points, **options, n_shards=3)]
    with joblib.parallel_config(backend="loky", n_jobs=2):
        results.append(on_cuda(problem, points, **options, n_shards=3, checkpoint=saved))
    results.append(on_cuda(problem, points, **options, checkpoint=saved))
    try:
        feynman_kac.estimate(problem, points, **options, checkpoint=saved)
    except ValueError as error:
        # The CPU does not go on with what the device began.
        assert "device=cuda (here None)" in str(error), error
    else:
        raise AssertionError("the CPU took a checkpoint of the device")
    fk_cuda.blocks_of = blocks
    for e in results:
        yield np.stack([e.mean, e.stderr])


def failures():
    """What is raised, by name."""
    overflowing = pde.ConvectionDiffusion(
        np.zeros((2, 8, 8)), pde.PeriodicField(np.full((8, 8), 1e300), interpolation="bilinear"), sigma=0.1
    )
    turning = pde.ConvectionDiffusion(
        lambda t: pde.PeriodicField(np.zeros((2, 8, 8)), interpolation="bilinear" if t < 0.5 else "bicubic"),
        np.zeros((8, 8)),
        sigma=0.1,
    )
    raised = {}
    for name, problem, dtype in [("overflow", overflowing, "float32"), ("turning", turning, "float64")]:
        with warnings.catch_warnings():
            # A device overflows in silence; the simulator's NumPy does not.
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                on_cuda(problem, [0.1, 0.2], 4, 4, dtype=dtype)
            except (ValueError, FloatingPointError) as error:
                raised[name] = f"{type(error).__name__}: {error}"
    return raised


@pytest.fixture(scope="module")
def simulated(tmp_path_factory, request):
    if importlib.util.find_spec("numba.cuda") is None:
        pytest.skip("this numba has no CUDA target: its simulator comes with numba-cuda")
    path = tmp_path_factory.mktemp("simulated") / "found.npz"
    root = Path(__file__).resolve().parents[2]
    search = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    slow = ["--slow"] if request.config.getoption("--slow") else []
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, str(path), *slow],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": search},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    with np.load(path) as data:
        return dict(data)


def single_precision_tolerance(problem, n_steps):
    """What float32 may change, in units of f.

    A step adds 4 roundings of 2**-24 of the displacement and 1e-6 of the standard deviation of a normal (whose first
    32 bits alone are used, and 2**-24 of whose logarithm is rounding); errors of different steps are independent. Each
    is stretched by exp(|grad v| T) <= 10 and seen through |grad f| <= 2 sqrt(2) n / length, a mode's being less.
    """
    dt = problem.horizon / n_steps
    deviation = problem.sigma * math.sqrt(dt)
    displacement = 0.8 * dt + 4 * deviation
    step = 4 * 2**-24 * displacement + 1e-6 * deviation
    return math.sqrt(n_steps) * step * 10 * 2 * math.sqrt(2) * 8 / problem.length + 1e-6


@pytest.mark.parametrize(
    "result", [pytest.param(result, marks=[] if result in FEW else pytest.mark.slow) for result in RESULTS]
)
def test_simulated_kernel_equals_the_cpu(result, simulated):
    name, _, dtype = result.rpartition(", ")
    problem, points, options, _ = arguments_of(name)
    e = feynman_kac.estimate(problem, points, **options)
    mean, stderr = simulated[result]
    # Rounding of 33 steps at most, 1e-16 each, stretched and seen as above.
    tolerance = 1e-11 if dtype == "float64" else single_precision_tolerance(problem, options["n_steps"])
    np.testing.assert_allclose(mean, e.mean, rtol=0, atol=tolerance)
    np.testing.assert_allclose(stderr, e.stderr, rtol=0, atol=tolerance)


def test_simulated_philox_gives_the_known_answers(simulated):
    assert (simulated["words"] == ANSWERS).all()


def check_normals(normals, single_tolerance):
    key = np.array([7, 11], dtype=np.uint64)
    increments = _increments._increments(3, N_NORMALS, 1.0, 0, 3, key)[2]
    np.testing.assert_allclose(normals[0], increments, atol=2e-15 * 8)
    # 2**-24 in u_1 is 2**-24 / (u_1 r) in the radius r: over 500 draws u_1 r stays above 0.01.
    np.testing.assert_allclose(normals[1], increments, atol=single_tolerance)


def test_simulated_normals_are_those_of_the_cpu(simulated):
    check_normals(simulated["normals"], 1e-5)


def test_simulated_results_repeat(simulated):
    assert (simulated["again 0"] == simulated["again 1"]).all()
    problem, points, options, _ = arguments_of("bilinear")
    e = feynman_kac.estimate(problem, points, **options | {"rng": np.random.default_rng(8)})
    np.testing.assert_allclose(simulated["generator"], e.mean, atol=1e-11)


def test_shards_workers_and_checkpoints_change_nothing(simulated):
    whole, *others = simulated["shards"]
    assert all((other == whole).all() for other in others)
    problem, points, _, _ = arguments_of("heun, callable velocity")
    e = feynman_kac.estimate(problem, points, 12, 3, 2, scheme="heun", increments="two-point", antithetic=True)
    np.testing.assert_allclose(whole, np.stack([e.mean, e.stderr]), atol=1e-11)


def test_without_diffusion_characteristics_are_followed(simulated):
    points = arguments_of("bilinear")[1]
    e = feynman_kac.estimate(make_problem(sigma=0.0), points, n_steps=5)
    assert (simulated["characteristics"] == e.mean).all()


def test_no_points_no_result(simulated):
    assert simulated["empty"].shape == (0,)


def test_what_is_no_result_is_raised(simulated):
    raised = json.loads(str(simulated["errors"]))
    assert raised["overflow"].startswith("FloatingPointError: the estimate is not finite")
    assert raised["turning"].startswith("ValueError: velocity must have one grid and one interpolation at all times")


# --- the door -------------------------------------------------------------------------------------------------------


def test_import_of_pde_leaves_numba_cuda_alone():
    root = Path(__file__).resolve().parents[2]
    code = "import sys, pde; sys.exit('numba.cuda' in sys.modules or 'pde.feynman_kac._cuda' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=300).returncode == 0


@pytest.mark.parametrize(
    ("target", "reason"), [(None, "cannot be imported"), (type("", (), {"is_available": bool}), "finds no CUDA device")]
)
def test_without_a_device_the_error_says_what_to_install(target, reason, monkeypatch):
    monkeypatch.setattr(fk_cuda, "cuda", target)
    with pytest.raises(RuntimeError, match=rf'device="cuda" needs .*enresnet\[gpu\].*{reason}'):
        on_cuda(make_problem(), [0.1, 0.2], 4, 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_paths": 0}, "n_paths must be an integer >= 1, got n_paths=0"),
        ({"n_paths": 2**32}, "must be < 2\\*\\*32"),
        ({"n_steps": 2.5}, "n_steps must be an integer, got n_steps=2.5"),
        ({"n_paths": 3, "antithetic": True}, "n_paths must be even with antithetic pairs, got n_paths=3"),
        ({"bias": True}, "bias=True needs device='cpu', got device='cuda'"),
        ({"n_shards": 0}, "n_shards must be an integer >= 1, got n_shards=0"),
        ({"scheme": "milstein"}, "scheme must be one of 'euler', 'heun', got scheme='milstein'"),
        ({"dtype": "float16"}, "dtype must be one of 'float64', 'float32', got dtype='float16'"),
        ({"n": 0}, "n must be an integer >= 1, got n=0"),
        ({"points": [0.1, 0.2, 0.3]}, "points must have shape \\(..., 2\\), got \\(3,\\)"),
    ],
)
def test_bad_input_is_refused_at_the_door(changed, message):
    arguments = {"points": [[0.1, 0.2]], "n_paths": 4, "n_steps": 2} | changed
    with pytest.raises(ValueError, match=message):
        on_cuda(make_problem(), **arguments)


def test_layers_that_do_not_divide_the_steps_are_refused():
    with pytest.raises(ValueError, match="n_steps must be a multiple of the 4 layers on device='cuda', got n_steps=13"):
        on_cuda(make_problem(n_layers=4), [0.1, 0.2], 4, 13)


def sharp(x, t):
    # 8 waves by 0.97: no band limit, and zero at t = 0.
    wave = np.sin(2 * np.pi * t) / (1.03 - np.cos(16 * np.pi * x[..., 1]))
    return np.stack([0.01 * wave, 0 * wave], axis=-1)


def two_layers(rule):
    # Equally many points, and four times as many waves in the second layer.
    x = pde.grid.points(24)[..., 1] * 2 * np.pi
    layers = [np.stack([np.sin(k * x), 0 * x]) for k in (1, 8)]
    return pde.PeriodicField(np.stack(layers), 1.0, rule)


@pytest.mark.parametrize(
    ("velocity", "n"),
    [
        *((sharp, n) for n in (None, 32)),
        (lambda t: np.sin(2 * np.pi * t) * np.moveaxis(sharp(pde.grid.points(64), 0.25), -1, 0), None),
        *((two_layers(rule), None) for rule in ("trigonometric", "bicubic", "bilinear")),
    ],
)
@pytest.mark.filterwarnings("ignore:the velocity is not resolved")
def test_callables_are_sampled_and_tabulated_as_on_the_cpu(velocity, n, monkeypatch):
    found = []

    class Walk:
        def __init__(self, problem, n_steps, n, key, ways, layout):
            found.append((n, fk_cuda._Velocity(problem, n_steps, n, np.dtype(ways.dtype))))

        def moments(self, starts, block):
            return block.n_paths, np.zeros((1, len(starts))), np.ones((1, len(starts)))

    monkeypatch.setattr(fk_cuda, "_why_no_device", lambda: None)
    monkeypatch.setattr(fk_cuda, "Walk", Walk)
    problem = pde.ConvectionDiffusion(velocity, make_problem(n=32).terminal, sigma=0.1)
    on_cuda(problem, [0.1, 0.2], 4, 4, n=n)
    tables = VelocityTables(problem, n)
    steps = TimeSteps(problem, 4)
    next(iter(tables.pieces(steps)))
    ((n_there, there),) = found
    assert n_there == tables.n
    assert (there.degree, there.size) == tables.size
    assert there.bytes == 8 * 2 * (tables.size[1] + tables.size[0] + 1) ** 2


def test_what_samples_cannot_show_is_said_as_on_the_cpu(monkeypatch):
    class Walk:
        def __init__(self, *arguments):
            pass

        def moments(self, starts, block):
            return block.n_paths, np.full((1, len(starts)), -1.0), np.full((1, len(starts)), self.squares)

    monkeypatch.setattr(fk_cuda, "_why_no_device", lambda: None)
    monkeypatch.setattr(fk_cuda, "Walk", Walk)
    problem = make_problem(f=pde.PeriodicField(np.where(np.eye(8) > 0, 1.0, -1.0), 1.0, "bilinear"))
    Walk.squares = 0.0
    with pytest.warns(RuntimeWarning, match="all 64 samples agree"):
        on_cuda(problem, [0.1, 0.2], 64, 4)
    Walk.squares = np.inf
    with pytest.raises(FloatingPointError, match="the standard error is not finite"):
        on_cuda(problem, [0.1, 0.2], 64, 4)


@pytest.mark.parametrize("shape", [(1,), (2, 3), (7, 2), (16, 1)])
def test_moments_of_parts_merge_to_those_of_the_whole(shape):
    counts = np.random.default_rng(1).integers(2, 9, shape[0])
    parts = [np.random.default_rng(i).standard_normal((count, *shape[1:])) + 5 for i, count in enumerate(counts)]
    means = np.array([part.mean(axis=0) for part in parts])
    squares = np.array([((part - part.mean(axis=0)) ** 2).sum(axis=0) for part in parts])
    count, mean, square = _moments.merge_neighbours(counts, means, squares)
    whole = np.concatenate(parts)
    assert count == len(whole)
    np.testing.assert_allclose(mean, whole.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(square, ((whole - whole.mean(axis=0)) ** 2).sum(axis=0), rtol=1e-12)


# --- on a device ----------------------------------------------------------------------------------------------------


@pytest.fixture
def device():
    if reason := fk_cuda._why_no_device():
        pytest.skip(f"needs a CUDA device that numba-cuda reaches: {reason}")


@pytest.mark.gpu
@pytest.mark.parametrize("result", RESULTS)
def test_kernel_equals_the_cpu(result, device, monkeypatch):
    name, _, dtype = result.rpartition(", ")
    problem, points, options, constants = arguments_of(name)
    for constant, value in constants.items():
        monkeypatch.setattr(fk_cuda, constant, value)
    e = feynman_kac.estimate(problem, points, **options)
    ours = on_cuda(problem, points, dtype=dtype, **options)
    # As in the simulator; the device's own logarithm, sine and cosine have errors of 2**-21, thrice those of float32.
    tolerance = 1e-11 if dtype == "float64" else 4 * single_precision_tolerance(problem, options["n_steps"])
    np.testing.assert_allclose(ours.mean, e.mean, rtol=0, atol=tolerance)
    np.testing.assert_allclose(ours.stderr, e.stderr, rtol=0, atol=tolerance)


@pytest.mark.gpu
def test_philox_and_normals_of_the_device(device):
    words, normals = on_device()
    assert (words == ANSWERS).all()
    # The error of 2**-22 of the logarithm, over a radius of 0.03 at least among 500.
    check_normals(normals, 3e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"common_paths": True}, {"antithetic": True}])
def test_rough_problem_agrees_with_the_cpu_within_error_bars(dtype, options, device):
    problem, points = problems.figure4(seed=1, sigma=0.1), random_points(512)
    ours = on_cuda(problem, points, 4096, 200, rng=1, dtype=dtype, **options)
    cpu = feynman_kac.estimate(problem, points, 1024, 200, rng=2, **options)
    z = (ours.mean - cpu.mean) / np.hypot(ours.stderr, cpu.stderr)
    assert np.abs(z).max() < convergence.z_threshold(512, 1e-6)
    # Twice on the device: the same bits.
    again = on_cuda(problem, points, 4096, 200, rng=1, dtype=dtype, **options)
    assert (again.mean == ours.mean).all()
    assert (again.stderr == ours.stderr).all()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_unbiased_on_the_device_where_euler_maruyama_is_exact_in_law(dtype, device):
    problem, points = problems.constant_velocity(sigma=0.3), random_points(1000)
    e = on_cuda(problem, points, 100_000, 7, rng=21, dtype=dtype)
    z = convergence.z_scores(e.mean, e.stderr, problem.exact(points))
    assert np.abs(z).max() < convergence.z_threshold(1000, 1e-6)
    low, high = scipy.stats.chi2.isf([1 - 5e-7, 5e-7], 1000)
    assert low < z @ z < high


@pytest.mark.gpu
def test_table_in_shared_memory_changes_nothing(device, monkeypatch):
    problem, points = problems.figure4(seed=1, sigma=0.1), random_points(100)
    around = on_cuda(problem, points, 512, 100, dtype="float32")
    monkeypatch.setattr(fk_cuda, "_STEPS_A_TABLE", 10**9)
    cached = on_cuda(problem, points, 512, 100, dtype="float32")
    # The compiler may fuse products and sums differently: rounding, 2**-24 a step, where |grad v| ~ 200 parts paths.
    assert np.abs(around.mean - cached.mean).max() < 0.1 * around.stderr.min()


if __name__ == "__main__":
    compute_all(sys.argv[1], RESULTS if "--slow" in sys.argv else FEW)
