# The MLflow server: tracking, registry and the way to the artifacts in S3. Built by infra/compose/docker-compose.yaml.
FROM python:3.11-slim

COPY platform/dpn_platform/requirements.lock /tmp/
RUN pip install --no-cache-dir -c /tmp/requirements.lock mlflow boto3 \
    && useradd --uid 1000 --create-home mlflow \
    && install --directory --owner=mlflow /mlflow

ENV MLFLOW_DISABLE_TELEMETRY=true \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false

USER mlflow
WORKDIR /mlflow
EXPOSE 5000
