"""Compile every variant of the CUDA kernel to PTX and machine code, without a GPU, and record what the compiler made.

    python -m pde.feynman_kac._cuda_compile [--quick] [--out results/cuda_kernels.json]

Needs numba-cuda with a CUDA toolkit from pip (the extra `gpu`), ptxas, and nvdisasm for the instructions of the step
loop; those that triton brings are found, too. For each of sm_75, sm_80 and sm_90: registers per thread, bytes spilled,
and in the loop over the steps of a path the number of instructions, of reads of the table, and of accesses to local
memory, of which there should be none. It proves that the kernels compile, not that they run. Three minutes;
`--quick` (sm_90, table in global memory, a part of the variants) a quarter of one.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pde.feynman_kac import _cuda_kernel
from pde.feynman_kac._cuda_kernel import THREADS_AROUND_A_TABLE, Kind

ARCHITECTURES = ((7, 5), (8, 0), (9, 0))
# The multiplier of Philox, as nvdisasm writes it: it marks the loop over the steps.
PHILOX = re.compile(r"-0x2daee0ad|0xd2511f53", re.IGNORECASE)


def tool(name):
    """Path of one of CUDA's tools: in pip's packages of NVIDIA, in triton, or on PATH; None without it."""
    packaged = _found("nvidia", f"**/bin/{name}") or _found("triton", f"backends/nvidia/bin/{name}")
    # A system's tools may be too old for the PTX of pip's compiler.
    return packaged or shutil.which(name)


def _found(package, pattern):
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob(pattern)):
            return str(path)
    return None


def missing():
    """The missing requirement, or None."""
    try:
        importlib.metadata.version("numba-cuda")
    except importlib.metadata.PackageNotFoundError:
        return "numba-cuda is not installed (pip install 'enresnet[gpu]')"
    if not (_found("nvidia", "**/libnvvm.so*") or os.environ.get("CUDA_HOME")):
        return "NVVM is not installed (pip install nvidia-cuda-nvcc)"
    return next((f"{name} is not found" for name in ("ptxas", "nvdisasm") if not tool(name)), None)


def kinds(*, quick=False):
    """All variants: precision, degree, table and noise in shared memory or not, scheme, increments. `quick`: some."""
    variants = itertools.product(("float32", "float64"), (1, 3), *[(False, True)] * 4)
    for dtype, degree, table_shared, noise_shared, heun, two_point in variants:
        # Each scheme and each kind of increments once more, beside the eight of Euler-Maruyama.
        if quick and (table_shared or ((heun or two_point) and (degree, noise_shared) != (1, False))):
            continue
        n_threads = THREADS_AROUND_A_TABLE if table_shared else 256
        yield Kind(np.dtype(dtype), degree, 1, 1, table_shared, noise_shared, n_threads, heun, two_point)


def signature_of(kind):
    """Types of the kernel's arguments."""
    from numba import types

    double = kind.dtype == np.float64
    position, word = (types.float64, types.float64) if double else (types.uint32, types.uint64)
    scale, integer, count = types.float64 if double else types.float32, types.int64, types.uint32
    return types.void(
        position[::1], position[::1], position[::1], position[::1], types.boolean, word[:, ::1], integer[:, ::1],
        count, scale, integer, integer, integer, integer, count, count, word[::1], count, integer, integer,
        types.float64[:, ::1], types.float64[:, ::1],
    )  # fmt: skip


@contextlib.contextmanager
def device_of(capability):
    """Let numba's device functions take the compute capability from here, for want of a device."""
    from unittest import mock

    from numba import cuda

    class Device:
        compute_capability = capability

    with contextlib.ExitStack() as stack:
        for name in ("numba.cuda.dispatcher", "numba.cuda.api", "numba.cuda"):
            with contextlib.suppress(AttributeError, ModuleNotFoundError):
                stack.enter_context(mock.patch(f"{name}.get_current_device", Device))
        yield cuda


def compile_kind(kind, capability, folder):
    """One variant for one architecture: a dictionary of what the compiler made of it."""
    with device_of(capability) as cuda:
        kernel = _cuda_kernel.make_kernel.__wrapped__(kind)
        compiled = cuda.compile(
            kernel.py_func, signature_of(kind), cc=capability, device=False, abi="numba", output="ptx"
        )
    ptx, cubin = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
    ptx.write_text(compiled[0] if isinstance(compiled[0], str) else compiled[0].decode())
    options = [f"-arch=sm_{capability[0]}{capability[1]}", "-v", str(ptx), "-o", str(cubin)]
    if kind.table_shared:
        options.insert(0, f"--maxrregcount={_cuda_kernel.REGISTERS}")
    log = subprocess.run([tool("ptxas"), *options], check=True, capture_output=True, text=True).stderr
    code = subprocess.run([tool("nvdisasm"), "-c", str(cubin)], check=True, capture_output=True, text=True).stdout
    numbers = {
        "registers": int(re.search(r"Used (\d+) registers", log)[1]),
        "spilled_bytes": sum(map(int, re.findall(r"(\d+) bytes spill", log))),
        "shared_bytes": int(found[1]) if (found := re.search(r"(\d+) bytes smem", log)) else 0,
    }
    name = {"dtype": str(kind.dtype), "architecture": f"sm_{capability[0]}{capability[1]}"}
    return name | {k: v for k, v in kind._asdict().items() if k != "dtype"} | numbers | step_loop(code)


def step_loop(code):
    """Count the instructions of the innermost loop that draws random numbers, by nvdisasm's text."""
    lines = code.splitlines()
    labels = {found[1]: i for i, line in enumerate(lines) if (found := re.match(r"\s*(\.L\w*):", line))}
    loops = []
    for i, line in enumerate(lines):
        target = re.search(r"\bBRA\b.*?(\.L\w+)", line)
        start = labels.get(target[1]) if target else None
        if start is not None and start < i and sum(bool(PHILOX.search(part)) for part in lines[start:i]) >= 10:
            loops.append((i - start, start, i))
    if not loops:
        raise RuntimeError("no loop with ten rounds of Philox was found in the machine code")
    _, start, end = min(loops)
    body = [line for line in lines[start : end + 1] if re.search(r";\s*$|/\*[0-9a-f]{4}\*/", line)]

    def count(pattern):
        return sum(bool(re.search(pattern, line)) for line in body)

    return {
        "step_instructions": len(body),
        "step_local_accesses": count(r"\b(LDL|STL)\b"),
        "step_global_loads": count(r"\bLDG?\b"),
        "step_shared_loads": count(r"\bLDS\b"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="sm_90, table in global memory")
    parser.add_argument("--out", type=Path, help="write the numbers and their provenance to this JSON file")
    args = parser.parse_args()
    if reason := missing():
        sys.exit(f"_cuda_compile: {reason}")
    # The simulator compiles nothing.
    os.environ.pop("NUMBA_ENABLE_CUDASIM", None)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for capability in ARCHITECTURES[-1:] if args.quick else ARCHITECTURES:
            for kind in kinds(quick=args.quick):
                rows.append(compile_kind(kind, capability, folder))
                print(json.dumps(rows[-1]), flush=True)
    if args.out:
        names = ("numba", "numba-cuda")
        versions = {name: importlib.metadata.version(name) for name in names}
        args.out.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
