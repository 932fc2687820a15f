// What went wrong, in words for the person in front of it, and what helps.

import type { ErrorDetail } from "./wire";

/** What the page offers: ask again, another key, another chat, or nothing but the advice. */
export type Remedy = "retry" | "key" | "new" | "none";

export interface Problem {
  title: string;
  advice: string;
  remedy: Remedy;
}

export const UNREACHABLE: Problem = {
  title: "The box cannot be reached.",
  advice: "Check that it is on and that you are on its network. Nothing you wrote is lost.",
  remedy: "retry",
};

export const BROKEN_OFF: Problem = {
  title: "The connection broke off.",
  advice: "What came so far is kept.",
  remedy: "retry",
};

export const NO_MODEL: Problem = {
  title: "No model is installed yet.",
  advice: "On the box, run: allerac models pull smollm2-135m-instruct",
  remedy: "retry",
};

const REFUSED_KEY: Problem = {
  title: "The box does not know this key, or it was revoked.",
  advice: "Enter another one. The owner makes it with: allerac keys create --user NAME",
  remedy: "key",
};

/** By the error's code, which says more than the status. */
const BY_CODE: Record<string, Problem> = {
  wrong_code: {
    title: "That is not the claim code.",
    advice: "Read it again from the box's console: eight letters and digits, never O, I, L, U, 0 or 1.",
    remedy: "none",
  },
  wrong_login: {
    title: "Nobody of this name has this password.",
    advice: "Check both. The owner of the box can give you another password.",
    remedy: "none",
  },
  wrong_password: { title: "That is not your password.", advice: "", remedy: "none" },
  second_factor_required: {
    title: "Your second factor is asked for.",
    advice: "Type the code that your authenticator program shows now, or a recovery code.",
    remedy: "none",
  },
  wrong_second_factor: {
    title: "This code does not open.",
    advice: "Each opens once, and for a minute only: wait for the next one.",
    remedy: "none",
  },
  passkey_copied: {
    title: "This passkey may have been copied, and opens no more.",
    advice: "Sign in otherwise, remove it at Account, Security, and add it again.",
    remedy: "none",
  },
  passkey_refused: {
    title: "This passkey does not open.",
    advice: "Try again, or sign in otherwise.",
    remedy: "none",
  },
  passkey_late: { title: "That took too long.", advice: "Try again.", remedy: "none" },
  sso_late: {
    title: "Signing in took too long, or began in another browser.",
    advice: "Begin again.",
    remedy: "none",
  },
  sso_unknown: {
    title: "Nobody here is linked with you there.",
    advice: "Ask the owner for an invitation, or sign in otherwise and link it at Account, Security.",
    remedy: "none",
  },
  sso_not_allowed: {
    title: "You may not come to this box with that account.",
    advice: "Its owner lets in certain domains or groups only.",
    remedy: "none",
  },
  sso_removed: { title: "You were removed from this box.", advice: "Ask its owner to invite you again.", remedy: "none" },
  sso_name_taken: {
    title: "Somebody here is called as you are there.",
    advice: "Ask the owner for an invitation, and choose another name.",
    remedy: "none",
  },
  identity_taken: {
    title: "That account is somebody else's here already.",
    advice: "They remove it first at Account, Security.",
    remedy: "none",
  },
  sso_refused: { title: "You were not signed in there.", advice: "Try again, or come in another way.", remedy: "none" },
  sso_wrong: {
    title: "What the other side says of you does not hold.",
    advice: "Try again. If it stays like this, the log of the box says why.",
    remedy: "none",
  },
  sso_unreachable: {
    title: "The other side cannot be reached.",
    advice: "Try again in a moment, or come in another way.",
    remedy: "none",
  },
  unknown_passkey: {
    title: "Nobody here has this passkey.",
    advice: "It was removed, or is for another box. Sign in otherwise, and add it again at Account, Security.",
    remedy: "none",
  },
  signed_out: { title: "You are signed out.", advice: "Sign in again. Nothing you wrote is lost.", remedy: "key" },
  key_expired: { title: "This key has expired.", advice: "Make another one, or ask the owner for one.", remedy: "key" },
  already_claimed: {
    title: "This box has an owner already.",
    advice: "If that is you, make yourself a key on the box: allerac keys create --user NAME",
    remedy: "key",
  },
  context_length_exceeded: {
    title: "This chat is longer than the model can read.",
    advice: "Start a new chat, or send a shorter message.",
    remedy: "new",
  },
  engine_overloaded: {
    title: "The box is busy with other answers.",
    advice: "Try again in a few seconds.",
    remedy: "retry",
  },
  engine_unavailable: {
    title: "The model is still loading.",
    advice: "Try again in a moment. If it stays like this, `allerac doctor` on the box says why.",
    remedy: "retry",
  },
  model_unavailable: {
    title: "The model could not be loaded.",
    advice: "Try again in a moment, or choose another. `allerac doctor` on the box says why.",
    remedy: "retry",
  },
  engine_crashed: {
    title: "The model stopped in the middle of its answer.",
    advice: "It is being started again; try once more.",
    remedy: "retry",
  },
  disk_full: {
    title: "The disk of the box is full.",
    advice: "Its owner has to make room before it can answer again.",
    remedy: "retry",
  },
  upstream_error: {
    title: "The other server did not answer.",
    advice: "Try again, or choose a model of the box itself.",
    remedy: "retry",
  },
};

/** The words for an answer that is not a success. `waitS` is its Retry-After. */
export function explain(status: number, detail: ErrorDetail | null, waitS: number | null, now = new Date()): Problem {
  const code = detail?.code ?? "";
  if (code === "insufficient_quota") return quota(waitS, now);
  const known = BY_CODE[code];
  if (known) return known;
  const said = sentence(detail?.message);
  switch (status) {
    case 401:
      return REFUSED_KEY;
    case 403:
      return { title: said || "This key may not do that.", advice: "Choose another model, or ask the owner.", remedy: "none" };
    case 404:
      return { title: said || "The model is no longer there.", advice: "Choose another model.", remedy: "retry" };
    case 413:
      return { title: "This is more text than the box takes at once.", advice: "Send it in parts.", remedy: "new" };
    case 429:
      return { title: "Too many tries.", advice: `Wait ${duration(waitS ?? 60)}, then try again.`, remedy: "retry" };
    case 503:
      return { title: "The box is not ready.", advice: `${said} Try again in a moment.`.trim(), remedy: "retry" };
    default:
      return {
        title: said || `The box answered with an error (${status}).`,
        advice: status >= 500 ? "Try again; `allerac doctor` on the box tells more." : "",
        remedy: status >= 500 ? "retry" : "none",
      };
  }
}

function quota(waitS: number | null, now: Date): Problem {
  const renewal = waitS === null ? "" : `They renew on ${day(new Date(now.getTime() + waitS * 1000))}. `;
  return {
    title: "Too few of this month's tokens are left for another answer.",
    advice: `${renewal}The owner of the box can give you a larger plan.`,
    remedy: "retry",
  };
}

function day(date: Date): string {
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "long" });
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} seconds`;
  return `${Math.round(seconds / 60)} minutes`;
}

/** Errors are written in lower case and without a final dot. */
function sentence(message: string | undefined): string {
  if (!message) return "";
  return message.charAt(0).toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");
}
