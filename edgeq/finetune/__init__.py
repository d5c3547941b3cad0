"""Fine-tuning below eight bits without data: what is trained is the graph that will be frozen."""
