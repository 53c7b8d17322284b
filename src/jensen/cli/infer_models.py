"""The models of `jensen infer`: what each is, which estimator fits it, what it reads, and its settings.

A setting is a field of a section, named as the estimator's argument; its flag is the same name with dashes, or the
shorter one given here. Nothing heavy is imported, so that help is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from jensen.config.names import Count, NonNegative, Positive
from jensen.sections import Section

__all__ = ["MODELS", "Climb", "Model", "Reads", "Restarts", "Steps", "bound_name"]

Reads = Literal["table", "number", "class", "count", "documents", "series", "ratings"]
"""What a model is fitted to: rows of numbers, rows with a target of this kind, bags of words, time series, ratings."""


def flag(name: str) -> dict[str, Any]:
    """A field's own flag."""
    return {"flag": name}


TOL = "stop when a sweep changes the ELBO by less than this share of it"


class Steps(Section):
    """When to stop: the same for every model; each also has a `method`."""

    tol: NonNegative = Field(1e-8, description=TOL)
    max_iter: Count = Field(1000, description="most sweeps (svi: passes over the data)")


class Climb(Steps):
    """Models that can take minibatches."""

    batch_size: Count | None = Field(None, description="rows of a minibatch [svi: 256]")
    random_state: int = Field(
        0, ge=0, lt=2**31, description="seed of starts and minibatches", json_schema_extra=flag("seed")
    )


def bound_name(setting: object) -> str:
    """What is climbed, by an estimator's argument `bound`; None for those that have no such argument."""
    return "Jaakkola-Jordan bound" if setting == "jaakkola-jordan" else "ELBO"


class Ways(Climb):
    """Models whose steps can be of every kind."""

    method: Literal["cavi", "natural", "gradient", "svi"] = Field(
        "cavi", description="cavi (sweeps), natural, gradient, or svi (minibatches)"
    )


class Restarts(Ways):
    """Models whose bound has several tops."""

    n_init: Count = Field(1, description="starts; the one with the highest ELBO is kept")


class Mixture(Restarts):
    """Settings of `BayesianMixture`."""

    n_components: Count = Field(
        8, description="most components; what is not needed stays empty", json_schema_extra=flag("components")
    )
    covariance_type: Literal["full", "diag", "spherical", "tied"] = Field(
        "full", description="shape of the components", json_schema_extra=flag("covariance")
    )
    weight_prior: Literal["dirichlet", "process"] = Field(
        "dirichlet",
        description="prior of the weights: Dirichlet, or truncated Dirichlet process",
        json_schema_extra=flag("weights"),
    )
    weight_concentration: Positive | None = Field(
        None,
        description="of that prior; smaller means fewer components [1 / components; process: 1]",
        json_schema_extra=flag("concentration"),
    )
    init: Literal["kmeans", "random"] = Field("kmeans", description="where to start")
    tol: NonNegative = Field(1e-7, description=TOL)


class Regression(Ways):
    """Settings of `BayesianLinearRegression`."""

    ard: bool = Field(True, description="learn for each column whether it is needed")
    max_iter: Count = Field(5000, description="most sweeps (svi: passes over the data)")


class Logistic(Climb):
    """Settings of `BayesianLogisticRegression`."""

    bound: Literal["jaakkola-jordan", "quadrature"] = Field(
        "jaakkola-jordan", description="what is climbed: a lower bound with closed updates, or the ELBO itself"
    )
    ard: bool = Field(False, description="learn for each column whether it is needed")
    method: Literal["auto", "cavi", "natural", "gradient", "svi"] = Field(
        "auto", description="auto: cavi, or natural for --bound quadrature"
    )
    tol: NonNegative = Field(1e-6, description=TOL)


class PoissonRegression(Climb):
    """Settings of `BayesianPoissonRegression`."""

    ard: bool = Field(False, description="learn for each column whether it is needed")
    method: Literal["natural", "gradient", "svi"] = Field(
        "natural", description="natural, gradient, or svi (minibatches)"
    )
    tol: NonNegative = Field(1e-6, description=TOL)


class Factors(Restarts):
    """Settings of `BayesianPCA` and `BayesianFactorAnalysis`."""

    n_components: Count | None = Field(
        None, description="most factors; those not needed are switched off [all]", json_schema_extra=flag("components")
    )
    init: Literal["pca", "random"] = Field("pca", description="where to start")
    tol: NonNegative = Field(1e-7, description=TOL)


class Lda(Climb):
    """Settings of `TopicModel`."""

    n_topics: Count = Field(10, description="topics", json_schema_extra=flag("topics"))
    alpha: Positive | None = Field(None, description="prior of a document's topics [1 / topics]")
    eta: Positive | None = Field(None, description="prior of a topic's words [1 / topics]")
    learn_alpha: Literal["symmetric", "asymmetric"] | None = Field(None, description="learn alpha from the data")
    method: Literal["cavi", "svi"] = Field("cavi", description="cavi (sweeps), or svi (minibatches)")
    tol: NonNegative = Field(1e-5, description=TOL)
    max_iter: Count = Field(100, description="most sweeps (svi: passes over the data)")
    batch_size: Count = Field(256, description="documents of a minibatch")
    n_init: Count = Field(1, description="starts; the one with the highest ELBO is kept")


class RatingFactors(Restarts):
    """Settings of `GaussianFactorisation` and `PoissonFactorisation`."""

    likelihood: Literal["gaussian", "poisson"] = Field(
        "gaussian", description="ratings with normal noise, or counts, of which those not given are zero"
    )
    n_factors: Count = Field(10, description="factors", json_schema_extra=flag("factors"))
    tol: NonNegative = Field(1e-6, description=TOL)
    max_iter: Count = Field(500, description="most sweeps (svi: passes over the users)")


