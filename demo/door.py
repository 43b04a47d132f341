"""What stands before the page: a request comes in here, or is refused in a sentence.

Gradio answers whoever knows a route of it, under any name, with a body of any size. Here a request
must be for something that this page uses, under a name of this page's, from this page if a browser
sent it, and no larger than it need be. Uploads must have room (`demo.uploads`).
"""

import asyncio
import contextlib
import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from anyio import to_thread
from gradio import route_utils
from gradio.route_utils import API_PREFIX
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo import uploads
from demo.camera import FRAME_LIMIT

BODY_LIMIT = FRAME_LIMIT + 2**16  # bytes; a frame of the camera is the largest that is no upload
STEP = 2**22  # bytes of an upload between two looks at how much there is
PATIENCE = 60.0  # seconds that an upload may stand still
READ_AWAY = 2**28  # bytes of a request that is refused
UPLOAD = API_PREFIX + "/upload"

# What browsers and gradio_client ask this page for. Left out are what fetches other sites' pages,
# runs ffmpeg, stores links to a visitor's results, or changes the program, without a limit.
READ = re.compile(
    r"""/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json|logout)?
      | /(assets|static)/.+
      | API/(info|openapi\.json|user|login_check|token|app_id|startup-events|theme\.css)
      | API/(queue/(data|status)|upload_progress|heartbeat/[^/]+|call/(v2/)?detect/[^/]+)
      | API/file=(?!https?:).+""".replace("API", API_PREFIX),
    re.VERBOSE,
)
WRITTEN = re.compile(
    r"""/login
      | API/(upload|component_server|queue/join|cancel|reset|call/(v2/)?detect)""".replace(
        "API", API_PREFIX
    ),
    re.VERBOSE,
)


ROUTES = {"GET": READ, "HEAD": READ, "POST": WRITTEN}


class RequestError(Exception):
    """A request that is not let in: HTTP's status, and a sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Door:
    """An ASGI middleware.

    Args:
        app: what it stands before.
        names: host names under which the page is reached, besides addresses in numbers. With a name
            of theirs (DNS rebinding) other pages could make a browser ask this one, and read the
            answer; with a number they cannot.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self.app = app
        self.names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the page has no websockets: Gradio closes them
            await self.app(scope, receive, send)
            return
        try:
            receive = await self._let_in(Request(scope), receive)
        except RequestError as refused:
            await _read_away(receive)
            answer = PlainTextResponse(str(refused), refused.status)
            await answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _let_in(self, request: Request, receive: Receive) -> Receive:
        self._check_host(request)
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        path = path.rstrip("/") or "/"
        routes = ROUTES.get(request.method)
        _require(routes and routes.fullmatch(path), 404, "There is nothing here.")
        if routes is READ:
            return receive
        self._check_origin(request)
        size = request.headers.get("content-length", "")
        _require(size.isdecimal(), 411, "A request must tell its length.")
        if path != UPLOAD:
            _require(int(size) <= BODY_LIMIT, 413, "This is more than the page takes.")
            return receive
        try:
            await to_thread.run_sync(uploads.make_way, int(size))
        except uploads.NoRoom as error:
            raise RequestError(413, str(error)) from None
        return _Measured(receive)

    def _check_host(self, request: Request) -> None:
        host = _name(f"//{request.headers.get('host', '')}")
        _require(
            host in self.names or _is_number(host),
            421,
            f"This page does not answer to the name {host!r:.80}. If it should, whoever runs it "
            "names it with --names.",
        )

    def _check_origin(self, request: Request) -> None:
        """Browsers tell which page a request comes from; programs do not."""
        origin = request.headers.get("origin")
        ours = self.names | {_name(f"//{request.headers['host']}")}
        _require(origin is None or _name(origin) in ours, 403, "This comes from another page.")


class _Measured:
    """The body of an upload as it comes: it may be more than there is room for by now."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._unseen = 0

    async def __call__(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), PATIENCE)
            self._unseen += len(message.get("body", b""))
            if self._unseen > STEP:
                self._unseen = 0
                await to_thread.run_sync(uploads.make_way, 0)
        except (TimeoutError, uploads.NoRoom) as error:
            # What Gradio expects of an upload that it cannot use: it removes the parts.
            raise MultiPartException(str(error) or "The upload stood still.") from None
        if message["type"] == "http.disconnect":
            raise MultiPartException("The upload broke off.")
        return message


class _FilesOnly(route_utils.GradioMultiPartParser):
    """Gradio's parser, which would collect in memory whatever comes beside files."""

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if self._current_part.file is None:
            raise MultiPartException("An upload holds files and nothing else.")


route_utils.GradioMultiPartParser = _FilesOnly  # type: ignore[misc]  # where Gradio looks for it


def _require(good: object, status: int, text: str) -> None:
    if not good:
        raise RequestError(status, text)


def _name(url: str) -> str:
    """The host in it, without its port; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _read_away(receive: Receive) -> None:
    """Browsers hear of a refusal only once they have sent everything, if that is not too much."""
    left = READ_AWAY
    with contextlib.suppress(TimeoutError):
        while left > 0:
            message = await asyncio.wait_for(receive(), PATIENCE)
            left -= len(message.get("body", b""))
            if not message.get("more_body"):
                return
