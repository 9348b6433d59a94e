"""Programs on disk: round trips between all engines, and what is refused."""

import json
import os
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import ENGINES, NUMPYRO, PYRO
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry import INSTANCES, Instance, cases, randomised
from safetensors.numpy import save as encode

from deepgen.program import Program, files

DESCRIPTION, PARAMS = "program.json", "params.safetensors"
FOUR = pytest.mark.parametrize(
    ("written", "read"),
    [pytest.param(a, b, id=f"{a.name}-to-{b.name}") for a in ENGINES for b in ENGINES],
)
BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
QUICK = INSTANCES[0]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    NUMPYRO.face.save(randomised(NUMPYRO, QUICK.family, QUICK.config, seed=3), tmp_path / "run")
    return tmp_path / "run"


def change(path: Path, **changes: Any) -> None:
    description = json.loads((path / DESCRIPTION).read_text())
    (path / DESCRIPTION).write_text(json.dumps(description | changes))


@FOUR
@pytest.mark.parametrize("instance", INSTANCES, ids=repr)
def test_round_trip(instance: Instance, written: Any, read: Any, tmp_path: Path) -> None:
    program = randomised(written, instance.family, instance.config, seed=2)
    assert written.face.save(program, tmp_path) is None
    loaded = read.face.load(tmp_path, family=instance.family)
    before, after = written.tensors(program), read.tensors(loaded)
    assert before.keys() == after.keys()
    assert len(before) > 4
    for name, value in before.items():
        assert value.dtype == after[name].dtype
        np.testing.assert_array_equal(value, after[name], err_msg=name)
    assert loaded.spec() == program.spec()
    assert isinstance(loaded, Program)


