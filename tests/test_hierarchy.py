"""Stochastic levels: their mathematics, one as the plain VAE, two whose law is known, three in every verb."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from element_laws import SCALE, squash, stretch
from engines import ENGINES, NUMPYRO
from montecarlo import worst_moment
from objectives import NUMPYRO as NUMPYRO_OBJECTIVES
from objectives import PYRO as PYRO_OBJECTIVES
from registry import ORACLES, oracle_program

from deepgen.inference.imputation.methods import METHODS
from deepgen.models.vae import hierarchy
from deepgen.models.vae.hierarchy import Normal
from deepgen.models.vae.interpolation import interpolate

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ORACLE = {oracle.name: oracle for oracle in ORACLES}
PLAIN, TWO = ORACLE["ppca"], ORACLE["two-levels"]
OBJECTIVES = {"numpyro": NUMPYRO_OBJECTIVES, "pyro": PYRO_OBJECTIVES}


def quick_in_pyro(choices: Any, quick: tuple[str, ...]) -> list[Any]:
    """(engine, choice); in NumPyro, where each compiles for seconds, only the quick ones run without ``slow``."""
    return [
        pytest.param(
            engine,
            choice,
            id=f"{engine}-{choice}",
            marks=pytest.mark.slow if engine is NUMPYRO and choice not in quick else (),
        )
        for engine in ENGINES
        for choice in choices
    ]


def plain(value: Any) -> np.ndarray:
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


# mathematics


def test_a_product_of_normals_is_that_of_their_densities() -> None:
    grid = np.linspace(-30.0, 30.0, 60001)
    rng = np.random.default_rng(0)
    first, second = (Normal(rng.standard_normal((3, 2)), rng.uniform(0.4, 2.0, (3, 2))) for _ in range(2))
    log_density = -0.5 * sum(((grid - n.loc[..., None]) / n.scale[..., None]) ** 2 for n in (first, second))
    weights = np.exp(log_density) / np.exp(log_density).sum(-1, keepdims=True)
    mean = weights @ grid
    sd = np.sqrt(weights @ grid**2 - mean**2)
    merged = first.times(second)
    np.testing.assert_allclose(merged.loc, mean, atol=1e-9)
    np.testing.assert_allclose(merged.scale, sd, atol=1e-9)
    # the means weighted the wrong way round
    crossed = Normal(first.loc, second.scale).times(Normal(second.loc, first.scale))
    assert np.abs(crossed.loc - mean).max() > 1e-2


def test_a_product_with_the_narrowest_and_the_widest_scale_is_finite() -> None:
    ends = np.exp(np.float32([-7.0, 3.0]))
    for s in ends:
        for t in ends:
            merged = Normal(np.float32([1.0]), s[None]).times(Normal(np.float32([-1.0]), t[None]))
            assert 0 < merged.scale <= min(s, t)
            assert -1 <= merged.loc <= 1


def test_levels_and_descent_follow_the_networks() -> None:
    """With a prior of known numbers: z1 | z2 ~ N(2 z2, s^2), and evidence that outweighs neither."""
    raw = stretch(np.log(0.5), -7.0, 3.0)
    prior = [lambda z: np.concatenate([2 * z, np.full_like(z, raw)], axis=-1)]
    evidence = [Normal(np.array([[1.0]]), np.array([[0.5]])), Normal(np.array([[0.7]]), np.array([[0.3]]))]
    first, second = hierarchy.levels(prior, (1, 1), evidence)
    assert second == (evidence[1].loc, evidence[1].scale, evidence[1].loc, evidence[1].scale)
    np.testing.assert_allclose(np.concatenate(first), [[1.2], [0.5 / 2**0.5], [-0.4], [1 / 2**0.5]], atol=1e-12)
    np.testing.assert_allclose(hierarchy.descend(prior, (1, 1), np.array([[0.7]]), 2), [[1.4]])
    np.testing.assert_allclose(hierarchy.descend(prior, (1, 1), np.array([[0.7]]), 1), [[0.7]])


# one level


@BOTH
def test_one_level_is_the_plain_program(engine: Any) -> None:
    plain_program = oracle_program(PLAIN, engine)
    config = {name: value for name, value in PLAIN.config.items() if name != "latent_dim"}
    config |= {"program": "hierarchical", "latent_dims": [2], "encoder": [config["encoder"]], "prior": []}
    tensors = {name.replace("encoder.", "encoder.0."): value for name, value in PLAIN.tensors.items()}
    program = engine.with_tensors(engine.build("vae", config), tensors)
    rng = np.random.default_rng(0)
    x = PLAIN.draw(rng, 7)
    z = rng.standard_normal((7, 2)).astype(np.float32)
    np.testing.assert_allclose(
        engine.log_joint(program, {"z1": z}, x), engine.log_joint(plain_program, {"z": z}, x), rtol=1e-6
    )
    holes = PLAIN.hide(x, rng)
    drawn, expected = engine.draw_latents(program, holes), engine.draw_latents(plain_program, holes)
    np.testing.assert_allclose(drawn["z1"], expected["z"], rtol=1e-6)
    (level,) = program.levels(engine.array(holes))
    for part, other in zip(level, 2 * plain_program.encode(engine.array(holes)), strict=True):
        np.testing.assert_allclose(plain(part), plain(other), rtol=1e-6)


# two levels, whose law is known


def parts() -> SimpleNamespace:
    """The numbers of the two-level law: z1 = A z2 + a + r e, x = W z1 + b + s e'."""
    tensors = {name: value.astype(float) for name, value in TWO.tensors.items()}
    noise = np.exp(squash(tensors["observation.raw_scale"], *SCALE))
    bias = tensors["prior.0.layers.0.bias"]
    loading = tensors["decoder.layers.0.weight"]
    return SimpleNamespace(
        down=tensors["prior.0.layers.0.weight"][:2, 0],
        middle=bias[:2],
        spread=np.exp(squash(bias[2:], -7.0, 3.0)),
        loading=loading,
        offset=tensors["decoder.layers.0.bias"],
        left=noise / np.sqrt((loading**2).sum(0)),
    )


