"""Serves a model: OpenAI's interface, those of llama.cpp and TGI for editors, and a chat page in the browser.

codeshell serve runs/nano/publish/model
codeshell serve WisdomShell/CodeShell-7B-Chat --port 8080 --device cuda --dtype bfloat16
codeshell serve runs/nano/publish/model --host 0.0.0.0 --api-key SECRET
codeshell serve runs/nano/gguf/nano-q4_0.gguf             runs llama.cpp's llama-server, if it is installed
codeshell chat runs/nano/publish/model http://localhost:8000     chats with a server
"""

import argparse
import ipaddress
import logging
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..serve.settings import ServeSettings
from ..stages.process import make_parser, run
from .terminal import add_loading_options, load, use_bundled

KEY_VARIABLE = "CODESHELL_API_KEY"
LIMITS = ("max_rows", "max_waiting", "max_batch_tokens", "max_new_tokens", "max_body_bytes")
NEEDED = ("starlette", "uvicorn", "jinja2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until it is stopped; returns 0, or 2 if called wrongly."""
    parser = make_parser("serve", __doc__)
    parser.add_argument(
        "model", nargs="?",
        help="a folder with a model and its tokenizer, its name on the Hub, or a GGUF file; by default a tiny model",
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s: this machine)")
    parser.add_argument("--port", type=int, default=8000, help="default %(default)s; editors' plug-ins expect 8080")
    parser.add_argument("--name", help="the model's name in answers; by default the folder's")
    parser.add_argument(
        "--api-key", metavar="KEY", help=f"that requests must carry; better in the variable {KEY_VARIABLE}"
    )
    parser.add_argument(
        "--allow-origin", action="append", default=[], metavar="ORIGIN", help="a web page that may call; * for all"
    )
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="another name of this machine, for a proxy"
    )
    for name in LIMITS:
        field = ServeSettings.model_fields[name]
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, metavar="N", help=f"{field.description} (default {field.default})")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    add_loading_options(parser)
    options = parser.parse_args(arguments)
    options.model = use_bundled(options.model, "codeshell serve WisdomShell/CodeShell-7B-Chat")
    return run("serve", lambda: serve_gguf(options) if options.model.endswith(".gguf") else serve(options))


def serve(options: argparse.Namespace) -> None:
    """Loads a model and serves it.

    Raises:
        SettingsError: If a package is missing, an option is out of range, or the port cannot be used.
        CheckpointError: If the model cannot be loaded.
    """
    from ..checkpoint_places import is_folder
    from ..errors import SettingsError

    if lacking := [name for name in NEEDED if find_spec(name) is None]:
        raise SettingsError(f"{lacking[0]} is not installed; pip install 'codeshell-hf[serve]'")
    is_folder(options.model)
    import uvicorn

    from ..serve.app import make_app
    from ..serve.service import Service

    settings = read_settings(options)
    sock = listen(options.host, options.port)
    logging.basicConfig(level=options.log_level.upper(), format="%(levelname)s: %(message)s")
    model, tokenizer = load(options.model, options)
    name = options.name or Path(options.model).resolve().name
    app = make_app(Service(model.eval(), tokenizer, name, settings))
    address = f"http://{'[' + options.host + ']' if ':' in options.host else options.host}:{sock.getsockname()[1]}"
    if settings.allowed_hosts is None and settings.key is None:
        print(f"{options.host} is open to others, and there is no key: set {KEY_VARIABLE}", file=sys.stderr)
    print(f"serving {name}: chat at {address}, OpenAI's interface at {address}/v1; Ctrl-C stops", flush=True)
    config = uvicorn.Config(
        app, log_level=options.log_level, timeout_graceful_shutdown=5, server_header=False, lifespan="on"
    )
    uvicorn.Server(config).run(sockets=[sock])


def read_settings(options: argparse.Namespace) -> ServeSettings:
    """The server's settings; a `SettingsError` if one is out of range."""
    from pydantic import ValidationError

    from ..errors import SettingsError
    from ..serve.access import LOOPBACK_HOSTS

    given = {name: getattr(options, name) for name in ServeSettings.model_fields if hasattr(options, name)}
    is_loopback = options.host == "localhost" or is_loopback_address(options.host)
    hosts = (*LOOPBACK_HOSTS, options.host, *options.allow_host) if is_loopback else None
    key = options.api_key if options.api_key is not None else os.environ.get(KEY_VARIABLE) or None
    try:
        return ServeSettings(
            **{name: value for name, value in given.items() if value is not None},
            key=key,
            allowed_origins=tuple(options.allow_origin),
            allowed_hosts=hosts,
        )
    except ValidationError as error:
        first = error.errors()[0]
        option = {"key": "--api-key"}.get(str(first["loc"][0]), f"--{first['loc'][0]}".replace("_", "-"))
        raise SettingsError(f"{option} is {first['input']!r}: {first['msg'].lower()}") from error


def is_loopback_address(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Opens the port before the model is loaded, so that a port in use is known at once.

    Raises:
        SettingsError: If it cannot be used.
    """
    from ..errors import SettingsError

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"{host}:{port} cannot be used ({reason}); choose another --port") from error
    return sock


def serve_gguf(options: argparse.Namespace) -> None:
    """Becomes llama.cpp's server, with the options that it has, too.

    Raises:
        DataError: If there is no such file.
        SettingsError: If llama.cpp is not installed.
    """
    from ..errors import DataError, SettingsError

    if not Path(options.model).is_file():
        raise DataError(f"{options.model} does not exist; codeshell gguf FOLDER {options.model} writes it")
    program = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    if program is None:
        raise SettingsError(
            f"{options.model} is a GGUF file, and llama-server is not on the PATH; install llama.cpp, or serve the "
            "folder that the file was made from"
        )
    key = options.api_key or os.environ.get(KEY_VARIABLE)
    command = [program, "--model", options.model, "--host", options.host, "--port", str(options.port)]
    command += ["--alias", options.name] if options.name else []
    command += ["--parallel", str(options.max_rows)] if options.max_rows else []
    if key:  # not among the arguments, which every user of the machine can read
        os.environ["LLAMA_API_KEY"] = key
    sys.stdout.flush()
    os.execvp(program, command)  # noqa: S606 - no shell
