"""The embedded pair of models: weights, tokenizer, and the recipe that made them."""