@BOTH
def test_the_guide_without_data_is_the_prior(engine: Any) -> None:
    law = parts()
    guide = SimpleNamespace(model=oracle_program(TWO, engine).guide)
    drawn = {name: value[None].astype(float) for name, value in engine.predictive(guide, 2000, 3, {}).items()}
    assert drawn["z1"].shape == (1, 2000, 3, 2)
    mean, covariance = law.middle, np.outer(law.down, law.down) + np.diag(law.spread**2)
    rows = np.tile(mean, (3, 1)), np.tile(covariance, (3, 1, 1))
    assert worst_moment(drawn["z1"], *rows) < 1
    assert worst_moment(drawn["z2"], np.zeros((3, 1)), np.ones((3, 1, 1))) < 1
    assert worst_moment(drawn["z1"], rows[0], np.tile(np.diag(law.spread**2), (3, 1, 1))) > 1, (
        "the level above left out"
    )


@BOTH
def test_reconstructions_go_through_both_levels(engine: Any) -> None:
    """Mean and covariance of W z1 + b under the exact posterior of z1, which the guide has only with z2 drawn."""
    law, x = parts(), TWO.draw(np.random.default_rng(0), 3)
    many = np.repeat(x, 2000, axis=0)
    draws = np.asarray(engine.call("reconstruct", oracle_program(TWO, engine), many)).reshape(3, 2000, 4)
    flat = np.moveaxis(draws, 1, 0)[None].astype(float)
    mean, covariance = TWO.posterior(x)["z1"]
    mean, loading = mean @ law.loading.T + law.offset, law.loading
    assert worst_moment(flat, mean, loading @ covariance @ loading.T) < 1
    # z1 given z2 at its mean
    held = np.diag(1 / (1 / law.spread**2 + 1 / law.left**2))
    assert worst_moment(flat, mean, np.tile(loading @ held @ loading.T, (3, 1, 1))) > 1


@BOTH
def test_activity_of_each_level(engine: Any) -> None:
    law, x = parts(), TWO.draw(np.random.default_rng(1), 300)
    units = engine.call("active_units", oracle_program(TWO, engine), x)
    means = {name: moments[0] for name, moments in TWO.posterior(x).items()}
    sd = np.sqrt(TWO.posterior(x[:1])["z2"][1][0, 0])
    # all is linear: z1's mean with z2 at its mean is its mean
    shift = (means["z1"] - means["z2"] * law.down - law.middle) / law.spread
    ratio = 1 / np.sqrt(1 + (law.spread / law.left) ** 2)
    both, scales = np.concatenate([shift, means["z2"]], axis=1), np.array([*ratio, sd[0]])
    np.testing.assert_array_equal(units.level, [1, 1, 2])
    np.testing.assert_allclose(units.variance, both.var(0), rtol=1e-3)
    np.testing.assert_allclose(units.kl, (0.5 * (both**2 + scales**2 - 1) - np.log(scales)).mean(0), rtol=1e-3)
    assert units.num_active == 3
    assert not np.allclose(means["z1"].var(0), units.variance[:2], rtol=0.05), "the level above is left in"