class GaussianPath(Steps):
    """Settings of `GaussianFit`."""

    form: Literal["mean-field", "full"] = Field("mean-field", description="of q: independent columns, or not")
    distance: float = Field(
        4.0, allow_inf_nan=False, description="where q begins, in standard deviations from the mean"
    )
    width: Positive = Field(0.4, description="how wide q begins, in standard deviations of the data")
    method: Literal["cavi", "natural", "gradient"] = Field("natural", description="cavi, natural, or gradient")
    rho: Positive | None = Field(None, description="step size (natural) or learning rate (gradient)")


class Hmm(Restarts):
    """Settings of `BayesianGaussianHMM` and `BayesianCategoricalHMM`."""

    emissions: Literal["gaussian", "categorical"] = Field(
        "gaussian", description="what a state emits: numbers, or symbols of one column"
    )
    n_states: Count = Field(2, description="hidden states", json_schema_extra=flag("states"))
    covariance_type: Literal["full", "diag", "spherical"] = Field(
        "full", description="gaussian: shape of a state's spread", json_schema_extra=flag("covariance")
    )
    sticky: NonNegative = Field(0.0, description="prior weight on staying in a state")


@dataclass(frozen=True)
class Model:
    """One of the models.

    Args:
        about: one line, for the list.
        text: what its help says, two or three lines.
        example: arguments of `jensen infer NAME`.
        estimators: module and class in `jensen.estimators` by variant; one that has no variants has the key "".
        choice: the field of the section that says which variant.
        reads: what it is fitted to.
        section: its settings.
        gaps: where values may be missing in a table: nowhere, in all columns of a row at once, or anywhere.
    """

    name: str
    about: str
    text: str
    example: str
    estimators: Mapping[str, str]
    reads: Reads
    section: type[Steps]
    choice: str = ""
    gaps: Literal["nowhere", "rows", "cells"] = "nowhere"


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            name="mixture",
            about="clusters: a mixture of Gaussians",
            text="Rows of numbers as a mixture of Gaussians, with a posterior over weights,\n"
            "means and covariances. Components that the data do not need stay empty.",
            example="--data iris --components 6",
            estimators={"": "mixture:BayesianMixture"},
            reads="table",
            section=Mixture,
        ),
        Model(
            name="regression",
            about="a number from columns, with the columns that matter",
            text="A number as a linear function of columns, each with an interval; columns that\n"
            "do not help are driven to zero (automatic relevance determination).",
            example="--data diabetes",
            estimators={"": "linear_regression:BayesianLinearRegression"},
            reads="number",
            section=Regression,
        ),
        Model(
            name="logistic",
            about="a class from columns",
            text="A class as a function of columns: probabilities that know how little was\n"
            "seen. More than two classes are fitted one against the rest.",
            example="--data breast_cancer",
            estimators={"": "logistic_regression:BayesianLogisticRegression"},
            reads="class",
            section=Logistic,
        ),
        Model(
            name="poisson",
            about="counts from columns",
            text="Counts whose logarithm of the rate is a linear function of columns.",
            example="--data visits.csv --target visits",
            estimators={"": "poisson_regression:BayesianPoissonRegression"},
            reads="count",
            section=PoissonRegression,
        ),
        Model(
            name="pca",
            about="principal components, as many as the data need",
            text="Rows as few factors and noise that is the same in every column. Factors that\n"
            "are not needed are switched off; missing values are filled in.",
            example="--data wine --components 8",
            estimators={"": "factor_analysis:BayesianPCA"},
            reads="table",
            section=Factors,
            gaps="cells",
        ),
        Model(
            name="factors",
            about="factor analysis: as pca, each column with noise of its own",
            text="As pca, but every column has noise of its own, so that units do not matter.",
            example="--data wine --components 8",
            estimators={"": "factor_analysis:BayesianFactorAnalysis"},
            reads="table",
            section=Factors,
            gaps="cells",
        ),
        Model(
            name="ratings",
            about="what users would think of items: matrix factorisation",
            text="Ratings of items by users as products of factors, with biases; or counts, by\n"
            "a Poisson likelihood. Users and items are named by texts or numbers.",
            example="--data ratings.csv --factors 10",
            estimators={
                "gaussian": "factorisation:GaussianFactorisation",
                "poisson": "factorisation:PoissonFactorisation",
            },
            reads="ratings",
            section=RatingFactors,
            choice="likelihood",
        ),
        Model(
            name="gaussian",
            about="one Gaussian moving to another, to look at",
            text="The smallest inference there is: a Gaussian climbs the bound to the mean and\n"
            "covariance of the data, with an animation of its way.",
            example="--data iris --columns 'petal length (cm),petal width (cm)'",
            estimators={"": "gaussian_fit:GaussianFit"},
            reads="table",
            section=GaussianPath,
        ),
        Model(
            name="lda",
            about="topics of documents",
            text="Topics: each a distribution over words, each document a mixture of them\n"
            "(latent Dirichlet allocation).",
            example="--data articles.txt --topics 20 --stop-words english",
            estimators={"": "lda:TopicModel"},
            reads="documents",
            section=Lda,
        ),
        Model(
            name="hmm",
            about="hidden states of a time series",
            text="A hidden Markov model: rows are times, in order; each is in a state that says\n"
            "what is seen and where the next time goes.",
            example="--data series.csv --states 3",
            estimators={"gaussian": "hmm:BayesianGaussianHMM", "categorical": "hmm:BayesianCategoricalHMM"},
            reads="series",
            section=Hmm,
            choice="emissions",
            gaps="rows",
        ),
    )
}
