select
    changes.change_id,
    changes.deal_id,
    changes.field,
    changes.old_value,
    changes.new_value,
    changes.changed_at,
    {{ local_date('changes.changed_at') }} as changed_date,
    changes.sequence,
    changes.changed_by,
    changes.origin
from {{ ref('int_deal_changes__logged') }} as changes
inner join {{ ref('fct_deals') }} as deals on deals.deal_id = changes.deal_id
where changes.origin in ('source', 'observed')
    -- that a deal was called won or lost, and no longer, is in `deals_history`
    and changes.field not in ('is_won', 'is_lost')
