"""The source types, one module each; the module's name is the `type:` that `sources.yml` uses.

A module offers `SOURCE`, an object with the attributes of `pipelines.sources.base.SourceType`. Adding a type adds a file here.
"""
