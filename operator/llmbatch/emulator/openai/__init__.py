"""The Files and Batches APIs of OpenAI and Azure OpenAI, in both dialects."""
