"""Deals open at the close of each month, weighted by own history. Computed by the engine itself, so that other tools read what the metric compiler asks it for."""


def model(dbt, session):
    dbt.config(materialized="table")
    dbt.ref("deals_history"), dbt.ref("fct_deals"), dbt.ref("dim_pipeline_stages"), dbt.ref("fct_subscriptions")
    from models.metrics import relations

    return relations.stored(session, "pipeline_learned")
