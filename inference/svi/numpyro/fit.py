"""`fit` in NumPyro: what the user passes, checked and made ready for the loop."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from numpyro.infer import elbo

from deepgen import checks
from deepgen.inference.svi import checkpoint as files
from deepgen.inference.svi import kinds, loop, rows
from deepgen.inference.svi.checkpoint import Checkpoint
from deepgen.inference.svi.loop import Fit
from deepgen.inference.svi.numpyro.elbo import ELBO
from deepgen.inference.svi.numpyro.observed import CompleteGuide, ObservedModel
from deepgen.inference.svi.numpyro.trainer import Problem, State, Trainer, init
from deepgen.inference.svi.rows import Call
from deepgen.program import HasObjective, ModelsMissingness, TakesHoles

LEARNING_RATE = 1e-3
BATCH_SIZE = 128


def fit(
    rng_key: jax.Array,
    program: Any,
    data: Any,
    y: Any = None,
    *,
    steps: int = 2000,
    batch_size: int | Literal["auto"] | None = "auto",
    objective: elbo.ELBO | None = None,
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: float | Callable[[Any], Any] | None = None,
    clip_norm: float | None = None,
    ema: float | None = None,
    validation: Any = 0.0,
    patience: int | None = None,
    checkpoint: Any = None,
    resume: bool = True,
    chunk: int = 100,
    progress: bool | None = None,
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> Fit:
    r"""Fit a program, or any model and guide, by stochastic variational inference.

    params <- optimizer(params, gradient of objective(minibatch)), ``steps`` times, ``chunk`` steps in one compiled call

    Each epoch takes the rows in a new random order, without replacement; rows that do not fill a minibatch wait for
    another epoch. The result is a function of the arguments alone, also where a killed fit was resumed. A second fit of
    the same shapes and settings compiles nothing new (with a user's own optimizer, schedule or objective class: where
    it is the same object).

    A program is fitted to data with holes by the bound of their observed entries: with `IWAE` the MIWAE bound

    .. math:: \log \frac1K \sum_k \frac{p(x_\mathrm{observed} \mid z_k)\, p(z_k)}{q(z_k \mid x_\mathrm{observed})},
        \quad z_k \sim q(z \mid x_\mathrm{observed}),

    of each row, and with `ELBO` its form for K = 1. The missing entries are integrated out, which the law of x has to
    allow: its elements independent given the latents. The guide sees the holes. It bounds log p(x_observed), so it is
    right where values are missing completely at random or at random, and not where it depends on the missing values
    themselves whether they are missing: that is what `MNAR` is for.

    Args:
        rng_key: the key.
        program: a deepgen program, or a pair ``(model, guide)`` of NumPyro functions or automatic guides.
        data: for a program (n, *event_shape), NaN (negative integers) where missing. For a pair an array is passed as
            ``model(x)``, a tuple as ``model(*data)`` and a dictionary as ``model(**data)``.
        y: (n,) labels of the rows, integers, -1 where unknown, for a program that takes them; None for no label at all.
            Of the rows of one minibatch some may have labels and some not. Of a conditional program (n, context_dim)
            its context.
        steps: how many steps in all, those of a resumed fit included.
        batch_size: rows a step; None takes all, as do fewer rows than this. ``"auto"`` is 128 for a program and None
            for a pair, whose model has to scale by its plates if it is given minibatches.
        objective: what is minimised, an `ELBO` (the default, without options; or the
            program's own), `IWAE`, `DReG`, or any of NumPyro's.
        optimizer: of optax; None is Adam with ``learning_rate``.
        learning_rate: a number or a callable from the step to one; None is 1e-3. Only without ``optimizer``.
        clip_norm: the gradient's norm is clipped to this.
        ema: the decay of an exponential moving average of the parameters, e.g. 0.999, corrected for its start. Then the
            averages are what is validated and returned.
        validation: the share of the rows held out at random, or held-out data of the same form as ``data``, holes
            allowed, or a pair of such data and their labels. Its loss, with the objective as it stands at the last step
            and always the same noise, is taken at each chunk's end.
        patience: stop after this many evaluations without improvement. With it, the best parameters are returned.
        checkpoint: a file, or a `Checkpoint`, for the state of the fit; written at the ends of chunks, every 5 seconds.
        resume: take up the state in the checkpoint, if there is one; False starts afresh.
        chunk: steps in one compiled call.
        progress: whether to show a progress bar; None shows it on a terminal.
        augment: a function ``(rng_key, x)`` of a minibatch that gives what the program is shown of it, anew at every
            step: grey levels binarised at random, pixels with uniform noise, images shifted, entries hidden. ``data``
            may then be of any kind that it takes. Held-out rows are augmented once. Only for a program.

    Returns:
        The trained program, the parameters and the losses. A user's first interrupt (Ctrl-C) ends the fit at the end of
        the chunk, with a warning and a checkpoint.

    Warns:
        UserWarning: an interrupt, or what the program's own ``diagnose`` says, such as a collapsed posterior.

    Raises:
        ValueError: an argument or the data is not acceptable, an entry of these is missing in every row, or the
            checkpoint is of another fit.
        TypeError: an argument is of the wrong type.
        NonFiniteLoss: the loss or a gradient was not finite; the error holds the last good state.

    References:
        Hoffman et al. 2013, "Stochastic variational inference"; Kingma and Welling 2014, "Auto-encoding variational
        Bayes"; Mattei and Frellsen 2019, "MIWAE: deep generative modelling and imputation of incomplete data sets".
    """
    checks.random_key(rng_key)
    kinds.check(program, objective)
    if optimizer is not None and not isinstance(optimizer, optax.GradientTransformation):
        raise checks.wrong_type(
            "optimizer",
            optimizer,
            expected="an optimizer of optax",
            fix="Pass optax.adam(1e-3), say; those of numpyro.optim are for a plain SVI.",
        )
    loop.check_settings(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        clip_norm=clip_norm,
        ema=ema,
        validation=validation,
        patience=patience,
        chunk=chunk,
    )
    pair = isinstance(program, tuple)
    model, guide = program if pair else (program.model, program.guide)
    if objective is None:
        objective = program.objective() if isinstance(program, HasObjective) else ELBO()
    init_key, split_key, run_key = jax.random.split(rng_key, 3)

    def show(x: Any) -> Any:
        return x if augment is None else rows.augmented(x, augment(jax.random.fold_in(split_key, 0), jnp.asarray(x)))

    if augment is not None:
        rows.check_augment(augment, pair)
    # an augmentation may hide an entry by chance
    taken = rows.training if augment is None else rows.of_program
    call = rows.as_call(data) if pair and y is None else taken(program, show(data), y)
    held: Call | None = None
    if not isinstance(validation, int | float):
        held = rows.as_call(validation) if pair else rows.held_out(program, validation, y, show)
    if not pair and not isinstance(program, ModelsMissingness | TakesHoles):
        if rows.have_holes(call, held):
            model = ObservedModel(model)
        elif augment is None:
            guide = CompleteGuide(guide)
    if augment is not None:
        call = call.with_data(lambda _: data)
    call, held = call.map(jnp.asarray), None if held is None else held.map(jnp.asarray)
    if held is None and validation > 0:
        call, held = rows.hold_out(call, validation, int(jax.random.bits(split_key, dtype=jnp.uint32)))
        held = held if augment is None else held.with_data(show).map(jnp.asarray)

    size = (None if pair else BATCH_SIZE) if batch_size == "auto" else batch_size
    total = None if size is None else rows.count(call, "data")
    if size is not None and total is not None and total <= size:
        size = None
    first = call if size is None else call.map(lambda array: array[:size])
    first = first if augment is None else first.with_data(show)
    # A user's functions may keep what they make on their first call (automatic guides do): never under a trace.
    params, transforms, mutable = (init if pair else eqx.filter_jit(init))(init_key, model, guide, first)

    if isinstance(objective, loop.Measuring):
        carrying: Any = objective
        start, state_key = eqx.filter_jit(carrying.initial_state), jax.random.fold_in(init_key, 1)
        values = {name: transforms[name](value) for name, value in params.items()}
        mutable = mutable | start(state_key, values, model, guide, *first.args, **first.kwargs)

    problem = Problem(
        model=model,
        guide=guide,
        objective=objective,
        optimizer=_optimizer(optimizer, learning_rate, clip_norm),
        transforms=transforms,
        ema=ema,
        batch_size=size,
        per_row=not pair,
        augment=augment,
    )
    state = State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        optimizer=problem.optimizer.init(params),
        mutable=mutable,
        average=None if ema is None else jax.tree.map(jnp.zeros_like, params),
        order=None if size is None or total is None else jnp.arange(total),
    )
    where = None if checkpoint is None else checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    settings = loop.Settings(steps, chunk, held is not None, patience, where, resume, progress, {})
    if where is not None:
        settings = settings._replace(
            fingerprint={
                "engine": "numpyro",
                "rng_key": files.digest(jax.random.key_data(rng_key)),
                "program": [files.describe(fn) for fn in program] if pair else [program.family, program.spec()],
                "parameters": {name: list(leaf.shape) for name, leaf in _named(params).items()},
                "data": {name: files.digest(value) for name, value in call.arrays().items()},
                "validation": None if held is None else {n: files.digest(v) for n, v in held.arrays().items()},
                "batch_size": size,
                "objective": files.describe(objective),
                "optimizer": "adam" if optimizer is None else sorted(_named(state.optimizer)),
                "learning_rate": files.describe(learning_rate),
                "augment": files.describe(augment),
                "clip_norm": clip_norm,
                "ema": ema,
                "patience": patience,
                "chunk": None if held is None else chunk,
                # Held-out rows are judged by the objective as it stands at the last step.
                "steps": None if held is None or objective == loop.at(objective, steps) else steps,
            }
        )
    trainer = Trainer(run_key, program, problem, state, call, held or Call((), {}), chunk=chunk, steps=steps)
    done = loop.run(trainer, settings, objective)
    return done if pair else loop.tell(done, show(data[:1000]))


@lru_cache
def _optimizer(
    optimizer: optax.GradientTransformation | None, learning_rate: Any, clip_norm: float | None
) -> optax.GradientTransformation:
    # Cached: a compiled chunk is found again only by the same functions.
    if optimizer is None:
        optimizer = optax.adam(LEARNING_RATE if learning_rate is None else learning_rate)
    return optimizer if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)


def _named(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
