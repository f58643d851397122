"""Everything that exists for the demo alone: drawing its set, teaching its tower, training the base that is shipped.

`mix` draws a raw set with the shape of LLaVA's, for trials of ingest. Import the modules, not this package.
"""
