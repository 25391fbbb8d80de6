"""Plain data on Docs: tags, spans, relations, candidates, trees."""
