# What stands for a public Python slim image where no registry is in reach: the same Python, out of Debian packages.
# The context is the folder that they were unpacked into; no package's own script has run.
FROM scratch AS unpacked
COPY . /
ENV PATH=/usr/bin
SHELL ["/usr/bin/dash", "-euc"]
RUN ln -s dash /usr/bin/sh; ln -s python3.11 /usr/bin/python3; \
    cat /usr/share/ca-certificates/mozilla/*.crt > /etc/ssl/certs/ca-certificates.crt; \
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > /etc/passwd; \
    printf 'root:x:0:\nnogroup:x:65534:\n' > /etc/group; \
    python3 /usr/share/python-wheels/pip-*.whl/pip install --quiet --no-index --no-compile --root-user-action=ignore \
      --target /usr/local/lib/python3.11/dist-packages /usr/share/python-wheels/pip-*.whl; \
    rm -r /usr/share/doc /usr/share/info /usr/share/man /usr/share/lintian /usr/share/perl* /usr/lib/x86_64-linux-gnu/perl* \
      /var/cache; \
    mkdir -p /tmp; chmod 1777 /tmp

FROM scratch
COPY --from=unpacked / /
ENV PATH=/usr/local/bin:/usr/bin LANG=C.UTF-8
CMD ["python3"]
