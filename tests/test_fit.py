"""`fit` in both engines: courses of the optimiser known in closed form, minibatches, validation, what stops it."""

import importlib
import signal
from typing import Any

import numpy as np
import pytest
from fitting import FITTINGS, ROWS, Fitting
from numpyro import handlers

from deepgen.inference.svi import loop, rows
from deepgen.inference.svi import numpyro as nsvi

engines = pytest.mark.parametrize("fitting", FITTINGS, ids=repr)
NUMPYRO, PYRO = FITTINGS
TARGET = np.array([3.0], dtype=np.float32)


def square(a: Any, x: Any) -> Any:
    return (a - x.sum()) ** 2 / 2


def course(steps: int, target: float = 3.0, rate: float = 0.1) -> np.ndarray:
    """Gradient descent on the square from 0: the values after 0, ..., steps steps."""
    return target * (1 - (1 - rate) ** np.arange(steps + 1))


def average(values: np.ndarray, decay: float) -> float:
    weights = decay ** np.arange(len(values))[::-1]
    return float((weights * values).sum() / weights.sum())


@engines
def test_course_of_gradient_descent(fitting: Fitting) -> None:
    fit = fitting.fit(fitting.climb(square), TARGET, steps=25, optimizer=fitting.sgd(0.1), chunk=10)
    np.testing.assert_allclose(fit.losses, (course(24) - 3) ** 2 / 2, rtol=1e-4)
    assert float(fit.params["a"]) == pytest.approx(course(25)[-1], rel=1e-5)
    assert (fit.steps, fit.stopped, fit.validation_losses.size) == (25, "steps", 0)
    assert repr(fit).startswith("Fit(steps=25, stopped='steps'")


@engines
def test_average_of_parameters_and_validation_on_it(fitting: Fitting) -> None:
    fit = fitting.fit(
        fitting.climb(square), TARGET, steps=6, optimizer=fitting.sgd(0.1), ema=0.8, chunk=2, validation=TARGET * 0
    )
    averages = [average(course(n)[1:], 0.8) for n in (2, 4, 6)]
    assert float(fit.params["a"]) == pytest.approx(averages[-1], rel=1e-5)
    np.testing.assert_allclose(fit.validation_losses, np.square(averages) / 2, rtol=1e-4)
    np.testing.assert_array_equal(fit.validation_steps, [2, 4, 6])
    np.testing.assert_allclose(fit.losses, (course(5) - 3) ** 2 / 2, rtol=1e-4)


@engines
def test_gradient_is_clipped(fitting: Fitting) -> None:
    fit = fitting.fit(fitting.climb(square), TARGET, steps=2, optimizer=fitting.sgd(0.1), clip_norm=0.5)
    assert float(fit.params["a"]) == pytest.approx(0.1, rel=1e-4)


@engines
def test_learning_rate_may_be_a_schedule(fitting: Fitting) -> None:
    # Adam's first step is as long as the learning rate, whatever the gradient.
    fit = fitting.fit(fitting.climb(square), TARGET, steps=5, learning_rate=lambda step: 0.1 * (step < 1))
    assert float(fit.params["a"]) == pytest.approx(0.1, rel=1e-4)


@engines
def test_objective_sees_the_step(fitting: Fitting) -> None:
    engine = fitting.engine

    def model(x: Any) -> None:
        a = engine.param("a", engine.array(0.0))
        engine.sample("z", engine.dist.Normal(a * 0, 1.0))

    def guide(x: Any) -> None:
        engine.sample("z", engine.dist.Normal(engine.array(2.0), 1.0))

    objective = engine.ELBO(beta=fitting.room.Linear(4))
    fit = fitting.fit((model, guide), TARGET, steps=6, objective=objective, chunk=4, validation=TARGET)
    np.testing.assert_allclose(fit.losses, 2 * np.array([0, 0.25, 0.5, 0.75, 1, 1]), rtol=1e-5)
    np.testing.assert_allclose(fit.validation_losses, [2.0, 2.0], rtol=1e-5)
    assert fit.objective is objective


