"""RFM scores at the watermark. Computed by the engine itself, so that `rapport rfm --as-of` and the mart answer from one definition."""


def model(dbt, session):
    dbt.config(materialized="table")
    dbt.ref("fct_orders"), dbt.ref("fct_refunds"), dbt.ref("rfm_segments")
    from models.engines import rfm

    return rfm.stored(session, rfm.SEGMENTS)
