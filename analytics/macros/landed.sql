{#- What is landed of an endpoint, as the text of a query: its fields, the file they come from and when that was written.

    Where the files are: F1HBASE_ANALYTICS_FILES, a folder or (Databricks) a volume. How they are laid out:
    F1HBASE_ANALYTICS_LAYOUT, `export` (Parquet by f1hbase export) or `extractor` (the landing zone's JSON lists). The
    values of JSON lists are read as text, so that no type is guessed from a sample; silver gives them their types. -#}

{% macro landed(endpoint) %}
  {%- set layout = env_var('F1HBASE_ANALYTICS_LAYOUT', 'export') -%}
  {%- if layout not in ('export', 'extractor') -%}
    {{ exceptions.raise_compiler_error("F1HBASE_ANALYTICS_LAYOUT is '" ~ layout ~ "'; it is export or extractor.") }}
  {%- endif -%}
  {{ return(adapter.dispatch('landed')(endpoint, layout)) }}
{% endmacro %}

{% macro is_export() %}
  {{ return(env_var('F1HBASE_ANALYTICS_LAYOUT', 'export') == 'export') }}
{% endmacro %}

{% macro landed_files(endpoint, layout) %}
  {%- set root = env_var('F1HBASE_ANALYTICS_FILES', '../tables').rstrip('/').replace("'", "''") -%}
  {%- if layout == 'export' -%}
    {{ return(root ~ '/' ~ endpoint ~ '/**/' ~ endpoint ~ '.parquet') }}
  {%- else -%}
    {{ return(root ~ '/' ~ plural_of(endpoint) ~ '_[0-9][0-9][0-9][0-9]-*.json') }}
  {%- endif -%}
{% endmacro %}

{% macro duckdb__landed(endpoint, layout) %}
  {%- set files = landed_files(endpoint, layout) -%}
  {#- An endpoint of which nothing is landed is a table without rows. -#}
  {%- set found = run_query("select count(*) from glob('" ~ files ~ "')").rows[0][0] if execute else 1 -%}
  {%- if not found -%}
    select
      {% for name in fields_of(endpoint, layout) -%} cast(null as varchar) as {{ name }}, {% endfor %}
      cast(null as varchar) as _source_file,
      cast(null as timestamp) as _ingestion_timestamp
    where false
  {%- else -%}
    select
      {% for name in fields_of(endpoint, layout) -%} landed.{{ name }}, {% endfor %}
      landed._source_file,
      make_timestamp(epoch_us(files.last_modified)) as _ingestion_timestamp
    from
      {%- if layout == 'export' %}
      read_parquet('{{ files }}', hive_partitioning = false, union_by_name = true, filename = '_source_file')
      {%- else %}
      read_json(
        '{{ files }}', format = 'array', filename = '_source_file', maximum_object_size = 33554432,
        columns = { {%- for name in fields_of(endpoint, layout) -%} {{ name }}: 'VARCHAR'{{ ', ' if not loop.last }} {%- endfor -%} }
      )
      {%- endif %} as landed
    join (select filename, last_modified from read_blob('{{ files }}')) as files
      on files.filename = landed._source_file
  {%- endif -%}
{% endmacro %}

{% macro databricks__landed(endpoint, layout) %}
  select
    {% for name in fields_of(endpoint, layout) -%} {{ name }}, {% endfor %}
    _metadata.file_path as _source_file,
    _metadata.file_modification_time as _ingestion_timestamp
  from
    {%- if layout == 'export' %}
    read_files(
      '{{ landed_files(endpoint, layout).split('/**')[0] }}', format => 'parquet', recursiveFileLookup => true
    )
    {%- else %}
    read_files(
      '{{ landed_files(endpoint, layout) }}', format => 'json', multiLine => true,
      schema => '{% for name in fields_of(endpoint, layout) -%} {{ name }} STRING{{ ', ' if not loop.last }} {%- endfor %}'
    )
    {%- endif %}
{% endmacro %}
