"""Binary tables: ``python -m benchmarks.literature.debd``; resumable, one file a table.

MADE with one hidden layer of 500 units, one mask and the entries in their own order, stopped by the validation rows,
on three of the sets of Germain et al. 2015, who give the figures of NADE beside their own. Needs DEEPGEN_DATA.
"""

from collections.abc import Callable

import optax

import deepgen.numpyro as dg
from benchmarks.literature.exact import Case, command, rows
from deepgen import data

HIDDEN, BATCH = 500, 100
PUBLISHED = {
    "mushrooms": {"MADE": 9.68, "MADE, masks sampled": 9.69, "NADE": 9.81},
    "dna": {"MADE": 83.63, "MADE, masks sampled": 79.66, "NADE": 84.81},
    "nips": {"MADE": 280.25, "MADE, masks sampled": 277.28, "NADE": 273.08},
}
STEPS = {"mushrooms": 4000, "dna": 3000, "nips": 2000}


def made(name: str) -> Callable[[int], Case]:
    """MADE on one of the tables."""

    def case(steps: int) -> Case:
        source = data.load(f"debd/{name}")
        return Case(
            name=f"MADE, {name}",
            program=lambda key: dg.AutoregressiveModel.made(
                source.train.shape[1:], "bernoulli", hidden=(HIDDEN,), data=source.train, key=key
            ),
            train=source.train,
            score=rows(source.test),
            fit={
                "batch_size": BATCH,
                "optimizer": optax.adamw(optax.cosine_decay_schedule(1e-3, steps), weight_decay=DECAY[name]),
                "validation": source.validation,
                "patience": 10,
            },
            settings=f"one layer of {HIDDEN}, one mask, batch {BATCH}, AdamW 1e-3 cosine, decay {DECAY[name]}, "
            "patience 1,000 steps",
            published=PUBLISHED[name],
        )

    return case


DECAY = {"mushrooms": 0.01, "dna": 1.0, "nips": 1.0}


def main() -> None:
    """Run what is not done yet, and print the table."""
    command(__doc__, "debd", "a row", {name: made(name) for name in PUBLISHED}, STEPS)


if __name__ == "__main__":
    main()
