// The relay in Express that most people write: one fetch for each answer, and a map from which a
// Stop takes what aborts it.

import { once } from "node:events";
import express from "express";

const URL = `${process.env.DEEPSEEK_BASE_URL}/chat/completions`;
const HEADERS = {
  Authorization: `Bearer ${process.env.DEEPSEEK_API_KEY}`,
  "Content-Type": "application/json",
};

/** @type {Map<string, AbortController>} */
const running = new Map();

const app = express();
app.disable("x-powered-by");
app.use(express.json({ limit: "1mb" }));

app.post("/api/chat/stream", async (req, res) => {
  const id = req.get("X-Session-Id");
  if (!id) {
    res.status(400).json({ error: "Missing sessionId" });
    return;
  }
  const abort = new AbortController();
  running.set(id, abort);
  // The response's: that of the request comes as soon as its body has been read.
  res.on("close", () => abort.abort());
  try {
    await relay({ ...req.body, stream: true }, res, abort.signal);
  } catch (error) {
    if (!abort.signal.aborted) {
      throw error;
    }
    res.end();
  } finally {
    running.delete(id);
  }
});

app.post("/api/chat/cancel/:id", (req, res) => {
  const abort = running.get(req.params.id);
  if (!abort) {
    res.status(404).json({ success: false, message: "Session not found" });
    return;
  }
  abort.abort();
  res.json({ success: true });
});

async function relay(payload, res, signal) {
  const body = JSON.stringify(payload);
  const answer = await fetch(URL, { method: "POST", headers: HEADERS, body, signal });
  res.status(answer.status);
  res.set("Content-Type", answer.headers.get("Content-Type") ?? "text/event-stream");
  res.set("Cache-Control", "no-cache");
  res.set("X-Accel-Buffering", "no");
  for await (const piece of answer.body) {
    if (!res.write(piece)) {
      await once(res, "drain", { signal });
    }
  }
  res.end();
}

app.listen(Number(process.env.PORT), "127.0.0.1");
