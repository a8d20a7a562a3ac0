select
  {{ whole('meeting_key') }},
  {{ whole('year') }},
  meeting_name,
  location,
  country_name,
  circuit_short_name,
  {{ instant('date_start') }},
  _ingestion_timestamp,
  _source_file
from ({{ newest(ref('bronze_meetings'), ['meeting_key']) }}) as newest
