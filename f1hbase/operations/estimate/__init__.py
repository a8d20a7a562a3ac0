"""What a load would take: units and requests, rows and bytes, and how long that is at the source's limits.

Import `forecast`, `costs`, `lines` and `limits` by name: `status` needs the limits alone.
"""
