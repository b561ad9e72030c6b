with current_rows as (
{{ current_version('users', ['user_id'], has_updated_at=true) }}
)

select
    {{ qualified('user_id') }} as user_id,
    name,
    email,
    team,
    role,
    region,
    {{ qualified('manager_id') }} as manager_id,
    is_active,
    updated_at,
    _gone_at as deleted_at,
    _source
from current_rows
