"""Who may use a deployment."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from llmbatch.api.modeldeployment import LabelSelector, LabelSelectorRequirement, ModelDeployment


def admits(
    deployment: ModelDeployment,
    namespace: str,
    *,
    shared_namespaces: Collection[str],
    labels: Mapping[str, str] | None,
) -> bool:
    """Whether files and jobs of ``namespace`` may use the deployment.

    A deployment of another namespace counts only where the administrator shares that namespace; otherwise anyone
    could collect other tenants' prompts by offering a model of the same name. ``labels`` are those of ``namespace``,
    None where they can't be read: then a Selector admits nothing.
    """
    home = deployment.metadata.namespace
    if home == namespace:
        return True
    if home not in shared_namespaces:
        return False
    allowed = deployment.spec.allowed_namespaces
    match allowed.from_:
        case "All":
            return True
        case "Selector":
            return labels is not None and allowed.selector is not None and selects(allowed.selector, labels)
        case _:
            return False


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects these labels; an empty one selects everything."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _meets(requirement, labels) for requirement in selector.match_expressions
    )


def _meets(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    match requirement.operator:
        case "In":
            return labels.get(requirement.key) in requirement.values
        case "NotIn":
            return labels.get(requirement.key) not in requirement.values
        case "Exists":
            return requirement.key in labels
        case "DoesNotExist":
            return requirement.key not in labels
