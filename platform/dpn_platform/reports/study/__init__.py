"""One study: its front, tables, pictures and page."""
