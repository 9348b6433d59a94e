"""Statically binarised MNIST: ``python -m benchmarks.literature.binarized_mnist``; resumable, one file a model.

Larochelle's split of 50,000, 10,000 and 10,000 images. MADE as in Germain et al. 2015 with one hidden layer,
one mask and the pixels in their own order; a gated PixelCNN (van den Oord et al. 2016), small enough for a processor,
beside the PixelCNN of van den Oord, Kalchbrenner & Kavukcuoglu 2016. Needs DEEPGEN_DATA.
"""

import optax

import deepgen.numpyro as dg
from benchmarks.literature.exact import Case, command, rows
from deepgen import data

STEPS = {"made": 40_000, "pixelcnn": 12_000}


def made(steps: int) -> Case:
    """One hidden layer of 2,000 units, a quarter of the paper's."""
    source = data.load("binarized_mnist")
    return Case(
        name="MADE",
        program=lambda key: dg.AutoregressiveModel.made(
            (784,), "bernoulli", hidden=(2000,), data=source.train, key=key
        ),
        train=source.train,
        score=rows(source.test),
        fit={
            "batch_size": 100,
            "learning_rate": optax.cosine_decay_schedule(1e-3, steps),
            "clip_norm": 10.0,
            "ema": 0.999,
            "validation": source.validation,
            "patience": 10,
            "chunk": 500,
        },
        settings="one layer of 2,000, one mask, batch 100, Adam 1e-3 cosine, average 0.999, patience 5,000 steps",
        published={"MADE, one layer, one mask": 88.40},
    )


def pixelcnn(steps: int) -> Case:
    """Seven gated layers of 32 channels, which are told where in the image they are."""
    source = data.load("binarized_mnist", image=True)
    return Case(
        name="gated PixelCNN",
        program=lambda key: dg.AutoregressiveModel.pixelcnn(
            (1, 28, 28), "bernoulli", channels=32, num_layers=7, place_dim=16, key=key
        ),
        train=source.train,
        score=rows(source.test),
        fit={
            "batch_size": 16,
            "learning_rate": optax.warmup_cosine_decay_schedule(0.0, 5e-3, min(100, steps // 2), steps),
            "clip_norm": 10.0,
            "ema": 0.999,
        },
        settings="7 layers of 32 channels, 16 features of a place, first kernel 7, batch 16, Adam 5e-3 cosine after "
        "100 steps, average 0.999",
        published={"PixelCNN, large": 81.30},
    )


def main() -> None:
    """Run what is not done yet, and print the table."""
    command(__doc__, "binarized_mnist", "an image", {"made": made, "pixelcnn": pixelcnn}, STEPS)


if __name__ == "__main__":
    main()
