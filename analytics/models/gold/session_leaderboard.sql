-- The result of each session: the official one, else by the laps. `position_by_laps` is always the latter: of a race by the
-- laps driven and then by when the last one ended, else by the best lap; it knows no penalties and no parts of a qualifying.
with driven as (
  select
    laps.session_key,
    laps.driver_number,
    count(*) as laps,
    count(laps.lap_duration) as timed_laps,
    min(laps.lap_duration) as best_lap_duration,
    min_by(laps.date_start, laps.lap_duration) as best_lap_start,
    max(case when laps.date_start is not null and laps.lap_duration is not null then laps.lap_number end) as last_lap
  from {{ ref('fact_laps') }} as laps
  group by laps.session_key, laps.driver_number
),

ended as (
  select
    driven.*,
    {{ dbt.dateadd('millisecond', 'cast(round(1000 * laps.lap_duration) as integer)', 'laps.date_start') }} as last_lap_end
  from driven
  left join {{ ref('fact_laps') }} as laps
    on laps.session_key = driven.session_key
    and laps.driver_number = driven.driver_number
    and laps.lap_number = driven.last_lap
),

placed as (
  select
    ended.*,
    row_number() over (
      partition by ended.session_key
      order by
        case when sessions.is_race then -coalesce(ended.last_lap, 0) end,
        case when sessions.is_race then ended.last_lap_end end nulls last,
        ended.best_lap_duration nulls last,
        -- Of equal times the one that was set first counts.
        ended.best_lap_start nulls last,
        ended.driver_number
    ) as place
  from ended
  join {{ ref('dim_sessions') }} as sessions on sessions.session_key = ended.session_key
),

everybody as (
  select session_key, driver_number from placed
  union
  select session_key, driver_number from {{ ref('silver_session_results') }}
),

official as (
  select distinct session_key from {{ ref('silver_session_results') }}
)

select
  everybody.session_key,
  everybody.driver_number,
  drivers.driver_key,
  drivers.name_acronym,
  drivers.full_name,
  coalesce(listed.team_name, drivers.team_name) as team_name,
  sessions.year,
  sessions.session_name,
  sessions.batch_day,
  official.session_key is not null as is_official,
  case
    when official.session_key is not null then results.position
    when placed.timed_laps > 0 then placed.place
  end as position,
  case when placed.timed_laps > 0 then placed.place end as position_by_laps,
  results.grid_position,
  coalesce(results.number_of_laps, placed.laps) as number_of_laps,
  results.duration,
  results.gap_to_leader,
  results.gap_to_leader_text,
  placed.best_lap_duration,
  case
    when results.dsq then 'DSQ'
    when results.dns then 'DNS'
    when results.dnf then 'DNF'
  end as status,
  coalesce(results._ingestion_timestamp, sessions._ingestion_timestamp) as _ingestion_timestamp
from everybody
join {{ ref('dim_sessions') }} as sessions on sessions.session_key = everybody.session_key
left join {{ ref('dim_drivers') }} as drivers
  on drivers.year = sessions.year and drivers.driver_number = everybody.driver_number
left join {{ ref('silver_drivers') }} as listed
  on listed.session_key = everybody.session_key and listed.driver_number = everybody.driver_number
left join placed on placed.session_key = everybody.session_key and placed.driver_number = everybody.driver_number
left join {{ ref('silver_session_results') }} as results
  on results.session_key = everybody.session_key and results.driver_number = everybody.driver_number
left join official on official.session_key = everybody.session_key
