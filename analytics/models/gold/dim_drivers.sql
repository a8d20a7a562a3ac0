-- A row for each car number of a season, as numbers are given to others later; names and team are the latest of the season.
with seen as (
  select session_key, driver_number from {{ ref('silver_drivers') }}
  union
  -- A car that no list names has laps all the same.
  select session_key, driver_number from {{ ref('silver_laps') }}
  union
  select session_key, driver_number from {{ ref('silver_session_results') }}
),

placed as (
  select
    sessions.year,
    seen.driver_number,
    drivers.name_acronym,
    drivers.full_name,
    drivers.first_name,
    drivers.last_name,
    drivers.country_code,
    drivers.team_name,
    drivers.team_colour,
    drivers.headshot_url,
    drivers._ingestion_timestamp,
    count(*) over (partition by sessions.year, seen.driver_number) as sessions,
    row_number() over (
      partition by sessions.year, seen.driver_number
      order by case when drivers.full_name is null then 1 else 0 end, sessions.date_start desc, sessions.session_key desc
    ) as place
  from seen
  join {{ ref('silver_sessions') }} as sessions on sessions.session_key = seen.session_key
  left join {{ ref('silver_drivers') }} as drivers
    on drivers.session_key = seen.session_key and drivers.driver_number = seen.driver_number
)

select
  concat(cast(year as {{ dbt.type_string() }}), '-', cast(driver_number as {{ dbt.type_string() }})) as driver_key,
  year,
  driver_number,
  name_acronym,
  full_name,
  first_name,
  last_name,
  country_code,
  team_name,
  team_colour,
  headshot_url,
  sessions,
  _ingestion_timestamp
from placed
where place = 1
