"""Turn text on disk into ids in memory: sources, vocabularies and encoded corpora."""
