"""The plugin's way in and out: submitting files and fetching results, as a real process on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster import Cluster
from support.diagnostics import Diagnostics
from support.emulator import Account, chat_lines
from support.jobs import conditions, custom_ids, status
from support.moto import Bucket
from support.plugin import Plugin
from support.shared_operator import SharedOperator, shared_operator
from support.terminal import Terminal
from support.world import MODEL, World

THREE = ["request-0", "request-1", "request-2"]
MARKER = "MARKER-of-a-prompt"


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedOperator]:
    """One operator for the tests of this module."""
    flags = ("--poll-interval", "0.3", "--probe-interval", "1", "--retry-scale", "0.1")
    with shared_operator(cluster, tmp_path_factory.mktemp("plugin"), namespaces=40, flags=flags) as running:
        yield running


@pytest.fixture
def world(shared: SharedOperator, diagnostics: Diagnostics) -> World:
    """A namespace of this test's own, in which the shared operator works."""
    return shared.world(diagnostics)


@pytest.fixture
def openai(world, account) -> Account:
    """An OpenAI account with a deployment in the test's namespace."""
    openai = account("openai", provider="openai")
    world.openai("openai", openai)
    return openai


@pytest.fixture
def plugin(world) -> Plugin:
    """The plugin in the test's namespace."""
    return Plugin(world.cluster.kubeconfig, world.namespace)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A file of three requests."""
    return a_file(tmp_path, 3)


def a_file(folder: Path, count: int, *, name: str = "questions.jsonl", text: str = "What is 6 times 7?") -> Path:
    """A file of requests on the user's machine."""
    file = folder / name
    file.write_bytes(chat_lines(count, model=MODEL, text=text))
    return file


def submitted(plugin: Plugin, *arguments: str | Path) -> str:
    """The name of the job that a submit made or found."""
    return plugin.run("submit", *arguments, "-o", "name").out.strip()


def test_a_file_becomes_answers_with_two_commands(world, openai, plugin, questions, tmp_path):
    """`submit --wait` ends when the job is complete, and `results` gives every answer."""
    done = plugin.run("submit", questions, "--model", MODEL, "--wait")

    name = done.out.split()[-2].rpartition("/")[2]
    assert "batchfile.llmbatch.dev/questions-" in done.out
    assert "Succeeded" in done.err
    assert custom_ids(plugin.run("results", name).out) == THREE
    target = tmp_path / "answers.jsonl"
    told = plugin.run("results", name, "-o", target)
    assert custom_ids(target.read_text()) == THREE
    assert told.out == ""
    assert "3 lines" in told.err
    assert plugin.run("results", name, "--summary").json["requestCounts"]["completed"] == 3
    assert "no request failed" in plugin.run("results", name, "--errors", code=1).err


def test_the_same_submit_twice_is_one_job(world, openai, plugin, questions):
    """A submit that is repeated finds what is there, says so, and costs nothing."""
    first = plugin.run("submit", questions, "--model", MODEL, "--wait")
    again = plugin.run("submit", questions, "--model", MODEL, "--wait")

    assert first.out.count("created") == 2
    assert again.out.count("unchanged") == 2
    assert "submitted before" in again.err
    assert len(openai.batches()) == 1


def test_another_name_is_another_run_of_the_same_file(world, openai, plugin, questions):
    """One upload serves two jobs that the user named."""
    for name in ("monday", "tuesday"):
        assert submitted(plugin, questions, "--model", MODEL, "--name", name, "--wait") == name

    assert len(openai.batches()) == 2
    assert len(world.cluster.list("BatchFile", world.namespace)) == 1


def test_a_file_beyond_inline_becomes_a_config_map_that_goes_with_its_file(world, openai, plugin, tmp_path):
    """Above 32 KiB the lines are in an immutable ConfigMap that the BatchFile owns."""
    file = a_file(tmp_path, 120, text="word " * 60)

    done = plugin.run("submit", file, "--model", MODEL, "--output-to", "none", "--wait")

    assert done.out.splitlines()[0].startswith("configmap/questions-")
    name = done.out.split()[0].rpartition("/")[2]
    stored = world.get("ConfigMap", name)
    assert stored["immutable"] is True
    assert stored["data"]["requests.jsonl"].encode() == file.read_bytes()
    owner = world.get("BatchFile", name)["metadata"]
    assert [(one["kind"], one["uid"]) for one in stored["metadata"]["ownerReferences"]] == [("BatchFile", owner["uid"])]


