"""Where records come from; a source knows no destination."""
