"""The types and reasons of all conditions, each once."""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """What a condition observes."""

    READY = "Ready"
    VALIDATED = "Validated"
    UPLOADED = "Uploaded"
    ROUTED = "Routed"
    SUBMITTED = "Submitted"
    COMPLETE = "Complete"
    FAILED = "Failed"
    FINISHED = "Finished"
    SUSPENDED = "Suspended"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Reason(StrEnum):
    """Why a condition is as it is; ``docs/troubleshooting.md`` says what to do about each."""

    @classmethod
    def of(cls, text: str) -> Reason:
        """The reason of a stored condition; one that this version does not know counts as ProviderError."""
        try:
            return cls(text)
        except ValueError:
            return cls.PROVIDER_ERROR

    # ModelDeployment
    READY = "Ready"
    PROBING = "Probing"
    UNAUTHORIZED = "Unauthorized"
    PERMISSION_DENIED = "PermissionDenied"
    UNREACHABLE = "Unreachable"
    RATE_LIMITED = "RateLimited"
    PROVIDER_ERROR = "ProviderError"
    SECRET_NOT_FOUND = "SecretNotFound"
    SECRET_KEY_NOT_FOUND = "SecretKeyNotFound"
    ENDPOINT_NOT_ALLOWED = "EndpointNotAllowed"
    SUSPENDED = "Suspended"
    NOT_SHARED = "NotShared"
    DELETION_WAITS = "DeletionWaits"

    # BatchFile
    VALID = "Valid"
    INVALID_INPUT = "InvalidInput"
    SOURCE_CHANGED = "SourceChanged"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    SOURCE_DENIED = "SourceDenied"
    CONFIG_MAP_NOT_FOUND = "ConfigMapNotFound"
    CONFIG_MAP_KEY_NOT_FOUND = "ConfigMapKeyNotFound"
    OBJECT_NOT_FOUND = "ObjectNotFound"
    CREDENTIALS_INVALID = "CredentialsInvalid"
    DEPLOYMENT_NOT_FOUND = "DeploymentNotFound"
    LIMIT_EXCEEDED = "LimitExceeded"
    UPLOADING = "Uploading"
    UPLOADED = "Uploaded"
    UPLOAD_FAILED = "UploadFailed"

    # BatchJob: waiting
    INPUT_FILE_NOT_FOUND = "InputFileNotFound"
    INPUT_FILE_NOT_READY = "InputFileNotReady"
    NO_HEADROOM = "NoHeadroom"
    NO_READY_DEPLOYMENT = "NoReadyDeployment"
    QUOTA = "QuotaExceeded"
    BACKOFF = "Backoff"
    ROUTED = "Routed"
    CREATING = "Creating"
    SUBMITTED = "Submitted"
    RUNNING = "Running"
    CANCELLING = "Cancelling"
    COLLECTING = "Collecting"
    RUNS_ON = "RunsOn"
    RESUMED = "Resumed"

    # BatchJob: ended
    COMPLETED = "Completed"
    COMPLETED_WITH_FAILURES = "CompletedWithFailures"
    COMPLETED_WITH_UNREADABLE_RESULTS = "CompletedWithUnreadableResults"
    COMPLETED_WITH_UNMATCHED_RESULTS = "CompletedWithUnmatchedResults"
    ALL_REQUESTS_FAILED = "AllRequestsFailed"
    INPUT_FILE_INVALID = "InputFileInvalid"
    TARGET_MODEL_AMBIGUOUS = "TargetModelAmbiguous"
    TARGET_MODEL_UNKNOWN = "TargetModelUnknown"
    ENDPOINT_MISMATCH = "EndpointMismatch"
    BATCH_FAILED = "BatchFailed"
    BATCH_REFUSED = "BatchRefused"
    BATCH_NOT_FOUND = "BatchNotFound"
    BACKOFF_LIMIT_EXCEEDED = "BackoffLimitExceeded"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    EXPIRED = "Expired"
    CANCELLED = "Cancelled"
    OUTPUT_CONFLICT = "OutputConflict"
    OUTPUT_TOO_LARGE = "OutputTooLarge"
    OUTPUT_DENIED = "OutputDenied"
    OUTPUT_FAILED = "OutputFailed"
    RESULTS_LOST = "ResultsLost"
    RESULTS_INCOMPLETE = "ResultsIncomplete"
