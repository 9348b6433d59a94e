"""What NumPyro does with any program: parameters, files, draws, and the densities of its rows."""

import importlib
import os
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.contrib.module import eqx_module

from deepgen import checks
from deepgen.handlers.sites.numpyro import ObservedEntries, independent
from deepgen.nn.equinox import load_state_dict, state_dict
from deepgen.program import Draws, Program, check_program, drawn_by, files, known
from deepgen.program import given as given_labels

P = TypeVar("P", bound=Any)


def declare(name: str, module: Any) -> Any:
    """Declare a module's parameters, where it has any; what it holds of the data stays as it is.

    Args:
        name: of the program's field.
        module: a module, or a tuple of modules.

    Returns:
        The module with its declared parameters.
    """
    held = [field for field in getattr(module, "held", ()) if getattr(module, field) is not None]

    def fields(module: Any) -> list[Any]:
        return [getattr(module, field) for field in held]

    bare = eqx.tree_at(fields, module, [None] * len(held)) if held else module
    if not jax.tree.leaves(eqx.filter(bare, eqx.is_inexact_array)):
        return module
    declared = eqx_module(name, bare)
    return eqx.tree_at(fields, declared, fields(module), is_leaf=lambda leaf: leaf is None) if held else declared


def with_params(program: P, params: Mapping[str, Any], *, name: str | None = None) -> P:
    """The program with other parameters.

    Args:
        program: an ``equinox.Module`` whose fields are declared under their own names.
        params: param site to value, such as ``{"decoder$params": ...}``, as SVI returns it; other sites are ignored.
        name: under which the program was declared as a whole, as in ``flow.distribution(name="x_flow")``; None where
            its fields are.

    Returns:
        A program of the same type with these leaves.

    Raises:
        ValueError: nothing was declared under the name.
    """
    if name is not None:
        checks.declared(name, [site.removesuffix("$params") for site in params])
        return eqx.combine(params[f"{name}$params"], program)
    for site, value in params.items():
        field = site.removesuffix("$params")
        if field != site and (field := files.path_of(program, field)):
            new = eqx.combine(value, attrgetter(field)(program))
            program = eqx.tree_at(attrgetter(field), program, new)
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
    files.write(path, program, {name: np.asarray(array) for name, array in state_dict(program).items()})


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
    return load_state_dict(files.rebuild(description, like, build, path), tensors)


def build(family: str, config: Mapping[str, Any], *, key: jax.Array | None = None) -> Any:
    """A program of the described shape, with initial weights.

    Args:
        family: the program's.
        config: its ``spec()``.
        key: for the weights; None where they will be loaded.

    Returns:
        The program.
    """
    room = importlib.import_module(f"deepgen.models.{family}.numpyro")
    return room.build(config, key=jax.random.key(0) if key is None else key)


def sample(
    rng_key: jax.Array,
    program: Program,
    num_samples: int,
    *,
    y: Any = None,
    given: Any = None,
    method: str | None = None,
    num_steps: int | None = None,
) -> jax.Array:
    """Draws x ~ p(x), or x ~ p(x | y).

    Of an energy-based program they are the ends of Markov chains, one each, from its base: of the law as the chains
    grow long (the program's ``draw`` says how long they are, and takes other lengths).

    Args:
        rng_key: the key.
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
        TypeError: no key, or no program where there should be one.
        ValueError: ``num_samples`` is not positive, labels, known entries, a method or steps that the program does not
            take; or its draws or their energies are NaN.
    """
    checks.random_key(rng_key)
    check_program(program)
    checks.positive("num_samples", num_samples)
    program = drawn_by(program, method, num_steps)
    if given is not None:
        known_x = jnp.asarray(known(program, given, num_samples, y))
        return _sample_given(rng_key, given_labels(program, y, num_samples), known_x)
    view = given_labels(program, y, num_samples)
    found = view.draw(rng_key, num_samples) if isinstance(view, Draws) else _sample(rng_key, view, num_samples)
    refuse_nan("sample", found)
    return found


def refuse_nan(what: str, found: jax.Array) -> None:
    """Refuse a result with NaN, where it is not traced.

    Args:
        what: of which it is the result.
        found: (n, ...).

    Raises:
        ValueError: with the rows.
    """
    if not isinstance(found, jax.core.Tracer):
        checks.numbers(what, np.asarray(jnp.isnan(found).reshape(len(found), -1).any(1)))


