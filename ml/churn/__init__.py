"""Who will stop: no order in the churn window, or the end of the last subscription."""
