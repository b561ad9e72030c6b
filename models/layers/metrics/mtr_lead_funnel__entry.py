"""Entries of the default funnel. Computed by the engine itself, so that other tools read what the metric compiler asks it for."""


def model(dbt, session):
    dbt.config(materialized="table")
    dbt.ref("fct_leads"), dbt.ref("fct_orders"), dbt.ref("fct_deals"), dbt.ref("fct_subscriptions")
    from models.metrics import relations

    return relations.stored(session, "lead_funnel")
