"""Services: the embedded S3 server, MLflow server and local Ray: start, health, stop."""

from dpn_platform.services.connection import connect, external_services
from dpn_platform.services.endpoints import Endpoints
from dpn_platform.services.home import Home
from dpn_platform.services.inspection import ServicesStatus, ServiceStatus, endpoints, homes, running, status
from dpn_platform.services.session import session
from dpn_platform.services.supervisor import down, up

__all__ = [
    "Endpoints",
    "Home",
    "ServiceStatus",
    "ServicesStatus",
    "connect",
    "down",
    "endpoints",
    "external_services",
    "homes",
    "running",
    "session",
    "status",
    "up",
]
