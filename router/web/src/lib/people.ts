// Who is signed in, and what people, keys and invitations there are.

import { ApiError, bearer, type Credential, json, post, request } from "./api";
import type { MakeJson } from "./passkeys";

/** Objects on a page of a list, as far as the page shows them. */
const SHOWN_MAX = 1000;

export interface Month {
  limit: number | null;
  used: number;
  free: number | null;
}

/** What may be spent on other servers in a month, in billionths of the currency; null is no limit. */
export interface Spending {
  limit_billionths: number | null;
  used_billionths: number;
  free_billionths: number | null;
}

export interface Person {
  id: string;
  name: string;
  role: string;
  plan: string;
  keys: number;
  month: Month;
  spending: Spending;
  hours: string;
  models: string[];
  has_password: boolean;
  has_second_factor: boolean;
  passkeys: number;
  has_single_sign_on: boolean;
}

export interface Account {
  person: Person;
  teams: { name: string; month: Month; spending: Spending }[];
  team: string | null;
  signed_in: boolean;
  rights: string[];
  storage: { used_bytes: number; limit_bytes: number | null };
}

export interface Key {
  id: string;
  name: string;
  team: string | null;
  scopes: string[];
  created_at: number;
  expires_at: number | null;
  last_used_at: number | null;
  revoked_at: number | null;
}

export interface Session {
  id: string;
  agent: string;
  address: string;
  last_used_at: number;
  current: boolean;
}

export interface Passkey {
  id: string;
  name: string;
  host: string;
  synced: boolean;
  last_used_at: number | null;
}

export interface Team {
  id: string;
  name: string;
  plan: string;
  members: string[];
  month: Month;
  spending: Spending;
}

/** Limits of a plan; null is none. */
export interface Limits {
  tokens_a_month: number | null;
  requests_a_minute: number | null;
  tokens_a_minute: number | null;
  concurrency: number | null;
  parameters_below: number | null;
  models: string[];
  upstreams: boolean;
  storage_bytes: number | null;
  upstream_budget_billionths: number | null;
}

export interface Plan {
  id: string;
  limits: Limits;
  users: number;
  keys: number;
}

export interface Entry {
  id: string;
  at: number;
  actor: string;
  action: string;
  subject: string;
  detail: Record<string, unknown>;
}

export interface Used {
  user: string;
  model: string;
  requests: number;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  energy_kwh: number;
  cpu_seconds: number;
  cost: number;
}

/** What was used in a month, and the energy of the box. */
export interface MonthUsage {
  month: string;
  months: string[];
  used: Used[];
  currency: string;
  energy: { counters: string[]; unreadable: string[]; own_kwh: number; own_cost: number };
}

/** Another server, and what everybody together spent on it this month. */
export interface Upstream {
  id: string;
  currency: string;
  spending: Spending;
}

/** A machine of one's own beside other servers. */
export interface OwnMachine {
  name: string;
  rented_billionths: number;
  price_share_billionths: number;
  electricity_billionths: number;
  is_cheaper: boolean;
  paid_back_days: number | null;
}

/** An alert on its way to somebody. */
export interface Delivery {
  id: string;
  alert: string;
  type: string;
  at: number;
  channel: string;
  error: string | null;
}

export interface Identity {
  id: string;
  issuer: string;
  name: string;
  last_used_at: number | null;
}

export interface Invitation {
  id: string;
  name: string | null;
  role: string;
  plan: string;
  status: string;
  expires_at: number;
}

export interface Invited {
  box_name: string;
  name: string | null;
  role: string;
  team: string | null;
}

export interface Enrolled {
  secret: string;
  url: string;
  /** Rows of 0 and 1. */
  picture: string[];
}

export const ROLES = ["member", "child", "admin", "auditor", "owner"];
/** What shows the list of people, and what changes it. */
export const SEES_PEOPLE = "see people, usage, plans, the audit log and metrics";
export const CHANGES_PEOPLE = "change people, keys, plans, teams and models";
export const MAKES_KEYS = "make keys of their own";

export async function isSignedIn(): Promise<boolean> {
  try {
    await account(null);
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return false;
    throw error;
  }
}

export async function signIn(name: string, password: string, code: string | null) {
  await request("/auth/login", post(null, code === null ? { name, password } : { name, password, code }));
}

export async function signOut() {
  await request("/auth/logout", { method: "POST" });
}

export async function invited(invitation: string): Promise<Invited> {
  return json(await request("/auth/invitation", post(null, { invitation })));
}

export async function accept(invitation: string, name: string, password: string) {
  await request("/auth/invitation/accept", post(null, { invitation, name, password }));
}

