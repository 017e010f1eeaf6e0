"""From text on disk to ids in memory: sources, vocabularies and encoded corpora."""
