"""The protocol between the driver and one tool: JSON lines on stdin and stdout, one process per tool, kept alive.

A request {"fields": NPZ, "setting": {...}, "repeats": k, "cold": false, "save": NPY or null} has the reply
{"seconds": [...], "cpu_seconds": [...], "n_steps": m}, or {"error": text} if the solve fails.
Needs NumPy alone, because it runs inside the environment of every peer.
"""

import json
import os
import sys
import time
from importlib.metadata import version

import numpy as np


def serve(method, make_solve, *packages):
    """Serve requests until stdin closes; `packages` do the work, and their versions are recorded.

    make_solve(fields, **setting) plans and returns solve() -> (u, n_steps), from NumPy to NumPy.
    """
    # Tools print banners: the driver's pipe moves out of their reach, and what they print goes to the log.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    versions = {"python": sys.version.split()[0], **{name: version(name) for name in ("numpy", *packages)}}
    print(json.dumps({"method": method, "versions": versions}), file=replies)
    ready = {}
    for line in sys.stdin:
        try:
            reply = measured(json.loads(line), make_solve, ready)
        # A step too large to be stable is a result; anything else ends the process, and the driver shows the log.
        except (ArithmeticError, ValueError) as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies)


def measured(request, make_solve, ready):
    """Plan and warm up once per setting, outside the timer; then time each solve. No repeats: an untimed solve.

    With "cold" there is no solve to warm up.
    """
    key = json.dumps([request["fields"], request["setting"]])
    if key not in ready:
        with np.load(request["fields"]) as data:
            ready[key] = make_solve(dict(data), **request["setting"])
        if not request["cold"]:
            u, n_steps = ready[key]()
    elif not request["repeats"]:
        u, n_steps = ready[key]()
    seconds, cpu_seconds = [], []
    for _ in range(request["repeats"]):
        cpu, begin = time.process_time(), time.perf_counter()
        u, n_steps = ready[key]()
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.process_time() - cpu)
    if request["save"]:
        np.save(request["save"], u)
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "n_steps": int(n_steps)}
