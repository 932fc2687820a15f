// The models of the box, and those that it can fetch.

import { ApiError, bearer, type Credential, json, post, request } from "./api";
import type { Gpu, Share } from "./gpu";
import { BROKEN_OFF, explain } from "./problem";
import type { ErrorDetail } from "./wire";

/** Measuring the machine takes seconds, and longer while it answers somebody. */
const MEASURE_MS_MAX = 120_000;
/** The longest line of a download. */
const LINE_CHARS_MAX = 1 << 16;

export interface Installed {
  id: string;
  model: string;
  kind: string;
  /** The model that it is an adapter of. */
  base: string | null;
  size_bytes: number;
  status: "loaded" | "loading" | "failed" | "on_disk";
  reason: string | null;
  memory_bytes: number;
  is_default: boolean;
  gpu: Share | null;
}

export interface Outcome {
  verdict: "runs well" | "runs" | "slow" | "does not fit";
  reason: string;
  memory_bytes: number;
  prefill_tokens_per_second: number;
  decode_tokens_per_second: number;
}

export interface Prospect {
  id: string;
  name: string;
  kind: string;
  parameters: number;
  size_bytes: number;
  licence: string;
  licence_url: string | null;
  asks_for_acceptance: boolean;
  notes: string | null;
  installed: boolean;
  outcome: Outcome | null;
}

export interface Catalogue {
  memory_bytes: number;
  data: Prospect[];
}

export interface Hardware {
  processor: string;
  cores: string;
  memory_bytes: number;
  recommended_model: string | null;
  advice: { subject: string; found: string; hint: string }[];
}

/** A download that runs in the box, whoever ordered it. */
export interface Download {
  id: string;
  status: "waiting" | "fetching" | "verifying" | "done" | "failed" | "cancelled";
  total: number | null;
  completed: number | null;
  eta_seconds: number | null;
  starts_in_seconds: number | null;
  error: string | null;
}

/** A line of a download. */
export interface Progress {
  status?: string;
  total?: number;
  completed?: number;
  eta_seconds?: number;
  error?: string;
}

/** Calls about models, with what somebody is let in by. */
export class Models {
  constructor(private readonly key: Credential) {}

  private async get<T>(path: string, timeoutMs?: number): Promise<T> {
    const signal = timeoutMs ? { signal: AbortSignal.timeout(timeoutMs) } : {};
    return json(await request(path, { headers: bearer(this.key), ...signal }));
  }

  installed = async () => (await this.get<{ data: Installed[] }>("/v1/admin/models?limit=1000")).data;
  catalogue = () => this.get<Catalogue>("/v1/admin/models/catalogue", MEASURE_MS_MAX);
  hardware = () => this.get<Hardware>("/v1/admin/hardware");

  gpu = () => this.get<Gpu>("/v1/admin/gpu");
  changeGpu = async (to: "eject" | "use") => {
    const path = `/v1/admin/gpu/${to}`;
    return json<Gpu>(await request(path, { method: "POST", headers: bearer(this.key) }));
  };

  async remove(id: string) {
    const path = `/v1/admin/models/${encodeURIComponent(id)}`;
    await request(path, { method: "DELETE", headers: bearer(this.key) });
  }

  downloads = async () => (await this.get<{ data: Download[] }>("/v1/admin/downloads?limit=1000")).data;

  /** Ends a download; what came is kept for the next time. */
  async cancel(id: string) {
    await request(`/v1/admin/downloads/${encodeURIComponent(id)}`, { method: "DELETE", headers: bearer(this.key) });
  }

  /** Fetches a model, and looks on until it is there or `signal` ends that; the box fetches it in any case. */
  async pull(id: string, accept_licence: boolean, signal: AbortSignal, told: (progress: Progress) => void) {
    const response = await request("/api/pull", { ...post(this.key, { name: id, accept_licence }), signal });
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const piece = await reader.read().catch(() => undefined);
      if (!piece || piece.done) throw new ApiError(0, BROKEN_OFF);
      const lines = (rest + piece.value).split("\n");
      rest = lines.pop()!.slice(-LINE_CHARS_MAX);
      for (const line of lines.filter((line) => line !== "")) {
        const progress = JSON.parse(line) as Progress;
        if (progress.error) throw new ApiError(0, explain(0, { message: progress.error, code: null } as ErrorDetail, null));
        told(progress);
        if (progress.status === "success") return;
      }
    }
  }
}

/** `4.7 GB`. */
export function size(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let number = bytes;
  while (number >= 1000 && unit < units.length - 1) {
    number /= 1000;
    unit += 1;
  }
  return `${number >= 100 || unit === 0 ? Math.round(number) : number.toFixed(1)} ${units[unit]}`;
}

/** `about 12 tokens/s`; what is below the last digit is not told as nothing. */
export function speed(tokensPerSecond: number): string {
  if (tokensPerSecond < 0.1) return "less than 0.1 tokens/s";
  return `about ${tokensPerSecond < 10 ? tokensPerSecond.toFixed(1) : Math.round(tokensPerSecond)} tokens/s`;
}

/** What a download says, in a few words. */
export function words(progress: Progress): string {
  const { status = "", total, completed, eta_seconds } = progress;
  if (!status.startsWith("pulling ") || !total) return status === "verifying sha256 digest" ? "checking what came" : status;
  const percent = Math.floor((100 * (completed ?? 0)) / total);
  return `${percent} % of ${size(total)}${eta_seconds === undefined ? "" : `, ${left(eta_seconds)} left`}`;
}

/** Whether a download goes on. */
export const isRunning = ({ status }: Download) => status === "waiting" || status === "fetching" || status === "verifying";

/** How far a download is, in a few words. */
export function standing({ status, total, completed, eta_seconds, starts_in_seconds }: Download): string {
  if (status === "fetching" && total !== null) {
    return words({ status: "pulling ", total, completed: completed ?? 0, ...(eta_seconds === null ? {} : { eta_seconds }) });
  }
  if (status === "waiting") return starts_in_seconds === null ? "waits" : `waits ${left(starts_in_seconds)} for the hours of downloads`;
  return status === "verifying" ? "checking what came" : status;
}

function left(seconds: number): string {
  if (seconds < 90) return `${seconds} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
