// The graphics processor, in words.

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

/** How much of a model a graphics processor has. */
export function share({ layers, layers_max, cpu_expert_layers }: Share): string {
  if (layers < layers_max) return `${layers} of ${layers_max} layers on the graphics processor`;
  if (cpu_expert_layers === 0) return "on the graphics processor";
  return `on the graphics processor but for the experts of ${cpu_expert_layers} layers`;
}

/** What becomes of the graphics processor; nothing to say where there is none. */
export function fate({ status, reason, devices }: Gpu): string | null {
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