@engines
def test_patience_gives_the_best_back(fitting: Fitting) -> None:
    def run(**options: Any) -> Any:
        return fitting.fit(
            fitting.climb(square), TARGET, optimizer=fitting.sgd(0.1), chunk=1, validation=TARGET / 3, **options
        )

    best = int(np.argmin(np.abs(course(20) - 1)))
    fit = run(steps=20, patience=3)
    assert (fit.steps, fit.stopped) == (best + 3, "patience")
    assert float(fit.params["a"]) == pytest.approx(course(20)[best], rel=1e-5)
    assert int(np.argmin(fit.validation_losses)) + 1 == best
    late = run(steps=best + 2, patience=3)
    assert late.stopped == "steps"
    assert float(late.params["a"]) == pytest.approx(course(20)[best], rel=1e-5)
    assert float(run(steps=best + 2).params["a"]) == pytest.approx(course(20)[best + 2], rel=1e-5)


@engines
@pytest.mark.parametrize("chunk", [2, 4, 100])
def test_loss_that_is_not_finite_stops(fitting: Fitting, chunk: int) -> None:
    pair = fitting.climb(lambda a, x: fitting.engine.numerics.log(1 - a))
    a = [0.0]
    while a[-1] < 1:
        a.append(a[-1] + 0.2 / (1 - a[-1]))
    with pytest.raises(nsvi.NonFiniteLoss, match=r"not finite at step 4.*lower learning_rate.*clip_norm") as caught:
        fitting.fit(pair, TARGET, steps=50, optimizer=fitting.sgd(0.2), chunk=chunk)
    assert caught.value.step == caught.value.fit.steps == len(a) - 1 == len(caught.value.fit.losses)
    assert caught.value.fit.stopped == "non-finite"
    assert float(caught.value.fit.params["a"]) == pytest.approx(a[-1], rel=1e-4)


@engines
@pytest.mark.parametrize("chunk", [4, 100])
def test_gradient_that_is_not_finite_stops_in_the_last_good_state(fitting: Fitting, chunk: int) -> None:
    def loss(a: Any, x: Any) -> Any:
        numerics = fitting.engine.numerics
        return numerics.sqrt(numerics.where(a > 0.5, a - 0.5, 0 * a)) + a

    a = [1.0]
    while a[-1] > 0.5:
        a.append(a[-1] - 0.1 * (1 + 0.5 / np.sqrt(a[-1] - 0.5)))
    with pytest.raises(FloatingPointError, match="not finite at step 3") as caught:
        fitting.fit(fitting.climb(loss, start=1.0), TARGET, steps=50, optimizer=fitting.sgd(0.1), chunk=chunk)
    assert float(caught.value.fit.params["a"]) == pytest.approx(a[-1], rel=1e-4)
    with pytest.raises(FloatingPointError, match=r"step 0 .it was so from the start"):
        fitting.fit(fitting.climb(loss, start=0.0), TARGET, steps=50, optimizer=fitting.sgd(0.1), chunk=chunk)


@engines
def test_minibatches_are_epochs_without_replacement(fitting: Fitting) -> None:
    pair = fitting.climb(lambda a, x: x.sum() + 0 * a)
    powers = 2.0 ** np.arange(11)
    fit = fitting.fit(pair, powers, steps=20, batch_size=5)
    taken = np.array([[(int(loss) >> bit) & 1 for bit in range(11)] for loss in fit.losses])
    np.testing.assert_array_equal(taken.sum(1), 5)
    assert taken.reshape(10, 2, 11).sum(1).max() == 1
    assert len({tuple(row) for row in taken}) > 10
    # The row left out changes: all are seen.
    assert taken.sum(0).min() > 0
    np.testing.assert_allclose(fitting.fit(pair, powers, steps=2, batch_size=20).losses, powers.sum())
    np.testing.assert_allclose(fitting.fit(pair, powers, steps=2).losses, powers.sum())


@engines
def test_data_may_be_arguments(fitting: Fitting) -> None:
    engine = fitting.engine

    def model(x: Any, y: Any = None, *, scale: float = 1.0) -> None:
        engine.factor(
            "f", -(scale * x.sum() + (0 if y is None else y.sum()) + 0 * engine.param("a", engine.array(0.0)))
        )

    def guide(*args: Any, **kwargs: Any) -> None:
        pass

    x, y = np.arange(4.0), np.ones(4)
    assert fitting.fit((model, guide), (x, y), steps=1).losses[0] == 10
    assert fitting.fit((model, guide), {"x": x, "scale": 2.0}, steps=1).losses[0] == 12
    held = fitting.fit((model, guide), (x, y), steps=1, validation=0.5)
    assert held.losses[0] + held.validation_losses[0] == 10


