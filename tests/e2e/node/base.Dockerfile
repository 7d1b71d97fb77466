# What stands for a public Python slim image where no registry is in reach: the same Python, out of Debian packages.
# The context is the folder that they were unpacked into; no package's own script has run.
FROM scratch AS unpacked
COPY . /
ENV PATH=/usr/bin
RUN set -eu; \
    ln -sf dash /usr/bin/sh; ln -sf python3.11 /usr/bin/python3; \
    cat /usr/share/ca-certificates/mozilla/*.crt > /etc/ssl/certs/ca-certificates.crt; \
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > /etc/passwd; \
    printf 'root:x:0:\nnogroup:x:65534:\n' > /etc/group; \
    mkdir -p /tmp; chmod 1777 /tmp; \
    cd /usr/share/python-wheels; wheel=$(echo pip-*.whl); \
    python3 $wheel/pip install --quiet --no-index --no-compile --root-user-action=ignore \
      --target /usr/local/lib/python3.11/dist-packages $wheel; \
    rm -r /usr/share/doc /usr/share/info /usr/share/man /usr/share/lintian /usr/share/perl* /var/cache

FROM scratch
COPY --from=unpacked / /
ENV PATH=/usr/local/bin:/usr/bin LANG=C.UTF-8
CMD ["python3"]
