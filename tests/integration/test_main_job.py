"""The main job, end to end: applied, uploaded, run, brought home."""

from __future__ import annotations

import json

from support.emulator import chat_lines


def test_a_file_and_a_job_bring_answers_usage_and_cost_home(world, account, operator):
    """Whoever applies a deployment, a file and a job gets answers, usage and cost, and the provider's copies go."""
    openai = account("openai", provider="openai")
    operator(world.namespace)
    world.openai("openai", openai)
    world.file(lines=chat_lines(3, model="gpt-4o-mini-batch"))
    world.job(output={"configMap": {"name": "answers"}}, metadata=None)

    job = world.finished()

    status = job["status"]
    assert status["phase"] == "Succeeded"
    assert status["requestCounts"] == {"total": 3, "completed": 3, "failed": 0}
    assert status["usage"]["totalTokens"] > 0
    assert status["cost"]["source"] == "genai-prices"
    answers = [json.loads(line) for line in world.output("answers")["output.jsonl"].splitlines()]
    assert {answer["custom_id"] for answer in answers} == {"request-0", "request-1", "request-2"}
    assert len(openai.batches()) == 1