@BOTH
@pytest.mark.parametrize("kind", ["linear", "spherical"])
def test_paths_run_on_the_level_that_is_asked_for(engine: Any, kind: str) -> None:
    law, x = parts(), TWO.draw(np.random.default_rng(2), 6)
    found = {
        level: plain(engine.call("interpolate", oracle_program(TWO, engine), x[:3], x[3:], 5, kind=kind, level=level))
        for level in (1, 2)
    }
    for level, name in ((1, "z1"), (2, "z2")):
        z = TWO.posterior(x)[name][0]
        path = interpolate(z[:3], z[3:], np.linspace(0, 1, 5), kind)
        lowest = path if level == 1 else path * law.down + law.middle
        np.testing.assert_allclose(found[level], lowest @ law.loading.T + law.offset, atol=1e-4)
    assert not np.allclose(found[1], found[2], atol=1e-2)


@BOTH
def test_each_level_has_free_bits_of_its_own(engine: Any) -> None:
    """KL(q(z2 | x) || p(z2)) is known; far above it the bound counts what is free in its place."""
    x, objectives = TWO.draw(np.random.default_rng(3), 4), OBJECTIVES[engine.name]
    program, data = oracle_program(TWO, engine), engine.array(x)
    mean, covariance = TWO.posterior(x)["z2"]
    variance = covariance[:, 0]
    kl = (0.5 * (mean**2 + variance - 1) - 0.5 * np.log(variance)).sum()

    def loss(**free: float) -> float:
        objective = objectives.ELBO(free_bits=free) if free else objectives.ELBO()
        return float(objectives.losses(objective, program.model, program.guide, data)[0])

    assert loss(z2=50.0) - loss() == pytest.approx(4 * 50.0 - kl, rel=1e-5)
    with pytest.raises(ValueError, match=r"latent groups \['z3'\]; expected some of \['z1', 'z2'\]"):
        loss(z3=1.0)


@BOTH
def test_a_level_that_has_collapsed_is_named(engine: Any) -> None:
    x = TWO.draw(np.random.default_rng(0), 50)
    assert oracle_program(TWO, engine).diagnose(x) == []

    def collapsed(**silent: float) -> list[str]:
        """With nothing of x in the means of some of the encoder's networks, and these standard deviations."""
        tensors = dict(TWO.tensors)
        for name, sd in silent.items():
            layer, dim = f"{name.replace('_', '.')}.layers.0", {"encoder_0": 2, "encoder_1": 1}[name]
            tensors |= {f"{layer}.{part}": tensors[f"{layer}.{part}"].copy() for part in ("weight", "bias")}
            tensors[f"{layer}.weight"][:dim] = 0.0
            tensors[f"{layer}.bias"][: 2 * dim] = np.repeat([0.0, stretch(np.log(sd), -7.0, 3.0)], dim)
        return [str(warning) for warning in engine.with_tensors(engine.build("vae", TWO.config), tensors).diagnose(x)]

    (top,) = collapsed(encoder_1=1.0)
    assert "collapsed at level 2: none of the 1 latents is active" in top
    (bottom,) = collapsed(encoder_0=20.0)
    assert "collapsed at level 1: none of the 2 latents is active" in bottom
    assert len(collapsed(encoder_0=20.0, encoder_1=1.0)) == 2


# three levels in every verb


def holey() -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    x[::2, 1] = np.nan
    return x


@cache
def three(engine: Any) -> Any:
    return engine.call(engine.face.HierarchicalVAE.mlp, (3,), (2, 2, 1), "gaussian", hidden=(3,), data=holey())


