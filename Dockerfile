# The operator, its emulator and the kubectl plugin; docs/image.md tells how it is built and run.

# Python and its Debian, for both stages: named here and nowhere else.
ARG BASE_IMAGE=python:3.11.15-slim-bookworm@sha256:b18992999dbe963a45a8a4da40ac2b1975be1a776d939d098c647482bcad5cba

FROM ${BASE_IMAGE} AS build
USER 0:0
WORKDIR /source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements-build.txt requirements.txt ./
RUN python3 -m venv --without-pip /build \
    && python3 -m pip --python /build/bin/python install --only-binary=:all: --require-hashes -r requirements-build.txt
# Of the Kubernetes client the classes that are generated for each group and kind of the API are 70 MB. The operator uses
# none, and kopf does without them.
RUN python3 -m venv --without-pip /opt/llmbatch \
    && python3 -m pip --python /opt/llmbatch/bin/python install --no-compile \
      --only-binary=:all: --require-hashes -r requirements.txt
RUN ["/opt/llmbatch/bin/python", "-c", "\
import importlib.util, pathlib, shutil\n\
client = pathlib.Path(importlib.util.find_spec('kubernetes').origin).parent\n\
for api in ('client', 'aio/client'):\n\
    shutil.rmtree(client / api / 'api')\n\
    for model in (client / api / 'models').glob('v[0-9]*.py'):\n\
        model.unlink()\n\
"]
COPY LICENSE README.md pyproject.toml ./
COPY operator operator
RUN python3 -m pip --python /build/bin/python wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && python3 -m pip --python /opt/llmbatch/bin/python install --no-compile --no-deps --no-index /wheels/*.whl
# Bytecode of all that is imported, the standard library's too: public images have none, and a root that is read-only
# takes none, so every start would compile it anew. Without columns, which no log of ours shows, it is smaller.
ENV PYTHONNODEBUGRANGES=1 PYTHONPYCACHEPREFIX=/opt/llmbatch/bytecode
RUN ["/opt/llmbatch/bin/python", "-W", "error", "-c", "\
import importlib, pkgutil, llmbatch\n\
for found in pkgutil.walk_packages(llmbatch.__path__, 'llmbatch.'):\n\
    if not found.name.endswith('__main__'):\n\
        importlib.import_module(found.name)\n\
"]

FROM ${BASE_IMAGE}
ARG BASE_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="llmbatch-operator" \
      org.opencontainers.image.description="A Kubernetes operator that runs batch jobs on LLM providers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
COPY --from=build /opt/llmbatch /opt/llmbatch
# kopf asks for the user's name, which a uid that /etc/passwd does not know has only from here.
ENV LOGNAME=llmbatch \
    PATH=/opt/llmbatch/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNODEBUGRANGES=1 \
    PYTHONPYCACHEPREFIX=/opt/llmbatch/bytecode \
    PYTHONUNBUFFERED=1
WORKDIR /
USER 65532:65532
EXPOSE 8080 8081
ENTRYPOINT ["llmbatch-operator"]
CMD ["run"]
