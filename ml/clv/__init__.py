"""What a customer will bring: net revenue over the next 365 days."""

ROWS = "Net revenue expected in the next 365 days, with interval. One row per customer who has ordered."
FEATURES = ("ftr_as_of_dates", "ftr_customers__behaviour", "ftr_customers__outcomes", "ftr_purchases__day")
