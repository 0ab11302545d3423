"""One module per source format; `netspec.data.READERS` says which reads a path."""
