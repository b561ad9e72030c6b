-- The open period of a deal's history is the deal as it stands; every deal has one.
select deals.deal_id, history.stage as history_stage, deals.stage, history.amount as history_amount, deals.amount
from {{ ref('fct_deals') }} as deals
left join {{ ref('deals_history') }} as history on history.deal_id = deals.deal_id and history.valid_to is null
where
    history.deal_id is null
    or history.stage is distinct from deals.stage
    or history.pipeline is distinct from deals.pipeline
    or history.amount is distinct from deals.amount
    or history.owner_id is distinct from deals.owner_id
    or history.expected_close_date is distinct from deals.expected_close_date
    or history.is_won <> deals.is_won
    or history.is_lost <> deals.is_lost
    or history.is_open <> deals.is_open
