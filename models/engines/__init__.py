"""Analysis engines: what a metric layer cannot say (funnels, cohorts, revenue movements, attribution, sales history, identity).

Each engine is a frozen specification, a pure function from it to SQL text with bound parameters, and a thin ``run``
on a connection that somebody else opened. Nothing here opens a database, reads a setting or knows a destination.
"""
