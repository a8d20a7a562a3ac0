with typed as (
  select
    {{ whole('session_key') }},
    {{ whole('meeting_key') }},
    {{ whole('driver_number') }},
    {{ instant('date') }},
    {{ whole('x') }},
    {{ whole('y') }},
    {{ whole('z') }},
    _ingestion_timestamp,
    _source_file
  from ({{ newest(ref('bronze_locations'), ['session_key', 'driver_number', 'date']) }}) as newest
)

select typed.*, sessions.session_name, sessions.batch_day
from typed
left join {{ ref('silver_sessions') }} as sessions on sessions.session_key = typed.session_key
