"""How the API server is reached: whom one is, over connections that notice when it is gone.

Authentication and TLS are the ``kubernetes`` package's (``kubernetes.aio``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.request import getproxies

import aiohttp
import yaml
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from shared.kube.errors import KubeError
from shared.net import attentive_socket

HEARTBEAT_S = 15
"""Seconds between the pings of a websocket, which keep it open on the way and tell when it is broken."""

CLOSE_S = 1.0
"""Longest that the end of a websocket waits for the peer's: it may be gone."""

IDLE_S = 10.0
"""Seconds that an idle connection is kept for the next request.

Less than a watch may be silent: when that is given up, what was open before is not used again.
"""

BUFFER = 2**20
"""Bytes that are read ahead of whoever follows an answer."""

_NO_CONFIGURATION = (ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError)
"""What reading raises that is no kubeconfig."""


class Connections(RESTClientObject):
    """Connections that notice a peer that is gone: half-open sockets otherwise stay silent for minutes."""

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(
            limit=self.maxsize,
            ssl=self.ssl_context,
            keepalive_timeout=IDLE_S,
            socket_factory=attentive_socket,
        )

    def _create_pool_manager(self) -> aiohttp.ClientSession:
        # Trusting the environment costs a thread for each request, which looks for a ~/.netrc.
        return aiohttp.ClientSession(
            connector=self._create_connector(),
            trust_env=bool(getproxies()),
            read_bufsize=BUFFER,
        )

    async def websocket(
        self, url: str, headers: dict[str, str], protocol: str
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a websocket that speaks `protocol`."""
        if self.pool_manager is None:
            self.pool_manager = self._create_pool_manager()
        connected: aiohttp.ClientWebSocketResponse = await self.pool_manager.ws_connect(
            url,
            headers=headers,
            protocols=(protocol,),
            heartbeat=HEARTBEAT_S,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
            proxy=self.proxy,
            proxy_headers=self.proxy_headers,
            server_hostname=self.configuration.tls_server_name,
        )
        return connected


async def load_configuration(kubeconfig: Path | None, context: str | None = None) -> Configuration:
    """Read how to reach the API and as whom: from a kubeconfig, or from the Pod's ServiceAccount.

    Raises:
        KubeError: there is no such way.
    """
    made = Configuration()
    try:
        if kubeconfig is None:
            kube_config.load_incluster_config(made)  # type: ignore[no-untyped-call]
        else:
            await kube_config.load_kube_config(  # type: ignore[no-untyped-call]
                str(kubeconfig), context=context, client_configuration=made
            )
    except kube_config.ConfigException as error:
        # A part of a kubeconfig is named by its path, and then by all that is in it, with a token.
        told = str(error).partition("{")[0].rstrip("/")
        raise KubeError(f"no way to the Kubernetes API: {told}") from error
    except OSError as error:
        raise KubeError(f"no way to the Kubernetes API: {error}") from error
    except _NO_CONFIGURATION as error:
        told = f"{kubeconfig or 'the ServiceAccount'} has another form ({type(error).__name__})"
        raise KubeError(f"no way to the Kubernetes API: {told}") from error
    return made


def connections_of(configuration: Configuration) -> Connections:
    """Make ready to connect.

    Raises:
        KubeError: a certificate or a key is none.
    """
    try:
        return Connections(configuration)
    except (OSError, ValueError) as error:
        told = "a certificate or key of the kubeconfig cannot be used"
        raise KubeError(f"no way to the Kubernetes API: {told} ({type(error).__name__})") from error


async def authorization(configuration: Configuration) -> dict[str, str]:
    """Build the headers that say who one is, from a token that is read anew when it is old."""
    # Its own annotation lists every kind of authentication; only the set ones are there.
    auths: Any = await configuration.auth_settings()
    return {auth["key"]: auth["value"] for auth in auths.values()}