def test_held_out_rows_are_the_rest() -> None:
    call = rows.as_call((np.arange(10), None, np.arange(10) * 2))
    kept, out = rows.hold_out(call, 0.3, seed=1)
    assert sorted([*kept.args[0], *out.args[0]]) == list(range(10))
    assert len(out.args[0]) == 3
    np.testing.assert_array_equal(out.args[2], 2 * out.args[0])
    assert out.args[1] is None
    assert not np.array_equal(rows.hold_out(call, 0.3, seed=2)[1].args[0], out.args[0])


@engines
def test_program_is_trained(fitting: Fitting) -> None:
    engine, program = fitting.engine, fitting.vae()
    before = fitting.weights(program)
    fit = fitting.fit(program, ROWS, steps=150, batch_size=50, learning_rate=1e-2, validation=0.2, chunk=50)
    assert type(fit.program) is type(program)
    assert fit.losses.shape == (150,)
    # 0.1 is far beyond the noise of an average of 20 steps of 50 rows.
    assert fit.losses[-20:].mean() < fit.losses[:20].mean() - 0.1
    assert fit.validation_losses[-1] < fit.validation_losses[0]
    after, trained = fitting.weights(program), fitting.weights(fit.program)
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name])
    assert not np.allclose(before["decoder.layers.0.weight"], trained["decoder.layers.0.weight"])

    losses = engine.losses(engine.ELBO(), fit.program.model, fit.program.guide, engine.array(ROWS), count=50) / len(
        ROWS
    )
    one = fitting.fit(fit.program, ROWS, steps=1, batch_size=None).losses[0]
    assert abs(one - losses.mean()) < 6 * losses.std(ddof=1)


@engines
def test_fit_is_a_function_of_its_seed(fitting: Fitting) -> None:
    program = fitting.vae()
    one, same, other = (fitting.fit(program, ROWS, steps=5, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.losses, same.losses)
    assert not np.array_equal(one.losses, other.losses)


@engines
def test_user_model_with_an_automatic_guide(fitting: Fitting) -> None:
    engine = fitting.engine
    x = np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32)
    y = (x @ [1.0, -1.0] + 0.5 * np.random.default_rng(2).normal(size=40)).astype(np.float32)

    def model(x: Any, y: Any = None) -> None:
        w = engine.sample("w", engine.dist.Normal(engine.array([0, 0]), 1.0).to_event(1))
        with engine.plate("rows", len(x)):
            engine.sample("y", engine.dist.Normal(x @ w, 0.5), obs=y)

    precision = np.eye(2) + x.T @ x / 0.25
    mean, sd = np.linalg.solve(precision, x.T @ y / 0.25), np.diag(precision) ** -0.5
    # The best mean-field normal has the posterior's mean and its conditional standard deviations. With n = 2000 steps
    # averaged, each a draw with the posterior's scale, 0.2 sd and 10 % are beyond 5 standard errors.
    fit = fitting.fit((model, fitting.autonormal(model)), (x, y), steps=2000, learning_rate=0.02, ema=0.998)
    loc, scale = (next(v for k, v in fit.params.items() if part in k) for part in ("loc", "scale"))
    np.testing.assert_allclose(np.asarray(loc), mean, atol=0.2 * sd.min())
    np.testing.assert_allclose(np.asarray(scale), sd, rtol=0.1)

    _, guide = fit.program
    if engine.name == "numpyro":
        draws = np.array([handlers.seed(guide, i)(x)["w"] for i in range(20)])
    else:
        draws = np.array([guide(x)["w"].detach().numpy() for _ in range(20)])
    assert np.abs(draws.mean(0) - mean).max() < 6 * sd.max() / np.sqrt(20)


@engines
def test_objectives_of_the_engine(fitting: Fitting) -> None:
    fit = fitting.fit(fitting.vae(), ROWS, steps=3, objective=fitting.engine.trace_elbo())
    ours = fitting.fit(fitting.vae(), ROWS, steps=3)
    # The same weights and nearly the same bound: per datum, as for our own objective.
    assert abs(fit.losses[0] - ours.losses[0]) < 1.0


