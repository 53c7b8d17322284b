"""Random small conjugate models, and the exact evidence of some: what test_random_models.py puts the engine to.

A model is put together at random from pieces that share latents: directed linear-Gaussian graphs whose precisions are
products of Gamma latents, counts whose rates are, a normal vector with a Wishart precision, and mixtures over columns
of several kinds whose assignments are latents or profiled out. Latents are global or one a row; blocks, starts and
chunk sizes are random too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jensen.families import Beta, Categorical, Dirichlet, Gamma, MultivariateNormal, Normal, Wishart
from jensen.inference import Columns, ConjugateModel, Latent, Moments

LOG_2PI = math.log(2 * math.pi)
F = torch.float64

Term = Callable[[Any, Any], Tensor]


def t(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=F)


@dataclass
class Node:
    """A normal variable of a graph: mean bias + sum of weight x parent, precision constant x product of Gammas."""

    name: str
    place: str  # "global", "local" or "observed"
    parents: dict[str, float]
    bias: float
    constant: float
    gammas: list[str]


@dataclass
class Builder:
    """Puts pieces together; `clashes` are pairs of latents that some term multiplies: no block may hold both."""

    rng: np.random.Generator
    rows: int
    latents: dict[str, Latent] = field(default_factory=dict)
    local_terms: dict[str, Term] = field(default_factory=dict)
    global_terms: dict[str, Term] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)
    clashes: set[frozenset[str]] = field(default_factory=set)
    profiled: set[str] = field(default_factory=set)
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns["start"] = t(self.rng.normal(size=self.rows))

    def new(self, kind: str) -> str:
        return f"{kind}{len(self.latents) + len(self.columns)}"

    def clash(self, *names: str) -> None:
        self.clashes |= {frozenset(pair) for pair in itertools.combinations(names, 2)}

    def positive(self, low: float = 0.3) -> float:
        return float(low + self.rng.gamma(1.5))

    # --- latents ------------------------------------------------------------------------------------------------------

    def gamma(self, *, local: bool = False) -> str:
        """A Gamma latent, perhaps with a rate that is one as well; or one that is there already."""
        found = [n for n, x in self.latents.items() if n.startswith("gamma") and x.local is local]
        if found and self.rng.random() < 0.4:
            return str(self.rng.choice(found))
        name, a, b = self.new("gamma"), self.positive(1.0), self.positive()
        first = (self.positive(1.0), self.positive())
        if local:
            start = lambda batch: Gamma.from_standard(first[0] + batch.start.abs(), t(first[1]))  # noqa: E731
            self.latents[name] = Latent(start, prior=Gamma.from_standard(a, b), local=True)
            return name
        self.latents[name] = Latent(Gamma.from_standard(*first), prior=Gamma.from_standard(a, b))
        if self.rng.random() < 0.3:  # a rate of its own: the prior stands in a term
            rate = self.new("gamma")
            self.latents[rate] = Latent(Gamma.from_standard(1.0, b), prior=Gamma.from_standard(a, b))
            self.latents[name] = Latent(Gamma.from_standard(*first))
            self.clash(name, rate)
            self.global_terms[f"prior of {name}"] = lambda m, _: (
                a * m[rate].log + (a - 1) * m[name].log - m[rate].mean * m[name].mean - math.lgamma(a)
            )
        return name

    def gammas(self, *, local: bool) -> list[str]:
        """None, one or two, of which the second may be one a row."""
        names = [self.gamma() for _ in range(int(self.rng.integers(0, 3)))]
        if local and self.rng.random() < 0.3:
            names.append(self.gamma(local=True))
        return list(dict.fromkeys(names))

    # --- pieces -------------------------------------------------------------------------------------------------------

    def gaussian_graph(self, *, fixed_precisions: bool = False) -> None:
        """Some normal nodes, global ones before those of a row; the last ones are observed."""
        counts = self.rng.integers([1, 0, 1], [4, 2, 3])
        for place, count in zip(("global", "local", "observed"), counts, strict=True):
            for _ in range(int(count)):
                self.gaussian_node(place, fixed_precisions)

    def gaussian_node(self, place: str, fixed_precisions: bool) -> None:
        known = [n.name for n in self.nodes if n.place == "global" or (n.place == "local" and place != "global")]
        chosen = self.rng.permutation(known)[: int(self.rng.integers(0, 4))]
        parents = {str(name): float(self.rng.normal()) for name in chosen}
        gammas = [] if fixed_precisions else self.gammas(local=place != "global")
        node = Node(self.new("normal"), place, parents, float(self.rng.normal()), self.positive(), gammas)
        self.nodes.append(node)
        loc, scale = float(self.rng.normal()), self.positive()
        if place == "observed":
            self.columns[node.name] = t(self.rng.normal(size=self.rows) * 2)
        elif place == "local":
            start = lambda batch: Normal.from_standard(loc + batch.start, t(scale))  # noqa: E731
            self.latents[node.name] = Latent(start, local=True)
        else:
            self.latents[node.name] = Latent(Normal.from_standard(loc, scale))
        self.clash(*([] if place == "observed" else [node.name]), *parents, *gammas)
        terms = self.global_terms if place == "global" else self.local_terms
        terms[node.name] = lambda m, batch: gaussian_term(node, m, batch).sum()

    def counts(self) -> None:
        """x_n ~ Poisson(c product of Gammas)."""
        column, names, scale = self.new("count"), self.gammas(local=True) or [self.gamma()], self.positive()
        self.columns[column] = t(self.rng.poisson(2.0, self.rows))
        self.clash(*names)

        def term(m: Any, batch: Any) -> Tensor:
            x = getattr(batch, column)
            log = math.log(scale) + sum(m[n].log for n in names)
            mean = scale * math.prod(m[n].mean for n in names)
            return (x * log - mean - torch.lgamma(x + 1)).sum()

        self.local_terms[column] = term

    def vector(self) -> None:
        """x_n ~ N(mu, Lambda^-1) in two or three dimensions, mu and Lambda independent under q."""
        d = int(self.rng.integers(2, 4))
        column, mu, precision = self.new("vector"), self.new("mu"), self.new("wishart")
        self.columns[column] = t(self.rng.normal(size=(self.rows, d)) * 2 + 1)
        root = self.rng.normal(size=(d, d))
        spread = t(root @ root.T + np.eye(d))
        loc = t(self.rng.normal(size=d))
        self.latents[mu] = Latent(
            MultivariateNormal.from_standard(loc, spread),
            prior=MultivariateNormal.from_standard(torch.zeros(d, dtype=F), 4 * torch.eye(d, dtype=F)),
        )
        df = d + self.positive()
        self.latents[precision] = Latent(
            Wishart.from_standard(df, torch.eye(d, dtype=F)), prior=Wishart.from_standard(df, spread / df)
        )
        self.clash(mu, precision)

        def term(m: Any, batch: Any) -> Tensor:
            x = getattr(batch, column)
            cross = x.unsqueeze(2) * m[mu].mean
            squares = x.unsqueeze(2) * x.unsqueeze(1) - cross - cross.mT + m[mu].outer
            quadratic = (m[precision].precision * squares).sum((-2, -1))
            return (0.5 * (m[precision].log_det - d * LOG_2PI - quadratic)).sum()

        self.local_terms[column] = term

    def mixture(self, *, countable: bool = False) -> MixturePiece:
        """Clusters over one to three columns; assignments as latents, or profiled out."""
        piece = MixturePiece.drawn(self, countable)
        explicit = bool(self.rng.random() < 0.5)
        weights = piece.weights
        if explicit:
            z = self.new("z")
            k, seed = piece.clusters, t(self.rng.normal(size=piece.clusters))
            start = lambda batch: Categorical.from_standard((batch.start.unsqueeze(1) * seed).softmax(1))  # noqa: E731
            self.latents[z] = Latent(start, local=True)
            self.local_terms[z] = lambda m, batch: (m[z].probs * piece.log_joint(m, batch)).sum()
            self.clash(z, weights)
            for names in piece.emissions:
                self.clash(z, *names)
            assert k == len(seed)
        else:
            name = self.new("profiled")
            self.columns[name] = torch.zeros(self.rows)  # reserves the name
            self.local_terms[name] = lambda m, batch: piece.log_joint(m, batch).logsumexp(1).sum()
            self.profiled.add(name)
        for names in piece.emissions:
            self.clash(*names)
        return piece

    # --- putting together ---------------------------------------------------------------------------------------------

    def blocks(self) -> list[list[str]]:
        """Latents in random order, some of those that no term multiplies in one block; local and global ones apart."""
        result: list[list[str]] = []
        for name in self.rng.permutation(list(self.latents)):
            fits = [
                block
                for block in result
                if self.latents[block[0]].local == self.latents[name].local
                and not any(frozenset((name, other)) in self.clashes for other in block)
            ]
            if fits and self.rng.random() < 0.5:
                fits[int(self.rng.integers(len(fits)))].append(str(name))
            else:
                result.append([str(name)])
        return result

    def model(self) -> ConjugateModel:
        def local(m: Moments, batch: Columns) -> dict[str, Tensor]:
            return {name: term(m, batch) for name, term in self.local_terms.items()}

        def globally(m: Moments) -> dict[str, Tensor]:
            return {name: term(m, None) for name, term in self.global_terms.items()}

        return ConjugateModel(
            latents=self.latents,
            local_terms=local,
            global_terms=globally if self.global_terms else None,
            blocks=self.blocks() if self.rng.random() < 0.8 else None,
            profiled=frozenset(self.profiled),
        )

    def data(self) -> Columns:
        return Columns(**self.columns)


def gaussian_term(node: Node, m: Any, batch: Any) -> Tensor:
    """E[log N(node | bias + sum of weight x parent, 1 / (constant x product of Gammas))]."""
    if node.place == "observed":
        x = getattr(batch, node.name)
        parts = [(1.0, x, x**2)]
    else:
        parts = [(1.0, m[node.name].mean, m[node.name].square)]
    parts += [(-weight, m[name].mean, m[name].square) for name, weight in node.parents.items()]
    mean = sum(c * first for c, first, _ in parts) - node.bias
    square = mean**2 + sum(c**2 * (second - first**2) for c, first, second in parts)
    log = math.log(node.constant) + sum(m[name].log for name in node.gammas)
    precision = node.constant * math.prod(m[name].mean for name in node.gammas)
    return 0.5 * (log - LOG_2PI - precision * square)


@dataclass
class MixturePiece:
    """K clusters; each column has its kind and the names of its latents (batches of K)."""

    clusters: int
    weights: str
    concentration: float
    kinds: dict[str, str]
    emissions: list[list[str]]
    numbers: dict[str, tuple[float, float]]

    @classmethod
    def drawn(cls, builder: Builder, countable: bool) -> MixturePiece:
        rng, k = builder.rng, int(builder.rng.integers(2, 4))
        piece = cls(k, builder.new("weights"), builder.positive(), {}, [], {})
        prior = Dirichlet.from_standard(torch.full((k,), piece.concentration, dtype=F))
        builder.latents[piece.weights] = Latent(Dirichlet.from_standard(t(rng.gamma(2.0, size=k) + 0.3)), prior=prior)
        kinds = ["poisson", "bernoulli", "categorical", "known"] + ([] if countable else ["normal"])
        for _ in range(int(rng.integers(1, 4))):
            piece._add_column(builder, str(rng.choice(kinds)))
        return piece

    def _add_column(self, builder: Builder, kind: str) -> None:
        rng, k, column = builder.rng, self.clusters, builder.new(kind)
        a, b = builder.positive(), builder.positive()
        first = [t(rng.gamma(2.0, size=k) + 0.3) for _ in range(2)]
        values = {
            "poisson": rng.poisson(3.0, builder.rows),
            "bernoulli": rng.integers(0, 2, builder.rows),
            "categorical": rng.integers(0, 3, builder.rows),
        }.get(kind, rng.normal(size=builder.rows) * 3)
        builder.columns[column] = t(values)
        self.kinds[column], self.numbers[column] = kind, (a, b)
        start: Any
        prior: Any
        if kind == "poisson":
            start, prior = Gamma.from_standard(*first), Gamma.from_standard(a, b)
        elif kind == "bernoulli":
            start, prior = Beta.from_standard(*first), Beta.from_standard(a, b)
        elif kind == "categorical":
            start = Dirichlet.from_standard(t(rng.gamma(2.0, size=(k, 3)) + 0.3))
            prior = Dirichlet.from_standard(torch.full((3,), a, dtype=F))
        else:
            start, prior = Normal.from_standard(t(rng.normal(size=k) * 2), first[0]), Normal.from_standard(0.0, 3.0)
        name = builder.new("emission")
        builder.latents[name] = Latent(start, prior=prior.expand((k,)))
        names = [name]
        if kind == "normal":
            precision = builder.new("precision")
            builder.latents[precision] = Latent(
                Gamma.from_standard(*first), prior=Gamma.from_standard(a, b).expand((k,))
            )
            names.append(precision)
        self.emissions.append(names)

    def log_joint(self, m: Any, batch: Any) -> Tensor:
        """E[log weight_k p(row | k)], (B, K)."""
        total = m[self.weights].log.expand(len(batch), -1)
        for (column, kind), names in zip(self.kinds.items(), self.emissions, strict=True):
            x, e = getattr(batch, column).unsqueeze(1), m[names[0]]
            if kind == "poisson":
                total = total + x * e.log - e.mean - torch.lgamma(x + 1)
            elif kind == "bernoulli":
                total = total + x * e.log + (1 - x) * e.log_complement
            elif kind == "categorical":
                total = total + e.log.T[x.squeeze(1).long()]
            else:
                log, precision = (0.0, 1.0) if kind == "known" else (m[names[1]].log, m[names[1]].mean)
                total = total + 0.5 * (log - LOG_2PI - precision * (x**2 - 2 * x * e.mean + e.square))
        return total

    def evidence(self, columns: dict[str, Tensor]) -> float:
        """log p(data) by all assignments, each with its parameters integrated out."""
        rows = len(next(iter(columns.values())))
        totals = []
        for z in itertools.product(range(self.clusters), repeat=rows):
            labels = np.array(z)
            sizes = np.bincount(labels, minlength=self.clusters)
            total = log_dirichlet_multinomial(sizes, np.full(self.clusters, self.concentration))
            for column, kind in self.kinds.items():
                x = columns[column].numpy()
                total += sum(log_marginal(kind, x[labels == k], *self.numbers[column]) for k in range(self.clusters))
            totals.append(total)
        return float(np.logaddexp.reduce(totals))


def log_dirichlet_multinomial(counts: Any, concentration: Any) -> float:
    """log of the probability of one sequence of draws with these counts."""
    total = math.lgamma(concentration.sum()) - math.lgamma(concentration.sum() + counts.sum())
    return total + sum(math.lgamma(a + n) - math.lgamma(a) for a, n in zip(concentration, counts, strict=True))


def log_marginal(kind: str, x: Any, a: float, b: float) -> float:
    """log of the density of the rows of one cluster, its parameter integrated out."""
    n, s = len(x), float(x.sum())
    if kind == "poisson":
        each = sum(math.lgamma(v + 1) for v in x)
        return a * math.log(b) - math.lgamma(a) + math.lgamma(a + s) - (a + s) * math.log(b + n) - each
    if kind == "bernoulli":
        return log_dirichlet_multinomial(np.array([s, n - s]), np.array([a, b]))
    if kind == "categorical":
        return log_dirichlet_multinomial(np.bincount(x.astype(int), minlength=3), np.full(3, a))
    assert kind == "known"  # mean from N(0, 9), unit variance
    covariance = np.eye(n) + 9 * np.ones((n, n))
    return log_normal_density(x, np.zeros(n), covariance)


def log_normal_density(x: Any, mean: Any, covariance: Any) -> float:
    away = x - mean
    _, log_det = np.linalg.slogdet(covariance) if len(x) else (1, 0.0)
    return float(-0.5 * (len(x) * LOG_2PI + log_det + away @ np.linalg.solve(covariance, away))) if len(x) else 0.0


def graph_evidence(builder: Builder) -> float:
    """log p(data) of a Gaussian graph with fixed precisions, from the joint covariance of all its variables."""
    index: dict[tuple[str, int], int] = {}
    for node in builder.nodes:
        for row in range(1 if node.place == "global" else builder.rows):
            index[node.name, row] = len(index)
    size = len(index)
    weights, bias, variances = np.zeros((size, size)), np.zeros(size), np.zeros(size)
    places = {node.name: node.place for node in builder.nodes}
    for node in builder.nodes:
        for row in range(1 if node.place == "global" else builder.rows):
            here = index[node.name, row]
            bias[here], variances[here] = node.bias, 1 / node.constant
            for parent, weight in node.parents.items():
                weights[here, index[parent, 0 if places[parent] == "global" else row]] = weight
    spread = np.linalg.inv(np.eye(size) - weights)
    seen = [(name, row) for (name, row) in index if places[name] == "observed"]
    rows = [index[key] for key in seen]
    x = np.array([builder.columns[name][row].item() for name, row in seen])
    covariance = (spread * variances) @ spread.T
    return log_normal_density(x, (spread @ bias)[rows], covariance[np.ix_(rows, rows)])


def random_builder(seed: int) -> Builder:
    """Some pieces at random that may share Gamma latents."""
    rng = np.random.default_rng(seed)
    builder = Builder(rng, rows=int(rng.integers(1, 6)))
    pieces = [builder.gaussian_graph, builder.counts, builder.vector, builder.mixture]
    for _ in range(int(rng.integers(1, 4))):
        pieces[int(rng.integers(len(pieces)))]()
    return builder
