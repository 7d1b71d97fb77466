"""A strict emulator of OpenAI's and Azure OpenAI's Files and Batches APIs, to try the operator and to test it."""
