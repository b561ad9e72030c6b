"""Monthly movements of recurring revenue. Computed by the engine itself, so that other tools read what the metric compiler asks it for."""


def model(dbt, session):
    dbt.config(materialized="table")
    dbt.ref("fct_subscription_terms"), dbt.ref("fct_subscriptions"), dbt.ref("fct_exchange_rates")
    from models.metrics import relations

    return relations.stored(session, "movements")
