"""What to cite for a program."""

import re
from typing import Any

import pytest
from engines import ENGINES

from deepgen.report import papers


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_program_is_cited_by_its_family_and_parts(engine: Any) -> None:
    face = engine.face
    cited = {
        "vae": engine.call(face.VAE.mlp, (3,), 2, "gaussian", hidden=(4,), seed=0),
        "made": engine.call(face.AutoregressiveModel.made, (3,), hidden=(4,), likelihood="bernoulli", seed=0),
        "maf": engine.call(face.Flow.maf, (3,), hidden=(4,), seed=0),
        "rbm": engine.call(face.EnergyBasedModel.rbm, (3,), hidden_dim=2, seed=0),
    }
    found = {name: face.citation(program) for name, program in cited.items()}
    keys = {name: re.findall(r"^@\w+\{(\w+),$", text, re.M) for name, text in found.items()}
    assert keys["vae"] == ["kingma2014auto", "rezende2014stochastic", "burda2016importance"]
    assert keys["made"] == ["bengio2000modeling", "germain2015made"]
    assert {"papamakarios2017masked", "rezende2015variational"} <= set(keys["maf"])
    assert keys["rbm"][-1] == "hinton2002training"
    hidden = engine.call(face.MNAR, cited["vae"], face.SelfMasking((3,), "high"))
    assert re.findall(r"^@\w+\{(\w+),$", face.citation(hidden), re.M) == ["ipsen2021not", *keys["vae"]]
    flow = engine.call(face.Flow.realnvp, (3,), hidden=(4,), logit=0.05, seed=0)
    integers = face.Dequantized.uniform(flow, 4)
    found_keys = re.findall(r"^@\w+\{(\w+),$", face.citation(integers), re.M)
    assert found_keys[:2] == ["theis2016a", "rezende2015variational"]
    assert "dinh2017density" in found_keys
    assert "\n\n@article{" in found["maf"]
    with pytest.raises(TypeError, match=r"program: got str; expected a program"):
        face.citation("vae")


def test_papers_are_entries_of_bibtex() -> None:
    everything = [paper for paper in vars(papers).values() if isinstance(paper, papers.Paper)]
    assert len({paper.key for paper in everything}) == len(everything)
    for paper in everything:
        text = paper.bibtex()
        assert text.count("{") == text.count("}")
        assert re.fullmatch(r"@(inproceedings|article|misc)\{[a-z]+\d{4}[a-z]+,\n(  \w+ = \{.+\},?\n)+\}", text)
    assert papers.PIXELCNN.line("why").startswith("Van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavuk")
    assert papers.WAVENET.line() == (
        "Van den Oord et al. (2016). WaveNet: a generative model for raw audio. arXiv:1609.03499."
    )
    assert "author = {{Van den Oord} and others}" in papers.WAVENET.bibtex()
    assert "volume = {23}" in papers.DENOISING.bibtex()