/** Leads to the provider; the browser comes back from there by itself. */
export async function signInElsewhere(invitation: string | null = null, name: string | null = null) {
  const body = invitation === null ? {} : { invitation, name };
  location.href = (await json<{ url: string }>(await request("/auth/sso", post(null, body)))).url;
}

export async function linked(link: string): Promise<{ box_name: string; name: string }> {
  return json(await request("/auth/password", post(null, { link })));
}

export async function setByLink(link: string, password: string): Promise<{ signed_in: boolean }> {
  return json(await request("/auth/password/set", post(null, { link, password })));
}

export async function account(key: Credential): Promise<Account> {
  return json(await request("/v1/account", { headers: bearer(key) }));
}

/** The operating system of a box. */
export interface System {
  /** Nothing else is of meaning elsewhere. */
  is_box: boolean;
  version: string | null;
  notice: string | null;
  previous: string | null;
}

/** The system of the box asks others, and takes its time. */
const patience = () => AbortSignal.timeout(100_000);

/** Calls of one person, with what they are let in by. */
export class People {
  constructor(private readonly key: Credential) {}

  private async list<T>(path: string): Promise<T[]> {
    const page = await json<{ data: T[] }>(await request(`${path}?limit=${SHOWN_MAX}`, { headers: bearer(this.key) }));
    return page.data;
  }

  private async send<T>(path: string, body: unknown): Promise<T> {
    const response = await request(path, post(this.key, body));
    return response.status === 204 ? (undefined as T) : json(response);
  }

  private async remove(path: string) {
    await request(path, { method: "DELETE", headers: bearer(this.key) });
  }

  keys = () => this.list<Key>("/v1/account/keys");
  makeKey = (name: string, expires_in_seconds: number | null, team: string | null) =>
    this.send<{ secret: string }>("/v1/account/keys", { name, expires_in_seconds, team });
  turnKey = (id: string, overlap_seconds: number) =>
    this.send<{ secret: string }>(`/v1/account/keys/${id}/rotate`, { overlap_seconds });
  revokeKey = (id: string) => this.remove(`/v1/account/keys/${id}`);

  sessions = () => this.list<Session>("/v1/account/sessions");
  endSession = (id: string) => this.remove(`/v1/account/sessions/${id}`);
  setPassword = (current_password: string | null, password: string) =>
    this.send<void>("/v1/account/password", { current_password, password });
  beginFactor = (password: string) => this.send<Enrolled>("/v1/account/second_factor", { password });
  confirmFactor = (code: string) =>
    this.send<{ recovery_codes: string[] }>("/v1/account/second_factor/confirm", { code });
  removeFactor = (password: string, code: string) =>
    this.send<void>("/v1/account/second_factor/remove", { password, code });

  passkeys = () => this.list<Passkey>("/v1/account/passkeys");
  beginPasskey = (password: string | null) => this.send<MakeJson>("/v1/account/passkeys/options", { password });
  keepPasskey = (name: string, credential: unknown) =>
    this.send<Passkey>("/v1/account/passkeys", { name, credential });
  removePasskey = (id: string) => this.remove(`/v1/account/passkeys/${id}`);

  identities = () => this.list<Identity>("/v1/account/identities");
  linkIdentity = async (password: string | null) => {
    location.href = (await this.send<{ url: string }>("/v1/account/identities", { password })).url;
  };
  unlinkIdentity = (id: string) => this.remove(`/v1/account/identities/${id}`);

  people = () => this.list<Person>("/v1/admin/people");
  plans = () => this.list<Plan>("/v1/admin/plans");
  planNames = async () => (await this.plans()).map(({ id }) => id);
  makePlan = (name: string, like: string) => this.send<Plan>("/v1/admin/plans", { name, like });
  changePlan = (name: string, limits: Limits) => this.send<Plan>(`/v1/admin/plans/${encodeURIComponent(name)}`, limits);
  removePlan = (name: string) => this.remove(`/v1/admin/plans/${encodeURIComponent(name)}`);

  private readonly team = (name: string) => `/v1/admin/teams/${encodeURIComponent(name)}`;
  teams = () => this.list<Team>("/v1/admin/teams");
  makeTeam = (name: string, plan: string) => this.send<Team>("/v1/admin/teams", { name, plan });
  changeTeam = (name: string, plan: string) => this.send<Team>(this.team(name), { plan });
  removeTeam = (name: string) => this.remove(this.team(name));
  join = (team: string, user: string) => this.send<Team>(`${this.team(team)}/members`, { user });
  leave = (team: string, user: string) => this.remove(`${this.team(team)}/members/${encodeURIComponent(user)}`);

