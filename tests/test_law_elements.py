"""The law of a part of a datum, as autoregressive programs decide one after the other."""

from typing import Any

import numpy as np
import pytest
from test_likelihoods import BOTH, EVENT, ROWS, _plain, law_of, values

from deepgen.likelihoods import laws


@BOTH
@pytest.mark.parametrize("name", [name for name in laws.NAMES if name != "gaussian_per_dimension"])
def test_the_law_of_a_datum_is_that_of_its_elements(engine: Any, name: str) -> None:
    rng = np.random.default_rng(5)
    law = law_of(engine, name)
    if getattr(law, "raw_scale", None) is not None:
        law = engine.with_tensors(law, {"raw_scale": rng.standard_normal(()).astype(np.float32)})
    raw = rng.standard_normal((ROWS, law.num_params, *EVENT)).astype(np.float32)
    x = values(name, rng)
    whole = np.asarray(_plain(law(engine.array(raw)).log_prob(engine.array(x))))
    element = law.element()
    assert tuple(element.event_shape) == ()
    parts = [
        np.asarray(_plain(element(engine.array(raw[:, :, i, j])).log_prob(engine.array(x[:, i, j]))))
        for i, j in np.ndindex(*EVENT)
    ]
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-4, atol=1e-4)
    assert not np.allclose(sum(parts[1:]), whole, rtol=1e-4, atol=1e-4)
    row = law.element((3,))
    rows = [row(engine.array(raw[:, :, i])).log_prob(engine.array(x[:, i])) for i in range(2)]
    np.testing.assert_allclose(sum(np.asarray(_plain(part)) for part in rows), whole, rtol=1e-4, atol=1e-4)


@BOTH
def test_laws_that_differ_from_entry_to_entry_have_no_element(engine: Any) -> None:
    likelihoods = engine.face.likelihoods
    for law in (law_of(engine, "gaussian_per_dimension"), likelihoods.Table([("real", 0), ("count", 0)])):
        with pytest.raises(ValueError, match="the same for every entry"):
            law.element()
    coupled = likelihoods.DiscretizedLogistic((3, 4, 4), 2, 8)
    assert tuple(coupled.element().event_shape) == (3,)
    with pytest.raises(ValueError, match=r"element_shape: got \(\); expected \(3,\)"):
        coupled.element(())
    with pytest.raises(ValueError, match="num_components: got 0"):
        likelihoods.GaussianMixture((3,), 0)
