// Runs the real programs: `allerac serve` in a process of its own, the command line beside it.

import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";

const REPOSITORY = new URL("../..", import.meta.url).pathname;
const BINARY = process.env.ALLERAC_BINARY ?? join(REPOSITORY, "target/release/allerac");
const TEST_DATA = process.env.ALLERAC_TEST_DATA ?? join(REPOSITORY, ".cache/test-data");
const START_MS_MAX = 60_000;
const SETTLE_MS_MAX = 15_000;

export const MODEL = "smollm2-135m-instruct";
export const EMBEDDING_MODEL = "all-minilm-l6-v2";
const EMBEDDING_DATA = process.env.ALLERAC_TEST_EMBEDDING ?? join(REPOSITORY, ".cache/test-embedding");

/** A running server with a data directory of its own. */
export class Server {
  static async start(config = "", { embeds = false } = {}) {
    const server = new Server();
    server.folder = mkdtempSync(join(tmpdir(), "allerac-js-"));
    server.data = join(server.folder, "data");
    for (const folder of embeds ? [TEST_DATA, EMBEDDING_DATA] : [TEST_DATA]) shareModels(folder, server.data);
    const file = join(server.folder, "allerac.toml");
    // Tests must not announce themselves on the network of the machine they run on. One thread, because two that
    // wait for each other by spinning crawl whenever a test's own clients keep a core busy.
    writeFileSync(file, `[mdns]\nenabled = false\n[engine]\nthreads = 1\n${config}`);
    const parts = ["serve", "--listen", "127.0.0.1:0", "--data-dir", server.data, "--config", file];
    server.process = spawn(BINARY, parts, { stdio: ["ignore", "pipe", "pipe"] });
    server.log = "";
    await server.#listening();
    await server.#ready();
    return server;
  }

  #listening() {
    return new Promise((resolve, reject) => {
      const note = (text) => {
        this.log += text;
        const found = /http:\/\/127\.0\.0\.1:([1-9]\d*)/.exec(this.log);
        if (found) resolve((this.url = found[0]));
      };
      this.process.stdout.setEncoding("utf8").on("data", note);
      this.process.stderr.setEncoding("utf8").on("data", note);
      this.process.on("exit", (status) => reject(new Error(`the server ended with ${status}:\n${this.log}`)));
    });
  }

  async #ready() {
    const deadline = Date.now() + START_MS_MAX;
    while ((await fetch(`${this.url}/readyz`)).status !== 200) {
      if (Date.now() > deadline) throw new Error(`the server is not ready:\n${this.log}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** What a command prints; options of the process may come last. */
  cli(...parts) {
    const options = typeof parts.at(-1) === "object" ? parts.pop() : {};
    return execFileSync(BINARY, [...parts, "--data-dir", this.data], { encoding: "utf8", ...options });
  }

  createKey(user, ...parts) {
    return this.cli("keys", "create", "--user", user, ...parts).trim();
  }

  /** What was settled, in requests and tokens, for a key or for all. */
  usage(key) {
    const rows = JSON.parse(this.cli("usage", "--json")).filter((row) => !key || key.includes(row.key));
    const sum = (name) => rows.reduce((total, row) => total + row[name], 0);
    return { requests: sum("requests"), prompt: sum("prompt_tokens"), completion: sum("completion_tokens") };
  }

  /** Waits until so many requests of a key are settled: an answer does not wait for the disk. */
  async settled(key, requests) {
    const deadline = Date.now() + SETTLE_MS_MAX;
    while (this.usage(key).requests !== requests) {
      if (Date.now() > deadline) throw new Error(`${JSON.stringify(this.usage(key))} instead of ${requests} requests`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return this.usage(key);
  }

  /** Makes somebody the owner of the box; their key. */
  async claim(owner) {
    const [, code] = /Claim code +(\S+)/.exec(this.log);
    const answer = await fetch(`${this.url}/claim`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ code, owner }),
    });
    return (await answer.json()).key;
  }

  client(key) {
    return new OpenAI({ baseURL: `${this.url}/v1`, apiKey: key, maxRetries: 0 });
  }

  async stop() {
    const ended = new Promise((resolve) => this.process.removeAllListeners("exit").on("exit", resolve));
    this.process.kill("SIGTERM");
    const status = await ended;
    rmSync(this.folder, { recursive: true });
    if (status !== 0) throw new Error(`the server ended with ${status}:\n${this.log}`);
  }
}

/** The models of a folder, shared by hard links where the file system lets us. */
function shareModels(folder, data) {
  const source = join(folder, "models");
  if (!existsSync(join(source, "blobs"))) throw new Error(`${source} is missing; fetch it: make test-model`);
  cpSync(source, join(data, "models"), { recursive: true, filter: (path) => !path.includes("sha256-") });
  mkdirSync(join(data, "models/blobs"), { recursive: true });
  for (const blob of readdirSync(join(source, "blobs"))) {
    const [from, to] = [join(source, "blobs", blob), join(data, "models/blobs", blob)];
    try {
      linkSync(from, to);
    } catch {
      cpSync(from, to);
    }
  }
}