@engines
def test_interrupt_ends_the_chunk(fitting: Fitting, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    trainer = importlib.import_module(f"deepgen.inference.svi.{fitting.engine.name}.trainer").Trainer
    advance, calls = trainer.advance, []

    def interrupted(self: Any, count: int) -> Any:
        calls.append(count)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return advance(self, count)

    monkeypatch.setattr(trainer, "advance", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    options = {"steps": 20, "optimizer": fitting.sgd(0.1), "chunk": 5, "checkpoint": tmp_path / "fit.safetensors"}
    with pytest.warns(UserWarning, match=r"interrupted after 10 of 20 steps.*resumes"):
        fit = fitting.fit(fitting.climb(square), TARGET, **options)
    assert (fit.steps, fit.stopped, signal.getsignal(signal.SIGINT)) == (10, "interrupted", handler)
    assert float(fit.params["a"]) == pytest.approx(course(10)[-1], rel=1e-5)

    def twice(self: Any, count: int) -> Any:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return advance(self, count)

    monkeypatch.setattr(trainer, "advance", twice)
    with pytest.raises(KeyboardInterrupt):
        fitting.fit(fitting.climb(square), TARGET, steps=20, optimizer=fitting.sgd(0.1))
    assert signal.getsignal(signal.SIGINT) is handler


@engines
def test_progress_bar(fitting: Fitting, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"steps": 4, "optimizer": fitting.sgd(0.1), "validation": TARGET}
    fitting.fit(fitting.climb(square), TARGET, **options)
    fitting.fit(fitting.climb(square), TARGET, **options, progress=False)
    assert capsys.readouterr().err == ""
    fitting.fit(fitting.climb(square), TARGET, **options, progress=True)
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "validation=" in shown


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"steps": 0}, ValueError, "steps: got 0"),
    ({"batch_size": 0}, ValueError, "batch_size: got 0"),
    ({"chunk": -1}, ValueError, "chunk: got -1"),
    ({"learning_rate": 0.0}, ValueError, r"learning_rate: got 0\.0"),
    ({"clip_norm": -1.0}, ValueError, r"clip_norm: got -1\.0"),
    ({"ema": 1.0}, ValueError, r"ema: got 1\.0; expected a decay"),
    ({"validation": 1.0}, ValueError, r"validation: got 1\.0; expected a share"),
    ({"validation": 1e-6}, ValueError, "validation: got 1e-06 of 150 rows"),
    ({"patience": 3}, ValueError, "patience: got 3 without validation"),
    ({"patience": 0, "validation": 0.1}, ValueError, "patience: got 0"),
]


@engines
@pytest.mark.parametrize(("options", "error", "message"), REFUSED)
def test_bad_settings_are_refused(
    fitting: Fitting, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fitting.fit(fitting.vae(), ROWS, **options)


def test_counts_are_integers() -> None:
    with pytest.raises(TypeError, match=r"steps: got 1\.5; expected an integer"):
        loop.check_settings(
            steps=1.5,
            batch_size=None,
            learning_rate=None,
            optimizer=None,
            clip_norm=None,
            ema=None,
            validation=0.0,
            patience=None,
            chunk=1,
        )


@engines
def test_bad_data_is_refused(fitting: Fitting) -> None:
    with pytest.raises(ValueError, match=r"got shape \(150, 5\)"):
        fitting.fit(fitting.vae(), ROWS[:, :5])
    with pytest.raises(ValueError, match="infinite"):
        fitting.fit(fitting.vae(), np.where(ROWS > 5, np.inf, ROWS))
    with pytest.raises(ValueError, match="3 rows of which nothing is observed"):
        fitting.fit(fitting.vae(), np.where(np.arange(150)[:, None] < 3, np.nan, ROWS))
    with pytest.raises(ValueError, match="no rows"):
        fitting.fit(fitting.vae(), ROWS[:0])
    with pytest.raises(ValueError, match=r"learning_rate: got 0\.1 beside an optimizer"):
        fitting.fit(fitting.vae(), ROWS, learning_rate=0.1, optimizer=fitting.sgd(0.1))
    pair = fitting.climb(square)
    with pytest.raises(ValueError, match=r"data: got arrays of \{'0': 3, '1': 4\} rows"):
        fitting.fit(pair, (np.zeros(3), np.zeros(4)), batch_size=2)
    with pytest.raises(ValueError, match="data: got no array"):
        fitting.fit(pair, (1.0,), validation=0.5)
