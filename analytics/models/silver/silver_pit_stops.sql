with typed as (
  select
    {{ whole('session_key') }},
    {{ whole('driver_number') }},
    {{ whole('lap_number') }},
    {{ instant('date') }},
    -- Records of earlier seasons have the time in the lane as pit_duration alone.
    coalesce(cast(lane_duration as double), cast(pit_duration as double)) as lane_duration,
    {{ number('stop_duration') }},
    _ingestion_timestamp,
    _source_file
  from ({{ newest(ref('bronze_pit_stops'), ['session_key', 'driver_number', 'lap_number']) }}) as newest
)

select typed.*, sessions.session_name, sessions.batch_day
from typed
left join {{ ref('silver_sessions') }} as sessions on sessions.session_key = typed.session_key
