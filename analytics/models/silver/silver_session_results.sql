with results as (
  select
    {{ whole('session_key') }},
    {{ whole('driver_number') }},
    {{ whole('position') }},
    {{ whole('number_of_laps') }},
    -- Of a race the time in seconds, else the best lap; of a qualifying that of the last part the driver was in.
    coalesce({{ mixed_number('duration') }}, {{ mixed_last('duration') }}) as duration,
    coalesce({{ mixed_number('gap_to_leader') }}, {{ mixed_last('gap_to_leader') }}) as gap_to_leader,
    {{ mixed_text('gap_to_leader') }} as gap_to_leader_text,
    {{ switch('dnf') }},
    {{ switch('dns') }},
    {{ switch('dsq') }},
    _ingestion_timestamp,
    _source_file
  from ({{ newest(ref('bronze_session_results'), ['session_key', 'driver_number']) }}) as newest
),

grids as (
  select
    cast(session_key as bigint) as session_key,
    cast(driver_number as bigint) as driver_number,
    cast(position as bigint) as grid_position
  from ({{ newest(ref('bronze_starting_grids'), ['session_key', 'driver_number']) }}) as newest
)

select results.*, grids.grid_position, sessions.session_name, sessions.batch_day
from results
left join grids on grids.session_key = results.session_key and grids.driver_number = results.driver_number
left join {{ ref('silver_sessions') }} as sessions on sessions.session_key = results.session_key
