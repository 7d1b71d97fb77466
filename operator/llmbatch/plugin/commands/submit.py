"""``kubectl llmbatch submit``: what can be said on the command line."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from llmbatch.plugin.exits import run
from llmbatch.plugin.options import Context, Kubeconfig, Namespace, Timeout, Where, duration
from llmbatch.plugin.submitting.manifests import Wish
from llmbatch.plugin.submitting.submission import DryRun, Printed, Ways, submission


def _option(*flags: str, help: str, **more: Any) -> Any:
    return typer.Option(*flags, help=help, **{"show_default": False, **more})


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter("it is written KEY=VALUE")
    return key, value


File = Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - reads standard input.", show_default=False)]
Model = Annotated[
    str | None, _option("--model", "-m", metavar="MODEL", help="The model to run on. Default: the lines' own.")
]
Name = Annotated[
    str | None, _option("--name", metavar="NAME", help="The BatchJob's name. Default: the file's, with a hash.")
]
To = Annotated[
    str | None,
    _option(
        "--to",
        metavar="PLACE",
        help="Where the requests go: inline, configmap, secret or s3://BUCKET/PREFIX. Default: inline up to 32 KiB,"
        " else a ConfigMap.",
    ),
]
CredentialsSecret = Annotated[
    str | None,
    _option(
        "--credentials-secret",
        metavar="SECRET",
        help="AWS_… keys for the bucket. The operator uses them; so do you, if you may read the Secret.",
    ),
]
OutputTo = Annotated[
    str | None,
    _option(
        "--output-to",
        metavar="PLACE",
        help="Where results go: configmap[/NAME], secret[/NAME], s3://BUCKET/PREFIX, or none: they stay at the"
        " provider. Default: beside the requests.",
    ),
]
OutputCredentialsSecret = Annotated[
    str | None,
    _option(
        "--output-credentials-secret",
        metavar="SECRET",
        help="AWS_… keys for the bucket of the results. Default: --credentials-secret.",
    ),
]
Deployment = Annotated[
    str | None, _option("--deployment", metavar="[NAMESPACE/]NAME", help="Run on this ModelDeployment and no other.")
]
Window = Annotated[str | None, _option("--completion-window", metavar="24h", help="The provider's; only 24h exists.")]
Metadata = Annotated[
    list[Any] | None,
    _option("--metadata", parser=_pair, metavar="KEY=VALUE", help="Sent as the batch's metadata; repeatable."),
]
TTL = Annotated[
    timedelta | None,
    _option("--ttl", parser=duration, metavar="DURATION", help="Delete the job this long after its end."),
]
Deadline = Annotated[
    timedelta | None,
    _option("--deadline", parser=duration, metavar="DURATION", help="End the job this long after its creation."),
]
BackoffLimit = Annotated[
    int | None,
    _option(
        "--backoff-limit", min=0, metavar="COUNT", help="Batches that may fail by the provider's fault. Default: 3."
    ),
]
Suspend = Annotated[bool, typer.Option("--suspend", help="Hold the job until it is resumed.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait for the end; exit code 1 if the job failed.")]
Dry = Annotated[DryRun, typer.Option("--dry-run", help="Make nothing; with -o yaml, manifests for GitOps.")]
Print = Annotated[Printed, typer.Option("--output", "-o", help="What to print.")]


def submit(
    file: File,
    model: Model = None,
    name: Name = None,
    to: To = None,
    credentials_secret: CredentialsSecret = None,
    output_to: OutputTo = None,
    output_credentials_secret: OutputCredentialsSecret = None,
    deployment: Deployment = None,
    completion_window: Window = None,
    metadata: Metadata = None,
    ttl: TTL = None,
    deadline: Deadline = None,
    backoff_limit: BackoffLimit = None,
    suspend: Suspend = False,
    wait: Wait = False,
    timeout: Timeout = None,
    dry_run: Dry = DryRun.NONE,
    output: Print = Printed.TABLE,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Run a file of requests on a model.

    The file is checked as by validate, and becomes a BatchFile and a BatchJob. Their names come from the file's name
    and content: the same submit twice is one job, and one that broke off goes on. Another run of the same file takes
    another --name.
    """
    fields = {
        "completionWindow": completion_window,
        "metadata": dict(metadata) if metadata else None,
        "ttlSecondsAfterFinished": int(ttl.total_seconds()) if ttl is not None else None,
        "activeDeadlineSeconds": int(deadline.total_seconds()) if deadline is not None else None,
        "backoffLimit": backoff_limit,
        "suspend": suspend or None,
    }
    wish = Wish(
        file=file,
        model=model,
        to=to,
        credentials_secret=credentials_secret,
        output_to=output_to,
        output_credentials_secret=output_credentials_secret,
        name=name,
        namespace=namespace,
        deployment=deployment,
        job_spec={key: value for key, value in fields.items() if value is not None},
    )
    run(submission(wish, Where(namespace, context, kubeconfig), Ways(dry_run, output, wait, timeout)))
