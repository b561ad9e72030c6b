"""Acquired customers and their value. Computed by the engine itself, so that other tools read what the metric compiler asks it for."""


def model(dbt, session):
    dbt.config(materialized="table")
    dbt.ref("dim_customers"), dbt.ref("fct_subscriptions")
    from models.metrics import relations

    return relations.stored(session, "customer_values")
