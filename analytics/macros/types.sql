{#- Types and functions whose names differ between DuckDB and Databricks. -#}

{% macro whole(column) %}cast({{ column }} as bigint) as {{ column }}{% endmacro %}

{% macro number(column) %}cast({{ column }} as double) as {{ column }}{% endmacro %}

{% macro switch(column) %}cast({{ column }} as boolean) as {{ column }}{% endmacro %}

{#- An instant, in UTC whatever zone the session has. -#}
{% macro instant(column) %}{{ adapter.dispatch('instant')(column) }} as {{ column }}{% endmacro %}

{% macro duckdb__instant(column) %}make_timestamp(epoch_us(cast({{ column }} as timestamptz))){% endmacro %}

{% macro databricks__instant(column) %}to_utc_timestamp(cast({{ column }} as timestamp), current_timezone()){% endmacro %}

{#- A number that the API mixes with texts (`+1 LAP`) and, of a qualifying, with lists. Exports have a column for each
    kind; JSON lists have it in one, as text. -#}
{% macro mixed_number(column) %}
  {%- if is_export() -%} cast({{ column }} as double)
  {%- else -%} try_cast({{ column }} as double)
  {%- endif -%}
{% endmacro %}

{% macro mixed_text(column) %}
  {%- if is_export() -%} {{ column }}_text
  {%- else -%}
    case when {{ column }} not like '[%' and try_cast({{ column }} as double) is null then {{ column }} end
  {%- endif -%}
{% endmacro %}

{#- The last number of a list: that of the last part of a qualifying that the driver was in. -#}
{% macro mixed_last(column) %}{{ adapter.dispatch('mixed_last')(column) }}{% endmacro %}

{% macro duckdb__mixed_last(column) %}
  {%- set list -%}
    {%- if is_export() -%} cast({{ column }}_list as double[])
    {%- else -%} case when {{ column }} like '[%' then cast({{ column }} as double[]) end
    {%- endif -%}
  {%- endset -%}
  coalesce(({{ list }})[3], ({{ list }})[2], ({{ list }})[1])
{% endmacro %}

{% macro databricks__mixed_last(column) %}
  {%- set list -%}
    {%- if is_export() -%} {{ column }}_list
    {%- else -%} case when {{ column }} like '[%' then from_json({{ column }}, 'array<double>') end
    {%- endif -%}
  {%- endset -%}
  coalesce(get({{ list }}, 2), get({{ list }}, 1), get({{ list }}, 0))
{% endmacro %}

{% macro middle(column) %}{{ adapter.dispatch('middle')(column) }}{% endmacro %}

{% macro duckdb__middle(column) %}median({{ column }}){% endmacro %}

{% macro databricks__middle(column) %}percentile({{ column }}, 0.5){% endmacro %}
