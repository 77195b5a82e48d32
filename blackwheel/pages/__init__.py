"""Renders all HTML for people: templates, one style sheet, and no network or script to read them.

In: the values of one page. Out: its text, escaped and bounded, with a line that names the drawing
code (`render`). `shelf`, `audit` and `builder` decide what a page says; how it looks is decided in
`templates/` and `style.css`.
"""
