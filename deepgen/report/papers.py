"""The papers that deepgen rests on."""

import re
import unicodedata
from typing import NamedTuple

_CONFERENCES = ("ICLR", "ICLR workshop", "ICML", "NeurIPS", "AISTATS")


class Paper(NamedTuple):
    """A paper.

    Attributes:
        authors: their surnames; the last may be "others".
        year: of publication.
        title: without a full stop.
        venue: a conference, a journal with its volume, "In: " and a book, or where else it can be found.
    """

    authors: tuple[str, ...]
    year: int
    title: str
    venue: str

    def line(self, remark: str = "") -> str:
        """The paper as a line of a list of references.

        Args:
            remark: what it is cited for, put in brackets.
        """
        *first, last = self.authors
        names = (
            f"{first[0]} et al." if last == "others" else " and ".join([*([", ".join(first)] if first else []), last])
        )
        return f"{names} ({self.year}). {self.title}. {self.venue}{f' ({remark})' if remark else ''}."

    @property
    def key(self) -> str:
        """By which a text cites it, such as ``kingma2014auto``."""
        name, word = self.authors[0].split()[-1], re.split(r"[^\w]", self.title)[0]
        plain = unicodedata.normalize("NFKD", f"{name}{self.year}{word}".lower())
        return plain.encode("ascii", "ignore").decode()

    def bibtex(self) -> str:
        """The paper as an entry of BibTeX."""
        volume = re.fullmatch(r"(.+) (\d+)", self.venue)
        fields = {
            "author": " and ".join(f"{{{name}}}" if " " in name else name for name in self.authors),
            "title": f"{{{self.title}}}",
            "year": str(self.year),
        }
        if self.venue in _CONFERENCES or self.venue.startswith("In: "):
            kind, fields["booktitle"] = "inproceedings", self.venue.removeprefix("In: ")
        elif volume:
            kind, fields["journal"], fields["volume"] = "article", *volume.groups()
        else:
            kind, fields["howpublished"] = "misc", self.venue
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@{kind}{{{self.key},\n{lines}\n}}"


