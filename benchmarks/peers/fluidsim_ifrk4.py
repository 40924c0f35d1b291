"""fluidsim: its RK4 with the exact integrating factor; a passive scalar in a given velocity, which it does not ship."""

import os
import tempfile

# Read on import. The tool makes a directory for every run, wanted or not.
SCRATCH = tempfile.TemporaryDirectory()
os.environ["FLUIDSIM_PATH"] = os.environ["FLUIDDYN_PATH_SCRATCH"] = SCRATCH.name

import numpy as np  # noqa: E402
from fluidsim.base.setofvariables import SetOfVariables  # noqa: E402
from fluidsim.base.solvers.pseudo_spect import InfoSolverPseudoSpectral, SimulBasePseudoSpectral  # noqa: E402
from fluidsim.base.state import StatePseudoSpectral  # noqa: E402
from worker import serve  # noqa: E402


class ScalarState(StatePseudoSpectral):
    """One scalar; its physical values are computed on request, not after every step."""

    @staticmethod
    def _complete_info_solver(info_solver):
        info_solver.classes.State._set_attribs(
            {
                "keys_state_phys": ["s"],
                "keys_state_spect": ["s_fft"],
                "keys_computable": [],
                "keys_phys_needed": ["s"],
            }
        )

    def statephys_from_statespect(self):
        pass


class InfoSolver(InfoSolverPseudoSpectral):
    def _init_root(self):
        super()._init_root()
        self.module_name = Simul.__module__
        self.class_name = "Simul"
        self.short_name = "scalar"
        self.classes.State.module_name = ScalarState.__module__
        self.classes.State.class_name = "ScalarState"


class Simul(SimulBasePseudoSpectral):
    """s_t = F . grad s + nu_2 lap s."""

    InfoSolver = InfoSolver

    def set_velocity(self, velocity):
        # Here axis 0 carries the tool's y and axis 1 its x, so the first component of F belongs to KY.
        self.velocity = velocity
        self.ik = 1j * self.oper.KY, 1j * self.oper.KX
        self.work_hat = np.empty_like(self.state.state_spect[0])
        self.work = [self.oper.create_arrayX() for _ in range(2)]

    def tendencies_nonlin(self, state_spect=None, old=None):
        oper = self.oper
        s_hat = (self.state.state_spect if state_spect is None else state_spect).get_var("s_fft")
        tendencies = SetOfVariables(like=self.state.state_spect) if old is None else old
        for ik, component, work in zip(self.ik, self.velocity, self.work, strict=True):
            np.multiply(ik, s_hat, out=self.work_hat)
            # The input is scratch, so the transform need not save it.
            oper.opfft.ifft_as_arg_destroy(self.work_hat, work)
            np.multiply(work, component, out=work)
        product, other = self.work
        product += other
        s_tendency = tendencies.get_var("s_fft")
        oper.fft_as_arg(product, s_tendency)
        oper.dealiasing_variable(s_tendency)
        return tendencies


def make_solve(fields, dt):
    n, horizon = len(fields["terminal"]), float(fields["horizon"])
    n_steps = round(horizon / dt)
    params = Simul.create_default_params()
    params.oper.nx = params.oper.ny = n
    params.oper.Lx = params.oper.Ly = float(fields["length"])
    params.oper.coef_dealiasing = 2 / 3
    params.oper.type_fft = "fft2d.with_pyfftw"
    params.nu_2 = float(fields["sigma"]) ** 2 / 2
    params.time_stepping.type_time_scheme = "RK4"
    params.time_stepping.USE_CFL = False
    params.time_stepping.deltat0 = horizon / n_steps
    params.init_fields.type = "in_script"
    params.output.HAS_TO_SAVE = False
    sim = Simul(params)
    sim.set_velocity(fields["velocity"])
    terminal = fields["terminal"]

    def solve():
        spectrum = sim.state.state_spect.get_var("s_fft")
        sim.oper.fft_as_arg(terminal, spectrum)
        # The bare step: the loop around it in `main_loop` adds output and signal handling, which no user needs here.
        for _ in range(n_steps):
            sim.time_stepping.one_time_step_computation()
        return sim.oper.ifft(spectrum), n_steps

    return solve


if __name__ == "__main__":
    serve("integrating-factor RK4", make_solve, "fluidsim", "fluidfft", "pyfftw")
