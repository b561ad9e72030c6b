"""What was agreed: contracts of every table, the vocabulary, every setting. Holds no data access and imports no other room."""
