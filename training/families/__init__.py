"""What the embedded model is taught: one file a family of conversations.

A family is a function `make(source) -> Example`. `source.is_test` asks for an example that no
training run has seen: in a phrasing, or about an entry, that is kept back from training.
"""
