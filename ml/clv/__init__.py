"""What a customer will bring: net revenue over the next 365 days."""
