"""Run-time shape and type checks for the whole package, before anything of it is imported; globals left as found."""

import gc
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import typechecker

os.environ.setdefault("MPLBACKEND", "Agg")
typechecker.install("deepgen")

hypothesis.settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("house")


def pytest_collection_finish() -> None:
    """Tracing makes objects by the million, and each full collection would go through all that was ever imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def engine_settings() -> dict[str, object]:
    """What a test could leave changed in an engine and spoil the next one with."""
    found: dict[str, object] = {}
    if "jax" in sys.modules:
        config = sys.modules["jax"].config
        names = ("jax_enable_x64", "jax_disable_jit", "jax_debug_nans", "jax_numpy_dtype_promotion")
        found |= {name: getattr(config, name) for name in names}
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        found |= {"torch dtype": torch.get_default_dtype(), "torch gradients": torch.is_grad_enabled()}
    if "numpyro" in sys.modules:
        found["numpyro validation"] = sys.modules["numpyro"].distributions.Distribution._validate_args
    if "pyro" in sys.modules:
        found |= {f"pyro {name}": value for name, value in sys.modules["pyro"].settings.get().items()}
    return found


@pytest.fixture(autouse=True, scope="module")
def empty_param_store() -> None:
    """Parameters that one file's Pyro programs left behind must not meet another file's."""
    if "pyro" in sys.modules:
        sys.modules["pyro"].clear_param_store()


MOST_MAPS, MOST_MAPS_WITHIN, TESTS_BETWEEN = 25_000, 40_000, 20


def memory_maps() -> int:
    """How many memory maps this process has; each program that XLA compiled keeps some."""
    maps = Path("/proc/self/maps")
    return len(maps.read_bytes().splitlines()) if maps.is_file() else 0


def forget_compiled_programs(most: int) -> None:
    """Forget compiled programs when there are many: at 65,530 maps Linux gives no more, and XLA dies."""
    if "jax" in sys.modules and memory_maps() > most:
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture(autouse=True, scope="module")
def few_compiled_programs() -> Iterator[None]:
    """Between files; within one only where there are so many that the file's own must be compiled again."""
    yield
    forget_compiled_programs(MOST_MAPS)


_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def few_compiled_programs_within_a_file() -> Iterator[None]:
    """Within a file, looked at now and then."""
    yield
    if next(_tests) % TESTS_BETWEEN == 0:
        forget_compiled_programs(MOST_MAPS_WITHIN)


@pytest.fixture(autouse=True)
def calls_counted_anew() -> Iterator[None]:
    """The calls that the type checker checks; from here those of the next test's fixtures are among them."""
    yield
    typechecker.start_again()


@pytest.fixture(autouse=True)
def settings_left_as_found() -> Iterator[None]:
    """A test that turns on float64, say, and leaves it on fails, instead of the tests after it."""
    before = engine_settings()
    yield
    after = engine_settings()
    changed = {name: (old, after[name]) for name, old in before.items() if after[name] != old}
    assert not changed, f"the test left these settings changed (before, after): {changed}"
