"""The OpenF1-compatible API over stored records: a store (`store`, `file_store`), queries, and the HTTP application."""
