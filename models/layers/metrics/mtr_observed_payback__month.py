"""When the customers acquired in a month had paid themselves back. Computed by the engine itself, so that other tools read what the metric compiler asks it for."""


def model(dbt, session):
    dbt.config(materialized="table")
    dbt.ref("dim_customers"), dbt.ref("fct_new_customers"), dbt.ref("fct_leads"), dbt.ref("fct_orders"), dbt.ref("fct_marketing_spend"), dbt.ref("fct_subscriptions")
    from models.metrics import relations

    return relations.stored(session, "observed_payback")
