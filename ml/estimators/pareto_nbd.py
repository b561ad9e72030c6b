"""Pareto/NBD: Poisson buying with gamma rates until a death in continuous time with gamma rates.

Belongs here: likelihood and closed forms of Pareto/NBD.
Does not belong here: fitting machinery (`purchase_model.py`, `optimise.py`), drop-out at purchases
(`beta_geometric.py`).

Source: Schmittlein, Morrison & Colombo (1987), Management Science 33(1); Fader & Hardie (2005), A Note on Deriving the
Pareto/NBD Model. The published likelihood subtracts two Gaussian hypergeometric functions of heavy cancellation; here
the integral over the time of death that they stand for is evaluated by Gauss-Legendre quadrature of positive terms,
which loses no digits and gives exact derivatives. A history's likelihood is so a mixture over "alive at T" and the
quadrature's times of death, and its gradient and Hessian are mixture means and covariances.
"""

from __future__ import annotations

import numpy as np
from scipy.special import exprel, gammaln, logsumexp, polygamma, psi
from sklearn.utils.validation import check_is_fitted

from ml.estimators.purchase_model import PurchaseModel, _counts, _duration
from ml.estimators.summaries import PurchaseSummaries

# Quadrature points for the time of death. The integrand is analytic in log(c + time) with its nearest singularity at
# distance pi, so 48 points give 12 digits for ages up to e^10 times c. Valid: 32 to 128.
DEATH_NODES = 48
# Probabilities of counts need more points: their integrand has a peak as narrow as 1/sqrt(r + x). Valid: 100 to 400.
COUNT_NODES = 200
# Times of death whose density is e^-45 of the earliest one's are left out: below rounding error of the sum.
NEGLIGIBLE_LOG = 45.0


class ParetoNBD(PurchaseModel):
    """Pareto/NBD (Schmittlein, Morrison & Colombo 1987).

    Learned: ``r_``, ``alpha_`` (unit of time): rates of buying are gamma(r, alpha); ``s_``, ``beta_`` (unit of time):
    rates of dropping out are gamma(s, beta); ``covariance_``, ``log_likelihood_``, ``n_customers_``, ``n_iter_``.
    """

    _model = "Pareto/NBD"
    _names = ("r", "alpha", "s", "beta")
    _times = ("alpha", "beta")
    _chunk_rows = 2_048
    _meaning = {
        "r": ("nearly all purchases come from very few customers", "customers do not differ in their rate of buying"),
        "alpha": ("the rate of buying is not bounded by the data", "customers do not differ in their rate of buying"),
        "s": ("no customer shows a sign of dropping out", "customers do not differ in their rate of dropping out"),
        "beta": ("customers drop out at once or never", "no customer shows a sign of dropping out, or all do alike"),
    }

    def _likelihood(self, summaries: PurchaseSummaries):
        x, t_x, T, weight = summaries.frequency, summaries.recency, summaries.age, summaries.weight
        distinct_x, position = np.unique(x, return_inverse=True)
        x_weight = np.bincount(position, weights=weight)
        total = float(weight.sum())

        def evaluate(parameters):
            r, alpha, s, beta = parameters
            value = x_weight @ gammaln(r + distinct_x) + total * (r * np.log(alpha) + s * np.log(beta) - gammaln(r))
            gradient = np.array([
                x_weight @ psi(r + distinct_x) + total * (np.log(alpha) - psi(r)),
                total * r / alpha,
                total * np.log(beta),
                total * s / beta,
            ])  # fmt: skip
            hessian = np.zeros((4, 4))
            hessian[0, 0] = x_weight @ polygamma(1, r + distinct_x) - total * polygamma(1, r)
            hessian[0, 1] = hessian[1, 0] = total / alpha
            hessian[1, 1] = -total * r / alpha**2
            hessian[2, 3] = hessian[3, 2] = total / beta
            hessian[3, 3] = -total * s / beta**2
            for begin in range(0, len(x), self._chunk_rows):
                rows = slice(begin, begin + self._chunk_rows)
                value += _add_rows(x[rows], t_x[rows], T[rows], weight[rows], parameters, gradient, hessian)
            return value, gradient, hessian

        return evaluate

    def _probability_alive(self, x, t_x, T):
        _, log_alive, log_dead = _mixture(x, t_x, T, self._vector())
        return np.exp(log_alive - np.logaddexp(log_alive, logsumexp(log_dead, axis=1)))

    # Given that a customer is alive at T, the rates are independent again: gamma(r + x, alpha + T), gamma(s, beta + T).

    def _expected_while_alive(self, t, x, T):
        return _expected_purchases(t, self.r_ + x, self.alpha_ + T, self.s_, self.beta_ + T)

    def _pmf_while_alive(self, n, t, x, T):
        return _pmf(n, t, self.r_ + x, self.alpha_ + T, self.s_, self.beta_ + T)

    def expected_purchases(self, t):
        """Expected repeat purchases of a random new customer in (0, t]."""
        check_is_fitted(self, "covariance_")
        return _expected_purchases(_duration(t), self.r_, self.alpha_, self.s_, self.beta_)

    def pmf(self, n, t):
        """P(X(t) = n) of a random new customer."""
        check_is_fitted(self, "covariance_")
        n, t = np.broadcast_arrays(_counts(n), _duration(t))
        result = np.empty(n.size)
        for begin in range(0, n.size, self._chunk_rows):
            rows = slice(begin, begin + self._chunk_rows)
            result[rows] = _pmf(np.ravel(n)[rows], np.ravel(t)[rows], self.r_, self.alpha_, self.s_, self.beta_)
        return result.reshape(n.shape)


