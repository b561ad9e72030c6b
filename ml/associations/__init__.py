"""What is bought together: pairs of products or categories in the baskets of orders and customers, and what a customer may want next."""
