"""What each step does with the functions of ``cells/``: the last lines of a cell."""

from __future__ import annotations

from typing import Final

LOOK: Final = """\
docs = documents(context)
records = [records_of(doc["text"], doc.get("name") or "") for doc in docs]
columns = [column for rows in records for column in columns_of(rows)]
print(f"documents: {len(docs):,}, {sum(len(doc['text']) for doc in docs):,} characters")
print("tables:", sum(rows is not None for rows in records))
print("columns:", " | ".join(dict.fromkeys(columns)) or "none")
for doc in docs[:8]:
    print(f"{doc['title']}: {doc['text'][:100]!r}")"""

READ: Final = """\
talk = [sentences(runs_of_text(doc["text"]), doc["text"]) for doc in docs]
people = voices(talk, docs)
print("sentences:", sum(map(len, talk)))
print("speakers:", " | ".join(one["speaker"] for one in people[:60]) or "none")"""

READ_RECORDS: Final = """\
talk = []
for doc, rows in zip(docs, records):
    runs = runs_of_text(doc["text"]) if rows is None else runs_of_records(doc["text"], rows)
    talk.append(sentences(runs, doc["text"]))
people = voices(talk, docs, [turns_of(rows or []) for rows in records])
print("sentences:", sum(map(len, talk)))
print("speakers:", " | ".join(one["speaker"] for one in people[:60]) or "none")"""

RANK: Final = """\
known = {word: stem for aim in aims for word, stem in aim["forms"].items()}
stems = [[words(said, known) for _, _, _, said in told] for told in talk]
spans = [(d, a, b) for d, told in enumerate(talk) for a, b in windows([len(said) for _, _, _, said in told])]
index = Index(stems, spans)
titles = [set(words(doc["title"], known)) for doc in docs]
missing, spelled, tasks = [], {}, []
for aim in aims:
    learn(aim, index, known, missing, spelled)
    ranked = rank(aim, index, talk, titles)
    tasks += tasks_of(aim, ranked, index, talk, docs)
    print(f"{len(spans):,} passages, {len(ranked):,} worth reading for: {aim['question']}")
print("tasks:", len(tasks), *[task["name"] for task in tasks[:6]], sep="\\n  ")
print("not there at all:", ", ".join(missing) or "none")
print("spelled otherwise:", ", ".join(f"{word} as {other}" for word, other in spelled.items()) or "none")"""

QUOTES: Final = '{"type": "array", "items": {"type": "object", "required": ["title", "quote", "offset", "score"]}}'

ASK_EACH: Final = """\
form = {form}
ask = {ask!r}
hand = [stem, words, asked_before, scores_of, around, pick]
found = await batch_llm_query(*[llm_query(task, f"{{task['name']}}. {{ask}}{{task['aim']['question']}}", schema=form, tools=hand) for task in tasks])"""

ASK_GROUPS: Final = """\
form = {form}
ask = {ask!r}
hand = [stem, words, asked_before, scores_of, around, pick]
groups = [tasks[i : i + 6] for i in range(0, len(tasks), 6)]
found = await batch_llm_query(*[llm_query(group, f"{{len(group)}} documents, {{group[0]['title']}} first. {{ask}}", schema=form, tools=hand) for group in groups])"""

COLLECT: Final = """
quotes = [quote for result in found if not isinstance(result, Exception) for quote in result]
lost = [str(result) for result in found if isinstance(result, Exception)]
print(f"children: {len(found)}, failed: {len(lost)}, quotes: {len(quotes)}", *lost[:2], sep="\\n")"""

MYSELF: Final = """\
quotes = [quote for task in tasks for quote in pick(task)]
print("quotes:", len(quotes))"""

WHERE_LOST: Final = """\
done = {quote["title"] for quote in quotes}
for task in tasks:
    if task["title"] not in done:
        quotes += pick(task)
print("quotes:", len(quotes))"""

MERGE: Final = """\
leads = {{{leads}}}
note = note_on("Words were matched (" + ", ".join(shown) + ")", len(docs))
parts = []
for aim in aims:
    weights = {{word: weight * index.idf(word) for word, weight in aim["terms"].items() if weight >= 0.7}}
    mine = distinct([quote for quote in quotes if quote["for"] == aim["question"]])
    best = choose(mine, weights, most)
    print(aim["question"], len(mine), "quotes,", len(best), "kept")
    parts.append((aim, best, misses(aim, best, weights)))
answer = answer_text(caution, parts, note, leads) if any(best for _, best, _ in parts) else found_nothing(shown, len(docs), caution)
print(answer[:1500])"""

SIDES: Final = """\
note = note_on("Words were matched (" + ", ".join(shown) + ")", len(docs))
quotes = distinct(quotes)
quotes = [quote for quote in quotes if quote["score"] >= 0.35 * quotes[0]["score"]]
answer = caution + both_sides(quotes, only, note) if quotes else found_nothing(shown, len(docs), caution)
print(answer[:1500])"""

