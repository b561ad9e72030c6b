"""Pure mathematics with scikit-learn manners: models of buying, spending and staying.

Belongs here: estimators that see only numbers (arrays in, parameters and expectations out).
Does not belong here: tables, DuckDB, dates, business definitions, publishing.
"""

from ml.estimators.beta_geometric import BetaGeoNBD, ModifiedBetaGeoNBD
from ml.estimators.conformal import SplitConformalInterval
from ml.estimators.errors import DegenerateDataError
from ml.estimators.gamma_gamma import GammaGamma
from ml.estimators.pareto_nbd import ParetoNBD
from ml.estimators.shifted_beta_geometric import ShiftedBetaGeometric, rows_from_survivors

__all__ = [
    "BetaGeoNBD",
    "DegenerateDataError",
    "GammaGamma",
    "ModifiedBetaGeoNBD",
    "ParetoNBD",
    "ShiftedBetaGeometric",
    "SplitConformalInterval",
    "rows_from_survivors",
]
