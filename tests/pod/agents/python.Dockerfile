# An agent as a company would build it. The servers that it calls, and the collector, run from the same image.
ARG BASE=docker.io/library/python:3.11-slim-bookworm
FROM ${BASE}
# rotel is linked to it.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libpython3.11 \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1
COPY requirements.txt /app/
RUN pip install --no-cache-dir --quiet -r /app/requirements.txt
COPY agent.py /app/
