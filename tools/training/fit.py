"""Logistic regression."""

from __future__ import annotations

import numpy as np

from models.rules import Bools, Float64s

#: penalty on the squared coefficients of standardised features: just enough to make the fit unique
RIDGE = 1.0


def fit(x: Float64s, y: Bools, ridge: float = RIDGE) -> Float64s:
    """Fit a logistic regression with Newton's method; returns intercept and coefficients [1 + k].

    x [n, k]: standardised features; the penalty ridge/2 · Σ coefficient² does not apply to the intercept.
    Raises ArithmeticError if the fit does not converge.
    """
    design = np.column_stack((np.ones(len(x)), x))
    penalty = np.diag([0.0, *[ridge] * x.shape[1]])
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        p = 0.5 * (1.0 + np.tanh(0.5 * (design @ beta)))
        gradient = design.T @ (y - p) - penalty @ beta
        hessian = (design.T * (p * (1.0 - p))) @ design + penalty
        step = np.linalg.solve(hessian, gradient)
        beta += step
        if np.abs(step).max() < 1e-12:
            return beta
    raise ArithmeticError("the fit does not converge")
