"""Text classification: labelled texts, training, prediction and explanation."""
