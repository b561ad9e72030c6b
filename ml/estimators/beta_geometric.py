"""BG/NBD and MBG/NBD: Poisson buying with gamma rates, and a chance to drop out at each purchase.

Belongs here: likelihood, closed forms and their numerically stable versions for the two beta-geometric models.
Does not belong here: fitting machinery (`purchase_model.py`, `optimise.py`), drop-out in continuous time
(`pareto_nbd.py`).

Sources: Fader, Hardie & Lee (2005), "Counting Your Customers" the Easy Way, Marketing Science 24(2), eq. 6-11;
Batislam, Denizel & Filiztekin (2007), Int. J. of Research in Marketing 24(3), for the modified model, in which a
customer may drop out right after the first purchase too.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betainc, betaln, expit, exprel, gammaln, polygamma, psi
from sklearn.utils.validation import check_is_fitted

from ml.estimators.purchase_model import CHUNK_ROWS, PurchaseModel, _counts, _duration
from ml.estimators.summaries import PurchaseSummaries

# Range of a + b - r - 1 in which the transformed series is used: below, its alternating terms cancel (2^25 leaves 8
# digits); above, they overflow. Outside, the slower sum of positive terms takes over.
SERIES_RANGE = (-25.0, 200.0)
# Terms after which a series that has not converged is given up; needed only for t beyond 1,000 times (alpha + T).
MOST_TERMS = 50_000


class _BetaGeometricNBD(PurchaseModel):
    """Shared by both: they differ in whether the first purchase carries a chance to drop out."""

    _names = ("r", "alpha", "a", "b")
    _times = ("alpha",)
    _meaning = {
        "r": ("nearly all purchases come from very few customers", "customers do not differ in their rate of buying"),
        "alpha": ("the rate of buying is not bounded by the data", "customers do not differ in their rate of buying"),
        "a": ("no customer shows a sign of dropping out", "customers do not differ in their chance to drop out"),
        "b": ("customers drop out at once or never", "customers do not differ in their chance to drop out"),
    }
    # 1 when the first purchase carries a chance to drop out, else 0.
    _first_purchase: int

    def _likelihood(self, summaries: PurchaseSummaries):
        first = self._first_purchase
        x, t_x, T, weight = summaries.frequency, summaries.recency, summaries.age, summaries.weight
        # What depends on x alone is summed once per distinct x.
        distinct_x, position = np.unique(x, return_inverse=True)
        x_weight = np.bincount(position, weights=weight)
        total = float(weight.sum())
        # Who may have dropped out already: repeat buyers, and in the modified model everybody.
        may_be_gone = np.ones(len(x), dtype=bool) if first else x > 0
        never = ~may_be_gone
        never_T, never_weight = T[never], weight[never]
        rows = (x[may_be_gone], t_x[may_be_gone], T[may_be_gone], weight[may_be_gone])

        def evaluate(parameters):
            r, alpha, a, b = parameters
            lost = b + distinct_x + first  # beta parameter of staying after x purchases
            value = x_weight @ (gammaln(r + distinct_x) + gammaln(lost) - gammaln(a + lost)) + total * (r * np.log(alpha) - gammaln(r) + gammaln(a + b) - gammaln(b))
            gradient = np.array([
                x_weight @ psi(r + distinct_x) + total * (np.log(alpha) - psi(r)),
                total * r / alpha,
                total * psi(a + b) - x_weight @ psi(a + lost),
                x_weight @ (psi(lost) - psi(a + lost)) + total * (psi(a + b) - psi(b)),
            ])  # fmt: skip
            both = total * polygamma(1, a + b) - x_weight @ polygamma(1, a + lost)
            hessian = np.zeros((4, 4))
            hessian[0, 0] = x_weight @ polygamma(1, r + distinct_x) - total * polygamma(1, r)
            hessian[0, 1] = hessian[1, 0] = total / alpha
            hessian[1, 1] = -total * r / alpha**2
            hessian[2, 2] = hessian[2, 3] = hessian[3, 2] = both
            hessian[3, 3] = both + x_weight @ polygamma(1, lost) - total * polygamma(1, b)

            rate = alpha + never_T
            value -= r * (never_weight @ np.log(rate))
            gradient[0] -= never_weight @ np.log(rate)
            gradient[1] -= r * (never_weight @ (1 / rate))
            hessian[0, 1] -= never_weight @ (1 / rate)
            hessian[1, 0] = hessian[0, 1]
            hessian[1, 1] += r * (never_weight @ rate**-2)

            for begin in range(0, len(rows[0]), CHUNK_ROWS):
                chunk = (array[begin : begin + CHUNK_ROWS] for array in rows)
                value += _add_rows(*chunk, first, parameters, gradient, hessian)
            return value, gradient, hessian

        return evaluate

    def _log_odds_gone(self, x, t_x, T):
        """Log-odds of having dropped out right after the last purchase; minus infinity where that cannot be."""
        stay = self.b_ + x + self._first_purchase - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            odds = (
                np.log(self.a_) - np.log(stay) + (self.r_ + x) * np.log1p((T - t_x) / (self.alpha_ + t_x))
            )  # fmt: skip
        return odds if self._first_purchase else np.where(x > 0, odds, -np.inf)

    def _probability_alive(self, x, t_x, T):
        return expit(-self._log_odds_gone(x, t_x, T))

    # A customer alive at T has rate ~ gamma(r + x, alpha + T) and drop-out chance ~ beta(a, b + x [+ 1]), and behaves
    # from then on like a new BG/NBD customer with these parameters.

    def _expected_while_alive(self, t, x, T):
        def expected(t, x, T):
            return _expected_purchases(t, self.r_ + x, self.alpha_ + T, self.a_, self.b_ + x + self._first_purchase)

        t, x, T = np.broadcast_arrays(t, x, T)
        if x.size < 1_000 or np.ptp(t) > 0:
            return expected(t, x, T)
        # Recency does not matter to those who are alive, so with ages in days most rows share their (x, T) with others.
        pairs, position = np.unique(x + 1j * T, return_inverse=True)
        return expected(t.flat[0], pairs.real, pairs.imag)[position]

    def _pmf_while_alive(self, n, t, x, T):
        return _pmf(n, t, self.r_ + x, self.alpha_ + T, self.a_, self.b_ + x + self._first_purchase)


class BetaGeoNBD(_BetaGeometricNBD):
    """BG/NBD (Fader, Hardie & Lee 2005).

    Learned: ``r_``, ``alpha_`` (unit of time): rates of buying are gamma(r, alpha); ``a_``, ``b_``: chances to drop out
    after a repeat purchase are beta(a, b); ``covariance_``, ``log_likelihood_``, ``n_customers_``, ``n_iter_``.
    """

    _model = "BG/NBD"
    _first_purchase = 0

    def expected_purchases(self, t):
        """Expected repeat purchases of a random new customer in (0, t] (eq. 9)."""
        check_is_fitted(self, "covariance_")
        return _expected_purchases(_duration(t), self.r_, self.alpha_, self.a_, self.b_)

    def pmf(self, n, t):
        """P(X(t) = n) of a random new customer (eq. 8)."""
        check_is_fitted(self, "covariance_")
        return _pmf(_counts(n), _duration(t), self.r_, self.alpha_, self.a_, self.b_)


class ModifiedBetaGeoNBD(_BetaGeometricNBD):
    """MBG/NBD (Batislam, Denizel & Filiztekin 2007): as BG/NBD, but one may drop out after the first purchase too."""

    _model = "MBG/NBD"
    _first_purchase = 1

    def expected_purchases(self, t):
        """Expected repeat purchases of a random new customer in (0, t]."""
        check_is_fitted(self, "covariance_")
        stays = self.b_ / (self.a_ + self.b_)
        return stays * _expected_purchases(_duration(t), self.r_, self.alpha_, self.a_, self.b_ + 1)

    def pmf(self, n, t):
        """P(X(t) = n) of a random new customer."""
        check_is_fitted(self, "covariance_")
        n = _counts(n)
        stays = self.b_ / (self.a_ + self.b_)
        return stays * _pmf(n, _duration(t), self.r_, self.alpha_, self.a_, self.b_ + 1) + (1 - stays) * (n == 0)


def _add_rows(x, t_x, T, weight, first, parameters, gradient, hessian) -> float:
    """Add the rows' part that depends on times: -(r+x) ln(alpha+T) + ln(1 + odds of being gone). Returns the value."""
    r, alpha, a, b = parameters
    shape = r + x
    stay = b + x + (first - 1)
    rate_T, rate_x = alpha + T, alpha + t_x
    log_T = np.log(rate_T)
    span = log_T - np.log(rate_x)
    odds = np.log(a / stay) + shape * span
    small = np.exp(-np.abs(odds))
    gone = np.where(odds > 0, 1.0, small) / (1.0 + small)
    inverse_T, inverse_x = 1 / rate_T, 1 / rate_x
    value = weight @ (np.maximum(odds, 0) + np.log1p(small) - shape * log_T)
    weighted = weight * gone
    # First derivatives of the log-odds by r, alpha, a, b.
    d_alpha = shape * (inverse_T - inverse_x)
    by = np.stack([span, d_alpha, np.full_like(span, 1 / a), -1 / stay])
    gradient += by @ weighted
    gradient[0] -= weight @ log_T
    gradient[1] -= weight @ (shape * inverse_T)
    hessian += (by * (weighted * (1 - gone))) @ by.T
    mixed = weighted @ (inverse_T - inverse_x) - weight @ inverse_T
    hessian[0, 1] += mixed
    hessian[1, 0] += mixed
    hessian[1, 1] += weighted @ (shape * (inverse_x**2 - inverse_T**2)) + weight @ (shape * inverse_T**2)
    hessian[2, 2] -= weighted.sum() / a**2
    hessian[3, 3] += weighted @ stay**-2.0
    return float(value)


