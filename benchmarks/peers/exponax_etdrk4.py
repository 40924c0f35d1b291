"""exponax: ETDRK4 with diffusion as the linear part, transport in a nonlinear function of our own, one jitted loop.

`batched` transforms both components of the gradient in one call, the form of the tool's own examples.
"""

import jax

# Float64 has to be chosen before the first array exists.
jax.config.update("jax_enable_x64", True)

import exponax as ex  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from worker import serve  # noqa: E402


class Transport(ex.nonlin_fun.BaseNonlinearFun):
    """F . grad u, dealiased by the 2/3 rule."""

    velocity: jax.Array
    derivative_operator: jax.Array
    batched: bool

    def __init__(self, n, velocity, derivative_operator, batched):
        super().__init__(2, n, dealiasing_fraction=2 / 3)
        self.velocity = velocity
        self.derivative_operator = derivative_operator
        self.batched = batched

    def __call__(self, u_hat):
        if self.batched:
            gradient = self.ifft(self.derivative_operator * u_hat)
            return self.fft(jnp.sum(self.velocity * gradient, axis=0, keepdims=True))
        # XLA on a CPU takes far longer over one transform of two channels than over two transforms of one.
        d0, d1 = self.derivative_operator
        return self.fft(self.velocity[0] * self.ifft(d0 * u_hat) + self.velocity[1] * self.ifft(d1 * u_hat))


class ConvectionDiffusion(ex.BaseStepper):
    """u_s = F . grad u + nu lap u, one scalar channel."""

    velocity: jax.Array
    nu: float
    batched: bool

    def __init__(self, n, dt, velocity, nu, length, batched):
        self.velocity = velocity
        self.nu = nu
        self.batched = batched
        super().__init__(2, length, n, dt, num_channels=1, order=4)

    def _build_linear_operator(self, derivative_operator):
        return self.nu * jnp.sum(derivative_operator**2, axis=0, keepdims=True)

    def _build_nonlinear_fun(self, derivative_operator):
        return Transport(self.num_points, self.velocity, derivative_operator, self.batched)


def make_solve(fields, dt, batched=False):
    n, horizon = len(fields["terminal"]), float(fields["horizon"])
    n_steps = round(horizon / dt)
    velocity, nu, length = jnp.asarray(fields["velocity"]), float(fields["sigma"]) ** 2 / 2, float(fields["length"])
    stepper = ConvectionDiffusion(n, horizon / n_steps, velocity, nu, length, batched)

    @jax.jit
    def integrate(terminal):
        u_hat = ex.fft(terminal[None], num_spatial_dims=2)
        u_hat = jax.lax.fori_loop(0, n_steps, lambda _, v_hat: stepper.step_fourier(v_hat), u_hat)
        return ex.ifft(u_hat, num_spatial_dims=2, num_points=n)[0]

    def solve():
        return np.asarray(integrate(fields["terminal"])), n_steps

    return solve


if __name__ == "__main__":
    serve("ETDRK4", make_solve, "exponax", "jax", "equinox")
