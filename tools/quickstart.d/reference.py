"""reference.py WORK DOCUMENT: answers both questions without ever storing anything."""

import sys
import time
from pathlib import Path

import torch
from model import BLOCK_TOKENS, QUESTIONS, DynamicCache, Model

work, document = Path(sys.argv[1]), Path(sys.argv[2])
model = Model(work / "model", document)
if not 2000 <= len(model.document) <= 8000:
    sys.exit(f"{document} has {len(model.document)} tokens: give one of 2,000 to 8,000")

answers = {}
for name, question in QUESTIONS.items():
    prompt = model.prompt(question)
    begin = time.perf_counter()
    cache = DynamicCache()
    model.forward(prompt[: model.shared], cache)
    answers[name] = model.answer(prompt[model.shared :], cache)
    answers[name]["ttft"] = answers[name]["first_token_at"] - begin

# In one piece the same sums are added in another order: how far does that move the logits?
whole = model.forward(prompt, DynamicCache())
answers["one_shot_difference"] = float((whole.cpu() - answers["second"]["logits"][0]).abs().max())
answers["one_shot_same_token"] = bool(whole.argmax() == answers["second"]["logits"][0].argmax())
torch.save(answers, work / "reference.pt")
blocks = model.shared // BLOCK_TOKENS
print(f"{len(model.document):,} tokens of document, {blocks} full blocks; nothing was stored")
