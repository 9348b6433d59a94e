"""The figures of a report, each a data URI: nothing is read from elsewhere when the page is opened."""

import base64
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

INK, GREY, BLUE, ORANGE, TEAL, ROSE = "#22262b", "#8a929c", "#2457a6", "#c8611a", "#2b8a78", "#b0386a"
COLOURS = (BLUE, ORANGE, TEAL, ROSE)
HIDDEN = (0.99, 0.87, 0.74)
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7eb",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "deepgen",
}


def losses(loss: np.ndarray, steps: np.ndarray, validation: np.ndarray) -> str:
    """Training loss of each step, its running mean, and the validation loss."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        at = np.arange(1, len(loss) + 1)
        # A fit falls by orders of magnitude in its first steps, which would flatten all the rest.
        start = min(len(loss) // 20, len(loss) - 1)
        axes.plot(at[start:], loss[start:], color=BLUE, alpha=0.25, lw=0.8)
        width = max(len(loss) // 50, 1)
        mean = np.convolve(loss, np.ones(width) / width, mode="valid")
        axes.plot(at[width - 1 :][start:], mean[start:], color=BLUE, lw=1.6, label=f"training, mean of {width} steps")
        shown = steps > start
        if shown.any():
            axes.plot(steps[shown], validation[shown], color=ORANGE, marker="o", ms=3.5, lw=1.4, label="validation")
        axes.set(xlabel="step", ylabel="loss (nats per row)")
        axes.legend()

    return svg(draw, (6.4, 3.2))


def calibration(curves: Mapping[str, Mapping[str, Any]]) -> str:
    """Empirical against nominal coverage, with bands of two standard errors."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot(aspect="equal")
        axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="calibrated")
        for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
            nominal, empirical = np.array(curve["nominal"]), np.array(curve["empirical"])
            error = 2 * np.array(curve["stderr"], dtype=float)
            axes.fill_between(nominal, empirical - error, empirical + error, color=colour, alpha=0.2, lw=0)
            axes.plot(nominal, empirical, color=colour, marker="o", ms=3, lw=1.4, label=name)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="nominal probability", ylabel="share of hidden entries inside")
        axes.legend(loc="lower right")

    return svg(draw, (4.4, 4.2))


def pit(histogram: Mapping[str, Any]) -> str:
    """The PIT's density in bins, with two standard errors; flat at one where calibrated."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        edges, density = np.array(histogram["edges"]), np.array(histogram["density"])
        error = 2 * np.array(histogram["stderr"], dtype=float)
        middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
        axes.bar(middle, density, width=width * 0.94, color=BLUE, alpha=0.55)
        axes.errorbar(middle, density, yerr=error, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        axes.axhline(1, color=GREY, ls="--", lw=1)
        axes.set(xlim=(0, 1), xlabel="where the truth lies among the draws", ylabel="density")

    return svg(draw, (4.4, 4.2))


def units(kl: np.ndarray, active: np.ndarray) -> str:
    """The mean KL of each latent, sorted, the active ones coloured."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        order = np.argsort(-kl)
        axes.bar(range(len(kl)), kl[order], color=np.where(active[order], BLUE, GREY).tolist(), width=0.75)
        axes.set_xticks(range(len(kl)), [str(i) for i in order])
        axes.set(xlabel="latent", ylabel="mean KL to the prior (nats)")
        axes.grid(axis="x", visible=False)

    return svg(draw, (6.4, 2.6))


def scatter(truth: np.ndarray, draws: np.ndarray, most: int = 300) -> str:
    """Hidden entries against their posterior mean, with central 90 % intervals.

    Args:
        truth: (m,).
        draws: (S, m).
        most: at most so many entries are drawn, evenly spaced.
    """

    def draw(figure: Any) -> None:
        chosen = np.unique(np.linspace(0, len(truth) - 1, min(most, len(truth))).astype(int))
        y, some = truth[chosen], draws[:, chosen]
        low, high = np.quantile(some, [0.05, 0.95], axis=0)
        mean = some.mean(0)
        axes = figure.add_subplot()
        inside = (low <= y) & (y <= high)
        for which, colour, label in ((inside, BLUE, "inside"), (~inside, ORANGE, "outside")):
            axes.vlines(y[which], low[which], high[which], color=colour, alpha=0.35, lw=1)
            axes.plot(y[which], mean[which], "o", color=colour, ms=3, label=f"truth {label} its interval")
        ends = [min(y.min(), mean.min()), max(y.max(), mean.max())]
        axes.plot(ends, ends, color=GREY, ls="--", lw=1)
        axes.set(xlabel="truth", ylabel="posterior mean and 90 % interval")
        axes.legend()

    return svg(draw, (6.4, 4.4))


