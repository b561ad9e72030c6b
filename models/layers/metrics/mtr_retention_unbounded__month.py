"""Monthly cohorts of buyers, the unbounded reading. Computed by the engine itself, so that other tools read what the metric compiler asks it for."""


def model(dbt, session):
    dbt.config(materialized="table")
    dbt.ref("fct_orders"), dbt.ref("dim_customers"), dbt.ref("fct_subscriptions")
    from models.metrics import relations

    return relations.stored(session, "retention_unbounded")
