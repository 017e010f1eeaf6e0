"""Drawing text from a language model: filters on its predictions, a fast decoder, generation."""
