"""Every variant of the CUDA kernel compiles to machine code, without a device, and keeps its paths in registers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pde.feynman_kac import _cuda_compile

ROOT = Path(__file__).resolve().parents[2]

needs_compiler = pytest.mark.skipif(
    _cuda_compile.missing() is not None, reason=f"compiling for CUDA: {_cuda_compile.missing()}"
)


def rows_of(*options):
    # A process of its own: numba's CUDA target is not to be loaded beside the simulator or without need.
    command = [sys.executable, "-m", "pde.feynman_kac._cuda_compile", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr[-3000:]
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def check(row):
    assert row["step_local_accesses"] == 0, row
    # A step reads the four or sixteen points of its stencil, and at least ten rounds of Philox are in it.
    reads = row["step_shared_loads"] if row["table_shared"] else row["step_global_loads"]
    assert reads >= (2 if row["degree"] == 1 else 8), row
    assert 100 < row["step_instructions"] < 1000
    # 1024 threads with 64 registers fill a multiprocessor; 256 threads may have all of 255.
    assert row["registers"] <= (64 if row["table_shared"] else 128), row


@needs_compiler
def test_kernels_of_global_tables_compile_for_sm_90():
    rows = rows_of("--quick")
    # Eight of Euler-Maruyama with Gaussian increments, and Heun, two-point increments and both in either precision.
    assert len(rows) == 8 + 6
    for row in rows:
        check(row)
        assert row["spilled_bytes"] == 0


@pytest.mark.slow
@needs_compiler
def test_all_kernels_compile_for_all_architectures():
    rows = rows_of()
    assert len(rows) == 3 * 64
    for row in rows:
        check(row)


def test_step_loop_is_found_in_machine_code_and_its_local_accesses_counted():
    rounds = ["  /*0010*/ IMAD.WIDE.U32 R2, R4, -0x2daee0ad, RZ ;"] * 10
    code = [".L_x_1:", "  /*0000*/ LDL R1, [R2] ;", ".L_x_2:", *rounds, "  /*0200*/ LDG.E R7, [R8] ;"]
    code += ["  /*0210*/ STL [R1], R7 ;", "  /*0220*/ @P0 BRA `(.L_x_2) ;", "  /*0230*/ BRA `(.L_x_1) ;"]
    found = _cuda_compile.step_loop("\n".join(code))
    assert found == {
        "step_instructions": 13, "step_local_accesses": 1, "step_global_loads": 1, "step_shared_loads": 0,
    }  # fmt: skip
