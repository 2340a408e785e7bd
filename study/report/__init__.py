"""What a study found, as one value with every number in it, and as a page, Markdown, LaTeX and JSON of that value."""