def shapes() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "event_shape": st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
            "latent_dim": st.integers(1, 4),
            "hidden": st.lists(st.integers(1, 5), max_size=2),
            "likelihood": st.sampled_from(
                ["bernoulli", "gaussian", "gaussian_per_dimension", "gaussian_predicted", "student_t", "categorical"]
            ),
            "activation": st.sampled_from(["gelu", "relu", "tanh"]),
            "seed": st.integers(0, 1000),
        }
    )


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=shapes(), reverse=st.booleans())
def test_round_trip_of_any_shape_and_law(
    case: dict[str, Any], reverse: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first, second = (PYRO, NUMPYRO) if reverse else (NUMPYRO, PYRO)
    if case["likelihood"] == "categorical":
        case = case | {"num_classes": 3}
    program = first.call(first.face.VAE.mlp, **{k: v for k, v in case.items() if k != "seed"}, seed=case["seed"])
    where = tmp_path_factory.mktemp("any")
    first.face.save(program, where)
    loaded = second.face.load(where)
    second.face.save(loaded, where / "again")
    back = first.face.load(where / "again")
    assert back.spec() == loaded.spec() == program.spec()
    for name, value in first.tensors(program).items():
        np.testing.assert_array_equal(value, first.tensors(back)[name], err_msg=name)


@BOTH
def test_files_say_what_they_hold(engine: Any, tmp_path: Path) -> None:
    program = randomised(engine, QUICK.family, QUICK.config)
    engine.face.save(program, tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "notes.txt").write_text("mine")
    engine.face.save(program, tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["notes.txt", PARAMS, DESCRIPTION]
    description = json.loads((tmp_path / "a" / "b" / DESCRIPTION).read_text())
    assert description["format"] == files.FORMAT
    assert description["family"] == QUICK.family
    assert {"deepgen", "numpy"} <= description["versions"].keys()
    assert description["tensors"] == {name: list(v.shape) for name, v in engine.tensors(program).items()}


@BOTH
def test_nothing_is_pickled(engine: Any, tmp_path: Path) -> None:
    engine.face.save(randomised(engine, QUICK.family, QUICK.config), tmp_path)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        with pytest.raises(ValueError, match=r"at position|exhausted|opcode"):
            list(pickletools.genops(content))
        assert b"PK\x03\x04" not in content[:4]
    size = struct.unpack("<Q", (tmp_path / PARAMS).read_bytes()[:8])[0]
    json.loads((tmp_path / PARAMS).read_bytes()[8 : 8 + size])


@BOTH
@pytest.mark.parametrize("name", [DESCRIPTION, PARAMS])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_a_file_cut_short_is_refused(engine: Any, name: str, share: float, saved: Path) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=rf"{name} is cut short or .*(save the program again|restore)"):
        engine.face.load(saved)


@BOTH
def test_damaged_json_is_refused(engine: Any, saved: Path) -> None:
    for text in ("[1, 2]", "{}", "3", '{"format": 1, "family": "vae"}', "\x00", '"text"', "null"):
        (saved / DESCRIPTION).write_text(text)
        with pytest.raises(ValueError, match="is cut short or no description of a program"):
            engine.face.load(saved)
    change_to = {"format": "one"}, {"tensors": []}, {"family": 3}, {"config": None}
    NUMPYRO.face.save(randomised(NUMPYRO, QUICK.family, QUICK.config, seed=3), saved)
    for wrong in change_to:
        whole = (saved / DESCRIPTION).read_text()
        change(saved, **wrong)
        with pytest.raises(ValueError, match="no description of a program"):
            engine.face.load(saved)
        (saved / DESCRIPTION).write_text(whole)
    engine.face.load(saved)


@BOTH
def test_a_newer_format_is_refused(engine: Any, saved: Path) -> None:
    change(saved, format=files.FORMAT + 1)
    with pytest.raises(ValueError, match=r"written in format 2 .*reads formats up to 1: upgrade deepgen"):
        engine.face.load(saved)


@BOTH
def test_another_family_is_refused(engine: Any, saved: Path) -> None:
    with pytest.raises(ValueError, match="holds a program of the family 'vae', and 'flow' was asked for"):
        engine.face.load(saved, family="flow")
    # what the parameters are of counts
    change(saved, family="flow")
    with (
        pytest.warns(UserWarning, match="are of two programs"),
        pytest.raises(ValueError, match="holds a program of the family 'vae', and 'flow' was asked for"),
    ):
        engine.face.load(saved, family="flow")


@BOTH
def test_a_family_that_this_version_lacks_is_refused(engine: Any, saved: Path) -> None:
    """A pair that is whole, of a room that does not exist here."""
    program = randomised(NUMPYRO, QUICK.family, QUICK.config, seed=3)

    class Other:
        family, event_shape = "hypernet", program.event_shape

        def spec(self) -> dict[str, Any]:
            return program.spec()

    files.write(saved, Other(), NUMPYRO.tensors(program))
    with pytest.raises(ValueError, match=r"family: got 'hypernet'; expected one of \['autoregressive', 'vae'"):
        engine.face.load(saved)


@BOTH
def test_a_mismatched_pair_is_refused(engine: Any, saved: Path) -> None:
    """Where the parameters do not say what they are of, or say it of others."""
    description = json.loads((saved / DESCRIPTION).read_text())
    _, tensors = files.read(saved)
    change(saved, family="flow")
    few = dict(list(tensors.items())[1:])
    said = {"deepgen": json.dumps(description)}
    newer = {"deepgen": json.dumps(description | {"format": files.FORMAT + 1})}
    for arrays, metadata in ((tensors, None), (few, said), (tensors, {"deepgen": "[]"}), (tensors, {"deepgen": "{}"})):
        (saved / PARAMS).write_bytes(encode(arrays, metadata=metadata))
        with pytest.raises(ValueError, match=r"are not of one program \(they differ in their family"):
            engine.face.load(saved)
    (saved / PARAMS).write_bytes(encode(tensors, metadata=newer))
    with pytest.raises(ValueError, match=r"written in format 2 .*upgrade deepgen"):
        engine.face.load(saved)


@BOTH
@pytest.mark.parametrize("name", [DESCRIPTION, PARAMS])
def test_a_missing_file_is_named(engine: Any, name: str, saved: Path) -> None:
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"no program in .*: {name} is missing"):
        engine.face.load(saved)
    with pytest.raises(FileNotFoundError, match="no program in"):
        engine.face.load(saved / "nowhere")


@BOTH
def test_an_unwritable_folder_is_refused(engine: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    program = randomised(engine, QUICK.family, QUICK.config)
    for where in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OSError, match=r"cannot write to the folder .*: choose a folder that you may write to"):
            engine.face.save(program, where)


