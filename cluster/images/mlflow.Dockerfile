# An MLflow server of the version that studies send to, with its users, PostgreSQL and S3. From the checkout's folder:
#
#   docker build --file cluster/images/mlflow.Dockerfile --tag decred-mlflow:3.17.2 .
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

RUN groupadd --gid 10001 mlflow \
    && useradd --uid 10001 --gid mlflow --create-home --shell /bin/bash mlflow

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/mlflow
COPY constraints.txt cluster/images/mlflow-auth.ini ./
RUN python3 -m venv /opt/mlflow/environment \
    && /opt/mlflow/environment/bin/pip install --constraint constraints.txt 'mlflow[auth]' 'psycopg[binary]' 'boto3>=1.40'

ENV PATH=/opt/mlflow/environment/bin:$PATH MLFLOW_AUTH_CONFIG_PATH=/opt/mlflow/mlflow-auth.ini
USER mlflow
WORKDIR /home/mlflow
EXPOSE 5000
