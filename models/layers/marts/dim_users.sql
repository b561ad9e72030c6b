select user_id, name, email, team, role, region, manager_id, coalesce(is_active, true) as is_active
from {{ ref('stg_canonical__users') }}
where deleted_at is null
