"""Question-answering networks with a causal language model: LLaVA, Qwen-VL, SmolVLM."""
