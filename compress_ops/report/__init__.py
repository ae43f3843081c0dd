"""Views of what was measured: pages of tables, as text, Markdown, HTML and JSON."""
