"""One study: its record, its front, tables, pictures and page."""
