"""Smoothness of decoded paths: closed forms of lines, arcs and jumps, and of a linear decoder."""

import numpy as np
import pytest
from engines import PYRO
from registry import ORACLES, oracle_program

from deepgen import evaluation as ev

ORACLE = next(oracle for oracle in ORACLES if oracle.tight)


def test_a_straight_line_has_no_curvature() -> None:
    rng = np.random.default_rng(0)
    start, end = rng.standard_normal((2, 5, 2, 3))
    w = np.linspace(0, 1, 9).reshape(-1, 1, 1, 1)
    found = ev.path_smoothness((1 - w) * start + w * end)
    assert found.length.value == pytest.approx(1)
    assert found.energy.value == pytest.approx(1)
    assert found.curvature.value == pytest.approx(0, abs=1e-12)
    assert found.paths == 5
    # the same line at a changing speed is as long, and no longer smooth
    uneven = ev.path_smoothness((1 - w**2) * start + w**2 * end)
    assert uneven.length.value == pytest.approx(1)
    assert uneven.energy.value > 1.2
    assert uneven.curvature.value == pytest.approx(4)


@pytest.mark.parametrize("angle", [0.5, 2.0])
def test_an_arc_and_a_jump_have_closed_forms(angle: float) -> None:
    m = 16
    at = np.linspace(0, angle, m + 1)
    arc = 3 * np.stack([np.cos(at), np.sin(at)], axis=1)[:, None]
    found = ev.path_smoothness(arc)
    chord = 2 * np.sin(angle / 2)
    assert found.length.value == pytest.approx(m * 2 * np.sin(angle / 2 / m) / chord)
    assert found.energy.value == pytest.approx((m * 2 * np.sin(angle / 2 / m) / chord) ** 2)
    assert found.curvature.value == pytest.approx(m**4 * (2 * np.sin(angle / 2 / m)) ** 4 / chord**2)
    assert found.curvature.value == pytest.approx(angle**4 / chord**2, rel=0.01)
    assert np.isnan(found.length.stderr)
    jump = ev.path_smoothness(np.where(at > angle / 2, 1.0, 0.0)[:, None, None])
    assert jump.length.value == pytest.approx(1)
    assert jump.energy.value == pytest.approx(m)
    assert jump.curvature.value == pytest.approx(2 * m**4 / (m - 1))


def test_means_and_errors_are_over_paths() -> None:
    rng = np.random.default_rng(0)
    path = rng.standard_normal((4, 6, 3))
    each = [ev.path_smoothness(path[:, [i]]) for i in range(6)]
    found = ev.path_smoothness(path)
    for name in ("length", "energy", "curvature"):
        values = np.array([getattr(one, name).value for one in each])
        assert getattr(found, name).value == pytest.approx(values.mean())
        assert getattr(found, name).stderr == pytest.approx(values.std(ddof=1) / np.sqrt(6))


def test_a_linear_decoder_is_as_smooth_as_the_path_of_its_latents() -> None:
    x = ORACLE.draw(np.random.default_rng(3), 8)
    program = oracle_program(ORACLE, PYRO)
    start, end = np.split(PYRO.encode(program, x)[0].astype(float), 2)
    w = np.linspace(0, 1, 7).reshape(-1, 1, 1)
    cosine = (start * end).sum(1) / np.linalg.norm(start, axis=1) / np.linalg.norm(end, axis=1)
    omega = np.arccos(cosine)[:, None]
    arcs = (np.sin((1 - w) * omega) * start + np.sin(w * omega) * end) / np.sin(omega)
    for kind, latents in {"linear": (1 - w) * start + w * end, "spherical": arcs}.items():
        path = np.asarray(PYRO.call("interpolate", program, x[:4], x[4:], 7, kind=kind))
        found, exact = ev.path_smoothness(path), ev.path_smoothness(ORACLE.decode({"z": latents}))
        assert found.length.value == pytest.approx(exact.length.value, rel=1e-4)
        assert found.energy.value == pytest.approx(exact.energy.value, rel=1e-4)
        assert found.curvature.value == pytest.approx(exact.curvature.value, rel=1e-3, abs=1e-4)
        assert (exact.curvature.value < 1e-9) == (kind == "linear")


def test_paths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"path: got shape \(2, 4, 3\); expected .* three points or more"):
        ev.path_smoothness(np.zeros((2, 4, 3)))
    with pytest.raises(ValueError, match="with values that are not finite"):
        ev.path_smoothness(np.full((3, 4, 3), np.nan))
    with pytest.raises(ValueError, match="path: got equal ends in 4 of 4 paths"):
        ev.path_smoothness(np.zeros((3, 4, 3)))
