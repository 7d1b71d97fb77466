"""How the plugin reaches a cluster, what it says when it cannot, and the exit codes that scripts rely on."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.ports import free_port
from support.api_proxy import ApiProxy
from support.cluster import Cluster
from support.emulator import chat_lines
from support.plugin import COMMAND, Plugin
from support.world import MODEL, World
from toolchain.leash import leashed

SECONDS = 30.0


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A file of three requests."""
    file = tmp_path / "questions.jsonl"
    file.write_bytes(chat_lines(3, model=MODEL))
    return file


@pytest.fixture
def plugin(world: World) -> Plugin:
    """The plugin in the test's namespace; no operator works there."""
    return Plugin(world.cluster.kubeconfig, world.namespace)


@pytest.fixture
def changed(cluster: Cluster, tmp_path: Path) -> Callable[..., Path]:
    """A kubeconfig like the administrator's but for what is given: `server`, `user`, `namespace`."""

    def write(*, server: str | None = None, user: dict[str, Any] | None = None, namespace: str | None = None) -> Path:
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        if server:
            config["clusters"][0]["cluster"]["server"] = server
        if user is not None:
            config["users"][0]["user"] = user
        if namespace:
            config["contexts"][0]["context"]["namespace"] = namespace
        file = tmp_path / f"kubeconfig-{len(list(tmp_path.iterdir()))}"
        file.write_text(yaml.safe_dump(config))
        return file

    return write


def script(file: Path, text: str) -> Path:
    """An executable."""
    file.write_text(text)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def test_kubectl_finds_the_plugin_on_path(world, questions, tmp_path):
    """`kubectl llmbatch …` runs it, with its output and exit code."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script(folder / "kubectl-llmbatch", f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    environ = {**Plugin(world.cluster.kubeconfig).environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    kubectl = str(world.cluster.kubectl_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [kubectl, "llmbatch", *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False
        )

    assert run("validate", str(questions)).returncode == 0
    missing = run("results", "nothing", "--namespace", world.namespace)
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "nothing does not exist" in missing.stderr


def test_the_namespace_is_the_contexts_where_none_is_given(world, questions, changed):
    """As with kubectl, the context's namespace counts, and `-n` wins over it."""
    kubeconfig = changed(namespace=world.namespace)

    Plugin().run("submit", questions, "--suspend", "--name", "run", "--kubeconfig", kubeconfig)

    assert world.get("BatchJob", "run")["spec"]["suspend"] is True
    elsewhere = Plugin(kubeconfig).run("results", "run", "-n", "default", code=3)
    assert "namespace default" in elsewhere.err


def test_a_context_is_chosen_by_name(world, questions, changed, tmp_path):
    """`--context` picks another entry of the kubeconfig, which may be of several files."""
    other = yaml.safe_load(changed(namespace=world.namespace).read_text())
    other["contexts"][0]["name"] = "other"
    file = tmp_path / "other"
    file.write_text(yaml.safe_dump(other))
    joined = f"{world.cluster.kubeconfig}:{file}"
    plugin = Plugin(environment={"KUBECONFIG": joined})

    plugin.run("submit", questions, "--suspend", "--name", "run", "--context", "other")

    assert world.get("BatchJob", "run")
    assert "context nowhere" in plugin.run("results", "run", "--context", "nowhere", code=2).err


