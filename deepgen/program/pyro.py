"""What Pyro does with any program: parameters, files, draws, and the densities of its rows."""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Any, TypeVar

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask

from deepgen import checks
from deepgen.handlers.sites.pyro import ObservedEntries, independent
from deepgen.program import Draws, Program, check_program, drawn_by, files, known
from deepgen.program import given as given_labels
from deepgen.program.said import is_declared

P = TypeVar("P", bound=Any)

_INDIFFERENT = (poutine.trace_messenger.TraceMessenger, poutine.replay_messenger.ReplayMessenger)


def declare(name: str, module: Any) -> Any:
    """Declare a module's parameters, where it has any.

    Args:
        name: of the program's field.
        module: a module, or a ``ModuleList``.

    Returns:
        The module with its declared parameters.
    """
    if is_declared() and all(isinstance(handler, _INDIFFERENT) for handler in poutine.runtime._PYRO_STACK):
        return module
    return module if next(module.parameters(), None) is None else pyro.module(name, module)


def with_params(program: P, params: Mapping[str, torch.Tensor], *, name: str | None = None) -> P:
    """The program with other parameters.

    Args:
        program: a ``torch.nn.Module`` whose fields are declared under their own names; it is left as it is.
        params: param site to value, such as ``{"decoder$$$layers.0.weight": ...}``, as Pyro's param store names them;
            other sites are ignored.
        name: under which the program was declared as a whole, as in ``flow.distribution(name="x_flow")``; None where
            its fields are.

    Returns:
        A copy of the program with these parameters.

    Raises:
        ValueError: nothing was declared under the name.
    """
    program = deepcopy(program)
    own = dict(program.named_parameters())
    if name is not None:
        checks.declared(name, [site.partition("$$$")[0] for site in params])
    with torch.no_grad():
        for site, value in params.items():
            field, _, inner = site.partition("$$$")
            path = files.path_of(program, field) if name is None else ""
            full = inner if field == name else f"{path}.{inner}".rstrip(".") if path else ""
            if full in own:
                own[full].copy_(value)
    return program


def save(program: Any, path: str | os.PathLike[str]) -> None:
    """Write ``program.json`` and ``params.safetensors``, which load into either engine.

    Args:
        program: the program.
        path: the folder; made if need be. Other files in it are left alone.

    Raises:
        TypeError: no program where there should be one.
        OSError: the folder cannot be written to.
    """
    check_program(program)
    state = program.state_dict()
    files.write(path, program, {name: tensor.detach().cpu().numpy() for name, tensor in state.items()})


def load(path: str | os.PathLike[str], *, like: Any | None = None, family: str | None = None) -> Any:
    """Read a program that `save` of either engine wrote.

    Args:
        path: the folder.
        like: a program of the same shape; needed only where a network is the user's own.
        family: the family that is asked for; None takes any.

    Returns:
        The program.

    Raises:
        FileNotFoundError: no program is there.
        ValueError: cut short, of another family, of a newer format, or of other shapes than ``like``.
    """
    description, tensors = files.read(path, family=family)
    program = deepcopy(files.rebuild(description, like, build, path))
    own = {name: tuple(tensor.shape) for name, tensor in program.state_dict().items()}
    found = {name: array.shape for name, array in tensors.items()}
    if own != found:
        differing = sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name))
        raise checks.problem(
            str(path),
            got=f"tensors {[(name, found.get(name)) for name in differing]}",
            expected=f"{[(name, own.get(name)) for name in differing]}",
            fix="Load it into a program of the same shape.",
        )
    program.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in tensors.items()})
    return program


def build(family: str, config: Mapping[str, Any]) -> Any:
    """A program of the described shape, with initial weights.

    Args:
        family: the program's.
        config: its ``spec()``.

    Returns:
        The program.
    """
    room = importlib.import_module(f"deepgen.models.{family}.pyro")
    return room.build(config)


def sample(
    program: Program,
    num_samples: int,
    *,
    y: Any = None,
    given: Any = None,
    method: str | None = None,
    num_steps: int | None = None,
) -> torch.Tensor:
    """Draws x ~ p(x), or x ~ p(x | y).

    Of an energy-based program they are the ends of Markov chains, one each, from its base: of the law as the chains
    grow long (the program's ``draw`` says how long they are, and takes other lengths).

    Args:
        program: the program.
        num_samples: how many.
        y: (num_samples,) the classes to draw from, or one for all, of a program with classes, None draws them too; or
            (num_samples, context_dim) the context of a conditional program, or one for all.
        given: (num_samples, *event_shape) or one datum, NaN (negative integers, a masked array's mask) where missing:
            known entries, which are clamped. It is the law given them only where the missing ones come last in the
            program's order.
        method: of a program that can be drawn from in several ways (its ``samplers``), one of them; None for its own.
        num_steps: of that method; None for its usual number.

    Returns:
        (num_samples, *event_shape).

    Raises:
        TypeError: no program where there should be one.
        ValueError: ``num_samples`` is not positive, labels, known entries, a method or steps that the program does not
            take; or its draws or their energies are NaN.
    """
    check_program(program)
    checks.positive("num_samples", num_samples)
    program = drawn_by(program, method, num_steps)
    if given is not None:
        with torch.no_grad(), isolated():
            x = tensor(program, known(program, given, num_samples, y))
            return given_labels(program, y, num_samples).sample_given(x)
    view = given_labels(program, y, num_samples)
    with torch.no_grad(), isolated():
        found = view.draw(num_samples) if isinstance(view, Draws) else decode(view.model, {}, num_samples)
    refuse_nan("sample", found)
    return found


