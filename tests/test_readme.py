"""What the README says is so: its programs run, its table is the table, its commands and links exist."""

import re
from pathlib import Path

import pytest
from test_house import ROOT

from deepgen.capabilities import markdown_table

README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(PROGRAMS[number], f"README.md, program {number}", "exec"), {"__name__": "__main__"})
    assert (tmp_path / "runs" / "digits" / "program.json").is_file() == ("dg.save" in PROGRAMS[number])


def test_there_is_a_short_program_for_each_engine() -> None:
    engines = [re.findall(r"import deepgen\.(\w+) as dg", program) for program in PROGRAMS]
    assert engines[:2] == [["numpyro"], ["pyro"]]
    assert all("dg.save" in program for program in PROGRAMS[:2])
    for program in PROGRAMS:
        assert len(program.splitlines()) <= 17


def test_table_is_the_capability_table() -> None:
    (shown,) = re.findall(r"<!-- capabilities -->\n(.*?)\n<!-- /capabilities -->", README, flags=re.DOTALL)
    assert shown.strip() == markdown_table()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_commands_and_links_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    commands = set(re.findall(r"\bmake ([a-z]+)\b(?=[`\s]*(?:#|`|$))", text, flags=re.MULTILINE))
    assert {"test"} <= commands <= targets
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
