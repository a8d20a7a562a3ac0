with typed as (
  select
    {{ whole('session_key') }},
    {{ whole('meeting_key') }},
    {{ whole('driver_number') }},
    {{ whole('lap_number') }},
    {{ instant('date_start') }},
    {{ number('lap_duration') }},
    {{ number('duration_sector_1') }},
    {{ number('duration_sector_2') }},
    {{ number('duration_sector_3') }},
    {{ whole('i1_speed') }},
    {{ whole('i2_speed') }},
    {{ whole('st_speed') }},
    {{ switch('is_pit_out_lap') }},
    _ingestion_timestamp,
    _source_file
  from ({{ newest(ref('bronze_laps'), ['session_key', 'driver_number', 'lap_number']) }}) as newest
)

select typed.*, sessions.session_name, sessions.batch_day
from typed
left join {{ ref('silver_sessions') }} as sessions on sessions.session_key = typed.session_key
