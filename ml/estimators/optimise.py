"""Maximum likelihood for models with a handful of positive parameters and exact second derivatives.

Belongs here: the damped Newton iteration, its convergence test, and standard errors from the Hessian.
Does not belong here: any likelihood; a model hands in a function that returns value, gradient and Hessian.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController

from ml.estimators.errors import DegenerateDataError

# (log-likelihood, gradient [k], Hessian [k, k]) at natural parameters [k]
LikelihoodFunction = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]

# A parameter that runs this many e-folds (a factor of 3.3 million) away from the unit scale has no finite maximum:
# times and amounts are scaled to about 1 before fitting, and published fits stay within 5 e-folds. Valid: 8 to 30.
RUNAWAY_LOG_LIMIT = 15.0
# Standard error of a log-parameter above which the parameter is not identified: its 95 % interval then spans a factor
# of e^(2*1.96*5), three hundred million. Valid: 2 (strict) to 10.
UNIDENTIFIED_LOG_ERROR = 5.0
# Longest step in log-parameters (a factor of 7.4); longer ones leave the region where a quadratic is any guide.
LONGEST_STEP = 2.0


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


@dataclass(frozen=True)
class MaximumLikelihood:
    """A maximum: natural parameters [k], log-likelihood, covariance [k, k] of the natural parameters, iterations used."""

    parameters: np.ndarray
    log_likelihood: float
    covariance: np.ndarray
    iterations: int


def maximise(
    likelihood: LikelihoodFunction,
    start: np.ndarray,
    *,
    model: str,
    names: tuple[str, ...],
    meaning: dict[str, tuple[str, str]],
    penalty: float = 0.0,
    tolerance: float = 1e-9,
    max_iterations: int = 200,
    check_identified: bool = True,
) -> MaximumLikelihood:
    """Maximise a log-likelihood over positive parameters by damped Newton steps in their logarithms.

    Parameters
    ----------
    likelihood : returns (value, gradient, Hessian) in natural parameters.
    start : positive starting values, shape [k].
    model, names, meaning : used in messages only; ``meaning[name]`` says what the data show when that parameter runs to
        (zero, infinity).
    penalty : a Gaussian prior on each log-parameter with mean 0 and variance ``1 / (2 * penalty)``; 0 is plain maximum
        likelihood.
    tolerance : the iteration ends when the expected gain in log-likelihood (half the Newton decrement) falls below it.
    check_identified : refuse maxima with a run-away or unidentified parameter; off for starting values from a sample.

    Raises
    ------
    DegenerateDataError : no finite maximum, or a parameter is not identified.
    """
    log_parameters = np.log(np.asarray(start, dtype=float))
    value, gradient, hessian = _in_logs(likelihood, log_parameters, penalty)
    if not np.isfinite(value):
        raise DegenerateDataError(model, "the likelihood is not finite at the starting values.", "Check the input for extreme values.")
    iterations, converged = 0, False
    while iterations < max_iterations:
        step, gain = _ascent_step(gradient, hessian)
        if gain < tolerance:
            converged = True
            break
        iterations += 1
        length = float(np.linalg.norm(step))
        if length > LONGEST_STEP:
            step *= LONGEST_STEP / length
        accepted = False
        # 40 halvings shrink a step to rounding error, so an iteration cannot hang on a plateau.
        for _ in range(40):
            candidate = log_parameters + step
            new_value, new_gradient, new_hessian = _in_logs(likelihood, candidate, penalty)
            if np.isfinite(new_value) and new_value >= value + 1e-4 * float(gradient @ step):
                accepted = True
                break
            step = step / 2
        if not accepted:
            # The promised gain is below what the sum's rounding can show.
            converged = gain < 1e-12 * (1 + abs(value))
            break
        log_parameters, value, gradient, hessian = candidate, new_value, new_gradient, new_hessian
        if np.max(np.abs(log_parameters)) > RUNAWAY_LOG_LIMIT:
            break
    parameters = np.exp(log_parameters)
    covariance = _covariance(parameters, hessian)
    if check_identified:
        _refuse_unidentified(model, names, meaning, log_parameters, covariance / np.outer(parameters, parameters))
    if not converged:
        warnings.warn(
            f"{model}: stopped after {iterations} iterations before the maximum was reached; raise max_iterations.",
            ConvergenceWarning,
            stacklevel=4,
        )
    prior = penalty * float(np.sum(log_parameters**2))
    return MaximumLikelihood(parameters, value + prior, covariance, iterations)


def _in_logs(likelihood: LikelihoodFunction, log_parameters: np.ndarray, penalty: float):
    """Value, gradient and Hessian of the penalised log-likelihood with respect to the log-parameters."""
    parameters = np.exp(log_parameters)
    # Sums of a few ten thousand products: BLAS threads wait for one another ten times longer than they compute.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"), _blas().limit(limits=1, user_api="blas"):
        value, gradient, hessian = likelihood(parameters)
    scaled_gradient = parameters * gradient
    scaled_hessian = np.outer(parameters, parameters) * hessian + np.diag(scaled_gradient)
    value -= penalty * float(np.sum(log_parameters**2))
    scaled_gradient = scaled_gradient - 2 * penalty * log_parameters
    scaled_hessian = scaled_hessian - 2 * penalty * np.eye(len(parameters))
    finite = np.isfinite(value) and np.all(np.isfinite(scaled_gradient)) and np.all(np.isfinite(scaled_hessian))
    return (float(value) if finite else -np.inf), scaled_gradient, scaled_hessian


def _ascent_step(gradient: np.ndarray, hessian: np.ndarray) -> tuple[np.ndarray, float]:
    """Newton step with the curvature made positive, and the gain in log-likelihood that it promises."""
    eigenvalues, eigenvectors = np.linalg.eigh(-hessian)
    floor = max(1e-12, 1e-10 * float(np.max(np.abs(eigenvalues))))
    curvature = np.maximum(np.abs(eigenvalues), floor)
    along = eigenvectors.T @ gradient
    return eigenvectors @ (along / curvature), 0.5 * float(np.sum(along**2 / curvature))


def _covariance(parameters: np.ndarray, log_hessian: np.ndarray) -> np.ndarray:
    """Inverse observed information by the delta method; infinite where the surface is not concave."""
    eigenvalues, eigenvectors = np.linalg.eigh(-log_hessian)
    if eigenvalues[0] <= 0:
        return np.full((len(parameters), len(parameters)), np.inf)
    log_covariance = (eigenvectors / eigenvalues) @ eigenvectors.T
    return log_covariance * np.outer(parameters, parameters)


def _refuse_unidentified(model, names, meaning, log_parameters, log_covariance) -> None:
    log_errors = np.sqrt(np.abs(np.diag(log_covariance)))
    distance = np.where(np.isfinite(log_errors), log_errors / UNIDENTIFIED_LOG_ERROR, np.inf)
    runaway = np.abs(log_parameters) / RUNAWAY_LOG_LIMIT
    if np.all(distance <= 1) and np.all(runaway <= 1):
        return
    worst = int(np.argmax(np.where(np.any(runaway > 1), runaway, np.where(np.isinf(distance), runaway, distance))))
    name = names[worst]
    towards_zero, towards_infinity = meaning[name]
    direction, sense = ("zero", towards_zero) if log_parameters[worst] < 0 else ("infinity", towards_infinity)
    raise DegenerateDataError(
        model,
        f"parameter {name} is not identified and drifts towards {direction}: {sense}.",
        "Observe more customers or a longer period, or set penalty=0.1 (a weak prior that keeps parameters finite).",
    )
