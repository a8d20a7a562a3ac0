-- A row for each lap, with its tyres and what kept it from showing how fast the car was.
with stinted as (
  select
    laps.session_key,
    laps.driver_number,
    laps.lap_number,
    stints.stint_number,
    stints.compound,
    stints.tyre_age_at_start + laps.lap_number - stints.lap_start as tyre_age,
    -- Of overlapping stints the later one.
    row_number() over (
      partition by laps.session_key, laps.driver_number, laps.lap_number order by stints.stint_number desc
    ) as place
  from {{ ref('silver_laps') }} as laps
  join {{ ref('silver_stints') }} as stints
    on stints.session_key = laps.session_key
    and stints.driver_number = laps.driver_number
    and laps.lap_number between stints.lap_start and stints.lap_end
),

best as (
  select session_key, min(lap_duration) as best_lap_duration
  from {{ ref('silver_laps') }}
  group by session_key
),

marked as (
  select
    laps.*,
    coalesce(laps.is_pit_out_lap, false) as is_pit_out,
    pits.lap_number is not null or coalesce(following.is_pit_out_lap, false) as is_pit_in,
    best.best_lap_duration
  from {{ ref('silver_laps') }} as laps
  left join {{ ref('silver_pit_stops') }} as pits
    on pits.session_key = laps.session_key
    and pits.driver_number = laps.driver_number
    and pits.lap_number = laps.lap_number
  left join {{ ref('silver_laps') }} as following
    on following.session_key = laps.session_key
    and following.driver_number = laps.driver_number
    and following.lap_number = laps.lap_number + 1
  left join best on best.session_key = laps.session_key
)

select
  concat(
    cast(marked.session_key as {{ dbt.type_string() }}), '-', cast(marked.driver_number as {{ dbt.type_string() }}), '-',
    cast(marked.lap_number as {{ dbt.type_string() }})
  ) as lap_key,
  marked.session_key,
  marked.meeting_key,
  sessions.year,
  concat(
    cast(sessions.year as {{ dbt.type_string() }}), '-', cast(marked.driver_number as {{ dbt.type_string() }})
  ) as driver_key,
  marked.driver_number,
  drivers.team_name,
  marked.session_name,
  marked.batch_day,
  marked.lap_number,
  marked.date_start,
  marked.lap_duration,
  marked.duration_sector_1,
  marked.duration_sector_2,
  marked.duration_sector_3,
  marked.i1_speed,
  marked.i2_speed,
  marked.st_speed,
  stinted.stint_number,
  stinted.compound,
  stinted.tyre_age,
  marked.is_pit_in,
  marked.is_pit_out,
  round(marked.lap_duration - marked.best_lap_duration, 3) as behind_best_lap,
  -- Beyond 107 % of the session's best, a lap says nothing of the car: the share of the qualifying rule.
  coalesce(
    marked.lap_duration <= 1.07 * marked.best_lap_duration and not marked.is_pit_in and not marked.is_pit_out, false
  ) as is_representative,
  marked._ingestion_timestamp
from marked
join {{ ref('silver_sessions') }} as sessions on sessions.session_key = marked.session_key
left join {{ ref('silver_drivers') }} as drivers
  on drivers.session_key = marked.session_key and drivers.driver_number = marked.driver_number
left join stinted
  on stinted.session_key = marked.session_key
  and stinted.driver_number = marked.driver_number
  and stinted.lap_number = marked.lap_number
  and stinted.place = 1