def test_confidential_requests_stay_in_secrets(world, openai, plugin, tmp_path):
    """With `--to secret` the lines are in a Secret and the results too, and nothing of them is printed."""
    file = a_file(tmp_path, 3, text=MARKER)

    done = plugin.run("submit", file, "--model", MODEL, "--to", "secret", "--wait", "-o", "json")

    name = done.json["metadata"]["name"]
    assert done.json["spec"]["output"] == {"secret": {"name": f"{name}-output", "retain": True}}
    assert world.get("BatchFile", name)["spec"]["source"] == {"secretKeyRef": {"name": name, "key": "requests.jsonl"}}
    assert MARKER not in done.out + done.err
    assert custom_ids(plugin.run("results", name).out) == THREE


def test_a_large_file_goes_through_a_bucket(world, openai, plugin, bucket: Bucket, tmp_path):
    """`--to s3://…` uploads with the Secret's keys, once; the results come to the same bucket and from it."""
    world.cluster.create(s3_secret("store", bucket), world.namespace)
    file = a_file(tmp_path, 900, text="word " * 1500)
    to = ("--to", f"{bucket.url}runs/", "--credentials-secret", "store")

    first = plugin.run("submit", file, "--model", MODEL, *to, "--wait", "-o", "json")

    name = first.json["metadata"]["name"]
    assert file.stat().st_size > 5 * 1024 * 1024
    assert bucket.get(f"runs/{name}.jsonl") == file.read_bytes()
    assert first.json["spec"]["output"]["url"] == f"{bucket.url}runs/{name}"
    assert "with the credentials of Secret store" in first.err
    assert f"{bucket.url}runs/{name}.jsonl unchanged" in plugin.run("submit", file, "--model", MODEL, *to).out
    assert len(custom_ids(plugin.run("results", name).out)) == 900


def test_a_bucket_is_reached_with_the_users_own_keys_where_the_secret_may_not_be_read(
    world, openai, plugin, bucket: Bucket, questions, tmp_path
):
    """Without the right to read the Secret the user's environment serves; without that too, it is told what to do."""
    world.cluster.create(s3_secret("store", bucket), world.namespace)
    submitter = as_submitter(world, tmp_path)
    to = ("--to", bucket.url, "--credentials-secret", "store")

    refused = submitter.run("submit", questions, "--model", MODEL, *to, code=4)
    own = Plugin(submitter.kubeconfig, world.namespace, bucket.credentials)
    done = own.run("submit", questions, "--model", MODEL, *to, "--wait", "-o", "name")

    assert "AWS_ACCESS_KEY_ID" in refused.err
    assert "nothing was made" in refused.err
    assert "your environment" in done.err
    assert custom_ids(own.run("results", done.out.strip()).out) == THREE


def test_results_without_an_output_come_from_the_provider(world, openai, plugin, questions, tmp_path):
    """With `--output-to none` they stay there, and whoever may read the deployment's key can fetch them."""
    done = plugin.run("submit", questions, "--model", MODEL, "--output-to", "none", "--wait", "-o", "json")

    name = done.json["metadata"]["name"]
    assert "output" not in done.json["spec"]
    assert custom_ids(plugin.run("results", name).out) == THREE
    assert plugin.run("results", name, "--summary").json["requestCounts"]["completed"] == 3
    refused = as_submitter(world, tmp_path).run("results", name, code=4)
    assert "may not use its key" in refused.err
    assert openai.key not in refused.err


def test_results_that_did_not_fit_are_still_to_be_had(world, openai, plugin, tmp_path):
    """A job whose results are larger than a ConfigMap fails, and they are streamed from the provider."""
    file = a_file(tmp_path, 2000)

    done = plugin.run("submit", file, "--model", MODEL, "--wait", "-o", "name", code=1)

    assert "may not fit" in done.err
    assert "OutputTooLarge" in done.err
    assert len(custom_ids(plugin.run("results", done.out.strip()).out)) == 2000


