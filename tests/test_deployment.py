"""What operators are given: the files in deploy/, and what the documents tell of them."""

import configparser
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import yaml
from click.testing import CliRunner

from chatproxy import cli
from chatproxy.config import Settings, describe, unknown_names

from .support.fork_server import fork_server
from .support.nginx import NGINX, SITE
from .support.servers import ROOT, Process, clean_environment
from .support.waiting import wait_for

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "chatproxy.service"
DEPLOYED = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

#: Where the unit expects the clone.
HOME = "/opt/chatproxy"


@pytest.fixture
def service():
    """The unit's section [Service]; no directive of the unit is given twice."""
    unit = configparser.ConfigParser(None, delimiters=("=",), interpolation=None)
    unit.optionxform = str
    unit.read_string(UNIT.read_text())
    return unit["Service"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_has_nothing_to_say_against_the_unit(tmp_path):
    """It looks at every directive, and whether the program of each command is there."""
    gunicorn = f"{HOME}/.venv/bin/gunicorn"
    text = UNIT.read_text().replace(gunicorn, sys.executable).replace(HOME, str(ROOT))
    copy = tmp_path / UNIT.name
    copy.write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _workers_in(run_dir, url):
    """The sockets of the workers that are there; each opens its own at its first request."""
    requests.get(f"{url}/readyz", timeout=60)  # after a reload, only when a new one has loaded
    return {path for path in run_dir.iterdir() if path.is_socket()}


def test_the_service_tells_systemd_when_it_is_there_reloads_and_ends(
    service, logs, deepseek, tmp_path
):
    program, *arguments = shlex.split(service["ExecStart"])
    assert program == f"{HOME}/.venv/bin/gunicorn"
    workers = 2  # fewer than a server has, to begin sooner
    arguments[arguments.index("--workers") + 1] = str(workers)
    arguments[arguments.index("--bind") + 1] = "127.0.0.1:0"
    run_dir, notify = tmp_path / "run", tmp_path / "notify"
    run_dir.mkdir(mode=int(service["RuntimeDirectoryMode"], 8))
    environment = clean_environment(
        DEEPSEEK_BASE_URL=deepseek.url, CHATPROXY_RUN_DIR=run_dir, NOTIFY_SOCKET=notify
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(notify))
        systemd.settimeout(30)
        command = [sys.executable, "-m", "gunicorn", *arguments]
        with Process(command, logs("service"), environment, "gevent") as master:
            assert service["Type"] == "notify"
            assert b"READY=1" in systemd.recv(4096)
            wait_for(lambda: len(_workers_in(run_dir, master.url)) == workers, 30)
            old = _workers_in(run_dir, master.url)
            assert service["ExecReload"] == "/bin/kill -s HUP $MAINPID"
            master.process.send_signal(signal.SIGHUP)
            wait_for(lambda: len(_workers_in(run_dir, master.url) - old) == workers, 60)
            wait_for(lambda: not _workers_in(run_dir, master.url) & old, 60)
            assert master.stop() == 0
            assert "Traceback" not in master.log()


def test_the_service_has_a_run_directory_of_its_own(service):
    assert service["Environment"] == f"CHATPROXY_RUN_DIR=/run/{service['RuntimeDirectory']}"
    assert service["RuntimeDirectoryMode"] == "0700"


def test_the_service_has_time_to_drain_and_descriptors_for_all(service):
    settings = Settings()
    assert int(service["TimeoutStopSec"]) > 2 * (settings.grace + 10)
    assert int(service["LimitNOFILE"]) > 3 * settings.max_sessions + 200


def test_nginx_draws_the_line_at_the_default_limit():
    text, settings = SITE.read_text(), Settings()
    assert settings.max_body_bytes == 1 << 20
    assert "client_max_body_size 1m;" in text
    assert settings.conversation_bytes == 2 << 20
    assert "client_max_body_size 3m;" in text
    for limit in (settings.max_body_bytes, settings.conversation_bytes):
        assert f"The body is larger than {limit} bytes." in text


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_compose_builds_what_is_there_sets_what_is_known_and_names_its_own_services(compose):
    for name in ("chatproxy-1", "chatproxy-2"):
        service = compose["services"][name]
        assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert set(service["environment"]) <= {name for name, _, _ in describe()}
        peers = Settings.load({}, {"CHATPROXY_PEERS": service["environment"]["CHATPROXY_PEERS"]})
        assert peers.peers.removeprefix("redis://").partition(":")[0] in compose["services"]
        assert int(service["stop_grace_period"].rstrip("s")) > Settings().grace + 10
    for service in compose["services"].values():
        assert set(service.get("depends_on", [])) <= set(compose["services"])


@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
def test_compose_makes_a_site_that_nginx_accepts(compose, authority, tmp_path):
    """Of the committed one, with its command. For the test, the hosts get addresses."""
    nginx = compose["services"]["nginx"]
    sources = [volume.split(":")[0] for volume in nginx["volumes"]]
    assert (DEPLOY / sources[0]).samefile(SITE)
    shell, option, script = nginx["command"]
    made = tmp_path / "default.conf"
    script = script.partition("&&")[0].replace("/etc/nginx/conf.d/default.conf", str(made))
    script = script.replace("/site.conf", str(SITE))
    subprocess.run([shell, option, script], check=True, timeout=10)
    issued = authority.issue_cert("chat.example.com")
    issued.private_key_pem.write_to_path(tmp_path / "privkey.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "fullchain.pem")
    text = made.read_text().replace("/etc/nginx/tls", str(tmp_path))
    for number in (1, 2):
        assert f"server chatproxy-{number}:8000;" in text
        text = text.replace(f"chatproxy-{number}:", f"127.0.0.{number}:")
    made.write_text(text.replace("listen 443", f"listen unix:{tmp_path}/site.sock"))
    main = tmp_path / "nginx.conf"
    main.write_text(f"pid {tmp_path}/pid; events {{}} http {{ include {made}; }}")
    command = [NGINX, "-t", "-p", f"{tmp_path}", "-c", f"{main}", "-e", "error.log"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def dockerfile():
    """The instructions of the Dockerfile, as pairs."""
    text = (DEPLOY / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(" ", 1)) for line in lines]


def _copied(dockerfile):
    """What the Dockerfile copies, as pairs of a source and its destination."""
    for instruction, rest in dockerfile:
        if instruction == "COPY":
            *sources, destination = rest.split()
            yield from ((source, destination) for source in sources)


@pytest.fixture(scope="module")
def image(dockerfile, tmp_path_factory):
    """A folder with what the image has in its working directory."""
    folder = tmp_path_factory.mktemp("image")
    for source, destination in _copied(dockerfile):
        if (ROOT / source).is_dir():
            skip = shutil.ignore_patterns("client", "__pycache__")
            shutil.copytree(ROOT / source, folder / destination, ignore=skip)
        else:
            shutil.copy(ROOT / source, folder / destination)
    return folder


def test_the_image_gets_all_that_it_is_built_of(dockerfile, image):
    """And its build context has that, but for what .dockerignore says."""
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    assert kept == {source for source, _ in _copied(dockerfile)}
    installs = " ".join(rest for name, rest in dockerfile if name == "RUN")
    assert "-r requirements.txt" in installs
    setup = (ROOT / "setup.cfg").read_text()
    wanted = re.findall(r"^(?:license_files = |.*file: )(\S+)$", setup, re.MULTILINE)
    for name in [*wanted, "requirements.txt", "setup.py", "setup.cfg"]:
        assert (image / name).is_file()


@pytest.mark.slow
def test_the_image_holds_all_that_its_command_needs(dockerfile, image):
    [command] = [rest for instruction, rest in dockerfile if instruction == "CMD"]
    program, *arguments = yaml.safe_load(command)
    assert program == "gunicorn"
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--check-config", *arguments],
        cwd=image,
        env=clean_environment(DEEPSEEK_BASE_URL="http://127.0.0.1:1", PYTHONPATH=image),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [*DOCUMENTS, *DEPLOYED], ids=lambda p: p.name)
def test_every_setting_that_is_named_is_one(path):
    assert unknown_names(re.findall(r"\bCHATPROXY_[A-Z_]+\b", path.read_text())) == []


def _settings_table(path):
    """The rows of the table of settings in a document: name, default and meaning."""
    table = path.read_text().partition("| name | default | meaning |\n| --- | --- | --- |\n")[2]
    rows = table.partition("\n\n")[0].splitlines()
    return [tuple(cell.strip(" `") for cell in row.strip("|").split("|")) for row in rows]


def test_the_table_of_settings_is_what_the_settings_are():
    assert _settings_table(ROOT / "docs" / "deployment.md") == list(describe())


def test_the_readme_knows_the_defaults_of_what_it_lists():
    listed = [(name, default) for name, default, _ in _settings_table(ROOT / "README.md")]
    assert set(listed) <= {(name, default) for name, default, _ in describe()}


def _anchors(text):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_every_link_within_the_repository_leads_somewhere(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if not re.match(r"[a-z]+:", link):
            name, _, anchor = link.partition("#")
            target = (document.parent / name) if name else document
            assert target.exists(), link
            assert not anchor or anchor in _anchors(target.read_text()), link


def _commands(program):
    """The commands in the documents that run a program: the arguments of each."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text().replace("\\\n", " ")
        found += re.findall(rf"^\$ (?:\w+=\S+ )*(?:\S*/)?{program} (.*)$", text, re.MULTILINE)
        found += re.findall(rf"`{program} ([^`]+)`", text)
    return sorted({" ".join(each.split()) for each in found})


@pytest.mark.slow
def test_every_gunicorn_command_in_the_documents_is_accepted(tmp_path):
    shutil.copy(ROOT / "wsgi.py", tmp_path)
    (tmp_path / "myapp.py").write_text(
        "from flask import Flask\n"
        "from chatproxy import ChatProxy\n"
        "app = Flask(__name__)\n"
        "ChatProxy(app)\n"
    )
    environment = clean_environment(DEEPSEEK_BASE_URL="http://127.0.0.1:1")
    log_path = tmp_path / "log"
    for command in _commands("gunicorn"):
        arguments = ["gunicorn", "--check-config", "--chdir", str(tmp_path), *shlex.split(command)]
        with log_path.open("wb") as log:
            status = fork_server("gevent").start(arguments, environment, log).wait(60)
        assert status == 0, f"{command}\n{log_path.read_text()}"


@pytest.mark.parametrize("command", _commands("chatproxy"))
def test_every_chatproxy_command_in_the_documents_has_options_that_are_there(command):
    done = CliRunner().invoke(cli.main, [*shlex.split(command), "--help"])
    assert done.exit_code == 0, done.output


def test_the_documents_have_such_commands():
    """Or the two tests above would test nothing."""
    assert len(_commands("gunicorn")) >= 3
    assert len(_commands("chatproxy")) >= 4


def test_files_that_the_documents_name_are_there():
    for document in DOCUMENTS:
        for name in re.findall(r"\bdeploy/[\w./-]*", document.read_text()):
            assert Path(ROOT, name.rstrip(".")).exists(), f"{document.name}: {name}"
