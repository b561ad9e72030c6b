"""Which open lead will become business."""

ROWS = "Chance that an open lead becomes business. One row per open lead."
FEATURES = ("ftr_as_of_dates", "ftr_leads__conversion", "ftr_leads__outcomes")
