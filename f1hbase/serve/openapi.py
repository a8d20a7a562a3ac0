"""What the server offers, as an OpenAPI description and as a page, both made from the catalogue; asks no store."""

from __future__ import annotations

import html
import json
from typing import Any

from aiohttp import web

from f1hbase.model.catalog import ENDPOINTS, Endpoint, KeyInt
from f1hbase.version import __version__

PATH = "/openapi.json"
PAGE = "/docs"

_DATES = frozenset({"date", "date_start", "date_end"})
_FLAGS = frozenset({"dnf", "dns", "dsq", "is_cancelled", "is_pit_out_lap"})
_WHOLE = frozenset({
    "circuit_key", "country_key", "driver_number", "i1_speed", "i2_speed", "lap_end", "lap_number", "lap_start",
    "meeting_key", "number_of_laps", "overtaken_driver_number", "overtaking_driver_number", "position",
    "position_current", "position_start", "sector", "session_key", "st_speed", "stint_number", "tyre_age_at_start",
    "wind_direction", "year",
})  # fmt: skip
_MIXED = frozenset({"duration", "gap_to_leader", "interval", "qualifying_phase"})
"""Numbers, or texts such as `+1 LAP`; in a qualifying lists."""

_RULES = """\
Every field is a filter: `field=value`, `field>value`, `field>=value`, `field<value`, `field<=value`. The same field
again with `=` means either; a lower and an upper bound make an interval. `session_key=latest` and `meeting_key=latest`
name the session that has begun last. A date without a time is its whole day, times without a zone are in UTC.
`csv=true` answers as CSV. The order of the records is not promised.
"""


def add_routes(app: web.Application) -> None:
    """Offer the description at `/openapi.json` and its page at `/docs`."""
    body, page = json.dumps(description(), indent=1).encode(), _page().encode()

    async def show_description(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async def show_page(_: web.Request) -> web.Response:
        return web.Response(body=page, content_type="text/html", charset="utf-8")

    # HEAD is a 405, as everywhere.
    app.router.add_get(PATH, show_description, allow_head=False)
    app.router.add_get(PAGE, show_page, allow_head=False)


def description() -> dict[str, Any]:
    """Return the OpenAPI 3.1 description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "OpenF1-compatible API of f1hbase",
            "version": __version__,
            "description": _RULES,
        },
        "servers": [{"url": "/v1"}],
        "paths": {f"/{name}": {"get": _operation(endpoint)} for name, endpoint in ENDPOINTS.items()},
        "components": {
            "schemas": {name: _record(endpoint) for name, endpoint in ENDPOINTS.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    listed = {"type": "array", "items": {"$ref": f"#/components/schemas/{endpoint.name}"}}
    detail = {"content": {"application/json": {"schema": {"type": "object", "required": ["detail"]}}}}
    incomplete = {
        "description": "The query's sessions of which not all is loaded, such as `9558 partial, 9559 absent`.",
        "schema": {"type": "string"},
    }
    return {
        "operationId": endpoint.name,
        "summary": endpoint.name.replace("_", " "),
        "parameters": [
            *({"name": field, "in": "query", "schema": _filter(endpoint, field)} for field in endpoint.fields),
            {"name": "csv", "in": "query", "schema": {"type": "boolean"}, "description": "Answer as CSV."},
        ],
        "responses": {
            "200": {
                "description": "The records.",
                "headers": {"X-F1HBase-Incomplete": incomplete},
                "content": {"application/json": {"schema": listed}, "text/csv": {"schema": {"type": "string"}}},
            },
            "401": {"description": "The server asks for a token, and this is none.", **detail},
            "404": {"description": "No results found (with `--empty 404`).", **detail},
            "422": {"description": "A filter that cannot be read, or more records than an answer may have.", **detail},
            "500": {"description": "OpenF1's page of an error; its last line is the reason."},
            "503": {"description": "The store does not answer now; ask again after `Retry-After`.", **detail},
        },
    }


def _filter(endpoint: Endpoint, field: str) -> dict[str, Any]:
    kind = _kind(endpoint, field)
    if field in {"meeting_key", "session_key"}:
        return {"oneOf": [{"type": "integer"}, {"const": "latest"}]}
    return {"type": "string"} if kind.get("type") == "array" else kind


def _record(endpoint: Endpoint) -> dict[str, Any]:
    keys = {"meeting_key", *endpoint.key_fields, *(() if endpoint.of_meeting else ("session_key",))}
    properties = {}
    for field in endpoint.fields:
        kind = dict(_kind(endpoint, field))
        if field not in keys and "type" in kind:
            kind["type"] = [*([kind["type"]] if isinstance(kind["type"], str) else kind["type"]), "null"]
        properties[field] = kind
    return {"type": "object", "properties": properties, "required": sorted(keys & set(endpoint.fields))}


def _kind(endpoint: Endpoint, field: str) -> dict[str, Any]:
    whole = {part.field for part in endpoint.key if isinstance(part, KeyInt)}
    if field in _DATES:
        return {"type": "string", "format": "date-time"}
    if field in endpoint.text or field == "team_name":
        return {"type": "string"}
    if field in _FLAGS:
        return {"type": "boolean"}
    if field.startswith("segments_"):
        return {"type": "array", "items": {"type": ["integer", "null"]}}
    if endpoint.numeric or field in whole or field in _WHOLE:
        return {"type": "integer"}
    return {"type": ["number", "string", "array"]} if field in _MIXED else {"type": "number"}


def _page() -> str:
    """Return a page that needs nothing else: no script, no font, no other host."""
    parts = []
    for name, endpoint in ENDPOINTS.items():
        rows = "".join(
            f"<tr><td><code>{html.escape(field)}</code></td><td>{html.escape(_told(_kind(endpoint, field)))}</td></tr>"
            for field in endpoint.fields
        )
        example = "meeting_key=latest" if endpoint.of_meeting else "session_key=latest"
        parts.append(
            f'<section id="{name}"><h2><code>/v1/{name}</code></h2>'
            f'<p><a href="/v1/{name}?{example}">/v1/{name}?{example}</a></p>'
            "<table><thead><tr><th>field, and filter</th><th>type</th></tr></thead>"
            f"<tbody>{rows}</tbody></table></section>"
        )
    links = " ".join(f'<a href="#{name}">{name}</a>' for name in ENDPOINTS)
    rules = html.escape(_RULES)
    while "`" in rules:
        rules = rules.replace("`", "<code>", 1).replace("`", "</code>", 1)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>f1hbase API</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>OpenF1-compatible API</h1><p>{rules}</p>"
        f'<p>For programs: <a href="{PATH}">{PATH}</a> (OpenAPI 3.1).</p><nav>{links}</nav>{"".join(parts)}'
        "</main></body></html>"
    )


def _told(kind: dict[str, Any]) -> str:
    text = kind["type"] if isinstance(kind["type"], str) else " or ".join(kind["type"])
    return f"{text} ({kind['format']})" if "format" in kind else text


_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:0}main{max-width:60rem;margin:0 auto;"
    "padding:1rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.2rem .6rem;"
    "border-bottom:1px solid #8886}nav a{display:inline-block;margin-right:.8rem}h2{margin-top:2.5rem}"
)
