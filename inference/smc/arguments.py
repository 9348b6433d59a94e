"""What a run of particles refuses before any compute."""

from deepgen import checks
from deepgen.inference.smc.resampling import SCHEMES


def check(num_particles: int, batch_shape: tuple[int, ...], resampling: str, ess_threshold: float) -> None:
    """Refuse what a run cannot use.

    Raises:
        ValueError: naming the argument, what it got and what it needs.
    """
    checks.at_least("num_particles", num_particles, 1)
    checks.one_of("resampling", resampling, SCHEMES)
    if not all(isinstance(size, int) and size > 0 for size in batch_shape):
        raise checks.problem(
            "batch_shape", got=batch_shape, expected="positive integers", fix="() is for one series, (n,) for n rows."
        )
    if not 0 <= ess_threshold <= 1:
        raise checks.problem(
            "ess_threshold",
            got=ess_threshold,
            expected="a number from 0 to 1",
            fix="0.5 is the usual one; 0 never resamples, 1 does whenever the weights differ.",
        )


def check_inputs(shapes: list[tuple[int, ...]]) -> None:
    """Refuse inputs that do not say how many steps there are.

    Args:
        shapes: of their arrays.

    Raises:
        ValueError: no arrays, or not all of one positive length.
    """
    lengths = {shape[:1] for shape in shapes}
    if len(lengths) != 1 or not lengths <= {(n,) for (n, *_) in filter(None, shapes) if n}:
        raise checks.problem(
            "inputs",
            got=f"arrays of shapes {shapes}",
            expected="at least one array, all of the same length T >= 1 along their first axis",
            fix="Pass what each step is given, such as the observations, or torch.arange(T) or jnp.arange(T).",
        )


def check_start(name: str, log_weights: tuple[int, ...], leaves: list[tuple[int, ...]], shape: tuple[int, ...]) -> None:
    """Refuse particles or log weights that do not begin with the axes of the particles.

    Args:
        name: of the function that gave them.
        log_weights: their shape.
        leaves: the shapes of the particles' arrays.
        shape: (*batch_shape, num_particles).

    Raises:
        ValueError: naming the shapes.
    """
    if log_weights != shape:
        raise checks.problem(
            name,
            got=f"log weights of shape {log_weights}",
            expected=f"(*batch_shape, num_particles) = {shape}",
            fix="Return one log weight for each particle, zeros where nothing is observed.",
        )
    wrong = [leaf for leaf in leaves if leaf[: len(shape)] != shape]
    if wrong:
        raise checks.problem(
            name,
            got=f"particles with an array of shape {wrong[0]}",
            expected=f"arrays that begin with the axes {shape}",
            fix="Give every array of the particles these leading axes; what all of them share belongs into the inputs.",
        )
