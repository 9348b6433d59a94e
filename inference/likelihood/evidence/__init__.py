"""log p(x_observed) of rows with holes, where a datum is decided step by step."""
