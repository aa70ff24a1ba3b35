"""A scripted OpenAI-compatible endpoint in a process of its own: what the real ``openai`` client talks to in tests."""
