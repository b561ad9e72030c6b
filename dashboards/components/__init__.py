"""What pages are made of: the frame around each, filters, cards, charts, tables, downloads. Holds no query and no meaning of a number."""
