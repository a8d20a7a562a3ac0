-- How each driver's session went.
with laps as (
  select
    session_key,
    driver_number,
    count(*) as laps,
    count(lap_duration) as timed_laps,
    min(lap_duration) as best_lap_duration,
    round(avg(case when is_representative then lap_duration end), 3) as mean_lap_duration,
    round({{ middle('case when is_representative then lap_duration end') }}, 3) as median_lap_duration,
    min(duration_sector_1) as best_sector_1,
    min(duration_sector_2) as best_sector_2,
    min(duration_sector_3) as best_sector_3,
    max(st_speed) as top_speed,
    count(distinct compound) as compounds
  from {{ ref('fact_laps') }}
  group by session_key, driver_number
),

stops as (
  select
    session_key,
    driver_number,
    count(*) as pit_stops,
    round(sum(lane_duration), 3) as lane_duration,
    min(stop_duration) as best_stop_duration
  from {{ ref('silver_pit_stops') }}
  group by session_key, driver_number
),

stints as (
  select session_key, driver_number, count(*) as stints, max(lap_end - lap_start + 1) as longest_stint
  from {{ ref('silver_stints') }}
  group by session_key, driver_number
)

select
  board.session_key,
  board.driver_number,
  board.driver_key,
  board.name_acronym,
  board.team_name,
  board.year,
  board.session_name,
  board.batch_day,
  board.position,
  board.grid_position,
  board.grid_position - board.position as places_gained,
  coalesce(laps.laps, 0) as laps,
  coalesce(laps.timed_laps, 0) as timed_laps,
  laps.best_lap_duration,
  laps.mean_lap_duration,
  laps.median_lap_duration,
  -- What the best sectors add up to.
  round(laps.best_sector_1 + laps.best_sector_2 + laps.best_sector_3, 3) as ideal_lap_duration,
  laps.top_speed,
  laps.compounds,
  coalesce(stops.pit_stops, 0) as pit_stops,
  stops.lane_duration,
  stops.best_stop_duration,
  stints.stints,
  stints.longest_stint,
  board.status,
  board._ingestion_timestamp
from {{ ref('session_leaderboard') }} as board
left join laps on laps.session_key = board.session_key and laps.driver_number = board.driver_number
left join stops on stops.session_key = board.session_key and stops.driver_number = board.driver_number
left join stints on stints.session_key = board.session_key and stints.driver_number = board.driver_number