def test_credentials_come_from_a_plugin_of_the_users(world, changed, tmp_path):
    """An exec plugin's token is used, as clouds' kubeconfigs need it; one that fails is told, without its words."""
    token = yaml.safe_load(world.cluster.kubeconfig.read_text())["users"][0]["user"]["token"]
    api = "client.authentication.k8s.io/v1"
    answer = f'{{"apiVersion": "{api}", "kind": "ExecCredential", "status": {{"token": "{token}"}}}}'
    good = script(tmp_path / "good", f"#!/bin/sh\necho '{answer}'\n")
    bad = script(tmp_path / "bad", "#!/bin/sh\necho SECRET-OF-THE-PLUGIN >&2\nexit 1\n")

    def run(program: Path, code: int) -> str:
        user = {"exec": {"apiVersion": api, "command": str(program), "interactiveMode": "Never"}}
        return Plugin(changed(user=user), world.namespace).run("results", "nothing", code=code).err

    assert "does not exist" in run(good, 3)
    told = run(bad, 4)
    assert "gave no credentials" in told
    assert "SECRET" not in told


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ("no kubeconfig", 2, "no kubeconfig"),
        ("broken kubeconfig", 2, "cannot be used"),
        ("nobody listens", 5, "unreachable"),
        ("foreign token", 4, "Unauthorized"),
        ("no right", 4, "forbidden"),
        ("as somebody without a right", 4, 'User "jane"'),
    ],
)
def test_what_stands_in_the_way_is_one_line_and_an_exit_code(world, changed, tmp_path, how, code, says):
    """No traceback, no secret: one line on stderr that says what is wrong, nothing on stdout."""
    broken = tmp_path / "broken"
    broken.write_text("users: [{name: a, user: {token: SECRET-TOKEN}}]\n")
    own = yaml.safe_load(world.cluster.kubeconfig.read_text())["users"][0]["user"]
    kubeconfigs = {
        "no kubeconfig": lambda: tmp_path / "nowhere",
        "broken kubeconfig": lambda: broken,
        "nobody listens": lambda: changed(server=f"https://127.0.0.1:{free_port()}"),
        "foreign token": lambda: changed(user={"token": "SECRET-TOKEN"}),
        "as somebody without a right": lambda: changed(user={**own, "as": "jane"}),
        "no right": lambda: world.cluster.service_account("nobody", world.namespace, tmp_path).kubeconfig,
    }

    done = Plugin(kubeconfigs[how](), world.namespace).run("results", "run", code=code)

    assert done.out == ""
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert "SECRET" not in done.err


def test_a_namespace_that_is_not_there_is_told(cluster, questions):
    """Creating in a namespace that does not exist names it, with the code of what is not found."""
    done = Plugin(cluster.kubeconfig, "no-such-namespace").run("submit", questions, code=3)

    assert "no namespace no-such-namespace" in done.err


