"""Who is changed by contact: from recorded control groups alone."""

ROWS = "Extra chance of an order that contact brings, with interval. One row per customer."
FEATURES = ("ftr_as_of_dates", "ftr_contacts__assigned", "ftr_contacts__outcomes")