def _expected_purchases(t, shape, rate, a, b):
    """E[X(t)] of BG/NBD with rate ~ gamma(shape, rate) and drop-out ~ beta(a, b): eq. 9 without its poles.

    The published form, (a+b-1)/(a-1) * (1 - (1-z)^shape * 2F1(shape, b; a+b-1; z)) with z = t/(rate+t), under- and
    overflows for heavy buyers and has poles at a = 1 and a + b = 1. Euler's transformation removes the former (no
    argument grows with the shape), taking the factor 1/(a-1) into the series the latter.
    """
    t, shape, rate, b = np.broadcast_arrays(*(np.asarray(array, dtype=float) for array in (t, shape, rate, b)))
    z = t / (rate + t)
    upper = a + b - 1 - shape
    lowest, highest = SERIES_RANGE
    if np.all(upper > lowest) and np.all(upper < highest) and a < highest:
        return _transformed_series(z, upper, a, b)
    return _sum_over_counts(z, shape, a, b)


def _transformed_series(z, upper, a, b):
    top = a + b - 1
    log_left = np.log1p(-z)
    scale = 1 - z

    def next_term(n, state):
        term, series, z, upper, top, scale = state
        term *= (upper + n) * (a + n - 1) / ((top + n) * (n + 1)) * z
        series += term
        # The ratio of terms tends to z, so what is left is about term / (1 - z).
        return np.abs(term) <= 1e-16 * np.abs(series) * scale if n % 8 == 0 else None

    series = _summed(next_term, (upper * z, upper * z, z, upper, top, scale))
    return -top * log_left * exprel((a - 1) * log_left) - np.exp((a - 1) * log_left) * series


