"""The trade-off: accuracies of one network against brute force, the attack, rows against single networks, findings."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import bridge
from figures import _io as common
from figures import _style, tradeoff
from figures._planar_training import DATASETS, Row, attack, draw_points, train


@pytest.fixture(scope="module")
def row():
    """Networks of sigma 0 and 0.2, trained a little."""
    torch.manual_seed(0)
    row, rng = Row([0.0, 0.2], torch.Generator().manual_seed(0)), np.random.default_rng(0)
    x, y = draw_points("moons", 128, rng)
    with bridge.noise_from(row, torch.Generator().manual_seed(1)):
        train(row, x, y, adversarial=False, n_iter=30, rng=rng)
    return row


@pytest.mark.parametrize("name", DATASETS)
def test_points_are_of_two_classes_apart_in_the_square(name):
    x, y = draw_points(name, 400, np.random.default_rng(0))
    assert 0.3 < (y > 0).mean() < 0.7
    assert x.min() > -0.1
    assert x.max() < 1.1
    gaps = np.linalg.norm(x[y > 0][:, None] - x[y < 0], axis=-1)
    # A classifier exists: few points are nearer to the other class than 0.02.
    assert (gaps.min(axis=1) < 0.02).mean() < 0.05


def test_member_is_its_network_of_the_row(row):
    x = torch.rand(7, 2, generator=torch.Generator().manual_seed(0))
    together = row(x.expand(2, -1, -1))
    torch.testing.assert_close(row.member(0)(x), together[0], rtol=1e-4, atol=1e-5)
    single = row.member(1)
    assert [block.coef for block in single.blocks] == [0.2] * 4
    with bridge.noise_off(single), bridge.noise_off(row):
        torch.testing.assert_close(single(x), row(x.expand(2, -1, -1))[1], rtol=1e-4, atol=1e-5)


def test_accuracies_of_a_network_are_those_of_brute_force(row):
    x, y = draw_points("moons", 40, np.random.default_rng(5))
    angles, shell = np.linspace(0, 2 * np.pi, 90, endpoint=False), np.linspace(0.02, 1, 50)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    for index in (0, 1):
        net = row.member(index)
        moved = np.stack([x + 0.01, x - 0.05])
        found = tradeoff._accuracies(net, x, y, moved)
        double = row.member(index).double()
        if index:
            classify, _ = bridge.mean_field(double, rtol=1e-4)
        else:

            def classify(points, net=double):
                with torch.no_grad():
                    return net(torch.tensor(points.reshape(-1, 2))).numpy().reshape(points.shape[:-1])

        right = y * classify(x) > 0
        assert found["natural"] == right.mean()
        for place in (4, 10, 20):
            r = tradeoff.RADII[place]
            ball = x[:, None, None] + r * shell[:, None, None] * around
            robust = right & (y[:, None, None] * classify(ball) > 0).all(axis=(1, 2))
            # Rays miss what lies between them, and bounds are a cell apart.
            assert found["lower"][place] <= robust.mean() + 1e-12
            assert found["upper"][place] >= robust.mean() - 0.05
            assert found["certified"][place] <= found["lower"][place]
        assert (found["lower"] <= found["upper"]).all()
        for place, z in enumerate(moved):
            assert found["attacked"][place] == (right & (y * classify(z) > 0)).mean()


def test_attack_stays_in_its_ball_and_lowers_the_margin(row):
    x, y = draw_points("moons", 50, np.random.default_rng(2))
    start, sign = torch.tensor(x, dtype=torch.float32).expand(2, -1, -1), torch.tensor(y, dtype=torch.float32)
    with bridge.noise_from(row, torch.Generator().manual_seed(3)):
        found = attack(row, start, sign, 0.07, 5, 4, np.random.default_rng(0))
    assert found.shape == (2, 50, 2)
    assert float((found - start).norm(dim=-1).max()) <= 0.07 * (1 + 1e-5)
    with torch.no_grad(), bridge.noise_off(row):
        assert float((sign * row(found)).mean()) < float((sign * row(start)).mean())


def made_up():
    """Two data sets, three sigmas, four seeds: the share robust at r is a straight line that sigma lifts."""
    d, t, s, k, a = 2, 2, 3, 4, len(tradeoff.ATTACK_RADII)
    rng, lift = np.random.default_rng(0), np.array([0.0, 0.1, 0.05])[None, None, :, None]
    natural = np.full((d, t, s, k), 0.9) - lift / 2
    base = natural - 0.3 + lift + 0.01 * rng.standard_normal((d, t, s, k))
    robust = base[..., None] * (1 - tradeoff.RADII)
    return {
        "dataset": np.array(["moons", "spirals"]), "training": np.array(tradeoff.TRAININGS),
        "sigma": np.array([0.0, 0.1, 0.4]), "radius": tradeoff.RADII, "attack_radius": tradeoff.ATTACK_RADII,
        "natural": natural, "lower": robust - 0.01, "upper": robust + 0.01, "certified": robust / 10,
        "attacked": np.repeat(base[..., None], a, axis=-1), "field": rng.standard_normal((d, t, s, 64, 64)),
        "x": rng.uniform(size=(d, 30, 2)), "y": np.where(rng.uniform(size=(d, 30)) < 0.5, -1.0, 1.0),
    }  # fmt: skip


def test_findings_are_paired_differences_with_their_errors():
    data = made_up()
    found = tradeoff.findings(data)
    one = found["moons"]["natural"]
    place = np.argmin(np.abs(tradeoff.RADII - 0.05))
    robust = (data["lower"] + data["upper"])[0, 0, :, :, place] / 2
    gain = robust[1] - robust[0]
    assert one["gain_of_robust"]["mean"][1] == pytest.approx(gain.mean())
    assert one["gain_of_robust"]["stderr"][1] == pytest.approx(gain.std(ddof=1) / 2)
    assert one["price_of_natural"]["mean"][1] == pytest.approx(-0.05)
    assert one["best_sigma"] == 0.1
    assert one["largest_gap_of_bounds"] == pytest.approx(0.02)


def test_picture_has_a_row_for_each_data_set(tmp_path):
    _style.use_style()
    figure = tradeoff.plot(made_up())
    assert len(figure.axes) == 8
    common.save_picture(figure, tmp_path / "tradeoff.png")
    assert (tmp_path / "tradeoff.png").stat().st_size > 30_000
