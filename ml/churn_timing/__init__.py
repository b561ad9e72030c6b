"""When a customer will stop: a survival curve per customer."""

ROWS = "Chance of still being a customer after 30 to 365 days, and the expected days. One row per customer who could stop."
FEATURES = ("ftr_as_of_dates", "ftr_customers__behaviour", "ftr_customers__ends")
