"""The page to draw on: `eosvos-app`. gradio is imported by `handlers` and `page` alone."""