def grid(images: np.ndarray, columns: int) -> str:
    """(m, c, h, w) images in [0, 1], ink on white, in rows of ``columns``."""
    return png(_mosaic(np.stack([picture(image) for image in images]), columns))


def pairs(originals: np.ndarray, reconstructed: np.ndarray) -> str:
    """Originals (k, c, h, w) above their reconstructions."""
    both = [picture(image) for image in (*originals, *reconstructed)]
    return png(_mosaic(np.stack(both), len(originals)))


def completed(originals: np.ndarray, observed: np.ndarray, draws: np.ndarray, shown_draws: int = 3) -> dict[str, str]:
    """The strips of completed images, one for each kind.

    Args:
        originals: (k, c, h, w) in [0, 1].
        observed: booleans, False where hidden.
        draws: (S, k, c, h, w).
        shown_draws: how many single draws to show, evenly spaced.

    Returns:
        By caption, a strip of k images: original, masked, mean, standard deviation (darkest from the 99 % quantile of
        the hidden pixels on), draws.
    """
    seen = np.asarray(observed.all(1))[..., None]
    original = np.stack([picture(image) for image in originals])
    sd = draws.std(0, dtype=np.float64).mean(1)
    hidden = sd[~seen[..., 0]]
    # one pixel in a hundred may be off the scale, lest a single one make all others look sure
    most = max(float(np.quantile(hidden, 0.99, method="inverted_cdf")) if hidden.size else 0.0, 1e-12)
    dark = 1 - np.clip(sd / most, 0, 1)[..., None] * (1 - np.array([0.14, 0.34, 0.65]))
    rows = {
        "original": original,
        "given": np.where(seen, original, np.array(HIDDEN)),
        "posterior mean": np.stack([picture(image) for image in draws.mean(0, dtype=np.float64)]),
        "posterior sd": dark,
    }
    for number, index in enumerate(np.linspace(0, len(draws) - 1, shown_draws).astype(int), start=1):
        rows[f"draw {number}"] = np.stack([picture(image) for image in draws[index]])
    return {name: png(_mosaic(images, len(images))) for name, images in rows.items()}


def picture(image: np.ndarray) -> np.ndarray:
    """(c, h, w) in [0, 1] as (h, w, 3): colours as they are, grey levels as ink on white."""
    image = np.clip(image, 0, 1)
    return np.moveaxis(image, 0, -1) if len(image) == 3 else 1 - np.repeat(image[:1], 3, axis=0).transpose(1, 2, 0)


def png(mosaic: np.ndarray) -> str:
    """(h, w, 3) in [0, 1] as a data URI, one pixel a pixel."""
    return f"data:image/png;base64,{base64.b64encode(png_bytes(mosaic)).decode()}"


def png_bytes(mosaic: np.ndarray) -> bytes:
    """(h, w, 3) in [0, 1] as the content of a PNG file."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, np.clip(mosaic, 0, 1), format="png")
    return buffer.getvalue()


def sheet(images: np.ndarray, columns: int, scale: int = 1) -> bytes:
    """A PNG file of (m, c, h, w) images in rows of ``columns``, every pixel ``scale`` pixels wide."""
    mosaic = _mosaic(np.stack([picture(image) for image in images]), columns)
    return png_bytes(mosaic.repeat(scale, axis=0).repeat(scale, axis=1))


def svg(draw: Callable[[Any], None], size: tuple[float, float]) -> str:
    """What ``draw`` puts on a Matplotlib figure of so many inches, as a data URI."""
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue().encode()).decode()}"


def _mosaic(pictures: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """(m, h, w, 3) pictures in rows of ``columns``, a light line between them."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 0.88)
    for index, one in enumerate(pictures):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = one
    return sheet
