{#
    Every deal as it was, from each change to the next, without the time in which its source did not know it. Before the first logged change of a field its old value holds; a field that
    never changed has today's value throughout, but for the stage that a deal closed in: before its closing it stood in another one, and
    nobody said which. `chr(0)` stands for a value that was logged as empty, so that it is told from a field of which a change says nothing.
#}
{%- set fields = ['stage', 'pipeline', 'amount', 'currency', 'probability', 'forecast_category', 'expected_close_date', 'owner_id'] -%}
{%- set closings = ['is_won', 'is_lost'] -%}
with deals as (
    select *, coalesce(closed_at > created_at and (is_terminal_stage or not is_known_stage), false) as closed_in_its_stage
    from {{ ref('int_deals__resolved') }}
    where not is_test
),

changes as (
    select *, row_number() over (partition by deal_id, field order by change_number) as field_change_number
    from {{ ref('int_deal_changes__logged') }}
    where field in ({% for field in fields + closings %}'{{ field }}'{{ ', ' if not loop.last }}{% endfor %})
),

{# A loser of a merge is touched again afterwards: it left with the first version that named the survivor. #}
merges as (
    select _source || ':' || deal_id as deal_id, min(coalesce({{ version_time() }}, _loaded_at)) as merged_at
    from {{ source('landing', 'deals') }}
    where merged_into_id is not null and not coalesce(_is_tombstone, false)
    group by 1
),

former as (
    select
        deal_id,
        max(changed_at) as last_changed_at
        {%- for field in fields %},
        max(case when field = '{{ field }}' and field_change_number = 1 then coalesce(old_value, chr(0)) end) as {{ field }}
        {%- endfor %}
    from changes
    group by deal_id
),

statements as (
    select
        deals.deal_id,
        deals.created_at as stated_at,
        0 as statement_number
        {%- for field in fields %},
        coalesce(former.{{ field }}, {% if field == 'stage' %}case when not deals.closed_in_its_stage then deals.stage end{% else %}cast(deals.{{ field }} as varchar){% endif %}, chr(0)) as {{ field }}
        {%- endfor %}
        {%- for field in closings %},
        'false' as {{ field }}
        {%- endfor %}
    from deals
    left join former on former.deal_id = deals.deal_id
    union all
    select
        deal_id,
        changed_at,
        change_number
        {%- for field in fields + closings %},
        case
            when field = '{{ field }}' then coalesce(new_value, chr(0))
            {%- if field in closings %}
            -- a logged stage speaks for itself; a version that still calls the deal won or lost says so after it
            when field = 'stage' and origin = 'source' then 'false'
            {%- endif %}
        end
        {%- endfor %}
    from changes
    union all
    -- closing ends a period although nothing else changes
    select
        deals.deal_id,
        deals.closed_at,
        1000000000
        {%- for field in fields + closings %},
        {% if field == 'stage' %}case when deals.closed_in_its_stage and former.stage is null then deals.stage end{% else %}null{% endif %}
        {%- endfor %}
    from deals
    left join former on former.deal_id = deals.deal_id
    where deals.closed_at > deals.created_at
),

ordered as (
    select
        statements.*,
        greatest(statements.stated_at, deals.created_at) as valid_from,
        row_number() over (
            partition by statements.deal_id
            order by case when statements.statement_number = 0 then 0 else 1 end, statements.stated_at, statements.statement_number
        ) as position_in_deal
    from statements
    inner join deals on deals.deal_id = statements.deal_id
),

carried as (
    select
        deal_id,
        valid_from,
        lead(valid_from) over (partition by deal_id order by position_in_deal) as next_from
        {%- for field in fields + closings %},
        nullif({{ last_known(field, 'deal_id', 'position_in_deal') }}, chr(0)) as {{ field }}
        {%- endfor %}
    from ordered
),

bounded as (
    select
        carried.*,
        greatest(carried.valid_from, present.present_from) as held_from,
        carried.next_from is null as is_last,
        deals._source,
        deals.survivor_id,
        deals.is_merged,
        deals.deleted_at,
        deals.closed_at,
        deals.is_won as is_finally_won,
        deals.is_lost as is_finally_lost,
        -- a merged or deleted deal ends; it stays in the history of the days on which it was there
        least(
            carried.next_from,
            present.present_to,
            deals.deleted_at,
            case when deals.is_merged then coalesce(merges.merged_at, deals.versioned_at, former.last_changed_at, deals.created_at) end
        ) as valid_to
    from carried
    inner join deals on deals.deal_id = carried.deal_id
    left join former on former.deal_id = carried.deal_id
    left join merges on merges.deal_id = carried.deal_id
    left join {{ ref('int_records__present') }} as present on present.record_type = 'deal' and present.record_id = carried.deal_id
)

select
    bounded.deal_id,
    bounded.held_from as valid_from,
    bounded.valid_to,
    bounded.pipeline,
    bounded.stage,
    stages.position as stage_position,
    {{ try_cast_to('bounded.amount', 'decimal(18, 4)') }} as amount,
    bounded.currency,
    coalesce({{ try_cast_to('bounded.probability', 'decimal(18, 8)') }}, stages.probability) as probability,
    bounded.forecast_category,
    {{ try_cast_to('bounded.expected_close_date', 'date') }} as expected_close_date,
    bounded.owner_id,
    -- how the deal stands is its own word; before that, what it said then, what its stage meant, and its closing
    case
        when bounded.is_last then bounded.is_finally_won
        when bounded.is_won = 'true' or bounded.is_lost = 'true' then bounded.is_won = 'true'
        else coalesce(stages.is_won, false) or coalesce(bounded.is_finally_won and bounded.valid_from >= bounded.closed_at, false)
    end as is_won,
    case
        when bounded.is_last then bounded.is_finally_lost
        when bounded.is_won = 'true' or bounded.is_lost = 'true' then bounded.is_lost = 'true'
        else coalesce(stages.is_lost, false) or coalesce(bounded.is_finally_lost and bounded.valid_from >= bounded.closed_at, false)
    end as is_lost,
    bounded._source
from bounded
left join {{ ref('int_pipeline_stages__dated') }} as stages
    on stages._source = bounded._source and stages.pipeline = bounded.pipeline and stages.stage = bounded.stage
    and bounded.valid_from >= stages.valid_from and bounded.valid_from < {{ end_of('stages') }}
where bounded.valid_to is null or bounded.valid_to > bounded.held_from