@pytest.mark.filterwarnings("ignore:the posterior has collapsed")
@pytest.mark.parametrize(("engine", "objective"), quick_in_pyro(["ELBO", "IWAE", "DReG"], ("ELBO",)))
def test_three_levels_are_fitted_to_data_with_holes(engine: Any, objective: str) -> None:
    options = {"free_bits": {"z1": 0.1, "z3": 0.2}} if objective == "ELBO" else {"num_particles": 3}
    chosen = getattr(engine.face, objective)(**options)
    before = {name: value.copy() for name, value in engine.tensors(three(engine)).items()}
    fit = engine.call("fit", three(engine), holey(), steps=2, chunk=2, objective=chosen)
    assert np.isfinite(fit.losses).all()
    after = engine.tensors(fit.program)
    still = [name for name, value in before.items() if (after[name] == value).all()]
    assert still == ["fill"]
    assert "prior.1.layers.1.weight" in after


@BOTH
def test_three_levels_are_sampled_valued_and_looked_into(engine: Any, tmp_path: Any) -> None:
    program, x = three(engine), holey()
    assert program.sites == ("z1", "z2", "z3")
    assert np.asarray(engine.call("sample", program, 5)).shape == (5, 3)
    found = engine.call("log_prob", program, x, num_particles=20)
    assert found.kind == "bound"
    assert np.isfinite(found.value).all()
    assert np.asarray(engine.call("reconstruct", program, x)).shape == (6, 3)
    for level in (1, 2, 3):
        assert np.isfinite(plain(engine.call("interpolate", program, x[:3], x[3:], 4, level=level))).all()
    np.testing.assert_array_equal(engine.call("active_units", program, x).level, [1, 1, 2, 2, 3])
    engine.face.save(program, tmp_path)
    for other in ENGINES:
        loaded = other.face.load(tmp_path)
        assert type(loaded).__name__ == "HierarchicalVAE"
        assert loaded.spec() == program.spec()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("engine", "method"), quick_in_pyro(NUMPYRO.face.HierarchicalVAE.imputers, ()))
def test_three_levels_are_imputed(engine: Any, method: str) -> None:
    few = {"num_samples": 4, "num_warmup": 4, "num_chains": 2, "num_particles": 64}
    options = {name: few[name] for name in METHODS[method].options if name in few}
    post = engine.call("impute", three(engine), holey(), method=method, **options).posterior
    assert [post[name].shape[2:] for name in ("x", "z1", "z2", "z3")] == [(6, 3), (6, 2), (6, 2), (6, 1)]
    assert all(np.isfinite(post[name].values).all() for name in post)
    assert (post["x"].values[..., ~np.isnan(holey())] == holey()[~np.isnan(holey())]).all()
    for name in ("z1", "z2", "z3"):
        assert post[name].values.std((0, 1)).min() > 0


@pytest.mark.parametrize(("engine", "start"), quick_in_pyro(["prior", "guide"], ()))
def test_three_levels_are_annealed(engine: Any, start: str) -> None:
    options = {"num_chains": 8, "num_temperatures": 10, "num_steps": 2, "start": start}
    found = engine.call("ais", three(engine), holey(), **options)
    bound = engine.call("log_prob", three(engine), holey(), num_particles=2000)
    error = np.hypot(found.stderr, bound.stderr)
    assert (np.abs(found.value - bound.value) < 6 * error + 0.2).all()


# construction and refusals


@BOTH
def test_networks_are_built_as_asked(engine: Any) -> None:
    program = engine.call(
        engine.face.HierarchicalVAE.mlp,
        (2, 3),
        (4, 3),
        "student_t",
        hidden=(7, 5),
        activation="tanh",
        layer_norm=True,
    )
    spec = program.spec()
    same = {"network": "MLP", "activation": "tanh", "residual": False, "layer_norm": True, "skip": False}
    up, down = {**same, "hidden": [7, 5]}, {**same, "hidden": [5, 7]}
    assert spec["latent_dims"] == [4, 3]
    assert spec["encoder"] == [{**up, "in_size": size, "out_size": out} for size, out in ((6, 8 + 5), (5, 6))]
    assert spec["prior"] == [{**down, "in_size": 3, "out_size": 8}]
    assert spec["decoder"] == {**down, "in_size": 4, "out_size": 18}