  private async get<T>(path: string): Promise<T> {
    return json<T>(await request(path, { headers: bearer(this.key) }));
  }

  /** Entries before one, newest first, whose words begin or are like this. */
  audit = (action: string, about: string, after: string | null) => {
    const query = new URLSearchParams({ limit: "50" });
    if (action) query.set("action", action);
    if (about.trim()) query.set("about", about.trim());
    if (after) query.set("after", after);
    return this.get<{ data: Entry[]; has_more: boolean }>(`/v1/admin/audit_logs?${query}`);
  };
  verifyAudit = () => this.get<{ whole: boolean; entries: number; head: string; problem: string | null }>("/v1/admin/audit_logs/verification");
  usage = (month: string | null) =>
    this.get<MonthUsage>(`/v1/admin/usage${month ? `?month=${month}` : ""}`);
  /** However long it takes to come. */
  private readonly file = async (path: string) =>
    (await request(path, { headers: bearer(this.key), signal: new AbortController().signal })).blob();
  exportUsage = (format: string) => this.file(`/v1/admin/usage/export?format=${format}`);
  exportMine = () => this.file("/v1/account/export");
  exportAudit = () => this.file("/v1/admin/audit_logs/export");
  givenUp = async () => (await this.get<{ data: Delivery[] }>("/v1/admin/alerts?state=dead&limit=50")).data;
  retryAlert = (alert: string) => this.send<void>("/v1/admin/alerts/retry", { alert });
  upstreams = () => this.list<Upstream>("/v1/admin/upstreams");
  owning = (month: string) => this.get<{ currency: string; machines: OwnMachine[] }>(`/v1/admin/usage/owning?month=${month}`);
  change = (name: string, change: Record<string, unknown>) =>
    this.send<Person>(`/v1/admin/people/${encodeURIComponent(name)}`, change);
  removePerson = (name: string) => this.remove(`/v1/admin/people/${encodeURIComponent(name)}`);
  passwordLink = (name: string) =>
    this.send<{ url: string }>(`/v1/admin/people/${encodeURIComponent(name)}/password_link`, {});
  invitations = () => this.list<Invitation>("/v1/admin/invitations");
  invite = (name: string, role: string, plan: string) =>
    this.send<{ url: string }>("/v1/admin/invitations", { name: name.trim() === "" ? null : name, role, plan });
  system = () => this.get<System>("/v1/admin/system");
  systemLog = async () => (await request("/v1/admin/system/logs", { headers: bearer(this.key), signal: patience() })).blob();
  lookForUpdates = async () =>
    json<{ found: string }>(await request("/v1/admin/system/check", { ...post(this.key, {}), signal: patience() }));
  private readonly begin = async (act: string, body: unknown = {}) => {
    await request(`/v1/admin/system/${act}`, { ...post(this.key, body), signal: patience() });
  };
  update = () => this.begin("update");
  restart = () => this.begin("restart");
  goBack = (password: string | null) => this.begin("back", { password });
  factoryReset = (confirm: string, password: string | null) => this.begin("factory_reset", { confirm, password });

  takeBack = (id: string) => this.remove(`/v1/admin/invitations/${id}`);
}

/** A day, in the words of whoever looks; `never` where there is none. */
export function day(seconds: number | null): string {
  if (seconds === null) return "never";
  return new Date(seconds * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

/** A number as it is read. */
export const words = (count: number) => count.toLocaleString("en-GB");

/** What was used of a month, in words: tokens, and money for other servers where there is any. */
export function spent({ month: { used, limit }, spending }: { month: Month; spending: Spending }): string {
  const tokens = limit === null ? `${words(used)} tokens` : `${words(used)} of ${words(limit)} tokens`;
  return spending.used_billionths > 0 ? `${tokens} · ${paid(spending)} on other servers` : tokens;
}

/** Money as it is read, in the currency. */
export const money = (billionths: number) =>
  (billionths / 1e9).toLocaleString("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 6 });

/** What was spent of a budget, in words. */
export function paid({ used_billionths, limit_billionths }: Spending): string {
  return limit_billionths === null ? money(used_billionths) : `${money(used_billionths)} of ${money(limit_billionths)}`;
}

/** A size in gigabytes, as plans have it. */
export const gigabytes = (bytes: number) => `${(bytes / 1e9).toLocaleString("en-GB", { maximumFractionDigits: 1 })} GB`;

/** What somebody keeps, in words. */
export function kept({ used_bytes, limit_bytes }: Account["storage"]): string {
  const megabytes = `${words(Math.ceil(used_bytes / 1e6))} MB kept`;
  return limit_bytes === null ? megabytes : `${megabytes} of ${gigabytes(limit_bytes)}`;
}
