# syntax=docker/dockerfile:1
# docker build --target cpu --tag codeshell-hf .        docker build --target cuda --tag codeshell-hf:cuda .
# docker run --rm codeshell-hf chat --prompt "Write f(x) that returns x plus 2."
# docker run --rm --publish 8000:8000 --env CODESHELL_API_KEY=... codeshell-hf serve --host 0.0.0.0
# docker run --rm --gpus all --publish 8000:8000 codeshell-hf:cuda serve WisdomShell/CodeShell-7B-Chat --host 0.0.0.0

FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim-bookworm AS base
RUN useradd --create-home --uid 1000 codeshell \
    && mkdir /cache && chown codeshell /cache
ENV HF_HOME=/cache PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
COPY constraints.txt /tmp/constraints.txt
COPY --from=wheel /wheels /wheels
WORKDIR /home/codeshell
EXPOSE 8000
VOLUME /cache
ENTRYPOINT ["codeshell"]
CMD ["--help"]

# torch from PyPI has CUDA's libraries; the host has the driver.
FROM base AS cuda
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt "codeshell-hf[serve] @ file://$(echo /wheels/*.whl)"
USER 1000

FROM base AS cpu
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu "codeshell-hf[serve] @ file://$(echo /wheels/*.whl)"
USER 1000
