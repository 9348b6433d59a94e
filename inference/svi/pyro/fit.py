"""`fit` in Pyro: what the user passes, checked and made ready for the loop."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Literal

import pyro
import torch
from pyro import infer

from deepgen import checks
from deepgen.inference.svi import checkpoint as files
from deepgen.inference.svi import kinds, loop, rows
from deepgen.inference.svi.checkpoint import Checkpoint
from deepgen.inference.svi.loop import Fit
from deepgen.inference.svi.pyro.elbo import ELBO
from deepgen.inference.svi.pyro.trainer import Trainer
from deepgen.inference.svi.rows import Call
from deepgen.program import HasObjective, ModelsMissingness, TakesHoles

LEARNING_RATE = 1e-3
BATCH_SIZE = 128


def fit(
    program: Any,
    data: Any,
    y: Any = None,
    *,
    steps: int = 2000,
    batch_size: int | Literal["auto"] | None = "auto",
    objective: infer.ELBO | None = None,
    optimizer: Callable[[list[torch.Tensor]], Any] | None = None,
    learning_rate: float | Callable[[Any], Any] | None = None,
    clip_norm: float | None = None,
    ema: float | None = None,
    validation: Any = 0.0,
    patience: int | None = None,
    checkpoint: Any = None,
    resume: bool = True,
    chunk: int = 100,
    progress: bool | None = None,
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Fit:
    r"""Fit a program, or any model and guide, by stochastic variational inference.

    params <- optimizer(params, gradient of objective(minibatch)), ``steps`` times

    Each epoch takes the rows in a new random order, without replacement; rows that do not fill a minibatch wait for
    another epoch. ``pyro.set_rng_seed`` decides the result, also where a killed fit was resumed: the checkpoint holds
    torch's generator. The fit has a param store of its own, and Pyro's validation is on (where it was) for a first
    pass and off for the steps.

    A program is fitted to data with holes by the bound of their observed entries: with `IWAE` the MIWAE bound

    .. math:: \log \frac1K \sum_k \frac{p(x_\mathrm{observed} \mid z_k)\, p(z_k)}{q(z_k \mid x_\mathrm{observed})},
        \quad z_k \sim q(z \mid x_\mathrm{observed}),

    of each row, and with `ELBO` its form for K = 1. The missing entries are integrated out, which the law of x has to
    allow: its elements independent given the latents. The guide sees the holes. It bounds log p(x_observed), so it is
    right where values are missing completely at random or at random, and not where it depends on the missing values
    themselves whether they are missing: that is what `MNAR` is for.

    Args:
        program: a deepgen program, of which a copy is trained, or a pair ``(model, guide)`` of Pyro functions or
            automatic guides; the modules that those hold are trained in place, as Pyro's SVI does.
        data: for a program (n, *event_shape), NaN (negative integers) where missing. For a pair an array is passed as
            ``model(x)``, a tuple as ``model(*data)`` and a dictionary as ``model(**data)``.
        y: (n,) labels of the rows, integers, -1 where unknown, for a program that takes them; None for no label at all.
            Of the rows of one minibatch some may have labels and some not. Of a conditional program (n, context_dim)
            its context.
        steps: how many steps in all, those of a resumed fit included.
        batch_size: rows a step; None takes all, as do fewer rows than this. ``"auto"`` is 128 for a program and None
            for a pair, whose model has to scale by its plates if it is given minibatches.
        objective: what is minimised, an `ELBO` (the default, without options; or the
            program's own), `IWAE`, `DReG`, or any of Pyro's.
        optimizer: from the list of parameters to a ``torch.optim.Optimizer``, or to a pair of one and its learning rate
            scheduler; None is Adam with ``learning_rate``.
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
        chunk: steps from one look at the clock, the user's interrupt and the validation data to the next.
        progress: whether to show a progress bar; None shows it on a terminal.
        augment: a function ``(x)`` of a minibatch that gives what the program is shown of it, anew at every step: grey
            levels binarised at random, pixels with uniform noise, images shifted, entries hidden. ``data`` may then be
            of any kind that it takes. Held-out rows are augmented once. Only for a program.

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
    kinds.check(program, objective)
    made = isinstance(optimizer, pyro.optim.PyroOptim | torch.optim.Optimizer)
    if optimizer is not None and (made or not callable(optimizer)):
        raise checks.wrong_type(
            "optimizer",
            optimizer,
            expected="a function from the parameters to an optimizer of torch",
            fix="Pass lambda params: torch.optim.Adam(params, lr=1e-3), say; those of pyro.optim are for a plain SVI.",
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
    if objective is None:
        objective = program.objective() if isinstance(program, HasObjective) else ELBO()
    where = None if checkpoint is None else checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    seed = int(torch.randint(2**62, ()))
    if where is not None and resume and where.file.is_file():
        seed = files.read(where.file)[1]["state"]["seed"]

    device = torch.device("cpu") if pair else next(program.parameters()).device

    def show(x: Any) -> Any:
        if augment is None:
            return x
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            return rows.augmented(x, augment(_tensor(x, device)).cpu())

    if augment is not None:
        rows.check_augment(augment, pair)
    # an augmentation may hide an entry by chance
    taken = rows.training if augment is None else rows.of_program
    call = rows.as_call(data) if pair and y is None else taken(program, show(data), y)
    held: Call | None = None
    if not isinstance(validation, int | float):
        held = rows.as_call(validation) if pair else rows.held_out(program, validation, y, show)
    holes = None if pair or isinstance(program, ModelsMissingness | TakesHoles) else rows.have_holes(call, held)
    if augment is not None:
        call = call.with_data(lambda _: data)
    call = call.map(lambda array: _tensor(array, device))
    held = None if held is None else held.map(lambda array: _tensor(array, device))
    if held is None and validation > 0:
        call, held = rows.hold_out(call, validation, seed)
        held = held if augment is None else held.with_data(show).map(lambda array: _tensor(array, device))

    size = (None if pair else BATCH_SIZE) if batch_size == "auto" else batch_size
    if size is not None and rows.count(call, "data") <= size:
        size = None
    settings = loop.Settings(steps, chunk, held is not None, patience, where, resume, progress, {})
    with pyro.get_param_store().scope():
        trainer = Trainer(
            program if pair else deepcopy(program),
            objective,
            optimizer or _adam(LEARNING_RATE if learning_rate is None else learning_rate),
            call,
            held or Call((), {}),
            learning_rate=learning_rate,
            clip_norm=clip_norm,
            ema=ema,
            batch_size=size,
            seed=seed,
            steps=steps,
            holes=holes,
            augment=augment,
        )
        if where is not None:
            settings = settings._replace(
                fingerprint={
                    "engine": "pyro",
                    "program": [files.describe(fn) for fn in program] if pair else [program.family, program.spec()],
                    "parameters": {name: list(param.shape) for name, param in trainer.params.items()},
                    "data": {name: files.digest(value.cpu()) for name, value in call.arrays().items()},
                    "validation": None
                    if held is None
                    else {n: files.digest(v.cpu()) for n, v in held.arrays().items()},
                    "batch_size": size,
                    "objective": files.describe(objective),
                    "optimizer": files.describe(type(trainer.optimizer)),
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
        with pyro.validation_enabled(False):
            done = loop.run(trainer, settings, objective)
    return done if pair else loop.tell(done, show(data[:1000]))


def _tensor(array: Any, device: torch.device) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array if device.type == "cpu" else array.to(device)
    tensor = torch.as_tensor(array, device=device)
    return tensor.to(torch.get_default_dtype()) if tensor.is_floating_point() else tensor


def _adam(learning_rate: float | Callable[[Any], Any]) -> Callable[[list[torch.Tensor]], torch.optim.Optimizer]:
    def make(params: list[torch.Tensor]) -> torch.optim.Optimizer:
        first = float(learning_rate(0)) if callable(learning_rate) else learning_rate
        fused = all(param.is_floating_point() and param.device.type in ("cpu", "cuda") for param in params)
        return torch.optim.Adam(params, lr=first, fused=fused)

    return make
