"""One module per source format; `data.source.READERS` says which reads a path."""
