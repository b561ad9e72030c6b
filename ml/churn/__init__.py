"""Who will stop: no order in the churn window, or the end of the last subscription."""

ROWS = "Chance that a customer stops, with interval and reasons. One row per customer who could stop."
FEATURES = ("ftr_as_of_dates", "ftr_customers__behaviour", "ftr_customers__outcomes", "ftr_purchases__day")
