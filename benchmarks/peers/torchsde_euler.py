"""torchsde: `sdeint` with method "euler" and a BrownianInterval that is given the step."""

import torch
import torchsde
from particles import means, starts, step_sizes
from worker import serve


class Transport(torch.nn.Module):
    """dX = v(X) dt + sigma dB, bilinear v of period 1."""

    noise_type = "diagonal"
    sde_type = "ito"

    def __init__(self, velocity, sigma):
        super().__init__()
        self.n = velocity.shape[1]
        # One row of a table for both components of one grid point.
        self.register_buffer("table", velocity.permute(1, 2, 0).reshape(-1, 2).contiguous())
        self.sigma = sigma

    def f(self, t, y):
        n = self.n
        scaled = y * n
        floor = torch.floor(scaled)
        gx, gy = (scaled - floor).split(1, dim=1)
        i, j = torch.remainder(floor.to(torch.int32), n).unbind(1)
        i1, j1 = torch.remainder(i + 1, n), torch.remainder(j + 1, n)
        a, b, c, d = (self.table.index_select(0, k) for k in (i * n + j, i * n + j1, i1 * n + j, i1 * n + j1))
        return torch.lerp(torch.lerp(a, b, gy), torch.lerp(c, d, gy), gx)

    def g(self, t, y):
        return self.sigma.expand_as(y)


def make_solve(fields, n_paths, n_steps):
    horizon, length = float(fields["horizon"]), float(fields["length"])
    sde = Transport(
        torch.tensor(fields["velocity"] / length, dtype=torch.float32), torch.tensor(float(fields["sigma"]) / length)
    )
    begin = torch.tensor(starts(fields, n_paths, "float32").T.copy())
    times = torch.tensor([0.0, horizon])
    dt, _ = step_sizes(fields, n_steps)

    @torch.no_grad()
    def solve():
        brownian = torchsde.BrownianInterval(0.0, horizon, size=begin.shape, dtype=begin.dtype, entropy=1, dt=dt)
        end = torchsde.sdeint(sde, begin, times, bm=brownian, method="euler", dt=dt)[-1]
        return means(fields, end.numpy().T, n_paths), n_steps

    return solve


if __name__ == "__main__":
    serve("Euler-Maruyama", make_solve, "torch", "torchsde")
