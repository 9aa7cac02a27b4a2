"""Answers from a folder of Markdown files, found by SQLite's full-text search, with their sources.

    DEEPSEEK_API_KEY=sk-... flask --app examples/rag run

Ask the run ``library``. The client hears of each source before the answer begins.
"""

import re
import sqlite3
import threading
from pathlib import Path

from flask import Flask

from chatproxy import ChatProxy

FOLDER = Path(__file__).resolve().parent.parent / "docs"
ASK = "Answer from these passages alone, and name those that you use. If they don't say it, say so."


class Library:
    """The sections of the Markdown files in a folder, found by the words in them (BM25)."""

    def __init__(self, folder):
        self._lock = threading.Lock()
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute(
            "CREATE VIRTUAL TABLE sections USING fts5(file, heading, text, tokenize='porter')"
        )
        for path in sorted(folder.glob("*.md")):
            for section in re.split(r"^#+ ", path.read_text(), flags=re.MULTILINE):
                heading, _, text = section.partition("\n")
                if text.strip():
                    row = (path.name, heading, text.strip())
                    self._db.execute("INSERT INTO sections VALUES (?, ?, ?)", row)

    def find(self, question, most=4):
        """The sections that fit best; each a file, a heading and a text."""
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))
        select = "SELECT * FROM sections WHERE sections MATCH ? ORDER BY rank LIMIT ?"
        with self._lock:
            return self._db.execute(select, (words or '""', most)).fetchall()


def create_app(config=None):
    app = Flask(__name__)
    app.config.from_mapping(config)
    chat = ChatProxy(app)
    library = Library(FOLDER)

    @chat.run("library")
    def answer(run, payload):
        *earlier, question = payload["messages"]
        found = library.find(question["content"])
        for file, heading, _ in found:
            run.emit("source", {"file": file, "heading": heading})
        passages = "\n\n".join(f"[{file}: {heading}]\n{text}" for file, heading, text in found)
        system = {"role": "system", "content": f"{ASK}\n\n{passages}"}
        yield from run.ask({**payload, "messages": [system, *earlier, question]})

    return app
