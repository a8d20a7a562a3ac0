-- How each team's session went; cars without a team are left out.
with teams as (
  select
    session_key,
    team_name,
    min(year) as year,
    min(session_name) as session_name,
    min(batch_day) as batch_day,
    count(*) as drivers,
    min(position) as best_position,
    round(avg(position), 2) as mean_position,
    cast(sum(laps) as bigint) as laps,
    min(best_lap_duration) as best_lap_duration,
    round(avg(median_lap_duration), 3) as mean_of_median_laps,
    max(top_speed) as top_speed,
    cast(sum(pit_stops) as bigint) as pit_stops,
    min(best_stop_duration) as best_stop_duration,
    count(status) as not_finished,
    max(_ingestion_timestamp) as _ingestion_timestamp
  from {{ ref('driver_session_summary') }}
  where team_name is not null
  group by session_key, team_name
)

select
  concat(cast(session_key as {{ dbt.type_string() }}), '-', team_name) as team_session_key,
  teams.*,
  round(best_lap_duration - min(best_lap_duration) over (partition by session_key), 3) as behind_best_team
from teams