@pytest.mark.parametrize("denied", ["batchjobs", "batchfiles"])
def test_who_may_not_make_all_of_it_makes_none_of_it(world, questions, tmp_path, denied):
    """A missing right is found before anything is made, whichever of the objects it is about."""
    allowed = {"batchfiles", "batchjobs"} - {denied}
    rules = [
        {"apiGroups": ["llmbatch.dev"], "resources": sorted(allowed), "verbs": ["get", "create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]},
    ]
    somebody = world.cluster.service_account("somebody", world.namespace, tmp_path, rules=rules)

    done = Plugin(somebody.kubeconfig, world.namespace).run("submit", questions, "--to", "configmap", code=4)

    assert denied in done.err
    assert "nothing was made" in done.err
    assert [
        cm for cm in world.cluster.list("ConfigMap", world.namespace) if "questions" in cm["metadata"]["name"]
    ] == []


def test_who_may_not_set_owners_is_told_what_follows(world, questions, tmp_path):
    """Without the right to patch ConfigMaps the job is submitted all the same, and the user knows what stays behind."""
    rules = [
        {"apiGroups": ["llmbatch.dev"], "resources": ["batchfiles", "batchjobs"], "verbs": ["get", "create"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create"]},
    ]
    somebody = world.cluster.service_account("somebody", world.namespace, tmp_path, rules=rules)

    done = Plugin(somebody.kubeconfig, world.namespace).run("submit", questions, "--to", "configmap", "--name", "run")

    assert "will outlive its BatchFile" in done.err
    assert world.get("BatchJob", "run")


def test_a_quota_that_is_used_up_is_told_before_anything_is_made(world, plugin, questions):
    """A ResourceQuota refuses the job in the rehearsal already."""
    hard = {"count/batchjobs.llmbatch.dev": "0"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": hard}}
    world.cluster.create(quota, world.namespace)
    world.until("ResourceQuota", "none", lambda seen: seen.get("status", {}).get("hard") == hard)

    done = plugin.run("submit", questions, code=4)

    assert "nothing was made" in done.err
    assert world.cluster.list("BatchFile", world.namespace) == []


@pytest.mark.parametrize(("method", "path", "states"), [("POST", "/configmaps", "ucc"), ("PATCH", "", "uuc")])
def test_a_submit_whose_answer_was_lost_is_taken_up_by_the_next(world, questions, tmp_path, method, path, states):
    """What was made though the plugin never heard of it is found by the same command, which makes the rest."""
    arguments = ("submit", questions, "--suspend", "--to", "configmap")
    with ApiProxy(world.cluster, tmp_path) as proxy:
        plugin = Plugin(proxy.kubeconfig, world.namespace)
        lost = proxy.swallow(method, path)
        process = subprocess.Popen(
            plugin.command(*map(str, arguments)),
            env=plugin.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            lost.wait(SECONDS)
        finally:
            process.kill()
            process.wait()

        done = plugin.run(*arguments)

    assert [line.split()[1][0] for line in done.out.splitlines()] == list(states)
    name = done.out.split()[0].rpartition("/")[2]
    owners = world.get("ConfigMap", name)["metadata"]["ownerReferences"]
    assert [owner["name"] for owner in owners] == [name]


def test_waiting_survives_a_cut_connection(world, account, operator, questions, tmp_path):
    """The watch comes back after the API server was away, and tells of the end."""
    operator(world.namespace, flags=("--poll-interval", "0.3"))
    openai = account("openai", provider="openai")
    openai.hold()
    world.openai("openai", openai)
    with ApiProxy(world.cluster, tmp_path) as proxy:
        plugin = Plugin(proxy.kubeconfig, world.namespace)
        process = subprocess.Popen(
            plugin.command("submit", str(questions), "--wait", "--name", "run"),
            env=plugin.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            world.running("run", timeout=SECONDS)
            proxy.cut()
            openai.release()
            world.finished("run")
            proxy.mend()
            _, told = process.communicate(timeout=SECONDS)
        finally:
            process.kill()

    assert process.returncode == 0, told
    assert "Succeeded" in told


def test_ctrl_c_ends_the_wait_and_not_the_job(world, questions, plugin):
    """An interrupt leaves with 130 and says that the job goes on."""
    process = subprocess.Popen(
        leashed(plugin.command("submit", str(questions), "--wait", "--name", "run")),
        env=plugin.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert any("batchjob.llmbatch.dev/run created" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=SECONDS)
    finally:
        process.kill()

    assert process.returncode == 130
    assert "Traceback" not in told
    assert world.get("BatchJob", "run")


def test_a_reader_that_has_seen_enough_is_no_error(world, plugin):
    """`results … | head -1` ends quietly, though most of the output is never read."""
    text = chat_lines(6000, model=MODEL)
    owner = world.make(
        "BatchJob", "run", {"inputFileRef": {"name": "questions"}, "output": {"configMap": {"name": "o"}}}
    )
    label = {"llmbatch.dev/job-uid": owner["metadata"]["uid"]}
    data = {"output.jsonl": text.decode()}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "o", "labels": label}, "data": data}
    world.cluster.create(manifest, world.namespace)
    ended = {"phase": "Succeeded", "output": {"location": "configmap/o", "bytes": len(text), "lines": 6000}}
    world.cluster.patch("BatchJob", "run", world.namespace, {"status": ended}, subresource="status")

    process = subprocess.Popen(
        plugin.command("results", "run"), env=plugin.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == text.splitlines(keepends=True)[0]
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    assert (process.wait(SECONDS), told) == (0, b"")
