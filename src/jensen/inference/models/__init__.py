"""The ready-made models: each as a `ConjugateModel`, with its starts, kernels and predictive densities."""
