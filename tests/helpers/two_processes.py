"""Two processes of one training, joined by gloo and forked from one that has imported everything."""

import multiprocessing
import os
import socket
import sys
from pathlib import Path

import torch
from digits_runs import rows

PLAIN = ["--model", "resnet20", "--n-train", "64", "--batch-size", "32", "--epochs", "2", "--lr", "0.05"]
PLAIN += ["--n-validation", "16", "--validation-n-iter", "1"]
PLAIN += ["--training-dtype", "float32", "--crafting-dtype", "float32"]


def forkserver():
    """The context of processes that have imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nets.train", "tyro", "sklearn.datasets", "torch.utils.tensorboard"])
    return context


def in_process(rank, port, log, target, arguments):
    """Be process `rank` of two, as torchrun would have it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with Path(log).open("w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        torch.set_num_threads(1)
        target(*arguments)


def start_two(tmp_path, target, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs = [tmp_path / f"log{rank}" for rank in range(2)]
    made = [
        forkserver().Process(target=in_process, args=(rank, port, str(log), target, arguments))
        for rank, log in enumerate(logs)
    ]
    for process in made:
        process.start()
    return made, logs


def run_two(tmp_path, target, *arguments):
    """Run a function in two processes, both to the end."""
    processes, logs = start_two(tmp_path, target, *arguments)
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0], "\n".join(log.read_text() for log in logs)


def column(directory, name):
    """A column of the metrics of a run."""
    return [float(row[name]) for row in rows(directory)]
