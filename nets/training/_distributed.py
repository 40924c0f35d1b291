"""Training in several processes: each takes its part of every batch, and gradients are averaged (torchrun).

    torchrun --nproc-per-node K -m nets.train RECIPE

Order, crops and reflections are drawn for the whole batch, from the seed of the run, so that they are the same for each
image as in one process. Each process draws random starts and noise from its own seeds. Batch normalisation uses the
process's part of the batch, unless sync_batch_norm is set; the running statistics are averaged after every epoch.
"""

import contextlib
import inspect
import os
import re
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["PeerLostError", "World", "connect", "device_of"]


class PeerLostError(RuntimeError):
    """Another process of the training has ended."""


@dataclass(frozen=True)
class World:
    """This process among those of the training.

    Parameters
    ----------
    device : torch.device
        Device of this process.
    rank : int, default=0
        Number of this process, from 0.
    n_ranks : int, default=1
        Number of processes.
    """

    device: torch.device
    rank: int = 0
    n_ranks: int = 1

    def part(self, n):
        """Return this process's part of n items, as a slice."""
        return slice(self.rank * n // self.n_ranks, (self.rank + 1) * n // self.n_ranks)

    def sum(self, tensor):
        """Sum a tensor, of equal shape in all processes, over the processes, in place, and return it."""
        if self.n_ranks > 1:
            distributed.all_reduce(tensor)
        return tensor

    def wait(self):
        """Wait until every process has called this method."""
        if self.n_ranks > 1:
            distributed.barrier()

    def share(self, model, *, sync_batch_norm=False):
        """Wrap a model, equal in all processes, so that gradients are averaged; return the model and the wrapped one.

        With sync_batch_norm, its batch normalisation is replaced by one over the whole batch.
        """
        if self.n_ranks == 1:
            return model, model
        if sync_batch_norm and self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        elif sync_batch_norm:
            for module in model.modules():
                # torch.nn.SyncBatchNorm only works on GPUs.
                if type(module) is nn.BatchNorm2d:
                    module.__class__ = _GlobalBatchNorm2d
        ids = [self.device.index] if self.device.type == "cuda" else None
        # PyTorch 2.14 renames the option.
        options = inspect.signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in options else "broadcast_buffers"
        return model, DistributedDataParallel(model, device_ids=ids, **{name: False})

    def average_buffers(self, model):
        """Average the running statistics of batch normalisation over the processes."""
        if self.n_ranks > 1:
            for buffer in model.buffers():
                if buffer.is_floating_point():
                    distributed.all_reduce(buffer)
                    buffer /= self.n_ranks


def device_of(name):
    """Return the device of a name, if it exists.

    Parameters
    ----------
    name : str
        "cpu", "cuda" or "cuda:N"; "auto" is "cuda" if PyTorch can use a GPU, else "cpu".

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If the name is unknown, or there is no such device.

    Examples
    --------
    >>> device_of("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got device={name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name} does not exist: PyTorch sees {torch.cuda.device_count()} CUDA devices")
    return device


@contextlib.contextmanager
def connect(device="auto"):
    """Connect the processes started by torchrun, by NCCL on GPUs and by gloo on CPUs; or run alone.

    Parameters
    ----------
    device : str, default="auto"
        "cpu", "cuda", "cuda:1"; "auto": a GPU, if there is one. Each of several processes takes the GPU of its number.

    Yields
    ------
    World

    Raises
    ------
    ValueError
        If the device does not exist.
    PeerLostError
        If another process ended, in place of the error that this caused.
    """
    device = device_of(device)
    if "LOCAL_RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(device, distributed.get_rank(), distributed.get_world_size())
    except RuntimeError as error:
        if not _is_connection_error(error):
            raise
        # Without the location in gloo's source, and without its advice.
        what = re.sub(r"^\[[^\]]*\] *", "", str(error)).splitlines()[0].split(". ")[0]
        raise PeerLostError(f"another process of the training ended ({what})") from None
    finally:
        # Fails if a peer has already ended.
        with contextlib.suppress(RuntimeError):
            distributed.destroy_process_group()


def _is_connection_error(error):
    words = ("gloo", "nccl", "Connection closed", "Connection reset", "Broken pipe", "Socket")
    return isinstance(error, distributed.DistError) or any(word in str(error) for word in words)


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        # The losses of all processes depend on the sum, so the gradient is the sum of theirs.
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


class _GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation by the mean and variance of the whole batch, whose parts are of equal size."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        over = (0, 2, 3)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        n = wide.numel() // wide.shape[1] * distributed.get_world_size()
        mean = (_SumOverProcesses.apply(wide.sum(over)) / n).view(1, -1, 1, 1)
        variance = (_SumOverProcesses.apply((wide - mean).square().sum(over)) / n).view(1, -1, 1, 1)
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                self.running_mean.lerp_(mean.flatten(), self.momentum)
                self.running_var.lerp_(variance.flatten() * (n / (n - 1)), self.momentum)
        scaled = (wide - mean) * (variance + self.eps).rsqrt()
        return (scaled * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)
