select
  sessions.session_key,
  sessions.meeting_key,
  sessions.year,
  meetings.meeting_name,
  sessions.session_name,
  sessions.session_type,
  sessions.session_type = 'Race' as is_race,
  sessions.date_start,
  sessions.date_end,
  sessions.batch_day,
  sessions.location,
  sessions.country_name,
  sessions.circuit_short_name,
  sessions.is_cancelled,
  sessions._ingestion_timestamp
from {{ ref('silver_sessions') }} as sessions
left join {{ ref('silver_meetings') }} as meetings on meetings.meeting_key = sessions.meeting_key
