"""What the pages read from a published snapshot. Every read goes through the one door and is cached by snapshot and role.

Belongs here: reading and shaping rows for a page, one module a subject. Does not belong here: what a number means
(`models/metrics`, `models/analysis`), or how it is shown (`components`).
"""

from dashboards.queries.customers import best_customers, customer, customer_curve, customer_scores, customer_segments, find_customers, timeline
from dashboards.queries.door import has, home, last_run, per_snapshot, pinned, sees_personal_data, snapshot_id, viewer
from dashboards.queries.funnels import Story, filterable, funnel_story, step_names
from dashboards.queries.health import checks, health, quarantine, restated, sources
from dashboards.queries.identity import identity_changes, identity_of, identity_totals, joined_customers, joins_by_rule, pairs_to_judge, serves_identity
from dashboards.queries.models import (
    LEADING,
    MEASURES,
    against_naive,
    card_fields,
    judged_models,
    model_card,
    model_comparisons,
    model_drift,
    model_measures,
    model_rows,
    model_verdict,
    qini_curve,
)
from dashboards.queries.numbers import HEADLINE, choices, cost_by_channel, deal_stages, definitions, mature_range, metric, pipelines, retention, settings, where_text
from dashboards.queries.sales import durations, forecasts, has_deals, movement, newest_day, performance, pipeline_on, target_metrics, targets
from dashboards.queries.segments import save_segment, saved_segments, segment_answer, segment_content, segment_members

__all__ = [
    "HEADLINE",
    "LEADING",
    "MEASURES",
    "Story",
    "against_naive",
    "best_customers",
    "card_fields",
    "checks",
    "choices",
    "cost_by_channel",
    "customer",
    "customer_curve",
    "customer_scores",
    "customer_segments",
    "deal_stages",
    "definitions",
    "durations",
    "filterable",
    "find_customers",
    "forecasts",
    "funnel_story",
    "has",
    "has_deals",
    "health",
    "home",
    "identity_changes",
    "identity_of",
    "identity_totals",
    "joined_customers",
    "joins_by_rule",
    "judged_models",
    "last_run",
    "mature_range",
    "metric",
    "model_card",
    "model_comparisons",
    "model_drift",
    "model_measures",
    "model_rows",
    "model_verdict",
    "qini_curve",
    "movement",
    "newest_day",
    "pairs_to_judge",
    "per_snapshot",
    "performance",
    "pinned",
    "pipeline_on",
    "pipelines",
    "quarantine",
    "restated",
    "retention",
    "save_segment",
    "saved_segments",
    "sees_personal_data",
    "segment_answer",
    "segment_content",
    "segment_members",
    "serves_identity",
    "settings",
    "snapshot_id",
    "sources",
    "step_names",
    "target_metrics",
    "targets",
    "timeline",
    "viewer",
    "where_text",
]