def _log_nodes(begin, end, offset, count):
    """Gauss-Legendre times in (begin, end), shape [n, count], evenly placed in log(offset + time), and log-weights."""
    points, weights = np.polynomial.legendre.leggauss(count)
    lowest = (offset + begin)[:, None]
    half = 0.5 * np.log1p((end - begin)[:, None] / lowest)
    growth = half * (points + 1)
    times = begin[:, None] + lowest * np.expm1(growth)
    with np.errstate(divide="ignore"):  # a customer seen to T exactly at the last purchase has no time to die
        log_weights = np.log(weights) + np.log(half) + np.log(lowest) + growth
    return times, log_weights


def _mixture(x, t_x, T, parameters):
    """Times of death [n, k], log-density of being alive at T [n], and of having died around each time [n, k]."""
    r, alpha, s, beta = parameters
    decay = r + x + s
    offset = min(alpha, beta)
    # Deaths later than this are e^-45 times less dense than at t_x; heavy buyers would else waste all points on them.
    log_reach = np.minimum(NEGLIGIBLE_LOG / decay, 700.0)
    last = np.minimum(T, t_x + (max(alpha, beta) + t_x) * np.expm1(log_reach))
    times, log_weights = _log_nodes(t_x, last, offset, DEATH_NODES)
    log_alive = -(r + x) * np.log(alpha + T) - s * np.log(beta + T)
    log_dead = (
        np.log(s) + log_weights - (r + x)[:, None] * np.log(alpha + times) - (s + 1) * np.log(beta + times)
    )  # fmt: skip
    return times, log_alive, log_dead


def _add_rows(x, t_x, T, weight, parameters, gradient, hessian) -> float:
    """Add the rows' log of (alive + integral over times of death) and its derivatives. Returns the value."""
    r, alpha, s, beta = parameters
    times, log_alive, log_dead = _mixture(x, t_x, T, parameters)
    log_total = np.logaddexp(log_alive, logsumexp(log_dead, axis=1))
    # One more component, "alive at T", beside the times of death.
    times = np.concatenate([times, T[:, None]], axis=1)
    share = np.exp(np.concatenate([log_dead, log_alive[:, None]], axis=1) - log_total[:, None])
    dead = np.ones(times.shape[1])
    dead[-1] = 0.0
    shape = (r + x)[:, None]
    inverse_alpha, inverse_beta = 1 / (alpha + times), 1 / (beta + times)
    by = np.stack([
        -np.log(alpha + times),
        -shape * inverse_alpha,
        dead / s - np.log(beta + times),
        -(s + dead) * inverse_beta,
    ])  # fmt: skip
    mean = np.einsum("kij,ij->ki", by, share)
    gradient += mean @ weight
    mass = share * weight[:, None]
    flat = by.reshape(4, -1)
    hessian += (flat * mass.ravel()) @ flat.T - (mean * weight) @ mean.T
    mixed_alpha, mixed_beta = float(np.sum(mass * inverse_alpha)), float(np.sum(mass * inverse_beta))
    hessian[0, 1] -= mixed_alpha
    hessian[1, 0] -= mixed_alpha
    hessian[1, 1] += float(np.sum(mass * shape * inverse_alpha**2))
    hessian[2, 2] -= float(np.sum(mass * dead)) / s**2
    hessian[2, 3] -= mixed_beta
    hessian[3, 2] -= mixed_beta
    hessian[3, 3] += float(np.sum(mass * (s + dead) * inverse_beta**2))
    return float(weight @ log_total)


def _expected_purchases(t, shape, rate, s, beta):
    """E[X(t)] = shape/rate * beta/(s-1) * (1 - (beta/(beta+t))^(s-1)), whose pole at s = 1 is removed by `exprel`."""
    log_growth = np.log1p(t / beta)
    return shape / rate * beta * log_growth * exprel(-(s - 1) * log_growth)


def _pmf(n, t, shape, rate, s, beta):
    """P(X(t) = n): alive throughout, or dead at a time before t with all n purchases made by then."""
    n, t, shape, rate, beta = np.broadcast_arrays(n, t, shape, rate, beta)
    output, (n, t, shape, rate, beta) = n.shape, (np.ravel(array) for array in (n, t, shape, rate, beta))
    times, log_weights = _log_nodes(np.zeros_like(t), t, np.minimum(rate, beta), COUNT_NODES)

    def log_counts(time, n, shape, rate):
        with np.errstate(divide="ignore", invalid="ignore"):
            made = np.where(n > 0, n * (np.log(time) - np.log(rate + time)), 0.0)
        return gammaln(shape + n) - gammaln(shape) - gammaln(n + 1) + made - shape * np.log1p(time / rate)

    alive = log_counts(t, n, shape, rate) - s * np.log1p(t / beta)
    columns = (array[:, None] for array in (n, shape, rate))
    log_death = np.log(s / beta)[:, None] - (s + 1) * np.log1p(times / beta[:, None])
    dead = logsumexp(log_weights + log_death + log_counts(times, *columns), axis=1)
    return (np.exp(alive) + np.exp(dead)).reshape(output)
