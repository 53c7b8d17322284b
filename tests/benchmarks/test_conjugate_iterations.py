"""The order that the benchmark claims holds where it is cheap to see."""

from __future__ import annotations

from benchmarks.conjugate_iterations import gaussians, iterations, mean_and_precision

from jensen.inference import infer


def test_coordinate_is_no_slower_than_natural_and_that_faster_than_plain_gradients() -> None:
    for make in (gaussians, mean_and_precision):
        case = make()
        optimum = infer(case.model, case.data, tol=1e-14).elbo
        limit = 60
        coordinate = iterations(case, "cavi", None, optimum, limit)
        natural = iterations(case, "natural", 0.9, optimum, limit)
        gradient = iterations(case, "gradient", None, optimum, limit)
        assert coordinate <= natural < gradient == limit
