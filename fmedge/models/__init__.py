"""Models as files and as text: names, metadata, templates, tool formats, tokens to text."""
