"""Credit for new customers by channel. Computed by the engine itself, so that other tools read what the metric compiler asks it for."""


def model(dbt, session):
    dbt.config(materialized="table")
    dbt.ref("mtr_acquisitions__customer"), dbt.ref("fct_new_customers"), dbt.ref("fct_touchpoints"), dbt.ref("fct_leads"), dbt.ref("fct_deals"), dbt.ref("fct_orders"), dbt.ref("fct_subscriptions")
    from models.metrics import relations

    return relations.stored(session, "attributed_customers")
