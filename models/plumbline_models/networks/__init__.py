"""The networks, a folder each: checkpoint reading, torch modules, graph, encoder and tokenizer."""
