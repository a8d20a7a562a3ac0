{#- What the fields of each endpoint are called: in exported Parquet, a column for each kind of value; in JSON lists, as the API
    has them. f1hbase's catalogue is where they come from, and a test compares the two. -#}

{% macro fields_of(endpoint, layout) %}
  {%- set fields = {
    'meetings': 'meeting_key circuit_key circuit_short_name country_code country_key country_name date_end date_start gmt_offset is_cancelled location year circuit_image circuit_info_url circuit_type country_flag meeting_name meeting_official_name',
    'sessions': 'meeting_key session_key circuit_key circuit_short_name country_code country_key country_name date_end date_start gmt_offset is_cancelled location year session_name session_type',
    'drivers': 'meeting_key session_key driver_number broadcast_name country_code first_name full_name headshot_url last_name name_acronym team_colour team_name',
    'laps': 'meeting_key session_key driver_number lap_number date_start duration_sector_1 duration_sector_2 duration_sector_3 i1_speed i2_speed is_pit_out_lap lap_duration segments_sector_1 segments_sector_2 segments_sector_3 st_speed',
    'location': 'meeting_key session_key driver_number date x y z',
    'stints': 'meeting_key session_key driver_number stint_number compound lap_end lap_start tyre_age_at_start',
    'pit': 'meeting_key session_key driver_number lap_number date lane_duration pit_duration stop_duration',
    'starting_grid': 'meeting_key session_key driver_number lap_duration position',
    'session_result': 'meeting_key session_key driver_number dnf dns dsq duration gap_to_leader number_of_laps position',
  } -%}
  {%- set mixed = {'session_result': ['duration', 'gap_to_leader']} -%}
  {%- set names = fields[endpoint].split(' ') -%}
  {%- if layout == 'export' -%}
    {%- for name in mixed.get(endpoint, []) -%}
      {%- do names.extend([name ~ '_text', name ~ '_list']) -%}
    {%- endfor -%}
  {%- else -%}
    {#- Which files of the layout extractor have besides. -#}
    {%- for name in ['session_name', 'batch_day'] if name not in names and endpoint != 'meetings' -%}
      {%- do names.append(name) -%}
    {%- endfor -%}
  {%- endif -%}
  {{ return(names) }}
{% endmacro %}

{% macro plural_of(endpoint) %}
  {{ return({'location': 'locations', 'pit': 'pits', 'session_result': 'session_results', 'starting_grid': 'starting_grids'}.get(endpoint, endpoint)) }}
{% endmacro %}
