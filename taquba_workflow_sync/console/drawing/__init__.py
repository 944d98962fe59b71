"""Pictures as geometry: what a template writes as SVG, with attributes and classes only."""
