// What this browser remembers: the key, the model, the chats. None of it goes anywhere else.

/** The part of the browser's Storage that is used here. */
export type Store = Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;

const KEY = "allerac.key";
const MODEL = "allerac.model";
/** Of this tab, so that two tabs do not write into each other's: the text not sent yet, and the chat shown. */
const DRAFT = "allerac.draft";
const CURRENT = "allerac.current";

/** A browser that forbids storage gets one that lasts until the page is closed. */
function open(which: "localStorage" | "sessionStorage"): Store {
  try {
    const store = window[which];
    store.getItem(KEY);
    return store;
  } catch {
    return inMemory();
  }
}

export function inMemory(): Store {
  const items = new Map<string, string>();
  return {
    get length() {
      return items.size;
    },
    key: (index) => [...items.keys()][index] ?? null,
    getItem: (name) => items.get(name) ?? null,
    setItem: (name, value) => void items.set(name, value),
    removeItem: (name) => void items.delete(name),
  };
}

/** Writes, or goes on without: a full store must not end a chat. */
function write(store: Store, name: string, value: string | null) {
  try {
    if (value === null || value === "") store.removeItem(name);
    else store.setItem(name, value);
  } catch {
    // It is not remembered, and everything else goes on.
  }
}

export const browserStore = open("localStorage");
const tabStore = open("sessionStorage");

export const memory = {
  key: () => browserStore.getItem(KEY),
  setKey: (key: string | null) => write(browserStore, KEY, key),
  model: () => browserStore.getItem(MODEL),
  setModel: (model: string) => write(browserStore, MODEL, model),
  draft: () => tabStore.getItem(DRAFT) ?? "",
  setDraft: (draft: string) => write(tabStore, DRAFT, draft),
  current: () => tabStore.getItem(CURRENT),
  setCurrent: (id: string | null) => write(tabStore, CURRENT, id),
};
