"""The three resources, their conditions and their names."""

from llmbatch.api.batchfile import BatchFile
from llmbatch.api.batchjob import BatchJob
from llmbatch.api.modeldeployment import ModelDeployment

KINDS = (ModelDeployment, BatchFile, BatchJob)

__all__ = ["KINDS", "BatchFile", "BatchJob", "ModelDeployment"]
