"""engine.py REQUEST.json: a vLLM process. Does the request's steps, prints one JSON line of results.

{"model": DIRECTORY, "transfer": {KVTransferConfig's} or null, "options": {LLM's}, "steps":
[{"generate": [TOKENS...], "max_tokens": N, "cache_salt": S}, ...]}; other steps: see STEPS.
"""

import collections
import json
import os
import pathlib
import random
import sys
import time

# In one process, where nobody wants it otherwise: the steps that look inside need that.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.update(
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_NO_USAGE_STATS="1",
    DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    # Threads that wait do not spin: on a busy machine that takes the time of those that compute.
    OMP_WAIT_POLICY="passive",
)
results = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what vLLM prints belongs in the log

from vllm import LLM, SamplingParams  # noqa: E402
from vllm.config import KVEventsConfig, KVTransferConfig  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402

LONG_TALK = 1500  # tokens


def told(outputs) -> list[dict]:
    return [
        {
            "tokens": list(one.outputs[0].token_ids),
            "prompt": len(one.prompt_token_ids),
            "cached": one.num_cached_tokens,
        }
        for one in outputs
    ]


class Engine:
    """vLLM in this process, in float32: equal tokens then mean equal KV."""

    def __init__(self, model, transfer, options):
        transfer = KVTransferConfig(**transfer) if transfer else None
        usual = {
            "dtype": "float32",
            "enforce_eager": True,
            "max_model_len": 4096,
            "max_num_batched_tokens": 512,
            "max_num_seqs": 8,
            "disable_log_stats": False,
        }
        if "kv_events_config" in options:
            options |= {"kv_events_config": KVEventsConfig(**options["kv_events_config"])}
        if options.get("tensor_parallel_size", 1) > 1:
            os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # ranks may outnumber the cores
        self.llm = LLM(model=model, kv_transfer_config=transfer, **usual | options)
        self.core = getattr(self.llm.llm_engine.engine_core, "engine_core", None)
        self.adapters = {}
        self.generate([7] * 200, max_tokens=2)  # nothing after this is a first time

    def generate(self, tokens, max_tokens=16, cache_salt=None, transfer=None, adapter=None):
        """`adapter`: the directory of a LoRA adapter."""
        prompt = {"prompt_token_ids": tokens}
        if cache_salt:
            prompt["cache_salt"] = cache_salt
        sampling = SamplingParams(
            max_tokens=max_tokens,
            temperature=0,
            ignore_eos=True,
            detokenize=False,
            extra_args={"kv_transfer_params": transfer} if transfer else None,
        )
        began = time.perf_counter()
        (output,) = self.llm.generate(
            [prompt], sampling, use_tqdm=False, lora_request=adapter and self._lora(adapter)
        )
        seconds = time.perf_counter() - began
        metrics = output.metrics
        return {
            "tokens": list(output.outputs[0].token_ids),
            "cached": output.num_cached_tokens,
            "seconds": seconds,
            "ttft": metrics.first_token_latency if metrics else None,
            "transfer": output.kv_transfer_params,
        }

    def _lora(self, adapter):
        number = self.adapters.setdefault(adapter, len(self.adapters) + 1)
        return LoRARequest(os.path.basename(adapter), number, adapter)

    def batch(self, prompts, max_tokens=16):
        """Several at a time."""
        sampling = SamplingParams(
            max_tokens=max_tokens, temperature=0, ignore_eos=True, detokenize=False
        )
        outputs = self.llm.generate(
            [{"prompt_token_ids": tokens} for tokens in prompts], sampling, use_tqdm=False
        )
        return told(outputs)

    def forget(self, connector=False):
        """Empties vLLM's own cache of KV, and lets stores end; with its `connector`, as after a change
        of the weights."""
        for _ in range(100):
            if self.llm.reset_prefix_cache(reset_connector=connector):
                return True
            if self.core:
                self.llm.llm_engine.step()  # in which a connector says what it has stored
            time.sleep(0.05)
        return False

    def abort(self, tokens, steps, beside=(), max_tokens=16):
        """A request that is taken back after so many steps of the engine, and the answers to those
        beside it."""
        engine, scheduler = self.llm.llm_engine, self.core.scheduler
        answers = {}

        def add(name, tokens, max_tokens):
            sampling = SamplingParams(
                max_tokens=max_tokens, temperature=0, ignore_eos=True, detokenize=False
            )
            return engine.add_request(name, {"prompt_token_ids": tokens}, sampling)

        def step():
            answers.update({one.request_id: one for one in engine.step() if one.finished})

        to_abort = add("to-abort", tokens, 64)
        for number, prompt in enumerate(beside):
            add(str(number), prompt, max_tokens)
        for _ in range(steps):
            step()
        was = scheduler.requests[to_abort].status.name
        engine.abort_request(["to-abort"])
        while engine.has_unfinished_requests():
            step()
        deadline = time.monotonic() + 60
        while scheduler.requests and time.monotonic() < deadline:
            step()  # a load under way is awaited, then its pages are freed
        found = [answers[str(number)] for number in range(len(beside))]
        return {"was": was, "left": len(scheduler.requests), "beside": told(found)}

    def talks(self, text, clients, seed, seconds=0, follow=None):
        """Conversations of several clients, in rounds of all at once: two system prompts, random
        questions, answers that belong to the next prompt, and in each round a request that is taken
        back. Who has talked long begins anew or goes on from where another one is. For so long; or
        as many rounds as the file `follow` says, when it is there, with vLLM's own cache kept."""
        chance = random.Random(seed)
        begins = [text[:300], text[300:560]]
        talks = [begins[client % 2] for client in range(clients)]
        rounds, aborted, left = [], collections.Counter(), 0
        began = time.monotonic()

        def enough():
            if not follow:
                return time.monotonic() - began >= seconds
            return os.path.exists(follow) and len(rounds) >= int(pathlib.Path(follow).read_text())

        while not enough():
            for client in range(clients):
                if len(talks[client]) > LONG_TALK:
                    others = [talk for talk in talks if len(talk) < LONG_TALK / 2]
                    talks[client] = chance.choice(begins + others)
                begin = chance.randrange(560, len(text) - 200)
                talks[client] = talks[client] + text[begin : begin + chance.randrange(40, 200)]
            taken_back = talks[chance.randrange(clients)] + text[:150]
            done = self.abort(taken_back, chance.randrange(1, 9), talks)
            aborted[done["was"]] += 1
            left += done["left"]
            rounds.append(done["beside"])
            talks = [talk + one["tokens"] for talk, one in zip(talks, done["beside"], strict=True)]
            if not follow and len(rounds) % 2 == 0:
                left += not self.forget()
        return {
            "said": [[one["tokens"] for one in answers] for answers in rounds],
            "prompted": sum(one["prompt"] for answers in rounds for one in answers),
            "cached": sum(one["cached"] for answers in rounds for one in answers),
            "aborted": aborted,
            "left": left,
            "seconds": time.monotonic() - began,
        }

    def metrics(self):
        """kvfs's own among vLLM's Prometheus metrics, by name and tier, and the preemptions."""
        # The last step's are reported with the next one.
        self.generate([8] * 20, max_tokens=2)
        found = {}
        for metric in self.llm.get_metrics():
            name = metric.name.removeprefix("vllm:")
            if name.startswith("kvfs_") or name == "num_preemptions":
                tier = metric.labels.get("tier", "")
                found[f"{name.removeprefix('kvfs_')} {tier}".strip()] = metric.value
        return found

    def look_ups(self, prompts, rounds):
        """Asks for prompts in turn, with nothing of them in vLLM's own cache: what the connector
        answers the scheduler, and how long that took, in calls and until there was an answer."""
        connector, found = self.core.scheduler.connector, []
        ask = connector.get_num_new_matched_tokens

        def timed(request, computed):
            began = time.perf_counter()
            answer = ask(request, computed)
            ended = time.perf_counter()
            calls.append((began, ended))
            tokens.append(answer[0])
            return answer

        connector.get_num_new_matched_tokens = timed
        for prompt in prompts * rounds:
            self.forget()
            calls, tokens = [], []
            self.generate(prompt, max_tokens=1)
            found.append(
                {
                    "found": tokens[-1],
                    "spent": sum(ended - began for began, ended in calls),
                    "until": calls[-1][1] - calls[0][0],
                }
            )
        connector.get_num_new_matched_tokens = ask
        return found

    def wait_for(self, path):
        """Tells the test that this step is reached, and goes on when the file is there."""
        print(json.dumps({"reached": path}), file=results, flush=True)
        while not os.path.exists(path):
            time.sleep(0.02)


STEPS = ("generate", "batch", "talks", "forget", "abort", "metrics", "look_ups", "wait_for")


def main():
    with open(sys.argv[1]) as file:
        request = json.load(file)
    engine = Engine(request["model"], request["transfer"], request["options"])
    done = []
    for step in request["steps"]:
        (name,) = set(step) & set(STEPS)
        arguments = {key: value for key, value in step.items() if key != name}
        value = step[name]
        call = getattr(engine, name)
        done.append(call(**arguments) if value is None else call(value, **arguments))
    print(json.dumps({"results": done}), file=results, flush=True)
    (engine.core or engine.llm.llm_engine.engine_core).shutdown()


if __name__ == "__main__":
    main()
