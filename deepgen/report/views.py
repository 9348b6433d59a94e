"""The figures that only some families have: the order of the entries, the base of a flow, energies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepgen.report.figures import BLUE, GREY, ORANGE, svg

MOST_NAMED = 40


def order(places: np.ndarray, surprise: np.ndarray, shape: tuple[int, ...] | None, names: Sequence[str] | None) -> str:
    """When each entry is decided, and how many nats it costs given those before.

    Args:
        places: (D,) steps.
        surprise: (D,) nats.
        shape: (channels, height, width) of an image, or None.
        names: of columns, or None.
    """

    def maps(figure: Any) -> None:
        axes = figure.subplots(1, 2)
        titles = ("step at which a pixel is decided", "-log p of a pixel given those before, nats")
        # the channels of a pixel are one square: the first step, all nats
        values = (places.reshape(shape).min(0), surprise.reshape(shape).sum(0))
        for ax, title, value, colours in zip(axes, titles, values, ("viridis", "magma"), strict=True):
            ax.grid(visible=False)
            ax.set(title=title, xticks=[], yticks=[])
            ax.title.set_fontsize(9)
            figure.colorbar(ax.imshow(value, cmap=colours), ax=ax, shrink=0.85)

    def bars(figure: Any) -> None:
        axes = figure.add_subplot()
        at = np.argsort(places, kind="stable")
        axes.bar(range(len(at)), surprise[at], color=BLUE, width=0.75)
        axes.axhline(0, color=GREY, lw=1)
        if len(at) <= MOST_NAMED:
            labels = [names[i] if names else str(i) for i in at]
            axes.set_xticks(range(len(at)), labels, rotation=90, fontsize=8)
        axes.set(xlabel="in the order of generation", ylabel="-log p given those before (nats)")
        axes.grid(axis="x", visible=False)

    return svg(bars if shape is None else maps, (6.4, 3.6 if shape is None else 2.8))


def quantiles(expected: np.ndarray, draws: np.ndarray, base: str) -> str:
    """Quantiles of each coordinate of held-out rows in the base against the base's own.

    Args:
        expected: (n,) quantiles of the base.
        draws: (n, d) sorted along the rows.
        base: its name.
    """

    def draw(figure: Any) -> None:
        axes = figure.add_subplot(aspect="equal")
        ends = [float(expected.min()), float(expected.max())]
        axes.plot(expected, draws, color=BLUE, alpha=max(0.12, 1 / draws.shape[1]), lw=0.8)
        axes.plot([], [], color=BLUE, lw=0.8, label=f"each of {draws.shape[1]} coordinates")
        axes.plot(expected, draws.mean(1), color=ORANGE, lw=1.6, label="their mean")
        axes.plot(ends, ends, color=GREY, ls="--", lw=1)
        margin = 0.25 * (ends[1] - ends[0])
        axes.set(
            xlabel=f"quantile of the standard {base} base",
            ylabel="quantile of held-out rows",
            xlim=(ends[0] - 0.1, ends[1] + 0.1),
            ylim=(ends[0] - margin, ends[1] + margin),
        )
        axes.legend(loc="upper left")

    return svg(draw, (4.8, 5.2))


def energies(values: Mapping[str, np.ndarray]) -> str:
    """The energies of rows of the fit, of held-out rows and of the program's draws, as histograms over each other.

    Args:
        values: (n,) nats each: ``train``, ``test`` and ``samples``.
    """

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        every = np.concatenate([values[name] for name in ("train", "test", "samples")])
        bins = np.linspace(every.min(), every.max(), 31)
        for name, label, color in (
            ("train", "training rows", GREY),
            ("test", "held-out rows", BLUE),
            ("samples", "draws", ORANGE),
        ):
            axes.hist(values[name], bins=bins, density=True, histtype="step", color=color, lw=1.6, label=label)
        axes.set(xlabel="energy -log f(x) (nats, up to the constant)", ylabel="density")
        axes.legend()

    return svg(draw, (6.4, 3.6))


def path(values: np.ndarray, names: Sequence[str] | None) -> str:
    """A path between two rows of a table, a line for each column.

    Args:
        values: (points, d).
        names: of the columns, or None.
    """

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.grid(visible=False)
        most = float(np.abs(values).max())
        picture = axes.imshow(values.T, aspect="auto", cmap="RdBu_r", vmin=-most, vmax=most)
        if values.shape[1] <= MOST_NAMED:
            labels = names if names else [str(i) for i in range(values.shape[1])]
            axes.set_yticks(range(values.shape[1]), list(labels), fontsize=8)
        axes.set_xticks([0, len(values) - 1], ["one row", "another"])
        figure.colorbar(picture, ax=axes, label="standard deviations")

    return svg(draw, (6.4, min(8.0, 1.5 + 0.2 * values.shape[1])))


def density(values: np.ndarray, axes: np.ndarray, data: np.ndarray, names: Sequence[str] | None) -> str:
    """A density of the plane, with held-out rows.

    Args:
        values: (k, k) log densities, nats, rows by the second coordinate.
        axes: (2, k) the coordinates.
        data: (n, 2).
        names: of the columns, or None.
    """

    def draw(figure: Any) -> None:
        ax = figure.add_subplot()
        ax.grid(visible=False)
        first, second = axes
        extent = (float(first[0]), float(first[-1]), float(second[0]), float(second[-1]))
        shown = ax.imshow(np.exp(values), origin="lower", extent=extent, aspect="auto", cmap="magma")
        ax.plot(data[:, 0], data[:, 1], ".", color="white", ms=2, alpha=0.6)
        ax.set(xlim=extent[:2], ylim=extent[2:])
        if names:
            ax.set(xlabel=names[0], ylabel=names[1])
        figure.colorbar(shown, ax=ax, label="density")

    return svg(draw, (5.6, 4.6))
