"""The prompts of the five strategies that put the whole corpus into the conversation, to be compared with ``rlm``."""

from __future__ import annotations

DIRECT = """\
You answer a question about a text that you are given whole. Answer from the text alone, completely and precisely, in the \
form that is asked for. If the text does not hold the answer, say so. Reply with the answer only."""

REACT = """\
You answer a question about a text that you are given whole. You also have tools that work on the same documents: listing \
them, searching them, reading a span, counting, calculating. Call tools as often as you need; one step at a time, each \
result comes back to you. Rely on the tools for anything that must be exact. When you know the answer, reply with the \
answer only, written out in full in the form that is asked for, and call no tool."""

_CODE = """\
You answer a question about a text that you are given whole. You can also run Python: write a code block marked `python`,

```python
print(len(context))
```

and it is run; everything it prints comes back to you. Names stay from block to block; `context` holds the same text (several \
documents: a list of dicts with the keys title, text, name, meta). One block a reply. There are no files on disk, no \
network and no other processes; the standard library, numpy and pandas can be imported. Use code for anything that must be \
exact."""

_ANSWER = """

When you know the answer, reply WITHOUT any code block: that reply is the answer, written out in full in the form that is \
asked for, and nothing else. Where a list or a dict is wanted, write it as JSON."""

_SUBAGENTS = """

You can hand work to sub-agents from your code: `await sub_agent(instruction, context=None)` starts one, which works as you do \
and returns its answer as text; `await asyncio.gather(sub_agent(...), sub_agent(...))` runs several in parallel. A sub-agent \
knows only what you pass to it. Each sub-agent's whole answer also comes back to you here."""

_FILES = """

You can keep notes: `write_file(name, text)`, `read_file(name)`, `list_files()`. They are kept for the whole run and shared \
with every sub-agent. What you read comes back to you if you print it."""

CODEACT = _CODE + _ANSWER
SUBAGENTS = _CODE + _SUBAGENTS + _ANSWER
FILES = _CODE + _SUBAGENTS + _FILES + _ANSWER
FILES_LEAF = _CODE + _FILES + _ANSWER
