"""Families of black-box inference: q as a product of factors."""
