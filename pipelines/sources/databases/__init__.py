"""What differs between database servers, one module each; the module's name is SQLAlchemy's name of the dialect.

A module offers `DIALECT`, an object with the attributes of `pipelines.sources.database.Dialect`. Adding a server adds a file.
"""
