"""The table of what exists, against what exists."""

import importlib

import pytest

from deepgen import capabilities
from deepgen.capabilities import ENGINES, ROOMS, VERBS, capability, families, markdown_table, supporting, text_table
from deepgen.inference.imputation.methods import METHODS

LAWS = {"exact", "asymptotically exact", "approximate"}


def test_families_are_rooms_that_exist() -> None:
    assert families() == ("autoregressive", "vae", "flow", "ebm", "score")
    for family, engine in supporting("sample"):
        importlib.import_module(f"deepgen.models.{family}.{engine}")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", families())
def test_details_are_of_their_kind(family: str, engine: str) -> None:
    for verb in VERBS:
        entry = capability(family, engine, verb)
        allowed = {"log_prob": {"exact", "bound", "estimate"}, "impute": LAWS}.get(verb, set())
        assert set(entry.detail) <= allowed
        assert bool(entry.detail) == (entry.supported and bool(allowed))


@pytest.mark.parametrize("engine", ENGINES)
def test_declared_kind_is_the_program_s_own(engine: str) -> None:
    face = importlib.import_module(f"deepgen.{engine}")
    assert capability("vae", engine, "log_prob").detail == (face.VAE.likelihood,)


@pytest.mark.parametrize("engine", ENGINES)
def test_declared_laws_are_those_of_the_program_s_methods(engine: str) -> None:
    face = importlib.import_module(f"deepgen.{engine}")
    laws = {METHODS[name].law for name in face.VAE.imputers}
    assert laws == set(capability("vae", engine, "impute").detail)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("van", "pyro", "fit"),
            r"family: got 'van'; expected one of \['autoregressive', 'vae', 'flow', 'ebm', 'score'\]",
        ),
        (("vae", "stan", "fit"), r"engine: got 'stan'; expected one of \['numpyro', 'pyro'\]"),
        (("vae", "pyro", "fly"), r"verb: got 'fly'; expected one of \['fit', "),
    ],
)
def test_unknown_names_are_refused(arguments: tuple[str, str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        capability(*arguments)
    with pytest.raises(ValueError, match="verb: got 'fly'"):
        supporting("fly")


def test_what_one_engine_lacks_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = capabilities._TABLE["vae"]["numpyro"]
    without = {verb: entry for verb, entry in entries.items() if verb != "interpolate"}
    before = families()
    monkeypatch.setitem(capabilities._TABLE, "gan", {"numpyro": without})
    assert sorted(families()) == sorted((*before, "gan"))
    assert capability("gan", "numpyro", "fit").supported
    assert not capability("gan", "numpyro", "interpolate").supported
    assert not capability("gan", "pyro", "fit").supported
    assert ("gan", "pyro") not in supporting("fit")
    line = next(line for line in markdown_table().splitlines() if line.startswith("| gan | pyro"))
    assert line == f"| gan | pyro {'| – ' * len(VERBS)}|"


def test_tables_have_every_room_once_and_equal_widths() -> None:
    lines = markdown_table().splitlines()
    assert [line.count("|") for line in lines] == [len(VERBS) + 3] * len(lines)
    assert [room for room in ROOMS for line in lines if line.startswith(f"| {room} |")] == sorted(
        [*ROOMS, *families()], key=ROOMS.index
    )
    header, *rows = text_table().splitlines()
    for start in [header.index(f" {name}") + 1 for name in ("engine", *VERBS)]:
        assert all(row[start - 1] == " " and row[start] != " " for row in rows)