def test_failed_requests_are_listed_with_the_providers_words(world, account, plugin, tmp_path):
    """`errors` names each failed request, its code and its message, as a table and as JSON."""
    world.openai("openai", account("openai", provider="openai", fail_lines=["request-1", "request-3"]))
    name = submitted(plugin, a_file(tmp_path, 5), "--model", MODEL, "--wait")

    table = plugin.run("errors", name)
    found = plugin.run("errors", name, "-o", "json").json

    header, *rows = table.out.splitlines()
    assert header.split() == ["CUSTOM", "ID", "CODE", "STATUS", "MESSAGE"]
    assert sorted(row.split()[0] for row in rows) == ["request-1", "request-3"]
    assert sorted(one["custom_id"] for one in found["requests"]) == ["request-1", "request-3"]
    assert all(one["code"] and one["message"] for one in found["requests"])
    assert found["failure"] is None
    assert custom_ids(plugin.run("results", name, "--errors").out) == ["request-1", "request-3"]


def test_a_job_whose_requests_all_failed_ends_the_wait_with_its_reason(world, account, plugin, questions):
    """`submit --wait` leaves with 1 and says why; `results` leaves with 1, `errors` lists them."""
    world.openai("openai", account("openai", provider="openai", fail_lines="all"))

    done = plugin.run("submit", questions, "--model", MODEL, "--wait", "-o", "name", code=1)

    name = done.out.strip()
    assert "Failed (AllRequestsFailed)" in done.err
    assert "no request was answered" in plugin.run("results", name, code=1).err
    assert len(plugin.run("errors", name, "-o", "json").json["requests"]) == 3
    assert "submitted before" in plugin.run("submit", questions, "--model", MODEL, code=1).err


def test_lines_that_the_operator_refused_are_listed_by_errors(world, openai, plugin):
    """A job that never ran for its input shows what is wrong with it, line by line."""
    world.file(lines=b'{"custom_id": "a"}\n')
    world.job()
    world.finished()

    found = plugin.run("errors", "run", "-o", "json").json

    assert found["failure"]["reason"] == "InputFileInvalid"
    assert {(one["line"], one["code"]) for one in found["invalidLines"]} >= {(1, "missing_body")}
    assert "missing_body" in plugin.run("errors", "batchjob.llmbatch.dev/run").out


def test_what_is_not_finished_has_no_results_yet(world, openai, plugin, questions):
    """`--wait --timeout` gives up with 124 and the job goes on; `results` and `errors` leave with 1 and say so."""
    openai.hold()

    done = plugin.run("submit", questions, "--model", MODEL, "--wait", "--timeout", "3s", "-o", "name", code=124)

    name = done.out.strip()
    assert "goes on" in done.err
    for command in ("results", "errors"):
        assert "is not finished" in plugin.run(command, name, code=1).err
    openai.release()
    world.finished(name)
    assert custom_ids(plugin.run("results", name).out) == THREE


def test_a_cancelled_job_gives_what_was_done(world, openai, plugin, questions):
    """The answers of a batch that was cancelled under way are results as any other."""
    openai.behaviour(hold="in_progress")
    name = submitted(plugin, questions, "--model", MODEL)
    world.running(name)
    world.cluster.patch("BatchJob", name, world.namespace, {"spec": {"cancel": True}})
    job = world.finished(name)

    done = plugin.run("results", name, code=None)

    answered = status(job)["requestCounts"]["completed"]
    assert conditions(job)["Failed"] == "Cancelled"
    assert (done.code, len(done.out.splitlines())) == ((0, answered) if answered else (1, 0))


def test_an_invalid_file_is_not_submitted(world, plugin, tmp_path):
    """The operator's own checks come first: what is wrong is shown, and nothing is made."""
    file = tmp_path / "bad.jsonl"
    file.write_text('{"custom_id": "a"}\n')

    done = plugin.run("submit", file, "--model", MODEL, code=1)

    assert "missing_method" in done.err
    assert "nothing was submitted" in done.err
    assert world.cluster.list("BatchFile", world.namespace) == []


def test_manifests_for_a_repository_are_what_submit_makes(world, openai, plugin, questions):
    """`--dry-run client -o yaml` needs no cluster; applied by kubectl it is the very job that submit would make."""
    manifests = Plugin().run("submit", questions, "--model", MODEL, "--dry-run", "client", "-o", "yaml").out
    world.cluster.kubectl("apply", "--server-side", "-n", world.namespace, "-f", "-", stdin=manifests)

    done = plugin.run("submit", questions, "--model", MODEL, "--wait")

    assert done.out.count("unchanged") == 2
    assert len(openai.batches()) == 1


