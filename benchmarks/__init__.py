"""Benchmarks against published figures and other libraries: python -m benchmarks.NAME [--quick] --json FILE."""
