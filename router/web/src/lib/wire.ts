// The JSON that the page exchanges with the box.

export interface BoxStatus {
  claimed: boolean;
  name: string;
  version: string;
}

export interface Claimed {
  key: string;
  owner: string;
  model: string | null;
}

export interface ModelInfo {
  id: string;
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

export interface ChatChunk {
  choices?: { delta?: { content?: string | null }; finish_reason?: string | null }[];
  usage?: Usage | null;
  error?: { message: string; code: string | null };
}
