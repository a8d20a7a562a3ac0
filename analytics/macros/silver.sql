{#- The newest record of each key: a file that was landed under another name before may still be there. -#}
{% macro newest(relation, keys) %}
  select * from (
    select
      *,
      row_number() over (
        partition by {{ keys | join(', ') }} order by _ingestion_timestamp desc, _source_file desc
      ) as _place
    from {{ relation }}
    where {% for key in keys -%} {{ key }} is not null {{ 'and ' if not loop.last }} {%- endfor %}
  ) as placed
  where _place = 1
{% endmacro %}
