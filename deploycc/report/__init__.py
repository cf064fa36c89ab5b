"""Render documents for readers (terminal, Markdown, HTML, plots); derive statistics and verdicts from samples."""