def _sum_over_counts(z, shape, a, b):
    """The same expectation as a sum over j of P(still a customer after j purchases) * P(more than j without drop-out)."""
    log_none = shape * np.log1p(-z)
    more = -np.expm1(log_none)
    with np.errstate(divide="ignore"):  # z = 0: nobody buys in no time
        log_z = np.log(z)

    def next_term(j, state):
        log_probability, total, more, stays, log_z, shape, b = state
        log_probability += np.log((shape + j - 1) / j) + log_z
        np.maximum(more - np.exp(log_probability), 0.0, out=more)
        stays *= (b + j - 1) / (a + b + j - 1)
        total += stays * more
        return more <= 1e-14 * total if j % 8 == 0 else None

    return _summed(next_term, (log_none, more, more, np.ones_like(z), log_z, shape, b))


def _summed(next_term, state) -> np.ndarray:
    """Add terms row by row until each row has converged; `state[1]` holds the sums, and is what comes back.

    Converged rows leave at once: the slowest row of a chunk needs ten times the terms of the median one.
    """
    shape = np.shape(state[1])
    state = [np.array(np.broadcast_to(array, shape), dtype=float).ravel() for array in state]
    result = np.empty(state[1].size)
    rows = np.arange(result.size)
    for n in range(1, MOST_TERMS):
        converged = next_term(n, state)
        if converged is not None and converged.any():
            result[rows[converged]] = state[1][converged]
            left = ~converged
            rows, state = rows[left], [array[left] for array in state]
            if not len(rows):
                break
    result[rows] = state[1]
    return result.reshape(shape)


def _pmf(n, t, shape, rate, a, b):
    """P(X(t) = n) of BG/NBD (eq. 8); the finite sum is a negative-binomial tail, hence an incomplete beta function."""
    z = t / (rate + t)
    log_counts = gammaln(shape + n) - gammaln(shape) - gammaln(n + 1) + shape * np.log1p(-z)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_counts = log_counts + np.where(n > 0, n * np.log(z), 0.0)
    alive = np.exp(log_counts + betaln(a, b + n) - betaln(a, b))
    at_least = np.where(n > 0, n, 1.0)
    gone = np.exp(betaln(a + 1, b + at_least - 1) - betaln(a, b)) * betainc(at_least, shape, z)
    return alive + np.where(n > 0, gone, 0.0)
