with typed as (
  select
    {{ whole('session_key') }},
    {{ whole('driver_number') }},
    {{ whole('stint_number') }},
    {{ whole('lap_start') }},
    {{ whole('lap_end') }},
    compound,
    {{ whole('tyre_age_at_start') }},
    _ingestion_timestamp,
    _source_file
  from ({{ newest(ref('bronze_stints'), ['session_key', 'driver_number', 'stint_number']) }}) as newest
)

select typed.*, sessions.session_name, sessions.batch_day
from typed
left join {{ ref('silver_sessions') }} as sessions on sessions.session_key = typed.session_key
