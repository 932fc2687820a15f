// The JSON that the page exchanges with the box.

export interface BoxStatus {
  claimed: boolean;
  name: string;
  version: string;
  /** With whom else people sign in, by name. */
  single_sign_on: string | null;
}

export interface Claimed {
  key: string;
  owner: string;
  /** The model to begin with, when one is installed. */
  model: string | null;
}

export interface ModelInfo {
  id: string;
  /** `allerac` for the box's own models, `upstream:NAME` for those of another server. */
  owned_by: string;
}

export interface Message {
  role: "user" | "assistant";
  content: string;
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
}

export interface ErrorDetail {
  message: string;
  code: string | null;
}

export interface ChatChunk {
  choices?: { delta?: { content?: string | null }; finish_reason?: string | null }[];
  usage?: Usage | null;
  error?: ErrorDetail;
}
