"""A real PostgreSQL for the tests, as an ordinary process, that can be killed and started again."""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import psycopg

from .valkey import free_port
from .waiting import wait_for

#: Debian does not put them in the path.
_FOLDERS = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
POSTGRES = shutil.which("postgres", path=os.pathsep.join([*_FOLDERS, os.environ.get("PATH", "")]))

#: It loses nothing when it is killed: only the machine's own end would cost it something.
_QUICK = ("fsync=off", "full_page_writes=off", "synchronous_commit=on")


def query(url, text):
    """The rows of a query, whatever the kind of the database."""
    if url.startswith("sqlite:"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return connection.execute(text).fetchall()
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as connection:
        cursor = connection.execute(text)
        return cursor.fetchall() if cursor.description else []


class PostgreSQL:
    """A PostgreSQL in a folder of its own.

    It refuses to run as root, so there it is another user's.
    """

    password = "se:cret/%"

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="postgresql")
        folder = Path(self._folder.name)
        self._data, self._log = folder / "data", folder / "log"
        self._numbers = itertools.count(1)
        self._user = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        secret = folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        self._run(
            Path(POSTGRES).with_name("initdb"),
            *("--username", "chatproxy", "--pwfile", secret, "--auth", "scram-sha-256"),
            *("--no-sync", "--encoding", "UTF8", "--no-locale", "--pgdata", self._data),
        )
        self.port = free_port()
        self.process = None
        self.start()

    def url_of(self, database, user="chatproxy"):
        """The URL of a database, with the password as a URL has it."""
        return f"postgresql://{user}:se%3Acret%2F%25@127.0.0.1:{self.port}/{database}"

    def new_database(self):
        """Make an empty one; return its URL."""
        name = f"test{next(self._numbers)}"
        query(self.url_of("postgres"), f"CREATE DATABASE {name}")
        return self.url_of(name)

    def new_user(self):
        """Make a user with an empty schema, which costs a tenth of a database; return their URL."""
        name = f"test{next(self._numbers)}"
        login = f"CREATE ROLE {name} LOGIN PASSWORD '{self.password}'"
        query(self.url_of("postgres"), f"{login}; CREATE SCHEMA AUTHORIZATION {name}")
        return self.url_of("postgres", name)

    def _run(self, *command):
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, cwd="/", **self._user
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self):
        """Start it, again on the same port; return when it answers."""
        settings = [f"port={self.port}", "listen_addresses=127.0.0.1", *_QUICK]
        settings.append(f"unix_socket_directories={self._folder.name}")
        command = [POSTGRES, "-D", str(self._data)]
        for each in settings:
            command += ["-c", each]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd="/",
                **self._user,
            )
        wait_for(self._answers, 30, "the start of PostgreSQL")

    def _answers(self):
        assert self.process.poll() is None, self._log.read_text()
        try:
            query(self.url_of("postgres"), "SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def kill(self):
        """End it at once, as ``pg_ctl stop --mode immediate`` does."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self._folder.cleanup()