@eqx.filter_jit
def _sample_given(rng_key: jax.Array, program: Any, x: jax.Array) -> jax.Array:
    return program.sample_given(rng_key, x)


@eqx.filter_jit
def _sample(rng_key: jax.Array, program: Any, num_samples: int) -> jax.Array:
    return decode(rng_key, program.model, {}, num_samples)


def propose(rng_key: jax.Array, guide: Callable[..., Any], x: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
    """Draw the latents of each row from the guide.

    Args:
        rng_key: the key.
        guide: q(latents | x), all sites in the plate of the rows.
        x: (n, *event_shape), missing entries allowed where the guide allows them.

    Returns:
        The latents by site, (n, ...) each, and log q (n,).
    """
    trace = handlers.trace(handlers.seed(guide, rng_key)).get_trace(x)
    sites = {name: site for name, site in trace.items() if site["type"] == "sample" and not site["is_observed"]}
    # what a draw passed through says more exactly how likely it was than its value does
    seen = {name: (site["intermediates"],) if site["intermediates"] else () for name, site in sites.items()}
    terms = (_rows(site, site["fn"].log_prob(site["value"], *seen[name])) for name, site in sites.items())
    log_q = sum(terms, jnp.zeros(len(x)))
    return {name: site["value"] for name, site in sites.items()}, log_q


def log_joint(
    model: Callable[..., Any], latents: Mapping[str, jax.Array], x: jax.Array, observed: jax.Array | None = None
) -> jax.Array:
    """log p(x_observed, latents) of each row; the missing entries are integrated out.

    Args:
        model: p(latents, x), all sites in the plate of the rows.
        latents: by site, (n, ...) each, all of them.
        x: (n, *event_shape), complete: any admissible value stands where it is missing.
        observed: (n, *event_shape) booleans, or None where all is observed.

    Returns:
        (n,) nats.

    Raises:
        ValueError: ``observed`` was given and the law of x is not elementwise independent.
    """
    return sum(log_densities(model, latents, x, observed).values(), jnp.zeros(len(x)))


def log_densities(
    model: Callable[..., Any], latents: Mapping[str, jax.Array], x: jax.Array, observed: jax.Array | None = None
) -> dict[str, jax.Array]:
    """The log density of each site and row, scaled and masked, which `log_joint` adds up.

    Args:
        model: as in `log_joint`.
        latents: as in `log_joint`.
        x: as in `log_joint`.
        observed: as in `log_joint`.

    Returns:
        By site (n,) nats.

    Raises:
        ValueError: as in `log_joint`.
    """
    given = handlers.substitute(handlers.seed(model, jax.random.key(0)), data=dict(latents))
    trace = handlers.trace(given).get_trace(x)
    found = {}
    for name, site in trace.items():
        if site["type"] != "sample":
            continue
        if name == "x" and observed is not None:
            checks.elementwise(name, independent(site["fn"]), site["fn"])
            values = ObservedEntries(site["fn"], observed, site["value"]).log_prob(site["value"])
        else:
            values = site["fn"].log_prob(site["value"])
        found[name] = _rows(site, values)
    return found


def decode(rng_key: jax.Array, model: Callable[..., Any], latents: Mapping[str, jax.Array], size: int) -> jax.Array:
    """Draw x ~ p(x | latents), and from the model whatever latents are not given.

    Args:
        rng_key: the key.
        model: the model.
        latents: by site, (size, ...) each.
        size: the number of rows.

    Returns:
        (size, *event_shape).
    """
    trace = handlers.trace(handlers.substitute(handlers.seed(model, rng_key), data=dict(latents))).get_trace(size=size)
    return trace["x"]["value"]


def _rows(site: Mapping[str, Any], values: jax.Array) -> jax.Array:
    if values.ndim != 1:
        raise ValueError(
            f"site {site['name']!r}: got a log density of shape {values.shape}; expected one number a row. "
            'Declare it inside the plate "data" with its event dimensions marked by .to_event(...).'
        )
    return values if site["scale"] is None else site["scale"] * values
