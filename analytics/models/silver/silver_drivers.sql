with typed as (
  select
    {{ whole('session_key') }},
    {{ whole('meeting_key') }},
    {{ whole('driver_number') }},
    name_acronym,
    broadcast_name,
    full_name,
    first_name,
    last_name,
    country_code,
    team_name,
    team_colour,
    headshot_url,
    _ingestion_timestamp,
    _source_file
  from ({{ newest(ref('bronze_drivers'), ['session_key', 'driver_number']) }}) as newest
)

select typed.*, sessions.session_name, sessions.batch_day
from typed
left join {{ ref('silver_sessions') }} as sessions on sessions.session_key = typed.session_key
