"""Several recipes in a given time: the plan against its formula, and a rehearsal by the command."""

import json
from dataclasses import asdict

import pytest

torch = pytest.importorskip("torch", reason="nets needs PyTorch")
pytest.importorskip("sklearn", reason="the digits come from scikit-learn")

from nets import campaign, data
from nets.training import recipe

CPU = torch.device("cpu")
TWO = {name: recipe(name) for name in ("table2/resnet20", "table2/en2_resnet20")}
# Seconds an epoch, and of the first step.
COSTS = {"resnet20": (100.0, 4.0), "en2_resnet20": (200.0, 6.0)}


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def timed(monkeypatch):
    """Recipes of known cost; compiled ones are twice as fast, and reduce-overhead fails."""

    def time(made, images, device, seed):
        if made.compile == "reduce-overhead":
            raise RuntimeError("no graphs here")
        epoch, setup = COSTS[made.model]
        speed = 2.0 if made.compile == "default" else 1.0
        return 45000 * speed / epoch, epoch / speed, setup

    monkeypatch.setattr(campaign, "_time", time)


def _plan(minutes, device=CPU, **options):
    return campaign.make_plan(TWO, None, device, minutes=minutes, evaluation=0.5, **options)


def test_as_many_epochs_as_fit_beside_setting_up_and_evaluating(timed):
    # 10 seconds of setting up, 300 an epoch of both, half of the time for training: n epochs need (10 + 300 n) / 30.
    for n in (1, 2, 7):
        needed = (10 + 300 * n) / 30
        assert _plan(needed * 1.001).epochs == n
        assert _plan(needed * 0.999).epochs == n - 1 if n > 1 else True


def test_too_little_time_is_refused_and_the_time_named_is_enough(timed):
    with pytest.raises(ValueError, match=r"minutes must be >= 10\.3 for one epoch of each recipe here, got 5"):
        _plan(5)
    assert _plan(10.4).epochs == 1


def test_on_a_gpu_the_fastest_of_the_modes_that_work_is_taken(timed, capsys):
    plan = _plan(60, torch.device("cuda"))
    assert plan.compile == "default"
    assert plan.epochs == (1800 - 10) // 150
    assert "compile=reduce-overhead fails here: no graphs here" in capsys.readouterr().out
    assert _plan(60).compile == "off"


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_a_share_outside_of_0_and_1_is_refused(share):
    with pytest.raises(ValueError, match=r"evaluation must be in \(0, 1\)"):
        campaign.make_plan(TWO, None, CPU, minutes=1, evaluation=share)


def test_timing_counts_the_validation_as_steps():
    made = campaign._adapted(recipe("table2/resnet20"), campaign.Options(quick=True))
    rate, epoch, setup = campaign._time(made, data.load("digits"), CPU, 0)
    # 4 steps of 64 images and 64 held out, by steps of one length: 5 steps an epoch.
    assert epoch * rate == pytest.approx(5 * 64)
    assert setup >= 0


def test_threads_are_those_of_the_option_while_steps_are_timed(monkeypatch):
    before, seen = torch.get_num_threads(), []
    made = campaign._adapted(recipe("table2/resnet20"), campaign.Options(quick=True, n_threads=before + 1))
    assert made.n_threads == before + 1
    real = campaign.Training.seconds_per_step
    monkeypatch.setattr(
        campaign.Training, "seconds_per_step", lambda self: seen.append(torch.get_num_threads()) or real(self)
    )
    campaign._time(made, data.load("digits"), CPU, 0)
    assert seen == [before + 1] and torch.get_num_threads() == before


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    directory = tmp_path_factory.mktemp("campaign")
    places = ["--runs", str(directory / "runs"), "--results", str(directory / "results")]
    return directory, ["table2/resnet20", "--quick", "--n-threads", "2", *places]


def test_a_rehearsal_trains_evaluates_and_repeats_nothing(rehearsal, capsys):
    directory, words = rehearsal
    campaign.main(words)
    result = json.loads((directory / "results" / "campaign.json").read_text())
    assert result["plan"]["epochs"] == campaign.N_QUICK_EPOCHS
    assert len(result["runs"]["table2/resnet20"]["images_per_second"]) == campaign.N_QUICK_EPOCHS
    report = json.loads((directory / "results" / "table2-resnet20-seed0.json").read_text())
    assert report["run"]["name"] == "table2/resnet20"
    assert (report["n_threads"], report["run"]["recipe"]["n_threads"]) == (2, 2)
    # Beside the preset's.
    assert {"apgd-ce", "apgd-dlr"} <= {row["name"] for row in report["rows"] if row["n"] == 20}
    weights = directory / "runs" / "table2-resnet20-seed0" / "best.safetensors"
    before = weights.stat().st_mtime_ns
    capsys.readouterr()
    campaign.main(words)
    assert weights.stat().st_mtime_ns == before
    assert "resuming after epoch 2" in capsys.readouterr().out
    again = json.loads((directory / "results" / "table2-resnet20-seed0.json").read_text())
    # Kept attack by attack: the seconds are those of the first time.
    assert again["rows"] == report["rows"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (["--minutes", "5"], "is the plan of another campaign: give another --runs"),
        (["--device", "cuda:99"], "device cuda:99 does not exist: PyTorch sees"),
        (["--also", "fgms"], "there is no attack 'fgms'"),
        (["--device", "tpu9"], "--device must be auto, cpu, cuda or cuda:N, got --device='tpu9'"),
    ],
)
def test_another_campaign_in_the_same_place_is_one_line(rehearsal, change, what, capsys):
    directory, words = rehearsal
    path = directory / "runs" / "plan.json"
    if not path.exists():
        identity = {"recipes": ["table2/resnet20"]}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(campaign.Plan(1, 30.0, "off", {}, {}, {}, identity))))
    with pytest.raises(SystemExit) as caught:
        campaign.main([*words, *change])
    assert caught.value.code == 2
    assert what in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["table7/en2_resnet20+en5_resnet20"], "is a mean of others"),
        (["table2/resnet20", "table4/resnet20"], "must share one data set, got cifar10, cifar100"),
        (["table2/resnet2"], "there is no recipe"),
    ],
)
def test_recipes_that_do_not_go_together_are_one_line(words, what, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        campaign.main([*words, "--runs", str(tmp_path)])
    assert caught.value.code == 2
    assert what in capsys.readouterr().err
