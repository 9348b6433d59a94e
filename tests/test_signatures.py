"""The two faces, name by name and argument by argument."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engines import ENGINES, NUMPYRO, PYRO

from deepgen import capabilities
from deepgen.inference.imputation.methods import METHODS
from deepgen.program.invertible import Invertible
from deepgen.program.sequence import Sequential

KEYS = ("rng_key", "key")
OBJECTIVES = {"differentiable_loss", "loss", "loss_and_grads", "loss_with_mutable_state"}
TRANSFORM = {"__call__", "call_with_intermediates", "eq", "log_abs_det_jacobian", "with_cache"}
TRANSFORMS = (
    *("ActNorm", "AdditiveCoupling", "AffineAutoregressive", "AffineCoupling", "CNF", "LULinear", "Logit", "Permute"),
    *("SplineAutoregressive", "SplineCoupling", "Unflatten"),
)
KERNEL = {"init", "sample", "postprocess_fn", "get_diagnostics_str", "begin", "constrain", "setup", "cleanup"}
KERNEL |= {"logging", "diagnostics"}
KERNELS = ("AnnealedLangevin", "DiscreteLangevin", "GibbsWithGradients", "MALA", "MetropolisedUnderdampedLangevin")
KERNELS += ("PSGLD", "PredictorCorrector", "SGLD", "ULA", "UnderdampedLangevin")
ENGINES_OWN = {
    # what the engine's base classes bring, which its users know
    "ELBO": OBJECTIVES,
    "IWAE": OBJECTIVES,
    "DReG": OBJECTIVES,
    "EnumELBO": OBJECTIVES,
    **dict.fromkeys(("DenoisingScoreMatching", "ExactScoreMatching", "SlicedScoreMatching"), OBJECTIVES),
    **dict.fromkeys(("RandomDropout", "RandomMember"), OBJECTIVES),
    "RandomProbes": OBJECTIVES,
    **dict.fromkeys(TRANSFORMS, TRANSFORM),
    **dict.fromkeys(("ActNorm2d", "AdditiveCoupling2d", "AffineCoupling2d", "InvertibleConv1x1"), TRANSFORM),
    **dict.fromkeys(("Split", "Squeeze"), TRANSFORM),
    **dict.fromkeys(KERNELS, KERNEL),
    # NumPyro's fit carries what an objective gives it, in Pyro it carries its own
    "ContrastiveDivergence": {*OBJECTIVES, "initial_state"},
    "PersistentContrastiveDivergence": {*OBJECTIVES, "initial_state"},
    "NoiseContrastive": OBJECTIVES,
    "FlowDistribution": {"log_prob"},
    "AutoFlow": {"get_posterior", "get_transform"},
    "Levels": {"expand"},
    "ScoreBased": {"expand"},
    "AnyOrder": {"expand"},
    "Autoregressive": {"expand"},
    "Ensemble": {"expand"},
    "EnergyBased": {"expand"},
}


def public(face: Any) -> Iterator[tuple[str, Any]]:
    """Every public name of a face, the rooms' namespaces opened."""
    for name in face.__all__:
        value = getattr(face, name)
        if inspect.ismodule(value):
            for inner in getattr(value, "__all__", [n for n in vars(value) if not n.startswith("_")]):
                found = getattr(value, inner)
                if hasattr(value, "__all__") or getattr(found, "__module__", "").startswith("deepgen"):
                    yield f"{name}.{inner}", found
        else:
            yield name, value