ANY: Final = """\
found = [one for one in mentions(talk, docs, phrase) if not only or one["speaker"] in only]
print(len(found), "places")
answer = told_any(found, phrase, docs) + "\\n\\n*" + note_on("The words were looked for as they stand", len(docs)) + "*" if found else ""
print(answer[:1500])"""

INTRODUCED: Final = """\
found = introduced(talk, docs, sort)
print(len(found), "names:", [(one["name"], one["times"]) for one in found[:12]])
rows = [(one["name"], one["times"], one["titles"], one["first"][:118]) for one in found[:30]]
answer = f"Names that sentences here bring in as {sort}, most often first; some may be something else.\\n\\n"
answer += table(["Name", "Times", "Documents", "First brought in with"], rows) + "\\n\\n*" + note_on("Turns of phrase were matched", len(docs)) + "*" if found else ""
print(answer[:1500] if found else "0 names")"""

COUNT: Final = """\
found = mentions(talk, docs, phrase)
print(len(found), "found; forms:", Counter(one["form"] for one in found).most_common(5))
answer = told_counts(found, phrase, only, talk, docs)
print(answer[:1200])"""

WHICH: Final = """\
found = mentions(talk, docs, phrase)
what = f"“{phrase}”"
stems = [stem for stem in words(phrase) if stem not in empty]
if not found and stems:  # not word for word: all of its words close together, in whatever form
    what = f"all of the words {', '.join(stems)} close together, in whatever form"
    for doc, told in zip(docs, talk):
        has = [set(words(said)) for _, _, _, said in told]
        for i, (offset, time, speaker, said) in enumerate(told):
            near = has[i] | (has[i + 1] if i + 1 < len(has) else set())
            if has[i] & set(stems) and near >= set(stems):
                quote = said if has[i] >= set(stems) else said + " " + told[i + 1][3]
                found.append({"title": doc["title"], "time": time, "speaker": speaker, "offset": offset, "quote": quote})
print(len(found), "places in", len({one["title"] for one in found}), "documents")
with_whom = {title: [one["speaker"] for one in people if title in one["titles"]] for title in {one["title"] for one in found}} if ask_who else {}
answer = told_documents(found, what, docs, with_whom) if found else ""
print(answer[:1500])"""

PHRASE: Final = """\
found = mentions(talk, docs, phrase)
print(len(found), "places")
said_by = list(dict.fromkeys(one["speaker"] for one in found if one["speaker"]))
answer = (f"Said by **{'**, **'.join(said_by[:6])}**:" if said_by else "It stands here:") + "\\n\\n" + "\\n\\n".join(map(block, found[:6]))
answer = answer + "\\n\\n*" + note_on("The phrase was looked for word for word", len(docs)) + "*" if found else ""
print(answer[:1500])"""

EDGE: Final = """\
found = [one for one in mentions(talk, docs, phrase) if not only or one["speaker"] in only]
print(len(found), "places")
ends = [found[-1 if latest else 0]] if found else []
answer = "\\n\\n".join([f"The {'last' if latest else 'first'} of {len(found)} mentions of “{phrase}”, in the order of the documents:", *map(block, ends)]) if ends else ""
if len(docs) > 1 and found:
    each = {}
    for one in found:
        each[one["title"]] = one if latest else each.get(one["title"], one)
    answer += "\\n\\n" + table(["Document", "Time", "Character", "Words"], [(t, o["time"], o["offset"], o["quote"]) for t, o in each.items()])
print(answer[:1500])"""

NAMES: Final = """\
found = named(talk, docs)
print(len(found), "names:", [(one["name"], one["times"]) for one in found[:12]])
rows = [(one["name"], one["times"], one["titles"], one["first"][:110]) for one in found[:40]]
answer = "Names that come up most, of people, things and places alike: I cannot tell these apart.\\n\\n"
answer += table(["Name", "Times", "Documents", "First said in"], rows) + "\\n\\n*" + note_on("Words with capitals were counted", len(docs)) + "*" if found else ""
print(answer[:1500] or "0 places")"""

PEOPLE: Final = """\
answer = told_people(people, asked, question_asked, docs)
print(answer[:1500])"""

LISTING: Final = """\
rows = [(n, doc["title"], len(doc["text"]), told[-1][1] if told else "") for n, (doc, told) in enumerate(zip(docs, talk), 1)]
longest, shortest = max(rows, key=lambda row: row[2]), min(rows, key=lambda row: row[2])
answer = f"There are **{len(docs):,} documents**." if len(docs) > 1 else "There is **one document**."
answer += f" The longest is **{longest[1]}** ({longest[2]:,} characters), the shortest **{shortest[1]}** ({shortest[2]:,})."
timed = [row for row in rows if row[3]]
answer += "\\n\\n" + table(["#", "Title", "Characters"] + (["Last time in it"] if timed else []), [row[: 4 if timed else 3] for row in rows], 200)
print(answer[:1500])"""

