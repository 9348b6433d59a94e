"""The arguments of the networks, checked once for both engines."""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from deepgen import checks

ACTIVATIONS = ("elu", "gelu", "leaky_relu", "relu", "sigmoid", "silu", "softplus", "tanh")


def whole(what: str, value: Any, *, least: int = 1) -> int:
    """A whole number of at least ``least``, as a plain ``int``.

    Raises:
        ValueError: naming the argument and the value.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise checks.problem(
            what, got=repr(value), expected=f"a whole number >= {least}", fix=f"Set {what} to such a number."
        )
    return number


def wholes(what: str, values: Iterable[Any], *, least: int = 1) -> tuple[int, ...]:
    """Whole numbers of at least ``least``, as a tuple of plain ``int``.

    Raises:
        ValueError: naming the argument and the value.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise checks.problem(
            what,
            got=repr(values),
            expected=f"a sequence of whole numbers >= {least}",
            fix=f"Pass {what}=(128, 64), say.",
        )
    return tuple(whole(f"{what}[{i}]", value, least=least) for i, value in enumerate(values))


def image_shape(what: str, shape: Iterable[Any]) -> tuple[int, int, int]:
    """The shape (channels, height, width) of an image.

    Raises:
        ValueError: unless it is three whole numbers >= 1.
    """
    numbers = wholes(what, shape)
    if len(numbers) != 3:
        raise checks.problem(
            what,
            got=numbers,
            expected="three numbers: (channels, height, width)",
            fix="A grey image of 28 x 28 pixels is (1, 28, 28).",
        )
    return numbers[0], numbers[1], numbers[2]


def channels(values: Iterable[Any]) -> tuple[int, ...]:
    """The channels of a row of convolutions.

    Raises:
        ValueError: unless they are whole numbers >= 1, at least one.
    """
    numbers = wholes("channels", values)
    if not numbers:
        raise checks.problem(
            "channels", got="none", expected="at least one", fix="Use an MLP where nothing is convolved."
        )
    return numbers


def halved(size: tuple[int, ...], times: int) -> list[tuple[int, ...]]:
    """The sizes that an image goes through where each of ``times`` steps halves it, rounded up."""
    sizes = [size]
    for _ in range(times):
        sizes.append(tuple((n + 1) // 2 for n in sizes[-1]))
    return sizes


def activation(name: str | Callable[..., Any]) -> None:
    """Refuse what is neither the name of an activation nor a function.

    Raises:
        ValueError: naming what came and the names there are.
    """
    if not callable(name):
        checks.one_of("activation", name, ACTIVATIONS)


def spec(network: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The specification of a network: its name and its constructor's arguments, as JSON knows them.

    Args:
        network: the class's name.
        arguments: the constructor's arguments.

    Returns:
        A dictionary with ``"network"`` first, tuples as lists.

    Raises:
        ValueError: where the activation is a function, which JSON cannot hold.
    """
    if not isinstance(arguments["activation"], str):
        raise checks.problem(
            f"spec of {network}",
            got=f"the function {arguments['activation']!r} as activation",
            expected=f"the name of one, out of {list(ACTIVATIONS)}",
            fix="Name an activation, or save the parameters alone (state_dict).",
        )
    return {"network": network} | {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()}


def of_spec(spec: Mapping[str, Any], networks: Mapping[str, type]) -> tuple[type, dict[str, Any]]:
    """The class and the arguments that a specification names.

    Args:
        spec: what a network's ``spec()`` returned.
        networks: the classes by name.

    Returns:
        The class, and its constructor's arguments.

    Raises:
        ValueError: no such network, or one without a name.
    """
    if "network" not in spec:
        raise checks.problem(
            "spec",
            got=f"the keys {sorted(spec)}",
            expected='the key "network"',
            fix="Pass what a network's spec() returns.",
        )
    checks.one_of('spec["network"]', spec["network"], sorted(networks))
    return networks[spec["network"]], {k: v for k, v in spec.items() if k != "network"}


def last_axis(network: str, shape: tuple[int, ...], size: int) -> None:
    """Refuse an input whose last axis is not the one that the network was built for.

    Raises:
        ValueError: naming the shape that came and the size expected.
    """
    if len(shape) == 0 or shape[-1] != size:
        raise checks.problem(
            f"input of {network}",
            got=f"shape {tuple(shape)}",
            expected=f"(..., {size})",
            fix=f"Reshape the input, or build the network with the in_size of its input instead of {size}.",
        )


def last_axes(network: str, shape: tuple[int, ...], event_shape: tuple[int, ...]) -> None:
    """Refuse an input that does not end in the shape that the network was built for.

    Raises:
        ValueError: naming the shape that came and the shape expected.
    """
    if tuple(shape[-len(event_shape) :]) != event_shape:
        raise checks.problem(
            f"input of {network}",
            got=f"shape {tuple(shape)}",
            expected=f"(..., {', '.join(map(str, event_shape))}): channels first",
            fix="Reshape the input, or build the network for its shape.",
        )


def same_names(names: Iterable[str], given: Iterable[str]) -> None:
    """Refuse parameters that are not exactly the network's own.

    Raises:
        ValueError: naming what is missing and what is too much.
    """
    expected, got = set(names), set(given)
    if expected != got:
        raise checks.problem(
            "parameters",
            got=f"{sorted(got - expected)} too much and {sorted(expected - got)} missing",
            expected=f"exactly the {len(expected)} names of the network",
            fix="Build the network with the configuration that the parameters were saved under.",
        )


def same_shape(name: str, shape: tuple[int, ...], given: tuple[int, ...]) -> None:
    """Refuse a parameter of another shape than the network's.

    Raises:
        ValueError: naming the parameter and both shapes.
    """
    if tuple(shape) != tuple(given):
        raise checks.problem(
            f"parameter {name}",
            got=f"shape {tuple(given)}",
            expected=f"{tuple(shape)}",
            fix="Build the network with the configuration that the parameters were saved under.",
        )


def output_bias(given: tuple[int, ...], size: int) -> None:
    """Refuse a value for the output's bias that is neither one number nor one for every output.

    Raises:
        ValueError: naming the shape that came and the size expected.
    """
    if tuple(given) not in ((), (size,)):
        raise checks.problem(
            "value of the output's bias",
            got=f"shape {tuple(given)}",
            expected=f"({size},), the flattened output, or a single number",
            fix="Flatten it: value.reshape(-1).",
        )


def ends_in_layer(network: Any, kinds: tuple[type, ...]) -> None:
    """Refuse a network whose last layer is not known.

    Raises:
        TypeError: naming what came and what is known.
    """
    if not isinstance(network, kinds):
        names = [kind.__name__ for kind in kinds]
        raise TypeError(
            f"network: got a {type(network).__name__}; expected one of {names}. "
            "Set the last layer of a network of your own to zero where you make it."
        )