def refuse_nan(what: str, found: torch.Tensor) -> None:
    """Refuse a result with NaN.

    Args:
        what: of which it is the result.
        found: (n, ...).

    Raises:
        ValueError: with the rows.
    """
    checks.numbers(what, found.isnan().reshape(len(found), -1).any(1).numpy(force=True))


def propose(
    guide: Callable[..., Any], x: torch.Tensor, num_particles: int | None = None
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Draw the latents of each row from the guide.

    Args:
        guide: q(latents | x), all sites in the plate of the rows.
        x: (n, *event_shape), missing entries allowed where the guide allows them.
        num_particles: S draws of each row, in a plate in front of the rows; None for one draw and no such plate.

    Returns:
        The latents by site, (S, n, ...) or (n, ...) each, and log q, (S, n) or (n,).
    """
    with _particles(num_particles):
        trace = poutine.trace(guide).get_trace(x)
    sites = {name: site for name, site in _samples(trace).items() if not site["is_observed"]}
    zero = x.new_zeros(_batch(num_particles, len(x)))
    log_q = sum((_rows(site, site["fn"].log_prob(site["value"])) for site in sites.values()), zero)
    return {name: site["value"] for name, site in sites.items()}, log_q


def log_joint(
    model: Callable[..., Any],
    latents: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    observed: torch.Tensor | None = None,
    num_particles: int | None = None,
) -> torch.Tensor:
    """log p(x_observed, latents) of each row; the missing entries are integrated out.

    Args:
        model: p(latents, x), all sites in the plate of the rows.
        latents: by site, (S, n, ...) or (n, ...) each, all of them.
        x: (n, *event_shape), complete: any admissible value stands where it is missing.
        observed: (n, *event_shape) booleans, or None where all is observed.
        num_particles: S where the latents have that axis in front, else None.

    Returns:
        (S, n) or (n,) nats.

    Raises:
        ValueError: ``observed`` was given and the law of x is not elementwise independent.
    """
    batch = _batch(num_particles, len(x))
    zero = x.new_zeros(batch, dtype=torch.get_default_dtype()) if not x.is_floating_point() else x.new_zeros(batch)
    return sum(log_densities(model, latents, x, observed, num_particles).values(), zero)


def log_densities(
    model: Callable[..., Any],
    latents: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    observed: torch.Tensor | None = None,
    num_particles: int | None = None,
) -> dict[str, torch.Tensor]:
    """The log density of each site and row, scaled and masked, which `log_joint` adds up.

    Args:
        model: as in `log_joint`.
        latents: as in `log_joint`.
        x: as in `log_joint`.
        observed: as in `log_joint`.
        num_particles: as in `log_joint`.

    Returns:
        By site (S, n) or (n,) nats.

    Raises:
        ValueError: as in `log_joint`.
    """
    with _particles(num_particles):
        trace = poutine.trace(poutine.condition(model, data=dict(latents))).get_trace(x)
    found = {}
    for name, site in _samples(trace).items():
        if name == "x" and observed is not None:
            checks.elementwise(name, independent(site["fn"]), site["fn"])
            values = ObservedEntries(site["fn"], observed, site["value"]).log_prob(site["value"])
        else:
            values = site["fn"].log_prob(site["value"])
        found[name] = _rows(site, values)
    return found


def decode(
    model: Callable[..., Any], latents: Mapping[str, torch.Tensor], size: int, num_particles: int | None = None
) -> torch.Tensor:
    """Draw x ~ p(x | latents), and from the model whatever latents are not given.

    Args:
        model: the model.
        latents: by site, (S, size, ...) or (size, ...) each.
        size: the number of rows.
        num_particles: S where the latents have that axis in front, else None.

    Returns:
        (S, size, *event_shape) or (size, *event_shape).
    """
    with _particles(num_particles):
        trace = poutine.trace(poutine.condition(model, data=dict(latents))).get_trace(size=size)
    return _samples(trace)["x"]["value"]


def tensor(program: Any, array: np.ndarray) -> torch.Tensor:
    """Checked data where the program's own numbers are, floats in their dtype.

    Args:
        program: a ``torch.nn.Module``.
        array: floats or integers.

    Returns:
        The same as a tensor.
    """
    like = next((own for own in program.state_dict().values() if own.is_floating_point()), torch.zeros(()))
    moved = torch.as_tensor(array, device=like.device)
    return moved.to(like.dtype) if moved.is_floating_point() else moved


@contextmanager
def isolated() -> Iterator[None]:
    """Within, a param store of its own and no validation: programs neither see nor leave parameters elsewhere.

    Two programs declare the same names, and ``pyro.module`` would give the second one the first one's parameters.
    """
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        yield


def _samples(trace: Any) -> dict[str, Any]:
    nodes = trace.nodes.items()
    return {name: site for name, site in nodes if site["type"] == "sample" and not poutine.util.site_is_subsample(site)}


def _particles(num_particles: int | None) -> AbstractContextManager[Any]:
    return nullcontext() if num_particles is None else pyro.plate("particles", num_particles, dim=-2)


def _batch(num_particles: int | None, rows: int) -> tuple[int, ...]:
    return (rows,) if num_particles is None else (num_particles, rows)


def _rows(site: Mapping[str, Any], values: torch.Tensor) -> torch.Tensor:
    if values.ndim not in (1, 2):
        raise ValueError(
            f"site {site['name']!r}: got a log density of shape {tuple(values.shape)}; expected one number a row. "
            'Declare it inside the plate "data" with its event dimensions marked by .to_event(...).'
        )
    return scale_and_mask(values, site["scale"], site["mask"])
