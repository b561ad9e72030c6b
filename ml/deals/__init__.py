"""Which open deal will be won."""

ROWS = "Chance that an open deal is won within the window. One row per open deal."
FEATURES = ("ftr_as_of_dates", "ftr_deals__stage_rates", "ftr_deals__state", "ftr_deals__outcomes")
