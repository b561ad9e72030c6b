"""What each stage was worth on each as-of day: the engine's learned probability, from deals closed before that day. One row per day, pipeline and stage."""

from datetime import datetime


def model(dbt, session):
    dbt.config(materialized="table")
    dbt.ref("deals_history")
    dbt.ref("ftr_as_of_dates")
    from models.engines import sales

    days: list[tuple[object, datetime]] = session.execute("select as_of_date, starts_at from features.ftr_as_of_dates where subject = 'deal' order by 1").fetchall()
    return sales.stage_probabilities_of_days(session, sales.PipelineSpec(), days)
