"""Which kinds of customers there are: groups by behaviour, if the data have any, with ids that stay and names from what sets them apart."""