VAE = Paper(("Kingma", "Welling"), 2014, "Auto-encoding variational Bayes", "ICLR")
DLGM = Paper(
    ("Rezende", "Mohamed", "Wierstra"),
    2014,
    "Stochastic backpropagation and approximate inference in deep generative models",
    "ICML",
)
IWAE = Paper(("Burda", "Grosse", "Salakhutdinov"), 2016, "Importance weighted autoencoders", "ICLR")
CHAIN = Paper(
    ("Bengio", "Bengio"), 2000, "Modeling high-dimensional discrete data with multi-layer neural networks", "NeurIPS"
)
MADE = Paper(
    ("Germain", "Gregor", "Murray", "Larochelle"), 2015, "MADE: masked autoencoder for distribution estimation", "ICML"
)
PIXELCNN = Paper(
    ("Van den Oord", "Kalchbrenner", "Vinyals", "Espeholt", "Graves", "Kavukcuoglu"),
    2016,
    "Conditional image generation with PixelCNN decoders",
    "NeurIPS",
)
WAVENET = Paper(("Van den Oord", "others"), 2016, "WaveNet: a generative model for raw audio", "arXiv:1609.03499")
TRANSFORMER = Paper(("Vaswani", "others"), 2017, "Attention is all you need", "NeurIPS")
FLOWS = Paper(("Rezende", "Mohamed"), 2015, "Variational inference with normalizing flows", "ICML")
FLOW_REVIEW = Paper(
    ("Papamakarios", "Nalisnick", "Rezende", "Mohamed", "Lakshminarayanan"),
    2021,
    "Normalizing flows for probabilistic modeling and inference",
    "JMLR 22",
)
PATHS = Paper(("White",), 2016, "Sampling generative networks", "arXiv:1609.04468")
NICE = Paper(("Dinh", "Krueger", "Bengio"), 2015, "NICE: non-linear independent components estimation", "ICLR workshop")
REALNVP = Paper(("Dinh", "Sohl-Dickstein", "Bengio"), 2017, "Density estimation using Real NVP", "ICLR")
MAF = Paper(
    ("Papamakarios", "Pavlakou", "Murray"), 2017, "Masked autoregressive flow for density estimation", "NeurIPS"
)
FFJORD = Paper(
    ("Grathwohl", "Chen", "Bettencourt", "Sutskever", "Duvenaud"),
    2019,
    "FFJORD: free-form continuous dynamics for scalable reversible generative models",
    "ICLR",
)
GLOW = Paper(("Kingma", "Dhariwal"), 2018, "Glow: generative flow with invertible 1x1 convolutions", "NeurIPS")
NSF = Paper(("Durkan", "Bekasov", "Murray", "Papamakarios"), 2019, "Neural spline flows", "NeurIPS")
SCORE_MATCHING = Paper(
    ("Hyvärinen",), 2005, "Estimation of non-normalized statistical models by score matching", "JMLR 6"
)
DENOISING = Paper(
    ("Vincent",), 2011, "A connection between score matching and denoising autoencoders", "Neural Computation 23"
)
SCORE_SDE = Paper(
    ("Song", "Sohl-Dickstein", "Kingma", "Kumar", "Ermon", "Poole"),
    2021,
    "Score-based generative modeling through stochastic differential equations",
    "ICLR",
)
EDM = Paper(
    ("Karras", "Aittala", "Aila", "Laine"),
    2022,
    "Elucidating the design space of diffusion-based generative models",
    "NeurIPS",
)
ENERGIES = Paper(
    ("LeCun", "Chopra", "Hadsell", "Ranzato", "Huang"),
    2006,
    "A tutorial on energy-based learning",
    "In: Predicting Structured Data",
)
PCD = Paper(
    ("Tieleman",),
    2008,
    "Training restricted Boltzmann machines using approximations to the likelihood gradient",
    "ICML",
)
PARTITION = Paper(("Salakhutdinov", "Murray"), 2008, "On the quantitative analysis of deep belief networks", "ICML")
EBM = Paper(("Du", "Mordatch"), 2019, "Implicit generation and modeling with energy-based models", "NeurIPS")
CD = Paper(
    ("Hinton",), 2002, "Training products of experts by minimizing contrastive divergence", "Neural Computation 14"
)
HMC = Paper(("Neal",), 2011, "MCMC using Hamiltonian dynamics", "In: Handbook of Markov Chain Monte Carlo")
R_HAT = Paper(
    ("Vehtari", "Gelman", "Simpson", "Carpenter", "Bürkner"),
    2021,
    "Rank-normalization, folding, and localization: an improved R-hat",
    "Bayesian Analysis 16",
)
PSIS = Paper(("Vehtari", "Simpson", "Gelman", "Yao", "Gabry"), 2024, "Pareto smoothed importance sampling", "JMLR 25")
GIBBS = Paper(("Mattei", "Frellsen"), 2018, "Leveraging the exact likelihood of deep latent variable models", "NeurIPS")
SIMKUS = Paper(
    ("Simkus", "Gutmann"),
    2023,
    "Conditional sampling of variational autoencoders via iterated approximate ancestral sampling",
    "TMLR",
)
PL_MCMC = Paper(
    ("Cannella", "Soltani", "Tarokh"),
    2021,
    "Projected latent Markov chain Monte Carlo: conditional sampling of normalizing flows",
    "ICLR",
)
ANNEALED = Paper(
    ("Song", "Ermon"), 2019, "Generative modeling by estimating gradients of the data distribution", "NeurIPS"
)
MALA = Paper(
    ("Roberts", "Tweedie"),
    1996,
    "Exponential convergence of Langevin distributions and their discrete approximations",
    "Bernoulli 2",
)
SMC = Paper(
    ("Naesseth", "Lindsten", "Schön"), 2019, "Elements of sequential Monte Carlo", "Foundations and Trends in ML 12"
)
SCORES = Paper(("Gneiting", "Raftery"), 2007, "Strictly proper scoring rules, prediction, and estimation", "JASA 102")
PPC = Paper(
    ("Gelman", "Meng", "Stern"), 1996, "Posterior predictive assessment of model fitness", "Statistica Sinica 6"
)
MNAR = Paper(
    ("Ipsen", "Mattei", "Frellsen"),
    2021,
    "Not-MIWAE: deep generative modelling with missing not at random data",
    "ICLR",
)
DEQUANTIZED = Paper(("Theis", "van den Oord", "Bethge"), 2016, "A note on the evaluation of generative models", "ICLR")
LADDER = Paper(
    ("Sønderby", "Raiko", "Maaløe", "Sønderby", "Winther"), 2016, "Ladder variational autoencoders", "NeurIPS"
)
VAMP = Paper(("Tomczak", "Welling"), 2018, "VAE with a VampPrior", "AISTATS")
CLASSES = Paper(
    ("Kingma", "Rezende", "Mohamed", "Welling"), 2014, "Semi-supervised learning with deep generative models", "NeurIPS"
)
LOGISTIC = Paper(
    ("Salimans", "Karpathy", "Chen", "Kingma"),
    2017,
    "PixelCNN++: improving the PixelCNN with discretized logistic mixture likelihood and other modifications",
    "ICLR",
)