@BOTH
def test_the_decoder_starts_at_the_data_s_marginals(engine: Any) -> None:
    data = (np.random.default_rng(0).random((400, 3)) < [0.1, 0.5, 0.8]).astype(np.float32)
    data[::5, 1] = np.nan
    program = engine.call(engine.face.HierarchicalVAE.mlp, (3,), (2, 1), hidden=(4,), data=data)
    tensors = {name: 0 * v if name == "decoder.layers.1.weight" else v for name, v in engine.tensors(program).items()}
    mean = engine.with_tensors(program, tensors).decode(engine.array(np.zeros((1, 2), np.float32)))
    np.testing.assert_allclose(plain(mean)[0], np.nanmean(data, axis=0), atol=1e-5)
    np.testing.assert_allclose(tensors["fill"], np.nanmean(data, axis=0), atol=1e-6)


@pytest.mark.parametrize("dims", [(), 4, (2, 0), (2, 1.5), (True,), "12"])
def test_latent_dims_that_are_none_are_refused(dims: Any) -> None:
    with pytest.raises(ValueError, match=r"latent_dims: got .*; expected a positive integer for each level"):
        hierarchy.check_latent_dims(dims)


@BOTH
def test_constructors_refuse_latent_dims(engine: Any) -> None:
    assert hierarchy.check_latent_dims([np.int64(2), 3]) == (2, 3)
    with pytest.raises(ValueError, match=r"latent_dims: got \(2, 0\); expected a positive integer for each level"):
        engine.call(engine.face.HierarchicalVAE.mlp, (3,), (2, 0))
    made = three(engine)
    with pytest.raises(ValueError, match=r"latent_dims: got \(\); expected"):
        engine.face.HierarchicalVAE(made.encoder, made.prior, made.decoder, made.observation, ())


@BOTH
def test_networks_that_do_not_fit_are_refused(engine: Any) -> None:
    made = three(engine)
    cls, networks = engine.face.HierarchicalVAE, (list(made.encoder), list(made.prior))
    rest = made.decoder, made.observation
    with pytest.raises(ValueError, match="encoder: got 2 networks; expected 3 for 3 levels"):
        cls(networks[0][:2], networks[1], *rest, (2, 2, 1))
    with pytest.raises(ValueError, match="prior: got 3 networks; expected 2 for 3 levels"):
        cls(networks[0], [*networks[1], made.decoder], *rest, (2, 2, 1))
    with pytest.raises(ValueError, match=r"encoder 2: got 2 numbers; expected 4, two for each of 2 latents"):
        cls(*networks, *rest, (2, 2, 2)).levels(engine.array(holey()))
    prior = [made.prior[0], engine.call(engine.face.nn.MLP, 1, 3)]
    with pytest.raises(ValueError, match=r"prior 1: got 3 numbers; expected 4, two for each of 2 latents"):
        cls(networks[0], prior, *rest, (2, 2, 1)).levels(engine.array(holey()))


@BOTH
def test_a_level_that_there_is_not_is_refused(engine: Any) -> None:
    x = TWO.draw(np.random.default_rng(0), 2)
    with pytest.raises(ValueError, match=r"level: got 3; expected one of \[1, 2\]"):
        engine.call("interpolate", oracle_program(TWO, engine), x, x, level=3)
    with pytest.raises(ValueError, match=r"level: got 2; expected one of \[1\]"):
        engine.call("interpolate", oracle_program(PLAIN, engine), PLAIN.draw(np.random.default_rng(0), 2), x, level=2)


@BOTH
def test_an_unknown_program_is_refused(engine: Any) -> None:
    with pytest.raises(ValueError, match=r"program: got 'nested'; expected one of \['vae', 'hierarchical'"):
        engine.build("vae", {**TWO.config, "program": "nested"})


@BOTH
def test_a_network_of_the_user_s_own_among_the_levels_needs_like(engine: Any, tmp_path: Any) -> None:
    made = three(engine)
    encoder = [made.encoder[0], engine.custom(made.encoder[1]), made.encoder[2]]
    program = engine.face.HierarchicalVAE(
        encoder, made.prior, made.decoder, made.observation, (2, 2, 1), input_shape=(3,)
    )
    engine.face.save(program, tmp_path)
    with pytest.raises(ValueError, match=r"not deepgen's own.*pass it as like="):
        engine.face.load(tmp_path)
    loaded = engine.face.load(tmp_path, like=program)
    for name, value in engine.tensors(program).items():
        np.testing.assert_array_equal(value, engine.tensors(loaded)[name])