def arguments(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Name, kind and default of each argument, the keys left out."""
    signature = inspect.signature(function)
    return [(p.name, p.kind, repr(p.default)) for p in signature.parameters.values() if p.name not in KEYS]


def methods(value: Any) -> dict[str, Callable[..., Any]]:
    """The public methods and the constructor that a class of deepgen defines."""
    found = {}
    for name, member in inspect.getmembers(value, callable):
        raw = inspect.getattr_static(value, name)
        function = getattr(raw, "__func__", raw)
        defined = str(getattr(inspect.unwrap(function), "__module__", "")).startswith("deepgen")
        if defined and (name in {"__init__", "__call__"} or not name.startswith("_")):
            found["__call__" if name == "forward" else name] = member
    return found


def differences(first: Any, second: Any) -> list[str]:
    """How the signatures of two things differ: of classes, method by method.

    A class and a function (a handler is the one in NumPyro, the other in Pyro) are compared in how they are called, a
    layer and the engine's own in how many arguments they have to be called with.
    """
    if any(not getattr(value, "__module__", "deepgen").startswith(("deepgen", __name__)) for value in (first, second)):
        needed = [[a[2] for a in arguments(value)].count(repr(inspect.Parameter.empty)) for value in (first, second)]
        return [] if needed[0] == needed[1] else [f"needs {needed[0]} arguments and {needed[1]}"]
    if all(inspect.isclass(value) and value.__module__.startswith("deepgen") for value in (first, second)):
        mine, other = methods(first), methods(second)
        own = ENGINES_OWN.get(first.__name__, set())
        odd = [f"{name}: in one only" for name in (mine.keys() ^ other.keys()) - own]
        return odd + [
            f"{name}: {arguments(mine[name])} != {arguments(other[name])}"
            for name in (mine.keys() & other.keys()) - own
            if arguments(mine[name]) != arguments(other[name])
        ]
    if callable(first):
        return [] if arguments(first) == arguments(second) else [f"{arguments(first)} != {arguments(second)}"]
    return [] if type(first) is type(second) else [f"{type(first)} != {type(second)}"]


SHARED = dict(public(NUMPYRO.face))


def test_both_faces_have_the_same_names_in_the_same_order() -> None:
    assert list(NUMPYRO.face.__all__) == list(PYRO.face.__all__)
    assert list(SHARED) == list(dict(public(PYRO.face)))
    assert {"VAE", "fit", "nn.MLP", "likelihoods.Gaussian"} <= SHARED.keys()


@pytest.mark.parametrize("name", SHARED)
def test_signatures_agree_but_for_the_key(name: str) -> None:
    assert differences(SHARED[name], dict(public(PYRO.face))[name]) == []


@pytest.mark.parametrize("name", SHARED)
def test_keys_are_where_they_belong(name: str) -> None:
    """NumPyro: ``rng_key`` first, a constructor's ``key`` last and by name. Pyro: none."""
    value = SHARED[name]
    functions = methods(value).values() if inspect.isclass(value) else [value] if callable(value) else []
    for function in functions:
        parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
        names = [p.name for p in parameters]
        if "rng_key" in names:
            assert names[0] == "rng_key"
        if "key" in names and name != "nn.build":
            assert parameters[-1].name == "key"
            assert parameters[-1].kind is inspect.Parameter.KEYWORD_ONLY
    other = dict(public(PYRO.face))[name]
    functions = methods(other).values() if inspect.isclass(other) else [other] if callable(other) else []
    for function in functions:
        assert not set(KEYS) & set(inspect.signature(function).parameters)


def test_differences_are_seen() -> None:
    def first(rng_key: Any, x: int, *, size: int = 1) -> None: ...

    def second(x: int, *, size: int = 2) -> None: ...

    def third(x: int, size: int = 1) -> None: ...

    def fourth(x: int, *, size: int = 1) -> None: ...

    assert differences(first, second)
    assert differences(first, third)
    assert not differences(first, fourth)
    vae = NUMPYRO.face.VAE
    assert {"__init__", "mlp", "conv", "model", "guide", "encode", "decode", "spec"} <= methods(vae).keys()
    assert differences(vae, NUMPYRO.face.ELBO)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_the_table_of_capabilities_is_true(engine: Any) -> None:
    for verb in capabilities.VERBS:
        families = [family for family, name in capabilities.supporting(verb) if name == engine.name]
        assert bool(families) == callable(getattr(engine.face, verb, None)), verb
    for family in capabilities.families():
        room = importlib.import_module(f"deepgen.models.{family}.{engine.name}")
        programs = [
            value
            for value in vars(room).values()
            if inspect.isclass(value)
            and getattr(value, "family", None) == family
            and value.__module__.startswith(room.__name__)
        ]
        assert programs
        # of rows with holes there may be an estimate alone
        kinds = {"estimate"} if any(issubclass(program, Sequential | Invertible) for program in programs) else set()
        kinds |= {program.likelihood for program in programs}
        assert kinds == set(capabilities.capability(family, engine.name, "log_prob").detail)
        laws = {METHODS[name].law for program in programs for name in program.imputers}
        assert laws == set(capabilities.capability(family, engine.name, "impute").detail)
        for program in programs:
            assert getattr(engine.face, program.__name__) is program


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_methods_take_the_options_that_impute_has(engine: Any) -> None:
    parameters = inspect.signature(engine.face.impute).parameters
    for method in METHODS.values():
        assert set(method.options) <= set(parameters)
        assert method.law in {"exact", "asymptotically exact", "approximate"}


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_everything_public_is_documented(engine: Any) -> None:
    for name, value in public(engine.face):
        assert inspect.getdoc(value), name
