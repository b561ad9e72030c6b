with current_rows as (
{{ current_version('deal_changes', ['deal_id', 'field', 'changed_at', 'sequence'], event_time='changed_at') }}
)

select
    _source || ':' || deal_id || ':' || field || ':' || cast(changed_at as varchar) || ':' || coalesce(cast(sequence as varchar), '') as change_id,
    {{ qualified('deal_id') }} as deal_id,
    field,
    old_value,
    new_value,
    changed_at,
    coalesce(sequence, 0) as sequence,
    {{ qualified('changed_by') }} as changed_by,
    _gone_at as deleted_at,
    _source
from current_rows
