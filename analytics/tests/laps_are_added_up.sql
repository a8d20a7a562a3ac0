-- No lap is lost on the way from silver to gold, nor counted twice.
select summary.session_key
from (select session_key, sum(laps) as laps from {{ ref('driver_session_summary') }} group by session_key) as summary
join (select session_key, count(*) as laps from {{ ref('silver_laps') }} group by session_key) as silver
  on silver.session_key = summary.session_key
where summary.laps <> silver.laps
