"""The engine of rlmweb: Recursive Language Models, within hard limits, in six strategies. asyncio; no Django."""
