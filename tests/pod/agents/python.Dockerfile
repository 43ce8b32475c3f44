# An agent as a company would build it: its libraries, and the company's authority in the system's store.
# The servers that it calls run from the same image.
ARG BASE=docker.io/library/python:3.11-slim-bookworm
FROM ${BASE}
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1
COPY requirements.txt /app/
RUN pip install --no-cache-dir --no-compile --quiet -r /app/requirements.txt
COPY agent.py /app/