@BOTH
@pytest.mark.parametrize("crash_at", [0, 1])
def test_a_crash_while_saving_leaves_a_program_or_a_refusal(
    engine: Any, crash_at: int, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file was replaced last, what is loaded is the old program or the new one, never a mixture."""
    old = engine.tensors(engine.face.load(saved))
    new = randomised(engine, QUICK.family, QUICK.config, seed=9)
    calls, real = [], os.replace

    def replace(*args: Any) -> None:
        calls.append(args)
        if len(calls) > crash_at:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        engine.face.save(new, saved)
    monkeypatch.undo()
    assert sorted(path.name for path in saved.iterdir()) == [PARAMS, DESCRIPTION]
    found = engine.tensors(engine.face.load(saved))
    whole = [all((found[name] == tensors[name]).all() for name in tensors) for tensors in (old, engine.tensors(new))]
    assert sum(whole) == 1


@BOTH
def test_a_crash_between_programs_of_different_shapes_leaves_the_new_one(
    engine: Any, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(instance for instance in INSTANCES if instance.config != QUICK.config)
    new = randomised(engine, other.family, other.config)
    calls, real = [], os.replace

    def replace(*args: Any) -> None:
        calls.append(args)
        if len(calls) > 1:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        engine.face.save(new, saved)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"are of two programs, .*the program of params.safetensors, a vae, is taken"):
        found = engine.face.load(saved)
    assert found.spec() == new.spec()
    for name, value in engine.tensors(new).items():
        np.testing.assert_array_equal(engine.tensors(found)[name], value)
    engine.face.save(found, saved)
    assert engine.face.load(saved).spec() == new.spec()


@FOUR
def test_a_network_of_the_user_s_own_needs_like(written: Any, read: Any, tmp_path: Path) -> None:
    def program(engine: Any, seed: int, hidden: int = 4) -> Any:
        made = engine.call(engine.face.VAE.mlp, (3,), 2, "gaussian", hidden=(hidden,), seed=seed)
        law = engine.face.likelihoods.observation("gaussian", (3,))
        return engine.face.VAE(engine.custom(made.encoder), engine.custom(made.decoder), law, 2)

    written.face.save(program(written, 1), tmp_path)
    with pytest.raises(ValueError, match=r"not deepgen's own.*pass it as like="):
        read.face.load(tmp_path)
    like = program(read, 2)
    untouched = {name: value.copy() for name, value in read.tensors(like).items()}
    loaded = read.face.load(tmp_path, like=like)
    for name, value in written.tensors(program(written, 1)).items():
        np.testing.assert_array_equal(value, read.tensors(loaded)[name])
    for name, value in untouched.items():
        np.testing.assert_array_equal(value, read.tensors(like)[name], err_msg="like= itself was changed")
    with pytest.raises(ValueError, match=r"encoder\.inner\.layers\.0"):
        read.face.load(tmp_path, like=program(read, 2, hidden=5))


@BOTH
def test_like_of_another_family_is_refused(engine: Any, saved: Path) -> None:
    class Flow:
        family = "flow"

    with pytest.raises(ValueError, match="of the family 'vae', but like= is of 'flow': pass a vae program"):
        engine.face.load(saved, like=Flow())


@pytest.mark.parametrize(("instance", "engine"), cases(INSTANCES))
def test_programs_keep_the_protocol(instance: Instance, engine: Any) -> None:
    program = engine.build(instance.family, instance.config)
    assert isinstance(program, Program)
    assert program.family == instance.family
    assert program.likelihood in {"exact", "bound", "estimate", "none"}
    x = instance.data(np.random.default_rng(0), 3)
    assert tuple(program.event_shape) == x.shape[1:]
    assert json.loads(json.dumps(program.spec())) == program.spec()
    drawn = np.asarray(engine.call("sample", program, 3))
    assert drawn.shape == x.shape
    assert program.check_data(drawn).shape == x.shape


# a random program that is hardly trained may well have collapsed
@pytest.mark.filterwarnings("ignore:the posterior has collapsed")
@pytest.mark.parametrize(("instance", "engine"), cases(INSTANCES[:2]))
def test_with_params_returns_another_program(instance: Instance, engine: Any) -> None:
    program = randomised(engine, instance.family, instance.config)
    before = {name: value.copy() for name, value in engine.tensors(program).items()}
    x = np.repeat(instance.data(np.random.default_rng(0), 4), 8, axis=0)
    fit = engine.call("fit", program, x, steps=3, chunk=3, learning_rate=0.01)
    again = engine.face.with_params(program, fit.params)
    for name, value in engine.tensors(fit.program).items():
        np.testing.assert_array_equal(value, engine.tensors(again)[name])
        np.testing.assert_array_equal(before[name], engine.tensors(program)[name], err_msg="the program was changed")
    assert any((before[name] != value).any() for name, value in engine.tensors(again).items())
    unchanged = engine.face.with_params(
        program, {"somebody$params": engine.array(np.zeros(3)), "theta": engine.array([1.0])}
    )
    for name, value in before.items():
        np.testing.assert_array_equal(value, engine.tensors(unchanged)[name])