def test_a_dry_run_on_the_server_makes_nothing(world, plugin, questions):
    """`--dry-run server` has the API server check it all, and shows what it would store."""
    done = plugin.run("submit", questions, "--model", MODEL, "--to", "configmap", "--dry-run", "server", "-o", "json")

    assert [item["kind"] for item in done.json["items"]] == ["ConfigMap", "BatchFile", "BatchJob"]
    assert done.json["items"][2]["spec"]["backoffLimit"] == 3
    for kind in ("ConfigMap", "BatchFile", "BatchJob"):
        assert [
            item for item in world.cluster.list(kind, world.namespace) if "questions" in item["metadata"]["name"]
        ] == []


def test_a_name_that_is_taken_by_another_run_is_refused(world, plugin, questions):
    """A job of that name with other settings is no job of this submit; the user is told which differ."""
    submitted(plugin, questions, "--model", MODEL, "--name", "run", "--suspend")

    done = plugin.run("submit", questions, "--model", MODEL, "--name", "run", "--output-to", "none", code=1)

    assert "other settings (output)" in done.err
    assert "nothing was made" in done.err


def test_a_submit_that_broke_off_goes_on_where_it_was(world, openai, plugin, tmp_path):
    """The same command again takes up what is there, and the content gets its owner then."""
    file = a_file(tmp_path, 3)
    arguments = (file, "--model", MODEL, "--to", "configmap")
    items = plugin.run("submit", *arguments, "--dry-run", "client", "-o", "json").json["items"]
    world.cluster.create(items[0], world.namespace)

    done = plugin.run("submit", *arguments, "--wait")

    assert [line.split()[1] for line in done.out.splitlines()] == ["unchanged", "created", "created"]
    owners = world.get("ConfigMap", items[0]["metadata"]["name"])["metadata"]["ownerReferences"]
    assert [owner["kind"] for owner in owners] == ["BatchFile"]


def test_results_outlive_their_job(world, openai, plugin, questions):
    """A ConfigMap that a deleted job left is found by the job's name."""
    name = submitted(plugin, questions, "--model", MODEL, "--wait")
    world.delete("BatchJob", name)
    world.gone("BatchJob", name)

    done = plugin.run("results", name)

    assert custom_ids(done.out) == THREE
    assert "is gone" in done.err


def test_results_of_a_name_that_was_taken_over_are_refused(world, openai, plugin, questions):
    """A ConfigMap in the place of the results that is not this job's is not passed off as them."""
    name = submitted(plugin, questions, "--model", MODEL, "--wait")
    label = {"metadata": {"labels": {"llmbatch.dev/job-uid": "another"}}}
    world.cluster.patch("ConfigMap", f"{name}-output", world.namespace, label)

    assert "was replaced" in plugin.run("results", name, code=1).err


def test_requests_come_from_a_pipe_too(world, openai, plugin, questions):
    """`submit -` reads standard input."""
    done = plugin.run("submit", "-", "--wait", "-o", "name", stdin=questions.read_bytes())

    assert done.out.startswith("requests-")
    assert custom_ids(plugin.run("results", done.out.strip()).out) == THREE


def test_a_person_who_waits_sees_one_line_that_moves(world, openai, plugin, questions):
    """On a terminal the progress is written over in place, and stays readable when the job has ended."""
    openai.hold()
    command = plugin.command("submit", str(questions), "--model", MODEL, "--wait", "--name", "run")

    with Terminal(command, plugin.environ, columns=60, lines=20) as terminal:
        terminal.wait(lambda text: "InProgress" in text)
        openai.release()
        assert terminal.exit_code() == 0
        told = [line for line in terminal.text.splitlines() if "  run  " in line]

    assert len(told) == 1
    assert "Succeeded" in told[0]


def s3_secret(name: str, bucket: Bucket) -> dict[str, object]:
    """A Secret for credentialsSecretRef."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": bucket.credentials}


def as_submitter(world: World, folder: Path) -> Plugin:
    """Somebody who may submit files and read jobs, and no Secrets."""
    rules = [
        {"apiGroups": ["llmbatch.dev"], "resources": ["*"], "verbs": ["get", "list", "watch", "create", "patch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]},
    ]
    account = world.cluster.service_account("submitter", world.namespace, folder, rules=rules)
    return Plugin(account.kubeconfig, world.namespace)
