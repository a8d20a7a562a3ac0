with typed as (
  select
    {{ whole('session_key') }},
    {{ whole('meeting_key') }},
    {{ whole('year') }},
    session_name,
    session_type,
    {{ instant('date_start') }},
    {{ instant('date_end') }},
    gmt_offset,
    location,
    country_code,
    country_name,
    {{ whole('circuit_key') }},
    circuit_short_name,
    {{ switch('is_cancelled') }},
    _ingestion_timestamp,
    _source_file
  from ({{ newest(ref('bronze_sessions'), ['session_key']) }}) as newest
)

select
  *,
  -- The UTC day on which the session began, as in the names of landed files.
  cast(date_start as date) as batch_day
from typed