GIST: Final = """\
near = [set(words(doc["title"])) & set(asked_stems) for doc in docs]
chosen = [i for i, hit in enumerate(near) if hit and len(hit) == max(map(len, near))]
chosen = chosen if 0 < len(chosen) < len(docs) else list(range(len(docs)))
parts = ["An extract, not a summary: no language model has read this. " + (f"It is about **{docs[chosen[0]]['title']}**." if len(chosen) == 1 else f"It is about {len(chosen)} documents.")]
if len(chosen) == 1 and description(docs[chosen[0]]):
    parts.append("What it says of itself: " + description(docs[chosen[0]]))
speaking = [one["speaker"] for one in people if any(docs[i]["title"] in one["titles"] for i in chosen)]
if speaking:
    parts.append("Who speaks: " + ", ".join(speaking[:12]) + (" …" if len(speaking) > 12 else "") + ".")
parts.append("Named most: " + ", ".join(topics([talk[i] for i in chosen])) + ".")
if len(chosen) == 1:
    parts += ["Central sentences, in order:", *map(block, central(talk[chosen[0]], docs[chosen[0]]["title"], dull, 7, only))]
else:
    each = [(docs[i]["title"], ", ".join(topics([talk[i]], 5)), next((q["quote"] for q in central(talk[i], "", dull, 1, only)), "")) for i in chosen[:40]]
    parts += [table(["Document", "Named most", "A central sentence"], each), f"… and {len(chosen) - 40} more documents." if len(chosen) > 40 else ""]
answer = "\\n\\n".join(filter(None, parts))
print(answer[:1500])"""

TABLE: Final = """\
frames = [(doc["title"], frame_of(rows or [])) for doc, rows in zip(docs, records)]
frames = [(title, frame) for title, frame in frames if frame is not None]
if len(frames) > 1 and len({tuple(frame.columns) for _, frame in frames}) == 1:
    frames = [("all tables", pd.concat([frame.assign(document=title) for title, frame in frames], ignore_index=True))]
plans = [(title, frame, plan_table(question_asked, frame)) for title, frame in frames]
usable = [one for one in plans if one[2]["measure"] and (one[2]["where"] or one[2]["by"] or one[2]["of"] or one[2]["counted"])]
usable.sort(key=lambda one: -len(one[2]["where"]) - len(one[2]["by"]) - bool(one[2]["of"]))
for title, frame, plan in usable[:1]:
    print("table:", title, frame.shape, "columns:", list(frame.columns)[:20])
    print("plan:", plan)
    result = work_out(frame, plan)
    answer = told_table(result, title, len(frame))
    print(answer[:1500])
print("usable:", len(usable))"""

LAST: Final = """\
have = globals()
quotes = have.get("quotes") or []
if not quotes and "tasks" in have:  # the children were asked, but are not heard any more
    quotes = [quote for task in tasks for quote in pick(task)]
best = sorted(quotes, key=lambda quote: -quote["score"])[:5]
quoted = "\\n\\n".join(f"> {one['quote']}\\n>\\n> — {one['title']}, character {one['offset']:,}" for one in best)
answer = have.get("answer") or ("Cut short by a limit; the best of what was found:\\n\\n" + quoted if best else "The run ended before anything was found.")
FINAL(answer)"""

LAST_CHILD: Final = """\
quotes = globals().get("quotes") or globals().get("answer") or []
FINAL(quotes)"""

SIMPLE: Final = """\
import re
texts = [context] if isinstance(context, str) else [str(one.get("text", one)) if isinstance(one, dict) else str(one) for one in context]
titles = ["the document"] if isinstance(context, str) else [str(one.get("title", n)) if isinstance(one, dict) else str(n) for n, one in enumerate(context, 1)]
hits = []
for title, text in zip(titles, texts):
    for match in re.finditer("|".join(re.escape(word) for word in shown) or "$^", text, re.I):
        piece = text[max(0, match.start() - 150) : match.start() + 420]
        hits.append((sum(word.lower() in piece.lower() for word in shown), title, match.start(), " ".join(piece.split())))
        if len(hits) > 20000:
            break
best = []
for hit in sorted(hits, key=lambda hit: -hit[0]):
    if all(hit[1] != other[1] or abs(hit[2] - other[2]) > 400 for other in best) and len(best) < 5:
        best.append(hit)
answer = "From a plain search, as there was no way to a careful one. Places with most of the words " + ", ".join(shown) + ":\\n\\n"
answer += "\\n\\n".join(f"> … {piece} …\\n>\\n> — {title}, character {at:,}" for _, title, at, piece in best) or "none were found."
answer += "\\n\\n*From the offline extractive model, not a language model.*"
print(answer[:1000])"""
