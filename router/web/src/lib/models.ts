// The models of the box, and those that it can fetch.

import { ApiError, bearer, type Credential, json, post, request } from "./api";
import { BROKEN_OFF, explain } from "./problem";
import type { ErrorDetail } from "./wire";

/** Measuring the machine takes seconds, and longer while it answers somebody. */
const MEASURE_MS_MAX = 120_000;
/** The longest line of a download. */
const LINE_CHARS_MAX = 1 << 16;

/** How much of a model a graphics processor has. */
export interface Share {
  layers: number;
  layers_max: number;
  cpu_expert_layers: number;
  bytes: number;
}

/** The graphics processor, and whether models are loaded onto it. */
export interface Gpu {
  status: "ready" | "ejecting" | "ejected" | "failed" | "absent" | "looking" | "off" | "no_module";
  reason: string | null;
  devices: { name: string; description: string; is_used: boolean; is_integrated: boolean; memory_bytes: number; free_bytes: number }[];
}

export interface Installed {
  id: string;
  model: string;
  kind: string;
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

  /** Fetches a model until it is there, or until `signal` ends it; what came is kept for the next time. */
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

/** How much of a model a graphics processor has. */
export function share({ layers, layers_max, cpu_expert_layers }: Share): string {
  if (layers < layers_max) return `${layers} of ${layers_max} layers on the graphics processor`;
  if (cpu_expert_layers === 0) return "on the graphics processor";
  return `on the graphics processor but for the experts of ${cpu_expert_layers} layers`;
}

/** What becomes of the graphics processor; nothing to say where there is none. */
export function standing({ status, reason, devices }: Gpu): string | null {
  const name = devices.find((device) => device.is_used)?.description ?? devices.find((device) => !device.is_integrated)?.description;
  switch (status) {
    case "ready":
      return `${name} is used`;
    case "ejecting":
      return "The graphics processor is being ejected: answers that it computes end first";
    case "ejected":
      return "The graphics processor was ejected, and can be unplugged";
    case "failed":
      return `The graphics processor failed, and is tried again later${reason ? `: ${reason}` : ""}`;
    default:
      return null;
  }
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

function left(seconds: number): string {
  if (seconds < 90) return `${seconds} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
