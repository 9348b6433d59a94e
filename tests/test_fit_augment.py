"""`fit` with an augmentation: what the program is shown of a minibatch is made anew at every step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from fitting import FITTINGS, ROWS, Fitting

from deepgen.inference.svi import rows

engines = pytest.mark.parametrize("fitting", FITTINGS, ids=repr)
NUMPYRO, PYRO = FITTINGS
SEEN: list[np.ndarray] = []


def _seen_numpyro(key: jax.Array, x: jax.Array) -> jax.Array:
    shown = x + jax.random.uniform(key, x.shape)
    jax.debug.callback(lambda array: SEEN.append(np.array(array)), shown)
    return shown


def _seen_pyro(x: torch.Tensor) -> torch.Tensor:
    SEEN.append((x + torch.rand(x.shape)).numpy().copy())
    return torch.from_numpy(SEEN[-1])


def _jittered_numpyro(key: jax.Array, x: jax.Array) -> jax.Array:
    return x + 0.1 * jax.random.normal(key, x.shape)


def _jittered_pyro(x: torch.Tensor) -> torch.Tensor:
    return x + 0.1 * torch.randn(x.shape)


def of(fitting: Fitting, function: Callable[[Any], Any]) -> Callable[..., Any]:
    """An augmentation without noise, in an engine's signature."""
    return (lambda key, x: function(x)) if fitting is NUMPYRO else function


@engines
def test_what_is_shown_is_what_counts(fitting: Fitting) -> None:
    options: dict[str, Any] = {"steps": 8, "batch_size": 50, "chunk": 4, "validation": 0.2}
    plain = fitting.fit(fitting.vae(), ROWS, **options)
    shifted = fitting.fit(fitting.vae(), 8 * ROWS, augment=of(fitting, lambda x: x / 8), **options)
    np.testing.assert_array_equal(shifted.losses, plain.losses)
    np.testing.assert_array_equal(shifted.validation_losses, plain.validation_losses)
    twin = fitting.fit(fitting.vae(), 8 * ROWS, augment=of(fitting, lambda x: x / 4), **options)
    assert np.abs(twin.losses - plain.losses).min() > 1e-3


@engines
def test_training_rows_anew_and_held_out_rows_once(fitting: Fitting) -> None:
    SEEN.clear()
    augment = _seen_numpyro if fitting is NUMPYRO else _seen_pyro
    fit = fitting.fit(
        fitting.vae(),
        ROWS,
        steps=6,
        batch_size=None,
        optimizer=fitting.sgd(0.0),
        chunk=2,
        validation=ROWS[:20],
        augment=augment,
    )
    jax.effects_barrier()
    noise = [shown - ROWS for shown in SEEN if len(shown) == len(ROWS)]
    assert len(noise) >= 6
    assert all(array.min() + 1e-5 >= 0 and array.max() <= 1 + 1e-5 for array in noise)
    last = noise[-6:]
    assert all(np.abs(a - b).max() > 0.5 for i, a in enumerate(last) for b in last[:i])
    assert len(set(fit.validation_losses.tolist())) == 1


@engines
def test_resumed_fit_goes_on_alike(fitting: Fitting, tmp_path: Path) -> None:
    augment = _jittered_numpyro if fitting is NUMPYRO else _jittered_pyro
    options: dict[str, Any] = {"batch_size": 50, "chunk": 3, "validation": 0.2, "augment": augment}
    whole = fitting.fit(fitting.vae(), ROWS, steps=12, **options)
    fitting.fit(fitting.vae(), ROWS, steps=6, checkpoint=tmp_path / "state", **options)
    resumed = fitting.fit(fitting.vae(), ROWS, steps=12, checkpoint=tmp_path / "state", **options)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    np.testing.assert_array_equal(resumed.validation_losses, whole.validation_losses)
    with pytest.raises(ValueError, match="augment"):
        fitting.fit(fitting.vae(), ROWS, steps=12, checkpoint=tmp_path / "state", **{**options, "augment": None})


@engines
def test_holes_may_come_from_the_augmentation(fitting: Fitting) -> None:
    def hide(x: Any) -> Any:
        numerics = fitting.engine.numerics
        return numerics.where(x > 1.5, 0 * x + np.nan, x)

    fit = fitting.fit(fitting.vae(), ROWS, steps=3, batch_size=50, augment=of(fitting, hide))
    assert np.isfinite(fit.losses).all()


@engines
def test_refusals(fitting: Fitting) -> None:
    with pytest.raises(ValueError, match=r"augment: got an array of shape \(75, 6\) from \(150, 6\).*as many rows"):
        fitting.fit(fitting.vae(), ROWS, steps=1, augment=of(fitting, lambda x: x[::2]))
    with pytest.raises(ValueError, match=r"augment: got a pair \(model, guide\)"):
        fitting.fit(fitting.climb(lambda a, x: a**2), ROWS, steps=1, augment=of(fitting, lambda x: x))
    with pytest.raises(TypeError, match="augment: got float; expected a function"):
        rows.check_augment(0.5, pair=False)
